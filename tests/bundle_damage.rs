//! A damaged, truncated or missing file of a model is one clear sentence and exit status 1.

mod support;

use std::{fs, path::Path, process::Command};

use bytes::Bytes;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use rasid::{
    encoder::{Weights, WordEmbeddings},
    model::Bundle,
    text::{Document, Tokenizer},
};
use support::copy_bundle;

/// What `model info` says on standard error; asserts that it fails as it should.
fn failure(folder: &Path) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rasid")).args(["model", "info", "--model"]).arg(folder).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
    stderr
}

const FILES: [&str; 4] = ["tokenizer.json", "tokenizer.safetensors", "embeddings.gguf", "encoder.safetensors"];

#[test]
fn a_missing_file_is_named() {
    for name in FILES.into_iter().chain(["manifest.json"]) {
        let bundle = copy_bundle();
        fs::remove_file(bundle.path().join(name)).unwrap();
        let stderr = failure(bundle.path());
        assert!(stderr.contains("cannot read") && stderr.contains(name), "{stderr}");
    }
    assert!(failure(Path::new("no/such/folder")).contains("cannot read no/such/folder/manifest.json"));
}

#[test]
fn a_truncated_file_is_named_with_its_sizes() {
    for name in FILES {
        let bundle = copy_bundle();
        let path = bundle.path().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let stderr = failure(bundle.path());
        assert!(stderr.contains(name) && stderr.contains(&format!("{} bytes", bytes.len() / 2)), "{stderr}");
    }
}

#[test]
fn a_flipped_bit_is_found() {
    for name in FILES {
        let bundle = copy_bundle();
        let path = bundle.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let stderr = failure(bundle.path());
        assert!(stderr.contains(name) && stderr.contains("SHA-256"), "{stderr}");
    }
}

/// The manifest with another threshold for its first topic.
fn edited(json: &str) -> String {
    let own = rasid::model::Manifest::from_json(json.as_bytes()).unwrap().topics[0].threshold;
    let own = format!("\"threshold\": {own}");
    assert!(json.contains(&own));
    json.replacen(&own, "\"threshold\": 0.625", 1)
}

#[test]
fn a_changed_manifest_is_found() {
    let bundle = copy_bundle();
    let path = bundle.path().join("manifest.json");
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, edited(&json)).unwrap();
    assert!(failure(bundle.path()).contains("manifest is damaged"));
    for cut in [0, 1, json.len() / 2] {
        fs::write(&path, &json[..cut]).unwrap();
        assert!(failure(bundle.path()).contains("manifest is not valid"));
    }
    fs::write(&path, json.replacen("tokenizer.json", "../tokenizer.json", 1)).unwrap();
    failure(bundle.path());
}

/// Files that a manifest vouches for, but that are not what they should be.
#[test]
fn a_sealed_bundle_with_wrong_content_is_refused() {
    let wrong: [(&str, Vec<u8>); 6] = [
        ("tokenizer.safetensors", b"{}".to_vec()),
        ("tokenizer.safetensors", vec![0xff; 64]),
        ("embeddings.gguf", b"GGUF".to_vec()),
        ("embeddings.gguf", vec![0xff; 100]),
        ("encoder.safetensors", vec![0xff; 64]),
        ("encoder.safetensors", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0\0".to_vec()),
    ];
    for (name, bytes) in wrong {
        let bundle = copy_bundle();
        fs::write(bundle.path().join(name), bytes).unwrap();
        rasid::model::seal(bundle.path()).unwrap();
        let stderr = failure(bundle.path());
        assert!(stderr.contains("cannot load the"), "{name}: {stderr}");
    }
}

/// Without a compact tokenizer, the general one is what is loaded.
#[test]
fn a_sealed_bundle_with_a_wrong_general_tokenizer_is_refused() {
    let bundle = copy_bundle();
    fs::remove_file(bundle.path().join("tokenizer.safetensors")).unwrap();
    let path = bundle.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["files"].as_object_mut().unwrap().remove("compact_tokenizer").unwrap();
    fs::write(&path, manifest.to_string()).unwrap();
    fs::write(bundle.path().join("tokenizer.json"), "{}").unwrap();
    rasid::model::seal(bundle.path()).unwrap();
    let stderr = failure(bundle.path());
    assert!(stderr.contains("cannot load the"), "{stderr}");
}

#[test]
fn an_edit_is_taken_over_by_sealing() {
    let bundle = copy_bundle();
    let path = bundle.path().join("manifest.json");
    let json = fs::read_to_string(&path).unwrap();
    let before = rasid::model::Manifest::from_json(json.as_bytes()).unwrap();
    fs::write(&path, edited(&json)).unwrap();
    let after = rasid::model::seal(bundle.path()).unwrap();
    assert_ne!(before.revision, after.revision);
    assert!((after.topics[0].threshold - 0.625).abs() < 1e-6);
    assert_eq!(rasid::model::Bundle::open(bundle.path()).unwrap().manifest(), &after);

    // A number that a careless reader of JSON does not give back as it was.
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, json.replacen("1e-12", "1e-24", 1)).unwrap();
    let after = rasid::model::seal(bundle.path()).unwrap();
    assert_eq!(after.encoder.layer_norm_eps, 1e-24);
    assert_eq!(rasid::model::Bundle::open(bundle.path()).unwrap().manifest(), &after);
}

