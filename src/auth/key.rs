//! A key and its hash.

use std::{fmt, fmt::Write as _, str::FromStr};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// What every key of ours begins with, so that scanners for leaked secrets know one when they see it.
const PREFIX: &str = "rasid_";

/// Bytes of a hash, and random bytes of a key.
const BYTES: usize = 32;

/// The SHA-256 of a key, which is all that a server keeps of it.
///
/// Plain SHA-256 is right here, where it would be wrong for a password: a key is 256 random bits, so that nobody can find it from its hash by
/// guessing, and a slow hash would only make every call expensive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; BYTES]);

impl KeyHash {
    /// The hash of a key as a client sends it.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Whether two hashes are the same, in a time that does not depend on them.
    pub fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl fmt::Display for KeyHash {
    /// Hexadecimal, as it stands in a keys file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for KeyHash {
    type Err = usize;

    /// Reads hexadecimal digits; fails with how many there are.
    fn from_str(text: &str) -> Result<Self, usize> {
        let digits = || text.bytes().filter(u8::is_ascii_hexdigit).count();
        let mut bytes = [0; BYTES];
        if text.len() != 2 * BYTES || digits() != text.len() {
            return Err(digits());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(bytes))
    }
}

/// A new key of 256 random bits, and its hash.
///
/// # Errors
/// If the operating system has no random numbers.
pub fn new_key() -> Result<(String, KeyHash), getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    let key = format!("{PREFIX}{}", hex(&bytes));
    let hash = KeyHash::of(key.as_bytes());
    Ok((key, hash))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_sha256sum_prints() {
        let hash = KeyHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
    }

    #[test]
    fn what_is_no_hash_is_refused_with_its_digits() {
        assert_eq!("".parse::<KeyHash>(), Err(0));
        assert_eq!("ab".repeat(31).parse::<KeyHash>(), Err(62));
        assert_eq!("ab".repeat(33).parse::<KeyHash>(), Err(66));
        assert_eq!("zz".repeat(32).parse::<KeyHash>(), Err(0));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let (a, b) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(a.0, b.0);
        assert_eq!(a.0.len(), PREFIX.len() + 64);
        assert!(!format!("{:?}", a.1).contains(&a.1.to_string()));
    }
}
