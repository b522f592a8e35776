//! Any text cut into sentences, tokens, windows and words, and any offsets converted: nothing is lost, nothing overlaps.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rasid::text::{Document, Field, OffsetMap, OffsetUnit, Tokenizer, WindowConfig, windows, words};

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/default/tokenizer.safetensors");
        let file = bytes::Bytes::from(std::fs::read(path).expect("the shipped tokeniser"));
        Tokenizer::from_compact(&file, 250_037).expect("a tokeniser")
    })
}

fuzz_target!(init: { tokenizer(); }, |data: &[u8]| {
    let [tokens, overlap, title, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    let at = text.floor_char_boundary(usize::from(*title).min(text.len()));
    let document = Document { title: text[..at].to_owned(), text: text[at..].to_owned(), ..Document::default() };
    let tokenized = tokenizer().tokenize(&document).expect("any text has tokens");

    let tokens = 8 + usize::from(*tokens) * 2;
    let config = WindowConfig { tokens, overlap: usize::from(*overlap).min((tokens - 2) / 2) };
    let mut next = 0;
    for window in windows(tokenized.sentences.iter().map(|sentence| sentence.tokens.clone()), config) {
        assert_eq!(window.owned.start, next);
        assert!(!window.owned.is_empty() && window.tokens.len() <= tokens - 2);
        assert!(window.tokens.start <= window.owned.start && window.owned.end <= window.tokens.end);
        next = window.owned.end;
    }
    assert_eq!(next, tokenized.tokens.len());

    for field in Field::ALL {
        let text = document.field(field);
        let mut last = 0;
        for token in &tokenized.tokens[tokenized.field_tokens(field)] {
            let (start, end) = (token.start as usize, token.end as usize);
            assert!(start <= end && end <= text.len() && text.is_char_boundary(start) && text.is_char_boundary(end));
        }
        for word in words(text) {
            assert!(last <= word.start && word.start < word.end);
            assert!(!text[word.start..word.end].contains(char::is_whitespace) || text[word.start..word.end].len() > 1);
            last = word.end;
        }
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for unit in [OffsetUnit::Utf8Byte, OffsetUnit::Utf16CodeUnit, OffsetUnit::CodePoint] {
            let map = OffsetMap::new(text, unit, borders.iter().copied());
            let end = match unit {
                OffsetUnit::Utf8Byte => text.len(),
                OffsetUnit::Utf16CodeUnit => text.encode_utf16().count(),
                OffsetUnit::CodePoint => text.chars().count(),
            };
            assert_eq!(map.get(text.len()).map(|at| at as usize), Some(end));
        }
    }
});
