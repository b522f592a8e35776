//! What the tests share: the shipped model, a running server, articles.

// No test uses all of it.
#![allow(dead_code)]

pub mod calibration;
pub mod hub;
pub mod keys;
#[cfg(unix)]
pub mod models;
pub mod pki;
pub mod poisoned;
pub mod process;
pub mod raw;

use std::{net::SocketAddr, path::PathBuf, sync::OnceLock, time::Duration};

use candle_core::Device;
use clap::{Args, FromArgMatches};
use rasid::{
    config::ServeSettings,
    grpc::ServeError,
    model::Bundle,
    proto::v1::{self, tagger_service_client::TaggerServiceClient},
    tagger::{Tagger, TaggerConfig},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, ClientTlsConfig};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The folder of the shipped model; `RASID_TEST_MODEL` puts another in its place.
pub fn model_folder() -> PathBuf {
    std::env::var_os("RASID_TEST_MODEL").map_or_else(|| root().join("models/default"), PathBuf::from)
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A tagger of its own.
pub fn load_tagger(config: TaggerConfig) -> Tagger {
    Tagger::load(Bundle::open(model_folder()).unwrap(), config, &Device::Cpu).unwrap()
}

/// The shipped model, loaded once a test binary.
pub fn tagger() -> &'static Tagger {
    static TAGGER: OnceLock<Tagger> = OnceLock::new();
    TAGGER.get_or_init(|| load_tagger(TaggerConfig::default()))
}

/// A server of its own on a free port, ended when dropped.
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

/// Settings as the command line gives them.
pub fn settings(flags: &[&str]) -> ServeSettings {
    let command = ServeSettings::augment_args(clap::Command::new("serve"));
    let model = model_folder();
    let model = ["--model", model.to_str().unwrap()].into_iter().filter(|_| !flags.contains(&"--model"));
    let arguments = ["serve"].into_iter().chain(model).chain(flags.iter().copied());
    ServeSettings::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
}

impl TestServer {
    /// Starts a server and waits until it serves.
    pub async fn start(flags: &[&str]) -> Self {
        let mut server = Self::start_cold(flags).await;
        server.wait_until_serving().await;
        server
    }

    /// Starts a server and does not wait for its model.
    pub async fn start_cold(flags: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(rasid::grpc::serve(listener, settings(flags), stopped));
        Self { address, shutdown: Some(shutdown), task }
    }

    /// Waits until health says SERVING.
    pub async fn wait_until_serving(&mut self) {
        for _ in 0..600 {
            if self.health().await == ServingStatus::Serving {
                return;
            }
            if self.task.is_finished() {
                panic!("the server ended before it served: {:?}", (&mut self.task).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server never served");
    }

    /// Starts a server with TLS and waits until it serves.
    pub async fn start_tls(flags: &[&str], tls: &ClientTlsConfig) -> Self {
        let mut server = Self::start_cold(flags).await;
        for _ in 0..600 {
            if let Ok(channel) = server.try_tls_channel(tls).await {
                let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
                if status.is_ok_and(|status| status.into_inner().status() == ServingStatus::Serving) {
                    return server;
                }
            }
            if server.task.is_finished() {
                panic!("the server ended before it served: {:?}", (&mut server.task).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server never served");
    }

    /// A connection through TLS, if there is one to be had.
    pub async fn try_tls_channel(&self, tls: &ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Channel::from_shared(format!("https://localhost:{}", self.address.port())).unwrap();
        endpoint.tls_config(tls.clone())?.connect().await
    }

    /// What health says of the service.
    pub async fn health(&self) -> ServingStatus {
        let request = HealthCheckRequest { service: "rasid.v1.TaggerService".to_owned() };
        let response = HealthClient::new(self.channel().await).check(request).await.unwrap();
        response.into_inner().status()
    }

    /// A connection.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A client of the service over a connection of its own.
    pub async fn client(&self) -> TaggerServiceClient<Channel> {
        TaggerServiceClient::new(self.channel().await).max_decoding_message_size(256 << 20)
    }

    /// Asks the server to stop, without waiting.
    pub fn stop(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the server has ended.
    pub async fn ended(self) -> Result<(), ServeError> {
        self.task.await.unwrap()
    }
}

/// A document of nothing but a text.
pub fn text(text: &str) -> v1::Document {
    v1::Document { text: text.to_owned(), ..v1::Document::default() }
}

/// The example articles: name and text.
pub fn articles() -> Vec<(String, String)> {
    let mut articles: Vec<(String, String)> = std::fs::read_dir(root().join("examples/articles"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    articles.sort();
    articles
}

/// The Arabic article on a security meeting.
pub fn arabic_article() -> String {
    std::fs::read_to_string(root().join("examples/articles/ar_security_meeting.txt")).unwrap()
}

/// The analysis in a result.
pub fn analysis(result: &v1::DocumentResult) -> &v1::Analysis {
    match &result.outcome {
        Some(v1::document_result::Outcome::Analysis(analysis)) => analysis,
        other => panic!("no analysis but {other:?}"),
    }
}

/// The error in a result.
pub fn error(result: &v1::DocumentResult) -> &tonic_types::pb::Status {
    match &result.outcome {
        Some(v1::document_result::Outcome::Error(error)) => error,
        other => panic!("no error but {other:?}"),
    }
}

/// Whether two analyses are the same: spans and order exactly, numbers to 1e-5.
pub fn assert_same(a: &v1::Analysis, b: &v1::Analysis) {
    let near = |a: f32, b: f32| assert!((a - b).abs() <= 1e-5, "{a} is not {b}");
    assert_eq!(a.topics.len(), b.topics.len());
    for (a, b) in a.topics.iter().zip(&b.topics) {
        assert_eq!((&a.topic, a.assigned), (&b.topic, b.assigned));
        near(a.probability, b.probability);
    }
    assert_eq!(a.entities.len(), b.entities.len());
    for (a, b) in a.entities.iter().zip(&b.entities) {
        assert_eq!((&a.r#type, &a.span), (&b.r#type, &b.span));
        near(a.probability, b.probability);
    }
    assert_eq!((&a.coverage, &a.language, &a.warnings), (&b.coverage, &b.language, &b.warnings));
}

/// A copy of the shipped bundle to be changed.
pub fn copy_bundle() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model_folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}