#[test]
fn a_tokenizer_that_makes_no_sense_is_an_error() {
    let file = |normalizer: &str, decoder: &str| {
        format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {normalizer},
            "pre_tokenizer": null, "post_processor": null, "decoder": {decoder},
            "model": {{"type": "WordLevel", "vocab": {{"a": 0}}, "unk_token": "a"}}}}"#
        )
    };
    let read = |json: String| rasid::text::Tokenizer::from_json(json.as_bytes(), 10).unwrap_err().to_string();
    assert!(read(file("null", "null")).contains("0 special tokens"));
    assert!(read(file("null", "nul")).contains("line 2"));
    let normalizer = r#"{"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#;
    assert_eq!(read(file(normalizer, "null")), "a part of it makes no sense");
}

/// Every byte of a text as some others, one at a time.
fn damaged(good: &[u8], values: &[u8], mut see: impl FnMut(usize, &[u8])) {
    let mut bytes = good.to_vec();
    for at in 0..good.len() {
        let others = values.iter().copied().chain([good[at] ^ 1, good[at] ^ 0x20]);
        for value in others.filter(|&value| value != good[at]) {
            bytes[at] = value;
            see(at, &bytes);
        }
        bytes[at] = good[at];
    }
}

#[test]
fn every_byte_of_the_manifest_counts() {
    let good = fs::read(support::model_folder().join("manifest.json")).unwrap();
    let own = rasid::model::Manifest::from_json(&good).unwrap();
    let mut errors = 0;
    damaged(&good, &[0, 0xff, b'"', b' '], |at, bytes| match rasid::model::Manifest::from_json(bytes) {
        Ok(manifest) => assert_eq!(manifest, own, "byte {at} as {}", bytes[at]),
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains("manifest"), "byte {at}: {told}");
            errors += 1;
        }
    });
    assert!(errors > 4 * good.len(), "{errors}");
}

/// Behind the checksum, too, no byte of what describes the weights can do harm: an error, or tensors of the shape that was asked for.
#[test]
fn every_byte_of_a_header_of_weights_may_be_wrong() {
    let tensors = [("a", vec![2_usize, 32]), ("b.bias", vec![3])];
    let values = |shape: &[usize]| (0..shape.iter().product::<usize>()).map(|index| index as f32).collect::<Vec<_>>();
    let tensor = |shape: &Vec<usize>| Tensor::from_vec(values(shape), &shape[..], &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let named = tensors.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect();
    candle_core::safetensors::save(&named, &path).unwrap();
    let safetensors = fs::read(&path).unwrap();
    let mut gguf = std::io::Cursor::new(Vec::new());
    let quantized = QTensor::quantize(&tensor(&tensors[0].1), GgmlDType::Q4_0).unwrap();
    gguf_file::write(&mut gguf, &[], &[("a", &quantized)]).unwrap();

    let all: Vec<u8> = (0..=255).collect();
    for (file, tensors) in [(safetensors, &tensors[..]), (gguf.into_inner(), &tensors[..1])] {
        let read = |bytes: &[u8]| -> candle_core::Result<Vec<Vec<f32>>> {
            let mut weights = Weights::from_bytes(bytes, &Device::Cpu)?;
            let take = |(name, shape): &(&str, Vec<usize>)| weights.take(name, shape)?.flatten_all()?.to_vec1();
            tensors.iter().map(take).collect()
        };
        let good = read(&file).unwrap();
        let mut errors = 0;
        damaged(&file, &all, |at, bytes| match read(bytes) {
            Ok(read) => assert!(read.iter().map(Vec::len).eq(good.iter().map(Vec::len)), "byte {at}"),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                errors += 1;
            }
        });
        assert!(errors > 100 * 100, "{errors}");
    }
}

#[test]
fn every_byte_of_the_header_of_word_embeddings_may_be_wrong() {
    let table = Tensor::ones((2, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    let table = QTensor::quantize(&table, GgmlDType::Q4_0).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &[], &[("embeddings.word_embeddings.weight", &table)]).unwrap();
    let file = file.into_inner();
    WordEmbeddings::from_gguf(&Bytes::from(file.clone()), 2, 32).unwrap();
    let all: Vec<u8> = (0..=255).collect();
    let mut errors = 0;
    damaged(&file, &all, |_, bytes| {
        if let Err(error) = WordEmbeddings::from_gguf(&Bytes::copy_from_slice(bytes), 2, 32) {
            assert!(!error.to_string().is_empty());
            errors += 1;
        }
    });
    assert!(errors > 100 * 50, "{errors}");
}

#[test]
fn every_byte_of_the_header_of_the_tokenizer_may_be_wrong() {
    let file = fs::read(support::model_folder().join("tokenizer.safetensors")).unwrap();
    let vocabulary = Bundle::open(support::model_folder()).unwrap().manifest().encoder.vocab_size;
    let length = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let document = Document { text: "The army met in Baghdad.".to_owned(), ..Document::default() };
    let mut errors = 0;
    damaged(&file[..length], b"\0\xff\"9", |at, header| {
        let bytes = Bytes::from([header, &file[length..]].concat());
        match Tokenizer::from_compact(&bytes, vocabulary) {
            // What it then says is another thing; it must say something.
            Ok(tokenizer) => drop(tokenizer.tokenize(&document)),
            Err(error) => {
                assert!(!error.to_string().is_empty(), "byte {at}");
                errors += 1;
            }
        }
    });
    assert!(errors > 4 * length, "{errors} of {length} bytes");
}
