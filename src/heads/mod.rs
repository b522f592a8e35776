//! What is read off the hidden states: topics of the document, entities among its words.

pub mod calibration;
pub mod entities;
pub mod topics;

pub use self::{
    entities::{EntityHead, EntitySpan},
    topics::{TopicHead, WeightedMean},
};
