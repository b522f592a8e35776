//! What the tests share: the shipped model, a running server, articles.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{path::PathBuf, sync::OnceLock};

use candle_core::Device;
use rasid::{
    model::Bundle,
    tagger::{Tagger, TaggerConfig},
};

/// The folder of the shipped model; `RASID_TEST_MODEL` puts another in its place.
pub fn model_folder() -> PathBuf {
    std::env::var_os("RASID_TEST_MODEL").map_or_else(|| root().join("models/default"), PathBuf::from)
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A tagger of its own.
pub fn load_tagger(config: TaggerConfig) -> Tagger {
    Tagger::load(Bundle::open(model_folder()).unwrap(), config, &Device::Cpu).unwrap()
}

/// The shipped model, loaded once a test binary.
pub fn tagger() -> &'static Tagger {
    static TAGGER: OnceLock<Tagger> = OnceLock::new();
    TAGGER.get_or_init(|| load_tagger(TaggerConfig::default()))
}
