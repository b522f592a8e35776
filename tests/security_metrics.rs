//! What keys, limits and connections do shows in the metrics, by name of key and by reason.

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::stream;
use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    keys::{KeysFile, entry, with_key},
    model_folder,
    pki::{Authority, Files},
    text,
};
use tonic::transport::Channel;

/// A server in a process of its own, since a process has one recorder.
struct Server {
    process: Child,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Server {
    async fn start(flags: &[String]) -> Self {
        let [address, metrics] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_rasid"))
            .args(["serve", "--listen", &address.to_string(), "--metrics-listen", &metrics.to_string(), "--model"])
            .arg(model_folder())
            .args(flags)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, address, metrics };
        server.wait_for("rasid_model_info", |_| true).await;
        server
    }

    /// Waits until the figures whose names begin so have a sum that will do.
    async fn wait_for(&self, name: &str, will_do: impl Fn(f64) -> bool) {
        let mut page = None;
        for _ in 0..600 {
            page = self.page();
            let lines = page.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with(name));
            let figures: Vec<f64> = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
            if !figures.is_empty() && will_do(figures.iter().sum()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} never was what it should be: {}", page.unwrap_or_default());
    }

    fn page(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_refusals_are_counted_by_name_and_reason() {
    let limits = "[limits.desk]\ndocuments_per_second = 0.01\ndocuments_burst = 4\n";
    let keys = KeysFile::new(&(entry("desk", "secret-key") + limits));
    let mut flags = keys.flags();
    flags.extend(["--stream-idle-seconds".to_owned(), "1".to_owned()]);
    let server = Server::start(&flags).await;
    let mut client = TaggerServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let batch = |documents| v1::BatchTagRequest { documents: vec![text("Rain."); documents], options: None };
    client.batch_tag(with_key("secret-key", batch(3))).await.unwrap();
    client.batch_tag(with_key("secret-key", batch(3))).await.unwrap_err();
    client.batch_tag(batch(3)).await.unwrap_err();
    client.batch_tag(with_key("secret-guess", batch(3))).await.unwrap_err();
    let mut silent = client.stream_tag(with_key("secret-key", stream::pending())).await.unwrap().into_inner();
    silent.message().await.unwrap_err();
    keys.write("broken");

    let is = |expected: f64| move |figure: f64| figure == expected;
    for (name, figure) in [
        ("rasid_keys", 1.0),
        ("rasid_key_calls_total{key=\"desk\"}", 3.0),
        ("rasid_key_documents_total{key=\"desk\"}", 3.0),
        ("rasid_key_calls_open{key=\"desk\"}", 0.0),
        ("rasid_limited_total{key=\"desk\",reason=\"documents_per_second\"}", 1.0),
        ("rasid_unauthenticated_total{reason=\"KEY_MISSING\"}", 1.0),
        ("rasid_unauthenticated_total{reason=\"KEY_INVALID\"}", 1.0),
        ("rasid_reloads_total{what=\"keys\",result=\"failed\"}", 1.0),
        ("rasid_calls_given_up_total{reason=\"idle\"}", 1.0),
        ("rasid_connections_open ", 1.0),
    ] {
        server.wait_for(name, is(figure)).await;
    }
    assert!(!server.page().unwrap().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_handshakes_are_seen() {
    let authority = Authority::new("a");
    let files = Files::new(&authority.server());
    let server = Server::start(&files.flags()).await;
    let endpoint = Channel::from_shared(format!("https://localhost:{}", server.address.port())).unwrap();
    let channel = endpoint.tls_config(authority.trusting()).unwrap().connect().await.unwrap();
    let request = v1::TagRequest { document: Some(text("Rain.")), options: None };
    TaggerServiceClient::new(channel).tag(request).await.unwrap();
    TcpStream::connect(server.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    files.write(&authority.server());

    // rcgen's certificates end in the year 4096.
    server.wait_for("rasid_certificate_expiry_timestamp_seconds ", |ends| ends > 6.7e10 && ends < 6.8e10).await;
    server.wait_for("rasid_handshakes_failed_total{reason=\"tls\"}", |failed| failed == 1.0).await;
    server.wait_for("rasid_reloads_total{what=\"certificates\",result=\"done\"}", |done| done >= 1.0).await;
}
