//! How an operator reaches a running server.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::auth::KeySources;

/// Settings of the port for operators.
#[derive(Debug, Clone, Args)]
pub struct AdminSettings {
    /// Address and port to offer rasid.admin.v1 on, for operators: a new model, the state of the server. Nowhere unless given, and
    /// only with admin_keys.
    #[arg(long, env = "RASID_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// Keys that open rasid.admin.v1 and nothing else: a file like keys_file. Other keys do not open it.
    #[arg(long, env = "RASID_ADMIN_KEYS", value_name = "FILE")]
    pub admin_keys: Option<PathBuf>,
}

impl AdminSettings {
    /// Where the keys come from.
    pub fn keys(&self) -> KeySources {
        KeySources { file: self.admin_keys.clone(), pairs: None }
    }
}
