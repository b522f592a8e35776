//! Any text as a keys file or as pairs of a setting: keys in force, or an error that names the place.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use rasid::auth::{KeySources, KeyStore};

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in(rasid_fuzz::shared_memory()).expect("a file");
    let sources = if kind % 2 == 0 {
        file.write_all(text).expect("a file");
        KeySources { file: Some(file.path().to_owned()), pairs: None }
    } else {
        KeySources { file: None, pairs: Some(String::from_utf8_lossy(text).into_owned()) }
    };
    match KeyStore::open("keys", sources) {
        Ok(store) => assert!(store.authenticate(text).is_err(), "the file holds hashes, so its text is no key"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
