//! Models in versions, and a link that a server loads one through.

use std::{fs, path::Path};

use rasid::model::{Bundle, seal};
use tempfile::TempDir;

use super::{copy_bundle, model_folder};

/// The shipped model under another version.
pub fn version(version: &str) -> TempDir {
    let bundle = copy_bundle();
    let path = bundle.path().join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    let own = Bundle::open(model_folder()).unwrap().manifest().version.clone();
    let own = format!("\"version\": \"{own}\"");
    assert!(manifest.contains(&own));
    fs::write(&path, manifest.replace(&own, &format!("\"version\": \"{version}\""))).unwrap();
    seal(bundle.path()).unwrap();
    bundle
}

/// A link that a server loads its model through.
pub struct Current(TempDir);

impl Current {
    /// A link to this folder.
    pub fn new(target: &Path) -> Self {
        let current = Self(tempfile::tempdir().unwrap());
        current.set(target);
        current
    }

    /// Where the link is.
    pub fn path(&self) -> String {
        self.0.path().join("current").to_str().unwrap().to_owned()
    }

    /// Turns it to another folder, at once.
    pub fn set(&self, target: &Path) {
        let new = self.0.path().join("new");
        std::os::unix::fs::symlink(target, &new).unwrap();
        fs::rename(new, self.path()).unwrap();
    }
}
