//! Metrics: every call and every document is counted once, under how it ended.

mod support;

use rasid::proto::v1;
use support::{
    process::Process,
    raw::{DATA, END_HEADERS, HEADERS, HELLO, RST_STREAM, call_headers, frame},
    root,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;

/// A call of which the first bytes come, and then, over the same connection, what is given.
async fn broken_off(server: &Process, method: &str, end: &[u8]) {
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let mut bytes = HELLO.to_vec();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &call_headers(method)));
    // A message of a hundred bytes, of which ten come.
    bytes.extend(frame(DATA, 0, 1, &[&[0, 0, 0, 0, 100][..], &[1; 10]].concat()));
    connection.write_all(&bytes).await.unwrap();
    server.wait_for(&format!("rasid_requests_in_flight{{method=\"{method}\"}}"), 1.0).await;
    connection.write_all(end).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_is_its_clients_doing() {
    let server = Process::start(&[]).await;
    const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];
    for method in ["Tag", "StreamTag", "BatchTag"] {
        broken_off(&server, method, &frame(RST_STREAM, 0, 1, &INTERNAL_ERROR)).await;
        let cancelled = format!("rasid_requests_total{{method=\"{method}\",code=\"CANCELLED\",key=\"anonymous\"}}");
        server.wait_for(&cancelled, 1.0).await;
        // The same with the connection gone.
        broken_off(&server, method, &[]).await;
        server.wait_for(&cancelled, 2.0).await;
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
    let server = Process::start(&[]).await;
    let mut client = server.client().await;

    client.tag(tag("Rain in Basra.")).await.unwrap();
    assert_eq!(client.tag(tag(" ")).await.unwrap_err().code(), Code::InvalidArgument);
    let batch = ["Rain.", "", "Sun."].map(document).to_vec();
    client.batch_tag(v1::BatchTagRequest { documents: batch, options: None }).await.unwrap();

    // Nobody waits for it: given up while it is worked on.
    let long = article().repeat(50);
    let mut other = server.client().await;
    let abandoned = tokio::spawn(async move { other.tag(tag(&long)).await.map(drop) });
    // Of the queue one document takes an eighth at the most.
    server.wait_for("rasid_queue_tokens", f64::from(1 << 14)).await;
    abandoned.abort();

    let figures = server.wait_for("rasid_documents_total{outcome=\"cancelled\",key=\"anonymous\"}", 1.0).await;
    let documents = |outcome: &str| {
        figures
            .get(&format!("rasid_documents_total{{outcome=\"{outcome}\",key=\"anonymous\"}}"))
            .copied()
            .unwrap_or(0.0)
    };
    let calls = |method: &str, code: &str| {
        figures
            .get(&format!("rasid_requests_total{{method=\"{method}\",code=\"{code}\",key=\"anonymous\"}}"))
            .copied()
            .unwrap_or(0.0)
    };
    assert_eq!((documents("answered"), documents("failed")), (3.0, 2.0), "{figures:?}");
    assert_eq!(figures["rasid_documents_received_total{key=\"anonymous\"}"], 6.0, "each is counted as it comes");
    assert_eq!(
        (calls("Tag", "OK"), calls("Tag", "INVALID_ARGUMENT"), calls("BatchTag", "OK")),
        (1.0, 1.0, 1.0),
        "{figures:?}"
    );
    assert_eq!(figures["rasid_document_seconds_count{lane=\"interactive\"}"], 1.0);
    assert_eq!(figures["rasid_document_seconds_count{lane=\"bulk\"}"], 2.0);

    server.wait_for("rasid_held_bytes", 0.0).await;
    let figures = server.wait_for("rasid_queue_tokens", 0.0).await;
    assert!(figures["rasid_tokens_total"] > figures["rasid_windows_total"] * 3.0);
    assert!(figures["rasid_batch_tokens_sum"] == figures["rasid_tokens_total"]);
    assert!(figures["rasid_queue_capacity_tokens"] == f64::from(1 << 17));
    assert!(figures["process_resident_memory_bytes"] > 1e7);
    assert!(figures["rasid_request_seconds_bucket{method=\"Tag\",le=\"+Inf\"}"] >= 2.0);
    assert!(figures["rasid_requests_in_flight{method=\"Tag\"}"] == 0.0);
    assert!(!server.page().unwrap().contains("Basra"));
}

fn article() -> String {
    std::fs::read_to_string(root().join("examples/articles/ar_security_meeting.txt")).unwrap()
}
