//! Metrics: every call and every document is counted once, under how it ended.

mod support;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{model_folder, root};
use tonic::{Code, transport::Channel};

/// A server in a process of its own, since a process has one recorder.
struct Server {
    process: Child,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let [address, metrics] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_rasid"))
            .args(["serve", "--listen", &address.to_string(), "--metrics-listen", &metrics.to_string(), "--model"])
            .arg(model_folder())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, address, metrics };
        for _ in 0..600 {
            if server.figures().is_some_and(|figures| figures.keys().any(|name| name.starts_with("rasid_model_info"))) {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server never served");
    }

    async fn client(&self) -> TaggerServiceClient<Channel> {
        TaggerServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// What `GET /metrics` answers.
    fn page(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    }

    /// Every figure by its name and labels.
    fn figures(&self) -> Option<HashMap<String, f64>> {
        let page = self.page()?;
        let lines = page.lines().filter(|line| line.starts_with("rasid_") || line.starts_with("process_"));
        Some(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The figures when `name` has reached `value`.
    async fn wait_for(&self, name: &str, value: f64) -> HashMap<String, f64> {
        let mut figures = HashMap::new();
        for _ in 0..200 {
            figures = self.figures().unwrap();
            if figures.get(name) == Some(&value) {
                return figures;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{name} never became {value}: {figures:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn document(text: &str) -> v1::Document {
    v1::Document { text: text.to_owned(), ..v1::Document::default() }
}

fn tag(text: &str) -> v1::TagRequest {
    v1::TagRequest { document: Some(document(text)), options: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_and_document_is_counted_once() {
    let server = Server::start().await;
    let mut client = server.client().await;

    client.tag(tag("Rain in Basra.")).await.unwrap();
    assert_eq!(client.tag(tag(" ")).await.unwrap_err().code(), Code::InvalidArgument);
    let batch = ["Rain.", "", "Sun."].map(document).to_vec();
    client.batch_tag(v1::BatchTagRequest { documents: batch, options: None }).await.unwrap();

    // Nobody waits for it: given up while it is worked on.
    let long = article().repeat(50);
    let mut other = server.client().await;
    let abandoned = tokio::spawn(async move { other.tag(tag(&long)).await.map(drop) });
    // Of the queue one document takes a quarter at the most.
    server.wait_for("rasid_queue_tokens", f64::from(1 << 15)).await;
    abandoned.abort();

    let figures = server.wait_for("rasid_documents_total{outcome=\"cancelled\"}", 1.0).await;
    let documents =
        |outcome: &str| figures.get(&format!("rasid_documents_total{{outcome=\"{outcome}\"}}")).copied().unwrap_or(0.0);
    let calls = |method: &str, code: &str| {
        figures.get(&format!("rasid_requests_total{{method=\"{method}\",code=\"{code}\"}}")).copied().unwrap_or(0.0)
    };
    assert_eq!((documents("answered"), documents("failed")), (3.0, 2.0), "{figures:?}");
    assert_eq!(
        (calls("Tag", "OK"), calls("Tag", "INVALID_ARGUMENT"), calls("BatchTag", "OK")),
        (1.0, 1.0, 1.0),
        "{figures:?}"
    );
    assert_eq!(figures["rasid_document_seconds_count{lane=\"interactive\"}"], 1.0);
    assert_eq!(figures["rasid_document_seconds_count{lane=\"bulk\"}"], 2.0);

    let figures = server.wait_for("rasid_queue_tokens", 0.0).await;
    assert!(figures["rasid_tokens_total"] > figures["rasid_windows_total"] * 3.0);
    assert!(figures["rasid_batch_tokens_sum"] == figures["rasid_tokens_total"]);
    assert!(figures["rasid_queue_capacity_tokens"] == f64::from(1 << 17));
    assert!(figures["process_resident_memory_bytes"] > 1e7);
    assert!(figures["rasid_request_seconds_bucket{method=\"Tag\",le=\"+Inf\"}"] >= 2.0);
    assert!(!server.page().unwrap().contains("Basra"));
}

fn article() -> String {
    std::fs::read_to_string(root().join("examples/articles/ar_security_meeting.txt")).unwrap()
}
