//! Any bytes as a file of a bundle: an error, never a crash.

#![no_main]

use bytes::Bytes;
use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use rasid::{
    encoder::{Weights, WordEmbeddings},
    model::Manifest,
    text::Tokenizer,
};

fuzz_target!(
    // Panics of the tokenizers crate are caught; libFuzzer's own hook would end the process before. Others still do.
    init: { std::panic::set_hook(Box::new(|_| {})); },
    |data: &[u8]| {
    let Some((kind, file)) = data.split_first() else { return };
    match kind % 5 {
        // As it is, then with its seal made right, so that what lies behind the seal is reached.
        0 => {
            let _ = Manifest::from_json(file);
            if let Ok(manifest) = serde_json::from_slice::<Manifest>(file)
                && let Ok(sealed) = manifest.to_sealed_json()
            {
                Manifest::from_json(sealed.as_bytes()).expect("what is sealed can be read");
            }
        }
        1 => {
            if let Ok(mut weights) = Weights::from_bytes(file, &Device::Cpu) {
                let _ = weights.take("a", &[2, 2]);
            }
        }
        2 => {
            let _ = WordEmbeddings::from_gguf(&Bytes::copy_from_slice(file), 2, 32);
        }
        3 => {
            let _ = Tokenizer::from_compact(&Bytes::copy_from_slice(file), 250_037);
        }
        _ => {
            let _ = Tokenizer::from_json(file, 250_037);
        }
    }
});
