//! The server: services, health, and the way from start to stop.

use std::{future::Future, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    codec::CompressionEncoding,
    service::interceptor::InterceptedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    deadline::note_deadline, hold::HoldLayer, observe::ObserveLayer, reload, service::Tagging, shared::Shared,
};
use crate::{
    config::ServeSettings,
    engine::ReloadError,
    metrics::{self, MetricsError},
    proto::{self, v1::tagger_service_server::TaggerServiceServer},
    systemd,
};

/// Dead connections are found by pings after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Calls that one connection may have open at a time.
const MAX_STREAMS: u32 = 1024;

/// Resets that a connection may have pending: clients with short deadlines reset often, and h2's own limit of 20 would cut them off.
const MAX_PENDING_RESETS: usize = 1024;

/// Bytes that a client may send ahead on one stream: what a slow stream can hold in memory.
const STREAM_WINDOW: u32 = 64 << 10;

/// Bytes that a client may send ahead on one connection.
///
/// h2 (since 0.4.16) ends a connection whose unread DATA frames under 256 bytes would need more than half of this, counting 256 for each: a stream of headlines waiting for its turn looks like that. With this window a connection holds about a dozen full streams of them.
const CONNECTION_WINDOW: u32 = 16 << 20;

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
    if let Some(address) = settings.telemetry.metrics_listen {
        tokio::spawn(metrics::serve(address)?);
        tracing::info!(%address, "offering metrics");
    }
    let shared = Arc::new(Shared::new(&settings));
    let (health, health_service) = tonic_health::server::health_reporter();
    // For probes of life: health itself serves as long as the process does.
    health.set_service_status("grpc.health.v1.Health", ServingStatus::Serving).await;
    set_health(&health, ServingStatus::NotServing).await;
    let draining = shared.draining.clone();
    let transport = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .max_concurrent_streams(MAX_STREAMS)
        .layer(ObserveLayer)
        .layer(HoldLayer::new(shared.host.memory().clone(), message_limit(&settings)))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        // Older clients know only this version.
        .add_service(reflection().build_v1alpha()?)
        .add_service(tagger_service(&shared, &settings))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
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
    match tokio::time::timeout(settings.drain(), transport).await {
        Ok(ended) => ended.map_err(ServeError::Task)??,
        Err(_) => tracing::warn!("calls were still open after {} s", settings.drain_seconds),
    }
    Ok(())
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
