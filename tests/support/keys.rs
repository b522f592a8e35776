//! Keys files, and calls with keys.

use std::{fs, path::PathBuf};

use rasid::auth::KeyHash;
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// A keys file that may change.
pub struct KeysFile(tempfile::TempDir);

impl KeysFile {
    /// A file with this text.
    pub fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(text);
        file
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("keys.toml")
    }

    /// The flags of a server that uses it and looks at it every second.
    pub fn flags(&self) -> Vec<String> {
        let path = self.path().to_str().unwrap().to_owned();
        ["--keys-file", &path, "--reload-seconds", "1"].map(str::to_owned).to_vec()
    }

    /// Puts another text in its place, as a whole.
    pub fn write(&self, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}

/// The entry of a key.
pub fn entry(name: &str, key: &str) -> String {
    format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{}\"\n", KeyHash::of(key.as_bytes()))
}

/// A request with a key.
pub fn with_key<T>(key: &str, message: T) -> Request<T> {
    with_header(&format!("Bearer {key}"), message)
}

/// A request with an authorization header.
pub fn with_header<T>(header: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", header.parse().unwrap());
    request
}

/// The reason that a status gives.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "rasid.dev");
    info.reason.clone()
}

/// A figure of an `ErrorInfo`.
pub fn figure(status: &Status, name: &str) -> String {
    status.get_error_details().error_info().unwrap().metadata[name].clone()
}
