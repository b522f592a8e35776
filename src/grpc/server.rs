//! The server: services, health, and the way from start to stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use thiserror::Error;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{Request, Status, codec::CompressionEncoding, service::interceptor::InterceptedService};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    admin::Admin,
    auth::AuthLayer,
    deadline::note_deadline,
    decompress::DecompressLayer,
    farewell::FarewellLayer,
    hold::HoldLayer,
    incoming,
    limits::LimitLayer,
    observe::ObserveLayer,
    reload,
    resets::ResetLayer,
    service::Tagging,
    shared::Shared,
    stall::StallLayer,
    tls::{Certificates, TlsError},
    transport,
    upload::UploadLayer,
};
use crate::{
    auth::{KeyError, KeySources, KeyStore},
    config::{Contradiction, ReflectionAccess, ServeSettings},
    engine::{ReloadError, Tenant},
    metrics::{self, MetricsError},
    proto::{
        self, admin::v1::admin_service_server::AdminServiceServer, v1::tagger_service_server::TaggerServiceServer,
    },
    systemd,
};

/// Most bytes of a question to health or reflection, which may be asked without a key. tonic would take 4 MiB.
const SMALL_MESSAGE: usize = 16 << 10;

/// Why the server could not run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The model could not be loaded.
    #[error(transparent)]
    Model(#[from] ReloadError),
    /// A task ended without a result.
    #[error("a task of the server ended early: {0}")]
    Task(#[source] tokio::task::JoinError),
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Metrics could not be offered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Settings do not go together.
    #[error(transparent)]
    Settings(#[from] Contradiction),
    /// The port for operators cannot be opened.
    #[error("cannot listen on {address} (admin_listen): {source}")]
    AdminListen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Reflection could not be set up.
    #[error("cannot set up reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves on a bound listener until `shutdown` is done and the calls in flight have ended, or their time is up.
///
/// Calls are answered with UNAVAILABLE, and health says NOT_SERVING, until the model is loaded and warm, and again from the shutdown on.
///
/// # Errors
/// [`ServeError`]: if the model cannot be loaded, the server ends with the reason.
pub async fn serve(
    listener: TcpListener,
    settings: ServeSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    settings.check()?;
    if let Some(address) = settings.telemetry.metrics_listen {
        tokio::spawn(metrics::serve(address)?);
        tracing::info!(%address, "offering metrics");
    }
    let mut background = JoinSet::new();
    let keys = open_keys("keys", settings.access.keys(), &settings, &mut background)?;
    if keys.is_none() {
        metrics::security::caller(Tenant::anonymous().name());
    }
    let certificates = open_certificates(&settings, &mut background)?;
    if listener.local_addr().is_ok_and(|address| !address.ip().is_loopback()) {
        warn_of_exposure(keys.is_some(), certificates.is_some());
    }
    let shared = Arc::new(Shared::new(&settings));
    open_admin(&shared, &settings, certificates.clone(), &mut background).await?;
    let (health, health_service) = tonic_health::server::health_reporter();
    // For probes of life: health itself serves as long as the process does.
    health.set_service_status("grpc.health.v1.Health", ServingStatus::Serving).await;
    set_health(&health, ServingStatus::NotServing).await;
    let draining = shared.draining.clone();
    let reflects = settings.access.reflection != ReflectionAccess::Off;
    let v1 = reflects.then(|| reflection().build_v1()).transpose()?;
    let v1alpha = reflects.then(|| reflection().build_v1alpha()).transpose()?;
    let connections = &settings.connections;
    let observed = ObserveLayer::default();
    let transport = transport::server(connections)
        .layer(ResetLayer)
        .layer(observed.clone())
        .layer(StallLayer { limit: connections.stream_idle() })
        .layer(AuthLayer::new(keys, settings.access.reflection))
        .layer(LimitLayer)
        .layer(FarewellLayer { draining: draining.clone() })
        .layer(UploadLayer { limit: connections.upload() })
        .layer(DecompressLayer::new(shared.host.memory().clone(), message_limit(&settings)))
        .layer(HoldLayer::new(shared.host.memory().clone(), message_limit(&settings)))
        .add_service(health_service.max_decoding_message_size(SMALL_MESSAGE))
        .add_optional_service(v1.map(|service| service.max_decoding_message_size(SMALL_MESSAGE)))
        // Older clients know only this version.
        .add_optional_service(v1alpha.map(|service| service.max_decoding_message_size(SMALL_MESSAGE)))
        .add_service(tagger_service(&shared, &settings))
        .serve_with_incoming_shutdown(
            incoming::accept(listener, connections, certificates),
            draining.clone().cancelled_owned(),
        );
    let transport = tokio::spawn(transport);
    let running = async {
        reload::load(&shared).await.map_err(ServeError::Task)??;
        set_health(&health, ServingStatus::Serving).await;
        tracing::info!("serving");
        systemd::ready("serving");
        std::future::pending::<Result<(), ServeError>>().await
    };
    tokio::select! {
        failed = running => return failed,
        // From the start on, since a SIGHUP without a handler ends the process.
        never = reload::on_hangup(&shared) => match never {},
        () = shutdown => {}
    }
    tracing::info!("shutting down");
    systemd::stopping();
    set_health(&health, ServingStatus::NotServing).await;
    draining.cancel();
    let ended = async {
        let ended = transport.await;
        observed.calls.close();
        observed.calls.wait().await;
        ended
    };
    match tokio::time::timeout(settings.drain(), ended).await {
        Ok(ended) => ended.map_err(ServeError::Task)??,
        Err(_) => tracing::warn!("calls were still open after {} s", settings.drain_seconds),
    }
    Ok(())
}

/// Says what a server lacks that others than this machine reach.
fn warn_of_exposure(has_keys: bool, has_certificates: bool) {
    match (has_keys, has_certificates) {
        (false, _) => tracing::warn!("there are no keys (keys_file, api_keys): whoever reaches this address may call"),
        (true, false) => tracing::warn!("without TLS (tls_cert, tls_key) keys and articles can be read on their way"),
        (true, true) => {}
    }
}

/// The keys that may call, kept current; `None` if everybody may.
fn open_keys(
    what: &'static str,
    sources: KeySources,
    settings: &ServeSettings,
    background: &mut JoinSet<()>,
) -> Result<Option<Arc<KeyStore>>, ServeError> {
    if sources.is_empty() {
        return Ok(None);
    }
    let keys = Arc::new(KeyStore::open(what, sources)?);
    background.spawn(Arc::clone(&keys).keep_current(settings.access.reload()));
    tracing::info!("{} {what} in force", keys.len());
    Ok(Some(keys))
}

/// Opens the port for operators, if there is to be one. It stays open until the server has ended, so that it tells how the server
/// ends, too.
async fn open_admin(
    shared: &Arc<Shared>,
    settings: &ServeSettings,
    certificates: Option<Arc<Certificates>>,
    background: &mut JoinSet<()>,
) -> Result<(), ServeError> {
    let Some(address) = settings.admin.admin_listen else { return Ok(()) };
    // There are some, if the settings go together.
    let Some(keys) = open_keys("admin_keys", settings.admin.keys(), settings, background)? else { return Ok(()) };
    let failed = |source| ServeError::AdminListen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if !address.ip().is_loopback() && certificates.is_none() {
        tracing::warn!("without TLS (tls_cert, tls_key) the keys of operators can be read on their way");
    }
    let connections = &settings.connections;
    let service = AdminServiceServer::new(Admin::new(Arc::clone(shared))).max_decoding_message_size(SMALL_MESSAGE);
    let reflection = admin_reflection().build_v1()?.max_decoding_message_size(SMALL_MESSAGE);
    let server = transport::server(connections)
        .layer(ResetLayer)
        .layer(ObserveLayer::default())
        .layer(StallLayer { limit: connections.stream_idle() })
        .layer(AuthLayer::new(Some(keys), ReflectionAccess::Authenticated))
        .layer(LimitLayer)
        .layer(UploadLayer { limit: connections.upload() })
        .add_service(reflection)
        .add_service(service)
        .serve_with_incoming(incoming::accept(listener, connections, certificates));
    background.spawn(async move {
        tracing::info!(%address, "offering rasid.admin.v1");
        if let Err(error) = server.await {
            tracing::error!(%error, "rasid.admin.v1 is no longer offered");
        }
    });
    Ok(())
}

/// The server's certificates, kept current; `None` if it speaks without TLS.
fn open_certificates(
    settings: &ServeSettings,
    background: &mut JoinSet<()>,
) -> Result<Option<Arc<Certificates>>, ServeError> {
    let Some(certificates) = Certificates::open(&settings.tls)?.map(Arc::new) else { return Ok(None) };
    background.spawn(Arc::clone(&certificates).keep_current(settings.access.reload()));
    Ok(Some(certificates))
}

type TaggerServer = InterceptedService<TaggerServiceServer<Tagging>, fn(Request<()>) -> Result<Request<()>, Status>>;

fn tagger_service(shared: &Arc<Shared>, settings: &ServeSettings) -> TaggerServer {
    let service = TaggerServiceServer::new(Tagging::new(Arc::clone(shared)))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(message_limit(settings));
    InterceptedService::new(service, note_deadline)
}

/// Most bytes in a message, above the limit that our own check answers for with a clear error.
fn message_limit(settings: &ServeSettings) -> usize {
    settings.max_request_bytes.saturating_mul(2)
}

fn admin_reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::ADMIN_FILE_DESCRIPTOR_SET)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Sets the health of the server as a whole and of the service.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status("rasid.v1.TaggerService", status).await;
}
