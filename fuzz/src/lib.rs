//! What the fuzzers share: a bundle so small that thousands of inputs a second go through the whole service.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use rasid::model::{EncoderFormat, pack};
use serde_json::json;

/// Where files are not written to a disk.
pub fn shared_memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Values in a hidden state: one block of the embeddings.
pub const HIDDEN: usize = 32;
const FEED_FORWARD: usize = 64;
const POSITIONS: usize = 64;
const VOCABULARY: usize = 250_037;

/// Packs a bundle with the shipped labels and tokeniser, one layer and weights of no meaning.
pub fn small_bundle(out: &Path) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(shipped.join("manifest.json")).expect("the shipped manifest")).expect("JSON");
    manifest["encoder"] = json!({
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": FEED_FORWARD, "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-12,
    });
    manifest["window"] = json!({"tokens": 32, "overlap": 8});
    let path = |name: &str| out.join(name);
    fs::write(path("draft.json"), manifest.to_string()).expect("a draft");
    candle_core::safetensors::save(&weights().expect("weights"), path("weights.safetensors")).expect("weights");
    fs::write(path("words.gguf"), words().expect("words")).expect("words");
    let tokenizer = shipped.join("tokenizer.json");
    let (draft, weights, words) = (path("draft.json"), path("weights.safetensors"), path("words.gguf"));
    pack(&draft, &weights, &words, &tokenizer, EncoderFormat::F16, out).expect("a bundle");
}

/// Values without a pattern, the same at every start.
fn noise(shape: &[usize], seed: usize) -> candle_core::Result<Tensor> {
    let count = shape.iter().product::<usize>();
    let value = |index: usize| {
        let hash = (index + seed * 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        (hash as f32 / (1 << 24) as f32 - 0.5) * 0.4
    };
    Tensor::from_vec((0..count).map(value).collect::<Vec<f32>>(), shape, &Device::Cpu)
}

fn weights() -> candle_core::Result<HashMap<String, Tensor>> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.position_embeddings.weight".into(), vec![POSITIONS, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
    ];
    let mut linear = |name: &str, out: usize, input: usize| {
        shapes.push((format!("{name}.weight"), vec![out, input]));
        shapes.push((format!("{name}.bias"), vec![out]));
    };
    for name in ["query", "key", "value"] {
        linear(&format!("encoder.layer.0.attention.self.{name}"), HIDDEN, HIDDEN);
    }
    linear("encoder.layer.0.attention.output.dense", HIDDEN, HIDDEN);
    linear("encoder.layer.0.intermediate.dense", FEED_FORWARD, HIDDEN);
    linear("encoder.layer.0.output.dense", HIDDEN, FEED_FORWARD);
    linear("ner", 9, HIDDEN);
    linear("topic", 17, HIDDEN);
    for name in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
        shapes.push((format!("{name}.LayerNorm.weight"), vec![HIDDEN]));
        shapes.push((format!("{name}.LayerNorm.bias"), vec![HIDDEN]));
    }
    shapes.into_iter().enumerate().map(|(seed, (name, shape))| Ok((name, noise(&shape, seed)?))).collect()
}

fn words() -> candle_core::Result<Vec<u8>> {
    let table = QTensor::quantize(&noise(&[VOCABULARY, HIDDEN], 99)?, GgmlDType::Q4_0)?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &[], &[("embeddings.word_embeddings.weight", &table)])?;
    Ok(bytes.into_inner())
}
