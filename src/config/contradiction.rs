//! Settings that are right by themselves, but not together.

use thiserror::Error;

use super::{AdminSettings, ServeSettings, TelemetrySettings, TlsSettings};

/// Settings that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct Contradiction {
    /// Their names.
    pub settings: &'static [&'static str],
    /// What they must be.
    problem: &'static str,
}

impl Contradiction {
    fn unless(holds: bool, settings: &'static [&'static str], problem: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { settings, problem }) }
    }
}

impl ServeSettings {
    /// Checks what no setting can tell by itself.
    ///
    /// # Errors
    /// The first [`Contradiction`].
    pub fn check(&self) -> Result<(), Contradiction> {
        self.tls.check()?;
        self.admin.check()?;
        self.telemetry.check()?;
        // Two thirds are one caller's; a message takes four times its length while it is decompressed (room to grow, what zstd refers to).
        Contradiction::unless(
            self.max_held_bytes / 6 >= self.max_request_bytes,
            &["max_held_bytes", "max_request_bytes"],
            "max_held_bytes must be at least six times max_request_bytes",
        )
    }
}

impl TlsSettings {
    pub(crate) fn check(&self) -> Result<(), Contradiction> {
        let Self { tls_cert, tls_key, tls_client_ca } = self;
        Contradiction::unless(
            tls_cert.is_some() == tls_key.is_some(),
            &["tls_cert", "tls_key"],
            "tls_cert and tls_key go together",
        )?;
        Contradiction::unless(
            tls_cert.is_some() || tls_client_ca.is_none(),
            &["tls_client_ca", "tls_cert", "tls_key"],
            "tls_client_ca needs tls_cert and tls_key",
        )
    }
}

impl AdminSettings {
    fn check(&self) -> Result<(), Contradiction> {
        Contradiction::unless(
            self.admin_listen.is_none() || self.admin_keys.is_some(),
            &["admin_listen", "admin_keys"],
            "admin_listen needs admin_keys: nobody may replace the model without a key",
        )
    }
}

impl TelemetrySettings {
    pub(crate) fn check(&self) -> Result<(), Contradiction> {
        Contradiction::unless(
            self.otlp_endpoint.is_none() || cfg!(feature = "otlp"),
            &["otlp_endpoint"],
            "this program was built without the feature otlp",
        )
    }
}
