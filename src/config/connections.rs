//! Settings of connections: how many, how large, how long.

use std::time::Duration;

use clap::{Args, builder::RangedU64ValueParser};

/// What connections and the streams on them may cost.
#[derive(Debug, Clone, Args)]
pub struct ConnectionSettings {
    /// Most connections at a time, each with a file descriptor. For one more the oldest gives way on which no call was ever admitted; if
    /// there is none, it is closed at once.
    #[arg(long, env = "RASID_MAX_CONNECTIONS", default_value_t = 1000, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_connections: usize,

    /// Most connections at a time from one IP address; 0 for as many as there may be at all. Not for use behind a balancer, which is one
    /// address.
    #[arg(long, env = "RASID_MAX_CONNECTIONS_PER_IP", default_value_t = 0, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(0..=1_000_000))]
    pub max_connections_per_ip: usize,

    /// Most connections at a time that have not said yet what they are (TLS handshake, HTTP/2 preface); one more ends the oldest of them.
    #[arg(long, env = "RASID_MAX_HANDSHAKES", default_value_t = 256, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub max_handshakes: usize,

    /// Seconds that a new connection has for TLS handshake and HTTP/2 preface.
    #[arg(long, env = "RASID_HANDSHAKE_SECONDS", default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    pub handshake_seconds: u64,

    /// Calls that one connection may have open at a time.
    #[arg(long, env = "RASID_MAX_STREAMS", default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// Calls a second that the client of one connection may cancel within a second of opening them (rapid reset); ten seconds' worth at
    /// once. One that cancels more is disconnected. 0 for no such limit.
    #[arg(long, env = "RASID_MAX_RESETS_PER_SECOND", default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub max_resets_per_second: u32,

    /// Largest headers of a call, in bytes as HTTP/2 counts them: 32 more for each than it is long.
    #[arg(long, env = "RASID_MAX_HEADER_BYTES", default_value_t = 16 << 10, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=1 << 20))]
    pub max_header_bytes: u32,

    /// Seconds between two pings on a connection, which find those that are dead.
    #[arg(long, env = "RASID_KEEPALIVE_SECONDS", default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub keepalive_seconds: u64,

    /// Seconds that the answer to a ping may take, before the connection is closed.
    #[arg(long, env = "RASID_KEEPALIVE_TIMEOUT_SECONDS", default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub keepalive_timeout_seconds: u64,

    /// Seconds after which a connection takes no new calls, so that clients come back and balancers can send them elsewhere; 0 for never.
    #[arg(long, env = "RASID_CONNECTION_AGE_SECONDS", default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=604_800))]
    pub connection_age_seconds: u64,

    /// Seconds that the calls of a connection have left when it has reached its age; then it is closed.
    #[arg(long, env = "RASID_CONNECTION_AGE_GRACE_SECONDS", default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub connection_age_grace_seconds: u64,

    /// Seconds that a StreamTag may be open without a document on its way, and that any call may go without its client taking what is ready
    /// for it. Then the call is ABORTED.
    #[arg(long, env = "RASID_STREAM_IDLE_SECONDS", default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stream_idle_seconds: u64,

    /// Seconds that the request of a Tag or BatchTag may take to arrive. Then the call is ABORTED.
    #[arg(long, env = "RASID_UPLOAD_SECONDS", default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub upload_seconds: u64,
}

impl ConnectionSettings {
    /// Time for TLS handshake and HTTP/2 preface.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    /// Time between two pings.
    pub fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive_seconds)
    }

    /// Time for the answer to a ping.
    pub fn keepalive_timeout(&self) -> Duration {
        Duration::from_secs(self.keepalive_timeout_seconds)
    }

    /// When a connection takes no new calls, and when it is closed.
    pub fn age(&self) -> Option<(Duration, Duration)> {
        let age = Duration::from_secs(self.connection_age_seconds);
        (!age.is_zero()).then(|| (age, age + Duration::from_secs(self.connection_age_grace_seconds)))
    }

    /// How long a stream may be silent, and a client not take what is ready.
    pub fn stream_idle(&self) -> Duration {
        Duration::from_secs(self.stream_idle_seconds)
    }

    /// Time for a request to arrive.
    pub fn upload(&self) -> Duration {
        Duration::from_secs(self.upload_seconds)
    }
}
