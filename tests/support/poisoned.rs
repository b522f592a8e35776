//! A model that fails at a word.

use std::{fs, io::Cursor};

use candle_core::quantized::gguf_file;

use super::{copy_bundle, tagger};

/// The word.
pub const POISONED: &str = "Zimbabwe";

/// A bundle whose model answers with NaN wherever it reads the word.
pub fn poisoned_bundle() -> tempfile::TempDir {
    let bundle = copy_bundle();
    let path = bundle.path().join("embeddings.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let content = gguf_file::Content::read(&mut Cursor::new(&bytes)).unwrap();
    let info = &content.tensor_infos["embeddings.word_embeddings.weight"];
    let document = rasid::text::Document { text: POISONED.to_owned(), ..Default::default() };
    let id = tagger().tokenizer().tokenize(&document).unwrap().tokens[0].id as usize;
    // Twelve Q4_0 blocks of 18 bytes a row, each beginning with its scale.
    let row = (content.tensor_data_offset + info.offset) as usize + id * 12 * 18;
    bytes[row..row + 2].copy_from_slice(&0x7e00_u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    rasid::model::seal(bundle.path()).unwrap();
    bundle
}
