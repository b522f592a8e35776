//! `rasid health`: what grpc.health.v1 says of a server, for probes of orchestrators and scripts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anstream::println;
use clap::{Args, value_parser};
use thiserror::Error;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::CliError;

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The server; https:// for TLS.
    #[arg(long, env = "RASID_HEALTH_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,

    /// The service to ask for; the server as a whole unless given.
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    service: String,

    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Certificates of the authorities to trust, PEM; needed for https.
    #[arg(long, env = "RASID_HEALTH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The name in the server's certificate, where it is not that of the URL.
    #[arg(long, env = "RASID_HEALTH_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,

    /// Our certificate, PEM, for a server that asks its clients for one.
    #[arg(long, env = "RASID_HEALTH_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The key of our certificate, PEM.
    #[arg(long, env = "RASID_HEALTH_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HealthError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--ca is required for https")]
    NoAuthority,
    #[error("the server did not answer within {0} s")]
    Timeout(u64),
    #[error("the server does not say: {0}")]
    Refused(#[source] Box<Status>),
}

/// Prints what the server says; the exit status is 0 if that is SERVING, else 1.
pub fn run(args: &HealthArgs) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let status = runtime.block_on(async {
        let answer = tokio::time::timeout(Duration::from_secs(args.timeout), ask(args)).await;
        answer.map_err(|_| HealthError::Timeout(args.timeout))?
    })?;
    println!("{}", status.as_str_name());
    Ok(if status == ServingStatus::Serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(args: &HealthArgs) -> Result<ServingStatus, CliError> {
    let channel = connect(args).await?;
    let request = HealthCheckRequest { service: args.service.clone() };
    let answer =
        HealthClient::new(channel).check(request).await.map_err(|status| HealthError::Refused(status.into()))?;
    Ok(answer.into_inner().status())
}

async fn connect(args: &HealthArgs) -> Result<Channel, CliError> {
    let mut endpoint = Endpoint::from_shared(args.server.clone()).map_err(CliError::Connect)?;
    if endpoint.uri().scheme_str() == Some("https") {
        let authority = args.ca.as_deref().ok_or(HealthError::NoAuthority)?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
        if let Some(name) = &args.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(CliError::Connect)?;
    }
    endpoint.connect().await.map_err(CliError::Connect)
}

fn read(path: &Path) -> Result<Vec<u8>, HealthError> {
    fs::read(path).map_err(|source| HealthError::Read { path: path.to_owned(), source })
}
