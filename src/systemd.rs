//! What systemd is told of the service, and the socket it may hand over. Without systemd none of this does anything.

use std::{io, net::TcpListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The first socket that systemd has opened for us (`LISTEN_FDS`), so that no connection is refused while we restart. To be called
/// once, before there are threads: it takes the variables out of the environment.
///
/// # Errors
/// If the first of what was handed over is no TCP socket that listens.
pub fn listener() -> io::Result<Option<TcpListener>> {
    let listener = ListenFd::from_env().take_tcp_listener(0)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

/// The service answers calls. Also says that a reload has ended, one way or the other.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service takes new settings, keys or a new model, and goes on meanwhile.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no clock to tell systemd of a reload by"),
    }
}

/// The service takes no new calls and finishes those it has.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing the calls in flight")]);
}

/// A line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tells systemd for ever that the runtime turns, if the unit has a `WatchdogSec`: twice as often as it asks for.
pub async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
