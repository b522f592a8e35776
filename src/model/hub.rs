//! Bundles on the Hugging Face hub.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiError},
};

use super::{MANIFEST_FILE, Manifest, ModelError, bundle::read};

/// Tries after the first that broke off; a partial file is continued.
const RETRIES: usize = 3;

/// Fetches a bundle into the hub cache, as far as it is not there yet; returns its folder there.
///
/// A branch or tag is looked up anew every time, and all files come from the commit it stands at. A full commit hash whose files are
/// in the cache needs no network, and with `HF_HUB_OFFLINE` set nothing does. `HF_HOME`, `HF_ENDPOINT` and `HF_TOKEN` are honoured.
///
/// # Errors
/// [`ModelError::Hub`], [`ModelError::Offline`], and those of reading a manifest.
pub(super) fn fetch(repo: &str, revision: &str) -> Result<PathBuf, ModelError> {
    let cache = Cache::from_env();
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value));
    let failed =
        |source| ModelError::Hub { repo: repo.to_owned(), file: MANIFEST_FILE.to_owned(), source: Box::new(source) };
    let source = if offline { Source::Cache(cache) } else { Source::Hub(Box::new(connect(cache).map_err(failed)?)) };

    let manifest = source.manifest(repo, revision)?;
    // The snapshot's folder is named by its commit.
    let folder = manifest.parent().unwrap_or(Path::new("")).to_owned();
    let commit = folder.file_name().map_or(revision.into(), |name| name.to_string_lossy());
    for file in Manifest::from_json(&read(&manifest)?)?.files.iter() {
        source.file(repo, if offline { revision } else { &commit }, &file.name)?;
    }
    Ok(folder)
}

/// Where files come from.
enum Source {
    Cache(Cache),
    Hub(Box<Api>),
}

impl Source {
    fn manifest(&self, repo: &str, revision: &str) -> Result<PathBuf, ModelError> {
        let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self {
            // The cache would answer for a branch with what it once was.
            Self::Hub(api) if !is_commit => {
                let fetched = api.repo(at(repo, revision)).download(MANIFEST_FILE);
                fetched.map_err(|source| hub_error(repo, MANIFEST_FILE, source))
            }
            _ => self.file(repo, revision, MANIFEST_FILE),
        }
    }

    fn file(&self, repo: &str, revision: &str, file: &str) -> Result<PathBuf, ModelError> {
        match self {
            Self::Cache(cache) => cache
                .repo(at(repo, revision))
                .get(file)
                .ok_or_else(|| ModelError::Offline { repo: repo.to_owned(), file: file.to_owned() }),
            Self::Hub(api) => api.repo(at(repo, revision)).get(file).map_err(|source| hub_error(repo, file, source)),
        }
    }
}

fn at(repo: &str, revision: &str) -> Repo {
    Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned())
}

fn hub_error(repo: &str, file: &str, source: ApiError) -> ModelError {
    ModelError::Hub { repo: repo.to_owned(), file: file.to_owned(), source: Box::new(source) }
}

fn connect(cache: Cache) -> Result<Api, ApiError> {
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()).or_else(|| cache.token());
    let mut builder = ApiBuilder::from_cache(cache)
        .with_token(token)
        .with_retries(RETRIES)
        .with_progress(std::io::stderr().is_terminal())
        .with_user_agent("rasid", env!("CARGO_PKG_VERSION"));
    if let Ok(endpoint) = std::env::var("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    builder.build()
}

/// As huggingface_hub reads its switches.
fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
