//! What can be wrong with keys.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// Most keys, since every call is compared with all of them.
pub(super) const MAX_KEYS: usize = 1000;

/// Keys of one client: the one in use and the one that takes its place.
pub(super) const MAX_KEYS_OF_A_NAME: usize = 2;

/// Most characters of a name.
const MAX_NAME: usize = 64;

/// Largest rate and count.
pub(super) const MAX_LIMIT: u32 = 1_000_000;

/// Largest keys file: a thousand keys with room to spare.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a key is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, counted from one.
    File(PathBuf, usize),
    /// A pair of the setting `api_keys`, counted from one.
    Setting(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Setting(entry) => write!(f, "api_keys, entry {entry}"),
        }
    }
}

/// Keys that cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is too large to be one of keys.
    #[error("{} is {actual} bytes long, at most {MAX_FILE_BYTES} are allowed", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        actual: u64,
    },
    /// The file is not TOML, or has a field that keys have not.
    #[error("{place}: {problem}")]
    Toml {
        /// The place.
        place: Place,
        /// What is wrong there, in the words of the parser.
        problem: String,
    },
    /// A key or a limit that cannot be used.
    #[error("{place}: {problem}")]
    Entry {
        /// The place.
        place: Place,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What can be wrong with a key or a limit.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Problem {
    /// A name that does not fit into metrics and logs.
    #[error("a name is 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, '.', '_' and '-', not {0:?}")]
    Name(String),
    /// No `name=sha256`.
    #[error("a key is written NAME=SHA256")]
    Pair,
    /// No SHA-256.
    #[error("sha256 must be 64 hexadecimal digits, not {0}")]
    Hash(usize),
    /// One key twice.
    #[error("the same key stands at {0} already")]
    Repeated(Place),
    /// More keys than a change of keys needs.
    #[error("{0:?} has {MAX_KEYS_OF_A_NAME} keys already, the old one and the new: take one away first")]
    ThirdKey(String),
    /// More keys than can be compared.
    #[error("at most {MAX_KEYS} keys are allowed")]
    TooMany,
    /// No point in time.
    #[error("expires must be a date and time with its offset, like 2027-01-31T00:00:00Z, not {0}")]
    Expiry(String),
    /// A limit out of its range.
    #[error("{field} cannot be {value}: it must be above 0 and at most {MAX_LIMIT}")]
    Range {
        /// The limit.
        field: &'static str,
        /// What it was to be.
        value: f64,
    },
    /// A burst of nothing.
    #[error("{field}_burst needs {field}_per_second")]
    BurstAlone {
        /// `calls` or `documents`.
        field: &'static str,
    },
    /// Limits for a name without a key.
    #[error("there is no key named {0:?}")]
    NoSuchName(String),
}

/// Checks the name of a client.
///
/// # Errors
/// [`Problem::Name`].
pub fn check_name(name: &str) -> Result<(), Problem> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_fine) {
        Ok(())
    } else {
        Err(Problem::Name(name.chars().take(2 * MAX_NAME).collect()))
    }
}
