//! Where a model comes from.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{ModelError, hub};

/// Where a model comes from: a folder, or a repository on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder with a bundle.
    Directory(PathBuf),
    /// `hf:ORG/NAME@REVISION`.
    Hub {
        /// `ORG/NAME`.
        repo: String,
        /// Branch, tag or commit; `main` if none was given.
        revision: String,
    },
}

impl ModelSource {
    /// The folder of the bundle; fetches it first if it is on the hub and not in the cache.
    ///
    /// # Errors
    /// [`ModelError::Hub`] and [`ModelError::Offline`]; a folder is not looked at here.
    pub fn resolve(&self) -> Result<PathBuf, ModelError> {
        match self {
            ModelSource::Directory(path) => Ok(path.clone()),
            ModelSource::Hub { repo, revision } => hub::fetch(repo, revision),
        }
    }
}

impl FromStr for ModelSource {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let Some(reference) = text.strip_prefix("hf:") else {
            return Ok(ModelSource::Directory(PathBuf::from(text)));
        };
        let (repo, revision) = reference.split_once('@').unwrap_or((reference, "main"));
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match repo.split_once('/') {
            Some((org, name)) if is_part(org) && is_part(name) && !revision.is_empty() => {
                Ok(ModelSource::Hub { repo: repo.to_owned(), revision: revision.to_owned() })
            }
            _ => Err(ModelError::HubReference(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Directory(path) => write!(f, "{}", path.display()),
            ModelSource::Hub { repo, revision } => write!(f, "hf:{repo}@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_folders_and_hub_references() {
        assert_eq!("models/default".parse::<ModelSource>().unwrap(), ModelSource::Directory("models/default".into()));
        for (text, revision) in
            [("hf:org/name", "main"), ("hf:org/name@v1.2", "v1.2"), ("hf:org/name@refs/pr/1", "refs/pr/1")]
        {
            let expected = ModelSource::Hub { repo: "org/name".into(), revision: revision.into() };
            assert_eq!(text.parse::<ModelSource>().unwrap(), expected);
        }
    }

    #[test]
    fn refuses_what_is_no_repository() {
        for text in ["hf:", "hf:name", "hf:org/", "hf:/name", "hf:org/name@", "hf:../etc/passwd", "hf:a/b/c"] {
            assert!(matches!(text.parse::<ModelSource>(), Err(ModelError::HubReference(_))), "{text}");
        }
    }
}
