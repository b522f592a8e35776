//! Files that may change while the service runs: keys, certificates.

use std::{fs::File, io::Read, path::PathBuf, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::sleep;

/// How long files must stay as they are before they are believed: who writes them may not have finished.
const SETTLE: Duration = Duration::from_millis(200);

/// Bytes of a file that are looked at; beyond that it is nothing that we read.
const MAX_BYTES: u64 = 1 << 20;

/// What files hold, in short. Contents and not times, so that no change is missed: not two within a tick of the clock, not a link that leads
/// elsewhere (as Kubernetes swaps secrets), not a file system without times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(Vec<Option<[u8; 32]>>);

impl Fingerprint {
    /// Of files as they are now; a file that cannot be read counts as one without contents.
    pub fn of(paths: &[PathBuf]) -> Self {
        let of_one = |path: &PathBuf| {
            let mut contents = Vec::new();
            File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut contents)).ok()?;
            Some(Sha256::digest(&contents).into())
        };
        Self(paths.iter().map(of_one).collect())
    }
}

/// Waits for files to change.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    interval: Duration,
    seen: Fingerprint,
    hangup: Hangup,
}

impl Watch {
    /// Watches files that were read when they were as `seen`, looking every `interval`; zero for only when told to.
    ///
    /// Must be called within a runtime.
    pub fn new(paths: Vec<PathBuf>, seen: Fingerprint, interval: Duration) -> Self {
        Self { paths, interval, seen, hangup: Hangup::new() }
    }

    /// Done when the files have changed and stayed so for a moment, or at once on SIGHUP.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.hangup.recv() => {
                    self.seen = look(&self.paths).await;
                    return;
                }
                () = pause(self.interval) => {}
            }
            let mut now = look(&self.paths).await;
            if now == self.seen {
                continue;
            }
            loop {
                sleep(SETTLE).await;
                let then = std::mem::replace(&mut now, look(&self.paths).await);
                if then == now {
                    break;
                }
            }
            self.seen = now;
            return;
        }
    }
}

async fn look(paths: &[PathBuf]) -> Fingerprint {
    let paths = paths.to_vec();
    // Off the runtime's threads: a file may lie on a network.
    tokio::task::spawn_blocking(move || Fingerprint::of(&paths)).await.unwrap_or_default()
}

async fn pause(interval: Duration) {
    if interval.is_zero() { std::future::pending().await } else { sleep(interval).await }
}

/// SIGHUP, where there is one.
#[derive(Debug)]
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup());
        Self { signal: signal.inspect_err(|error| tracing::warn!(%error, "SIGHUP will not be heard")).ok() }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().join("a"), folder.path().join("b")];
        fs::write(&paths[0], "one").unwrap();
        let mut watch = Watch::new(paths.clone(), Fingerprint::of(&paths), Duration::from_millis(10));
        for change in ["two", "three"] {
            fs::write(&paths[0], change).unwrap();
            tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        }
        // A file that appears, and one that goes, are changes too.
        fs::write(&paths[1], "").unwrap();
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        fs::remove_file(&paths[0]).unwrap();
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
        assert!(nothing.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_swapped_link_is_a_change() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let [one, two, link, next] = ["1", "2", "link", "next"].map(|name| folder.path().join(name));
        fs::write(&one, "one").unwrap();
        fs::write(&two, "two").unwrap();
        symlink(&one, &link).unwrap();
        let paths = vec![link.clone()];
        let mut watch = Watch::new(paths.clone(), Fingerprint::of(&paths), Duration::from_millis(10));
        symlink(&two, &next).unwrap();
        fs::rename(&next, &link).unwrap();
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
    }
}
