//! TLS: certificate, key and, for mutual TLS, the authorities of clients; read again while the server runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::{Contradiction, TlsSettings},
    metrics::security as metrics,
    watch::{Fingerprint, Watch},
};

/// Certificates that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One file without the other.
    #[error(transparent)]
    Incomplete(#[from] Contradiction),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not PEM, or has nothing of what is looked for in it.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// There are no authorities of clients.
    #[error("{}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifierBuilderError,
    },
}

/// Files of a server's TLS.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: Option<PathBuf>,
}

impl Files {
    fn all(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.authorities).cloned().collect()
    }
}

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    /// The files as they were before they were first read.
    seen: Fingerprint,
    config: ArcSwap<ServerConfig>,
}

impl Certificates {
    /// Reads the certificates; `None` if there are to be none.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        settings.check()?;
        let TlsSettings { tls_cert, tls_key, tls_client_ca: authorities } = settings.clone();
        let Some((certificate, key)) = tls_cert.zip(tls_key) else { return Ok(None) };
        let files = Files { certificate, key, authorities };
        let seen = Fingerprint::of(&files.all());
        let config = ArcSwap::new(load(&files)?);
        Ok(Some(Self { files, seen, config }))
    }

    /// Shakes hands with a client, with the certificates that hold now.
    ///
    /// # Errors
    /// If the client does not speak TLS, wants another version or protocol, or has no certificate that is asked for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }

    /// Reads the certificates again whenever a file changes, looking every `interval` (zero for never), and on SIGHUP. What is wrong leaves
    /// everything as it is. Never ends. Connections that there are go on.
    pub async fn keep_current(self: Arc<Self>, interval: Duration) {
        let mut watch = Watch::new(self.files.all(), self.seen.clone(), interval);
        loop {
            watch.changed().await;
            let files = self.files.clone();
            match tokio::task::spawn_blocking(move || load(&files)).await {
                Ok(Ok(config)) => {
                    self.config.store(config);
                    metrics::reload("certificates", true);
                    tracing::info!("certificates read again");
                }
                Ok(Err(error)) => {
                    metrics::reload("certificates", false);
                    tracing::error!(%error, "the certificates stay as they were");
                }
                // Only when the runtime ends.
                Err(_) => return,
            }
        }
    }
}

fn load(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    // TLS 1.2 and 1.3.
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match &files.authorities {
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let ends = chain.iter().filter_map(|certificate| not_after(certificate)).min();
    // Also checks that the key is the certificate's.
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if let Some(ends) = ends {
        metrics::certificate_expiry(ends);
    }
    Ok(Arc::new(config))
}

/// Seconds from 1970 to the end of a certificate's validity. rustls checks certificates of others and does not tell of ours.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Lets in clients whose certificate comes from one of the authorities in a file.
fn verifier(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|source| TlsError::Unusable { path: path.to_owned(), source })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| TlsError::Authorities { path: path.to_owned(), source })
}

/// All certificates of a file, one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    let all = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if all.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
