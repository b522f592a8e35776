//! A bundle on disk: its manifest, and its files checked against it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{FileSpec, MANIFEST_FILE, Manifest, ModelError, manifest::hex};

/// A bundle whose manifest has been read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle in a folder.
    ///
    /// # Errors
    /// If the manifest is missing, damaged or contradicts itself.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ModelError> {
        let folder = folder.into();
        let manifest = Manifest::from_json(&read(&folder.join(MANIFEST_FILE))?)?;
        Ok(Self { folder, manifest })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the bundle says of itself.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Checks every file against the manifest.
    ///
    /// # Errors
    /// The first file's in the manifest's order that is missing, cut short or damaged.
    pub(crate) fn verify(&self) -> Result<(), ModelError> {
        let files: Vec<&FileSpec> = self.manifest.files.iter().collect();
        let results: Vec<_> = files.par_iter().map(|file| self.verify_file(file)).collect();
        results.into_iter().collect()
    }

    fn verify_file(&self, file: &FileSpec) -> Result<(), ModelError> {
        let path = self.folder.join(&file.name);
        let failed = |source| ModelError::Read { path: path.clone(), source };
        // Not through a map, so that what nobody looks up later takes no memory.
        let mut open = File::open(&path).map_err(failed)?;
        let size = open.metadata().map_err(failed)?.len();
        if size != file.bytes {
            return Err(ModelError::Size { path, expected: file.bytes, actual: size });
        }
        let actual = sha256(&mut open).map_err(failed)?;
        if actual != file.sha256 {
            return Err(ModelError::Checksum { path, expected: file.sha256.clone(), actual });
        }
        Ok(())
    }

    /// A file's content.
    pub(crate) fn read(&self, file: &FileSpec) -> Result<Bytes, ModelError> {
        read(&self.folder.join(&file.name)).map(Bytes::from)
    }

    /// A file's content, fetched from disk as it is used. The file must not be changed in place as long as this lives: a new bundle
    /// belongs into a new folder.
    #[expect(unsafe_code, reason = "whether somebody else writes to a file is beyond a program's control")]
    pub(crate) fn map(&self, file: &FileSpec) -> Result<Bytes, ModelError> {
        let path = self.folder.join(&file.name);
        let failed = |source| ModelError::Read { path: path.clone(), source };
        let open = File::open(&path).map_err(failed)?;
        // SAFETY: all who read through the map check what they read and stay within its bounds, so even a file changed against the
        // rule above gives wrong numbers at worst, or, cut short, ends the process with SIGBUS.
        let map = unsafe { Mmap::map(&open) }.map_err(failed)?;
        Ok(Bytes::from_owner(map))
    }
}

fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

/// Reads a file whole; the error names it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}
