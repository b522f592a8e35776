//! Settings of the commands: every field with its default, unit and range.

mod access;
mod admin;
mod connections;
mod contradiction;
mod layers;
mod telemetry;
mod tls;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use candle_core::Device;
use clap::{Args, builder::RangedU64ValueParser};
use thiserror::Error;

pub use self::{
    access::{AccessSettings, ReflectionAccess, Secret},
    admin::AdminSettings,
    connections::ConnectionSettings,
    contradiction::Contradiction,
    layers::{ConfigError, Layers, Origin, Setting, unknown_variables},
    telemetry::{LogFormat, TelemetrySettings},
    tls::TlsSettings,
};
use crate::{
    engine::{EngineConfig, ModelLoader},
    model::{Bundle, ModelError, ModelSource},
    tagger::{Tagger, TaggerConfig},
};

/// Which model to load and how much of the machine to use.
#[derive(Debug, Clone, Args)]
pub struct ModelSettings {
    /// Model bundle: a folder, or hf:ORG/NAME@REVISION on the Hugging Face hub (HF_HOME, HF_ENDPOINT, HF_TOKEN and
    /// HF_HUB_OFFLINE are honoured).
    #[arg(long, env = "RASID_MODEL", default_value = "models/default", value_name = "MODEL", value_parser = model_source)]
    pub model: ModelSource,

    /// What computes the model: cpu, cuda, cuda:N or metal. The last three need a build with the feature cuda or metal.
    #[arg(long, env = "RASID_DEVICE", default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceChoice,

    /// CPU cores to compute on; 0 for all of the machine.
    #[arg(long, env = "RASID_THREADS", default_value_t = 0, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub threads: usize,

    /// Tokens the model reads at a time.
    #[arg(long, env = "RASID_BATCH_TOKENS", default_value_t = 1024, value_name = "TOKENS", value_parser = RangedU64ValueParser::<usize>::new().range(64..=65_536))]
    pub batch_tokens: usize,

    /// Largest document: UTF-8 bytes of title and text together.
    #[arg(long, env = "RASID_MAX_DOCUMENT_BYTES", default_value_t = 1 << 20, value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 30))]
    pub max_document_bytes: usize,
}

fn model_source(text: &str) -> Result<ModelSource, ModelError> {
    text.parse()
}

impl ModelSettings {
    /// Loads the model, after fetching it if need be.
    ///
    /// # Errors
    /// If it cannot be found, read or understood, or there is no such device.
    pub fn load(&self) -> Result<Tagger, ModelError> {
        self.tagger(self.open()?)
    }
}

impl ModelLoader for ModelSettings {
    fn open(&self) -> Result<Bundle, ModelError> {
        Bundle::open(self.model.resolve()?)
    }

    fn tagger(&self, bundle: Bundle) -> Result<Tagger, ModelError> {
        let device = self.device.open()?;
        let &Self { max_document_bytes, batch_tokens, .. } = self;
        Tagger::load(bundle, TaggerConfig { max_document_bytes, batch_tokens, backend: None }, &device)
    }
}

/// What computes the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// The GPU of an Apple computer.
    Metal,
}

impl DeviceChoice {
    fn open(self) -> Result<Device, ModelError> {
        let device = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => Device::new_cuda(index),
            Self::Metal => Device::new_metal(0),
        };
        device.map_err(|source| ModelError::device(self, source))
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match (text, text.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            ("metal", _) => Ok(Self::Metal),
            (_, Some(index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// A device that there is none of.
#[derive(Debug, Error)]
#[error("{0:?} is no device: write cpu, cuda, cuda:N or metal")]
pub struct UnknownDevice(String);

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeSettings {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, env = "RASID_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Model and machine.
    #[command(flatten)]
    pub model: ModelSettings,

    /// Most documents in one BatchTag request.
    #[arg(long, env = "RASID_MAX_BATCH_DOCUMENTS", default_value_t = 1000, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub max_batch_documents: usize,

    /// Largest request message, in encoded bytes. The transport reads twice that before it gives up.
    #[arg(long, env = "RASID_MAX_REQUEST_BYTES", default_value_t = 32 << 20, value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1024..=1 << 30))]
    pub max_request_bytes: usize,

    /// Documents of one batch or stream that are worked on at a time.
    #[arg(long, env = "RASID_MAX_IN_FLIGHT", default_value_t = 64, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub max_in_flight: usize,

    /// Tokens waiting in the server, over all calls, before single documents are refused.
    #[arg(long, env = "RASID_MAX_QUEUED_TOKENS", default_value_t = 1 << 17, value_name = "TOKENS", value_parser = RangedU64ValueParser::<usize>::new().range(1024..=1 << 30))]
    pub max_queued_tokens: usize,

    /// Bytes of requests and answers held in the server, over all calls, before calls are refused. Must be at least six times
    /// max_request_bytes.
    #[arg(long, env = "RASID_MAX_HELD_BYTES", default_value_t = 256 << 20, value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1 << 20..=1 << 40))]
    pub max_held_bytes: usize,

    /// Threads that run the model, each with its share of the cores. One answers a lone document soonest.
    #[arg(long, env = "RASID_WORKERS", default_value_t = 1, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub workers: usize,

    /// Who may call.
    #[command(flatten)]
    pub access: AccessSettings,

    /// What the server shows to clients, and asks of them.
    #[command(flatten)]
    pub tls: TlsSettings,

    /// What connections may cost.
    #[command(flatten)]
    pub connections: ConnectionSettings,

    /// What operators may reach.
    #[command(flatten)]
    pub admin: AdminSettings,

    /// Seconds that calls may take to finish after SIGTERM or Ctrl-C.
    #[arg(long, env = "RASID_DRAIN_SECONDS", default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_seconds: u64,

    /// Logs, metrics and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

impl ServeSettings {
    /// Settings of the engine.
    pub fn engine(&self) -> EngineConfig {
        let &Self { max_queued_tokens, max_held_bytes, workers, .. } = self;
        EngineConfig { max_queued_tokens, max_held_bytes, workers, threads: self.model.threads }
    }

    /// How long calls may take to finish at the end.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// Where `model pack` finds its parts.
#[derive(Debug, Clone, Args)]
pub struct PackSettings {
    /// Manifest to take names, labels, thresholds and shape from; its files and revision are replaced.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Trained encoder and heads, safetensors.
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// Word embeddings, Q4_0 in GGUF.
    #[arg(long, value_name = "FILE")]
    pub embeddings: PathBuf,
    /// tokenizer.json.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: PathBuf,
    /// Folder to write the bundle to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
