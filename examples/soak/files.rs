//! All that the server reads from disk: certificates, keys, the model; each can be put in the place of the one before, at once.

use std::{fs, path::Path, process::Command};

use fastrand::Rng;
use rcgen::{CertificateParams, Issuer, KeyPair};
use sha2::{Digest, Sha256};

use super::{
    Failure,
    server::{KEYS, NAME, STEADY, Server, hex, key},
};

/// A model that may be put before the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// As it is.
    First,
    /// The same weights under another version.
    Second,
    /// One bit wrong.
    Damaged,
}

impl Model {
    fn folder(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Damaged => "damaged",
        }
    }
}

impl Server {
    /// A new certificate by the same authority, in the place of the old one.
    pub fn write_certificate(&self) -> Result<(), Failure> {
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&self.authority.2, &self.authority.1);
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;
        self.replace("server.key", &key.serialize_pem())?;
        self.replace("server.pem", &certificate.pem())
    }

    /// The keys, hashed, in another order each time, one expired.
    pub fn write_keys(&self, rng: &mut Rng) -> Result<(), Failure> {
        let entry = |name: &str, more: &str| {
            let hash = hex(&Sha256::digest(key(name)));
            format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{more}\n")
        };
        let mut entries: Vec<String> = KEYS.into_iter().chain([STEADY]).map(|name| entry(name, "")).collect();
        entries.push(entry("old", "expires = 2020-01-01T00:00:00Z"));
        rng.shuffle(&mut entries);
        self.replace("keys.toml", &entries.concat())?;
        self.replace("admin.toml", &entry("admin", ""))
    }

    /// Puts a file in another's place at once.
    pub fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        let new = self.folder.path().join(format!("{name}.new"));
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.folder.path().join(name))?)
    }

    /// Copies of the model: one of another revision, one that is damaged.
    pub fn write_models(&self, program: &Path) -> Result<(), Failure> {
        for name in [Model::Second, Model::Damaged].map(Model::folder) {
            let folder = self.folder.path().join(name);
            fs::create_dir(&folder)?;
            for entry in fs::read_dir(&self.model)? {
                let path = entry?.path();
                if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                    fs::copy(&path, folder.join(name))?;
                }
            }
        }
        for model in [Model::Second, Model::Damaged] {
            self.rename_model(program, model.folder())?;
        }
        let weights = self.folder.path().join(Model::Damaged.folder()).join("encoder.safetensors");
        let mut bytes = fs::read(&weights)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(weights, bytes)?)
    }

    /// Gives a copy a revision of its own, since a model that is loaded already is not loaded again.
    fn rename_model(&self, program: &Path, name: &str) -> Result<(), Failure> {
        let folder = self.folder.path().join(name);
        let path = folder.join("manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        manifest["version"] = format!("{}-{name}", manifest["version"].as_str().unwrap_or_default()).into();
        fs::write(&path, manifest.to_string())?;
        let sealed = Command::new(program).args(["model", "seal"]).arg(&folder).output()?;
        if sealed.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&sealed.stderr).into()) }
    }

    /// Puts a model where the server looks, at once.
    pub fn place_model(&self, model: Model) -> Result<(), Failure> {
        let new = self.folder.path().join("model.new");
        let target = match model {
            Model::First => self.model.clone(),
            other => self.folder.path().join(other.folder()),
        };
        std::os::unix::fs::symlink(target, &new)?;
        Ok(fs::rename(new, self.folder.path().join("model"))?)
    }
}
