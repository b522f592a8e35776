//! Who may call: keys, by name, with the limits of each.
//!
//! A [`KeyStore`] holds what a keys file and a setting name: hashes of keys, never a key. It is read again while the server runs, so that keys
//! come, go and change their limits without a restart; a client in the middle of a call stays counted.

mod entries;
mod error;
mod key;
mod limits;
mod store;

pub use self::{
    error::{KeyError, Place, Problem, check_name},
    key::{KeyHash, new_key},
    limits::{CallGuard, LimitError, LimitSpec, Rate},
    store::{Access, Client, KeySources, KeyStore, Refusal},
};
