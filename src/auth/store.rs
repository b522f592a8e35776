//! The keys in force.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use subtle::ConditionallySelectable;
use thiserror::Error;

use super::{
    entries::Entries,
    error::KeyError,
    key::KeyHash,
    limits::{CallGuard, LimitError, Limits, OpenCalls},
};
use crate::{
    metrics::security as metrics,
    watch::{Fingerprint, Watch},
};

/// A key that never expires.
const NEVER: i64 = i64::MAX;

/// Where keys come from.
#[derive(Clone, Default)]
pub struct KeySources {
    /// A keys file.
    pub file: Option<PathBuf>,
    /// `name=sha256`, with commas between.
    pub pairs: Option<String>,
}

impl KeySources {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && self.pairs.is_none()
    }
}

impl fmt::Debug for KeySources {
    /// Without the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No key of ours.
    #[error("the key is not valid")]
    Unknown,
    /// A key of ours whose time is over. Told only to who has the right key.
    #[error("the key has expired")]
    Expired,
    /// A key that was taken away in the middle of a call.
    #[error("the key is no longer valid")]
    Revoked,
}

/// Who calls: a name, the limits under it and the calls that it has open.
#[derive(Debug)]
pub struct Client {
    name: Arc<str>,
    limits: ArcSwap<Limits>,
    open: Arc<OpenCalls>,
}

impl Client {
    fn new(name: Arc<str>) -> Self {
        let open = Arc::new(OpenCalls::new(Arc::clone(&name)));
        Self { name, limits: ArcSwap::default(), open }
    }

