//! Rasid reads news articles in about a hundred languages and says, from one pass of a multilingual transformer, which topics an
//! article is about (calibrated probabilities) and whom it names (people, organisations, places, other names, with exact offsets).
//!
//! Data flows one way: [`grpc`] or [`cli`] → [`engine`] → [`tagger`] → [`text`], [`encoder`], [`heads`], from a [`model`] bundle.
//! The library is usable without a server:
//!
//! ```no_run
//! use rasid::{model::{Bundle, ModelSource}, tagger::{Tagger, TaggerConfig, TagOptions}, text::Document};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source: ModelSource = "models/default".parse()?;
//! let tagger = Tagger::load(Bundle::open(source.resolve()?)?, TaggerConfig::default(), &candle_core::Device::Cpu)?;
//! let plan = tagger.plan(&TagOptions::default())?;
//! let article = Document { text: "Peshmerga commanders met in Erbil.".to_owned(), ..Document::default() };
//! for analysis in tagger.tag(&[article], &plan) {
//!     println!("{:?}", analysis?.entities);
//! }
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::dbg_macro, clippy::todo)]

pub mod auth;
pub mod calibration;
pub mod cli;
pub mod config;
pub mod encoder;
pub mod engine;
pub mod eval;
pub mod grpc;
pub mod heads;
pub mod metrics;
pub mod model;
pub mod proto;
pub mod systemd;
pub mod tagger;
pub mod telemetry;
pub mod text;
pub mod watch;
