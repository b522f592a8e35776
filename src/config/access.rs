//! Settings of who may call.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::auth::KeySources;

/// Who may call. Without keys everybody may.
#[derive(Debug, Clone, Args)]
pub struct AccessSettings {
    /// Keys that may call, in TOML: names, SHA-256 of keys, expiry, limits; `rasid key new` makes them. Read again when it changes. Without
    /// this and api_keys everybody may call.
    #[arg(long, env = "RASID_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,

    /// More keys that may call, as NAME=SHA256 with commas between.
    #[arg(long, env = "RASID_API_KEYS", value_name = "NAME=SHA256", hide_env_values = true)]
    pub api_keys: Option<Secret>,

    /// Who may ask what the server offers (gRPC reflection). Without keys, authenticated is open.
    #[arg(long, env = "RASID_REFLECTION", default_value = "authenticated", value_name = "WHO")]
    pub reflection: ReflectionAccess,

    /// Seconds between two looks at files that may change: keys and certificates. 0 for none, so that only SIGHUP has them read again.
    #[arg(long, env = "RASID_RELOAD_SECONDS", default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub reload_seconds: u64,
}

impl AccessSettings {
    /// Where keys come from.
    pub fn keys(&self) -> KeySources {
        KeySources { file: self.keys_file.clone(), pairs: self.api_keys.as_ref().map(|pairs| pairs.0.clone()) }
    }

    /// Time between two looks at files.
    pub fn reload(&self) -> Duration {
        Duration::from_secs(self.reload_seconds)
    }
}

/// Who may use reflection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReflectionAccess {
    /// Everybody.
    Open,
    /// Whoever may call.
    Authenticated,
    /// Nobody: it is not there.
    Off,
}

/// A setting that is not shown.
#[derive(Clone)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
