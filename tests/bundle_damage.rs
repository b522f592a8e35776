//! A damaged, truncated or missing file of a model is one clear sentence and exit status 1.

mod support;

use std::{fs, path::Path, process::Command};

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