    /// The name of the key.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// One key in force.
#[derive(Debug)]
struct Key {
    hash: KeyHash,
    client: Arc<Client>,
    /// Seconds since 1970.
    expires: AtomicI64,
    revoked: AtomicBool,
}

impl Key {
    fn has_expired(&self) -> bool {
        self.expires.load(Ordering::Relaxed) <= now()
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// What a right key gives: the client, for as long as the key is valid.
#[derive(Debug, Clone)]
pub struct Access {
    key: Arc<Key>,
}

impl Access {
    /// Who calls.
    pub fn client(&self) -> &Client {
        &self.key.client
    }

    /// Whether the key still opens anything, for calls that take long.
    ///
    /// # Errors
    /// [`Refusal::Expired`], [`Refusal::Revoked`].
    pub fn check(&self) -> Result<(), Refusal> {
        if self.key.revoked.load(Ordering::Relaxed) {
            Err(Refusal::Revoked)
        } else if self.key.has_expired() {
            Err(Refusal::Expired)
        } else {
            Ok(())
        }
    }

    /// Counts a call that begins, until the guard is dropped.
    ///
    /// # Errors
    /// [`LimitError`]: too many calls, a second or at a time.
    pub fn begin_call(&self) -> Result<CallGuard, LimitError> {
        let client = self.client();
        let guard = client.limits.load().begin_call(&client.open).inspect_err(|error| self.note(error))?;
        metrics::key_call(&client.name);
        Ok(guard)
    }

    /// Counts the documents of one request.
    ///
    /// # Errors
    /// [`LimitError`]: too many documents, a second or at once.
    pub fn take_documents(&self, documents: usize) -> Result<(), LimitError> {
        let client = self.client();
        client.limits.load().take_documents(documents).inspect_err(|error| self.note(error))?;
        metrics::key_documents(&client.name, documents);
        Ok(())
    }

    /// Counts one document of a stream, when there is room for it: a stream is slowed down, not ended.
    ///
    /// # Errors
    /// [`Refusal`]: the key is no longer valid.
    pub async fn wait_for_document(&self) -> Result<(), Refusal> {
        let client = self.client();
        loop {
            self.check()?;
            let taken = client.limits.load().take_documents(1);
            match taken {
                Err(LimitError::Documents { retry_after, .. }) => {
                    // Not longer, so that new limits are soon noticed.
                    tokio::time::sleep(retry_after.min(Duration::from_secs(1))).await;
                }
                _ => break,
            }
        }
        metrics::key_documents(&client.name, 1);
        Ok(())
    }

    fn note(&self, error: &LimitError) {
        metrics::limited(&self.client().name, error.reason());
    }
}

/// The keys in force, as they were last read.
#[derive(Debug)]
pub struct KeyStore {
    /// What the keys are called in metrics and the log.
    what: &'static str,
    sources: KeySources,
    /// The file as it was before it was first read.
    seen: Fingerprint,
    keys: ArcSwap<Vec<Arc<Key>>>,
}

impl KeyStore {
    /// Reads the keys, which are called `what` in metrics and the log.
    ///
    /// # Errors
    /// [`KeyError`]: a key that cannot be used, with its place.
    pub fn open(what: &'static str, sources: KeySources) -> Result<Self, KeyError> {
        let seen = Fingerprint::of(sources.file.as_slice());
        let store = Self { what, sources, seen, keys: ArcSwap::default() };
        store.reload()?;
        Ok(store)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// Whether nobody may call.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks for a key, in a time that depends neither on which one it is nor on how much of it is right.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Expired`].
    pub fn authenticate(&self, key: &[u8]) -> Result<Access, Refusal> {
        let hash = KeyHash::of(key);
        let keys = self.keys.load();
        // No hash is there twice, so that at most one place is noted; one behind the last stands for none.
        let mut found = keys.len() as u64;
        for (index, key) in keys.iter().enumerate() {
            found.conditional_assign(&(index as u64), key.hash.ct_eq(&hash));
        }
        let access = keys.get(found as usize).map(|key| Access { key: Arc::clone(key) }).ok_or(Refusal::Unknown)?;
        access.check()?;
        Ok(access)
    }

    /// Reads the keys again. What is wrong leaves everything as it is.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn reload(&self) -> Result<(), KeyError> {
        let entries = Entries::read(&self.sources)?;
        let old = self.keys.load_full();
        // Clients stay who they are, with what they have used and have open.
        let mut clients: HashMap<Arc<str>, Arc<Client>> =
            old.iter().map(|key| (Arc::clone(&key.client.name), Arc::clone(&key.client))).collect();
        let mut keys = Vec::with_capacity(entries.keys.len());
        for entry in &entries.keys {
            let name: Arc<str> = entry.name.as_str().into();
            let client = clients.entry(Arc::clone(&name)).or_insert_with(|| Arc::new(Client::new(name)));
            let expires = entry.expires.unwrap_or(NEVER);
            let same = old.iter().find(|key| key.hash == entry.hash && Arc::ptr_eq(&key.client, client));
            let key = match same {
                Some(key) => Arc::clone(key),
                None => {
                    let client = Arc::clone(client);
                    Arc::new(Key { hash: entry.hash, client, expires: NEVER.into(), revoked: false.into() })
                }
            };
            key.expires.store(expires, Ordering::Relaxed);
            keys.push(key);
        }
        for client in clients.values() {
            metrics::caller(&client.name);
            client.limits.rcu(|limits| limits.renew(entries.limits(&client.name)));
        }
        let keys = Arc::new(keys);
        self.keys.store(Arc::clone(&keys));
        for gone in old.iter().filter(|old| !keys.iter().any(|key| Arc::ptr_eq(key, old))) {
            gone.revoked.store(true, Ordering::Relaxed);
        }
        metrics::keys(self.what, keys.len());
        Ok(())
    }

    /// Reads the keys again whenever the file changes, looking every `interval` (zero for never), and on SIGHUP. Never ends.
    pub async fn keep_current(self: Arc<Self>, interval: Duration) {
        let mut watch = Watch::new(self.sources.file.as_slice().to_vec(), self.seen.clone(), interval);
        loop {
            watch.changed().await;
            let store = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || store.reload()).await {
                Ok(Ok(())) => {
                    metrics::reload(self.what, true);
                    tracing::info!(keys = self.len(), "{} read again", self.what);
                }
                Ok(Err(error)) => {
                    metrics::reload(self.what, false);
                    tracing::error!(%error, "{} stay as they were", self.what);
                }
                // Only when the runtime ends.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(name: &str, key: &str) -> String {
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{}\"\n", KeyHash::of(key.as_bytes()))
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn open(text: &str) -> (Self, KeyStore) {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.write(text);
            let store = KeyStore::open("keys", KeySources { file: Some(folder.path()), pairs: None }).unwrap();
            (folder, store)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("keys.toml")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
        }
    }

    #[test]
    fn a_key_opens_and_nothing_else_does() {
        let (_folder, store) = Folder::open(&(entry("a", "one") + &entry("b", "two") + &entry("b", "three")));
        for (key, name) in [("one", "a"), ("two", "b"), ("three", "b")] {
            assert_eq!(&**store.authenticate(key.as_bytes()).unwrap().client().name(), name);
        }
        for key in ["", "on", "one ", "four", &KeyHash::of(b"one").to_string()] {
            assert_eq!(store.authenticate(key.as_bytes()).unwrap_err(), Refusal::Unknown);
        }
    }

    #[test]
    fn an_expired_key_is_told_so_only_to_who_has_it() {
        let (folder, store) = Folder::open(&(entry("a", "one") + "expires = 2020-01-01T00:00:00Z\n"));
        assert_eq!(store.authenticate(b"one").unwrap_err(), Refusal::Expired);
        assert_eq!(store.authenticate(b"two").unwrap_err(), Refusal::Unknown);
        folder.write(&(entry("a", "one") + "expires = 9999-01-01T00:00:00Z\n"));
        store.reload().unwrap();
        assert!(store.authenticate(b"one").is_ok());
    }

    #[test]
    fn a_key_that_goes_ends_what_it_opened() {
        let (folder, store) = Folder::open(&(entry("a", "one") + &entry("a", "two")));
        let (one, two) = (store.authenticate(b"one").unwrap(), store.authenticate(b"two").unwrap());
        folder.write(&entry("a", "two"));
        store.reload().unwrap();
        assert_eq!((one.check(), two.check()), (Err(Refusal::Revoked), Ok(())));
        assert_eq!(store.authenticate(b"one").unwrap_err(), Refusal::Unknown);
    }

    #[test]
    fn bad_keys_leave_the_old_ones() {
        let (folder, store) = Folder::open(&entry("a", "one"));
        folder.write("[[keys]]\nname = ");
        assert!(store.reload().is_err());
        fs::remove_file(folder.path()).unwrap();
        assert!(store.reload().is_err());
        assert!(store.authenticate(b"one").is_ok());
    }

    #[test]
    fn limits_change_and_open_calls_stay_counted() {
        let limit = |calls: u32| format!("{}[limits.a]\nconcurrent_calls = {calls}\n", entry("a", "one"));
        let (folder, store) = Folder::open(&limit(1));
        let access = store.authenticate(b"one").unwrap();
        let _open = access.begin_call().unwrap();
        assert!(access.begin_call().is_err());
        folder.write(&limit(2));
        store.reload().unwrap();
        let _second = store.authenticate(b"one").unwrap().begin_call().unwrap();
        let error = access.begin_call().unwrap_err();
        assert!(matches!(error, LimitError::ConcurrentCalls { limit: 2, actual: 3, .. }), "{error:?}");
    }
}
