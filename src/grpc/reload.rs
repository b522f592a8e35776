//! A new model while the server runs.

use std::{convert::Infallible, sync::Arc};

use tokio::task::JoinHandle;

use super::shared::Shared;
use crate::{
    engine::{Reload, ReloadError},
    metrics::security as metrics,
    systemd,
};

/// Loads the model, off the runtime's threads.
pub fn load(shared: &Arc<Shared>) -> JoinHandle<Result<Reload, ReloadError>> {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || shared.host.reload())
}

/// Loads the model that its source holds now, and counts what comes of it. It goes on even if nobody waits for that any more.
pub async fn reload(shared: &Arc<Shared>) -> Result<Reload, ReloadError> {
    let shared = Arc::clone(shared);
    let work = tokio::task::spawn_blocking(move || {
        tracing::info!("loading the model anew");
        let result = shared.host.reload();
        metrics::reload_result("model", result.as_ref().map_or_else(ReloadError::result, Reload::result));
        result
    });
    // Only when the runtime ends.
    work.await.unwrap_or(Err(ReloadError::Panicked))
}

/// Loads the model anew whenever the process is told to by SIGHUP. Never ends.
#[cfg(unix)]
pub async fn on_hangup(shared: &Arc<Shared>) -> Infallible {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => {
            while hangups.recv().await.is_some() {
                systemd::reloading();
                // Its outcome is in the log.
                let _ = reload(shared).await;
                // The first model may still be loading: it says so itself.
                if shared.host.current().is_some() {
                    systemd::ready("serving");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "SIGHUP will not load a new model"),
    }
    std::future::pending().await
}

/// There is no such signal.
#[cfg(not(unix))]
pub async fn on_hangup(_: &Arc<Shared>) -> Infallible {
    std::future::pending().await
}
