//! Settings of TLS.

use std::path::PathBuf;

use clap::Args;

/// What the server shows to clients, and asks of them.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsSettings {
    /// Certificate of the server and those between it and its authority, PEM. With it and tls_key the server speaks TLS 1.2 and 1.3 and nothing
    /// else. Read again when it changes, while connections go on.
    #[arg(long, env = "RASID_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM.
    #[arg(long, env = "RASID_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Authorities of clients, PEM: with it only clients get a connection that have a certificate of one of them (mutual TLS).
    #[arg(long, env = "RASID_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}
