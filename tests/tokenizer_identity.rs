//! The compact tokenizer gives the very tokens of the tokenizers crate: ids and offsets.

mod support;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    sync::OnceLock,
};

use flate2::read::MultiGzDecoder;
use proptest::prelude::*;
use rasid::text::{Document, Tokenizer, compile_tokenizer};
use rayon::prelude::*;
use serde_json::Value;
use support::{articles, model_folder};

const VOCABULARY: usize = 250_037;

/// The reference and the compact form.
fn tokenizers() -> &'static (Tokenizer, Tokenizer) {
    static TOKENIZERS: OnceLock<(Tokenizer, Tokenizer)> = OnceLock::new();
    TOKENIZERS.get_or_init(|| {
        let json = fs::read(model_folder().join("tokenizer.json")).unwrap();
        let compact = fs::read(model_folder().join("tokenizer.safetensors")).unwrap();
        let reference = Tokenizer::from_json(&json, VOCABULARY).unwrap();
        (reference, Tokenizer::from_compact(&compact.into(), VOCABULARY).unwrap())
    })
}

/// How many tokens both give.
fn assert_same(text: &str) -> usize {
    let (reference, compact) = tokenizers();
    let document = Document { text: text.to_owned(), ..Document::default() };
    let (reference, compact) = (reference.tokenize(&document).unwrap(), compact.tokenize(&document).unwrap());
    assert_eq!(reference.tokens, compact.tokens, "{text:?}");
    reference.tokens.len()
}

#[test]
fn the_shipped_file_is_what_the_vocabulary_compiles_to() {
    let json = fs::read(model_folder().join("tokenizer.json")).unwrap();
    let shipped = fs::read(model_folder().join("tokenizer.safetensors")).unwrap();
    assert!(compile_tokenizer(&json).unwrap().unwrap() == shipped);
    assert_eq!(tokenizers().0.frame(), tokenizers().1.frame());
}

#[test]
fn articles_have_the_same_tokens() {
    for (name, text) in articles() {
        assert!(assert_same(&text) > 100, "{name}");
    }
}

#[test]
fn hard_texts_have_the_same_tokens() {
    for text in [
        "\0",
        "a\0b\0\0c",
        "\u{fffd}\u{10ffff}\u{e000}",
        "<s> and </s>, <unk><unk> x <mask>",
        "＜ｓ＞ ＜unk＞\u{e000}",
        "▁▁ ▁a",
        "a  b   c\u{3000}\u{3000}d\u{a0}e\u{2003}\u{2003}f",
        "ﷺ ﷽ ㍿ ㌔ ½ ﬃ ™ Ⅳ",
        "e\u{301}\u{301}\u{301} व्\u{200d} 👩‍👩‍👧‍👦🏳️‍🌈 \u{202e}abc\u{202c}",
        "ไม่มีช่องว่างระหว่างคำ",
        "\u{feff}\u{200b}\u{200b}",
    ] {
        assert_same(text);
    }
    assert_same(&"漢字".repeat(5_000));
    assert_same(&"\u{e000}".repeat(5_000));
    assert_same(&"a".repeat(5_000));
}

/// Not all sorts of model have a compact form; one that is broken says so.
#[test]
fn other_models_are_left_to_the_tokenizers_crate() {
    let word_piece = br#"{"model": {"type": "WordPiece", "vocab": {}}}"#;
    assert!(compile_tokenizer(word_piece).unwrap().is_none());
    let fallback = br#"{"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["a", 0.0]]}}"#;
    assert!(compile_tokenizer(fallback).unwrap().is_none());
    let broken = br#"{"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]}, "added_tokens": []}"#;
    assert!(compile_tokenizer(broken).is_err());
    let compact = fs::read(model_folder().join("tokenizer.safetensors")).unwrap();
    let smaller = Tokenizer::from_compact(&compact.into(), 1_000).unwrap_err();
    assert!(smaller.to_string().contains("250002 tokens, the model 1000"), "{smaller}");
    assert!(Tokenizer::from_compact(&b"no safetensors".to_vec().into(), VOCABULARY).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_characters_have_the_same_tokens(text in proptest::collection::vec(any::<char>(), 0..60)) {
        assert_same(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_letters_have_the_same_tokens(text in r"[\pL\pM\pN\pP\pS\pZ ]{0,60}") {
        assert_same(&text);
    }
}

/// Every text under the folder in `RASID_TEST_TEXTS`: lines of `.jsonl` and `.jsonl.gz` files, their strings and lists of words.
#[test]
fn a_corpus_has_the_same_tokens() {
    let Some(folder) = std::env::var_os("RASID_TEST_TEXTS") else { return };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains(".jsonl"));
    let counts: Vec<(usize, usize)> = files.par_iter().map(|path| compare_file(path)).collect();
    let (texts, tokens) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    println!("{texts} texts, {tokens} tokens in {} files", files.len());
    assert!(texts > 0);
}

/// How many texts and tokens of a file are the same.
fn compare_file(path: &Path) -> (usize, usize) {
    let file = File::open(path).unwrap();
    let lines: Box<dyn BufRead> = match path.extension() {
        Some(extension) if extension == "gz" => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        _ => Box::new(BufReader::new(file)),
    };
    let mut counts = (0, 0);
    for line in lines.lines() {
        let Value::Object(row) = serde_json::from_str(&line.unwrap()).unwrap() else { continue };
        for value in row.values() {
            let words =
                value.as_array().map(|words| words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
            let Some(text) = words.or_else(|| value.as_str().map(str::to_owned)) else { continue };
            counts = (counts.0 + 1, counts.1 + assert_same(&text));
        }
    }
    counts
}
