//! Every call leaves one line in the log, of names and numbers; health checks only if asked for.

mod support;

use rasid::proto::v1;
use serde_json::Value;
use support::{process::Process, text};
use tonic::{Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn named<T>(id: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// The lines of calls, by request id, since a call may end after its answer has arrived.
async fn lines(flags: &[&str]) -> Vec<Value> {
    let mut server = Process::start(&[flags, &["--log-format", "json"]].concat()).await;
    let mut client = server.client().await;
    let mut good = named("call-1", v1::TagRequest { document: Some(text("Rain in Basra.")), options: None });
    good.metadata_mut()
        .insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    client.tag(good).await.unwrap();
    let documents = vec![text("Rain in Basra."), text(" "), text("Sun.")];
    client.batch_tag(named("call-2", v1::BatchTagRequest { documents, options: None })).await.unwrap();
    client.tag(named("call-3", v1::TagRequest::default())).await.unwrap_err();
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    HealthClient::new(channel).check(named("health", HealthCheckRequest::default())).await.unwrap();
    server.signal("TERM");
    assert!(server.ended().await.success());
    let lines = server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let mut lines: Vec<_> = lines.into_iter().filter(|line| line["target"] == "rasid::access").collect();
    lines.sort_by_key(|line| line["request_id"].to_string());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_what_was_called_by_whom_and_how_it_went() {
    let lines = lines(&[]).await;
    let [tag, batch, bad] = &lines[..] else { panic!("{lines:?}") };
    for line in &lines {
        assert_eq!((&line["level"], &line["key"]), (&"INFO".into(), &"anonymous".into()));
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["milliseconds"].as_f64().unwrap() > 0.0, "{line}");
    }
    let outcome = |line: &Value| (line["method"].clone(), line["code"].clone());
    assert_eq!(outcome(tag), ("Tag".into(), "OK".into()));
    assert_eq!((&tag["request_id"], &tag["documents"], &tag["failed"]), (&"call-1".into(), &1.into(), &0.into()));
    assert_eq!(tag["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!((3..10).contains(&tag["tokens"].as_u64().unwrap()), "{tag}");
    assert_eq!(outcome(batch), ("BatchTag".into(), "OK".into()));
    assert_eq!((&batch["documents"], &batch["failed"]), (&3.into(), &1.into()));
    assert!(batch.get("trace_id").is_none() && batch["request_id"] == "call-2");
    assert_eq!(outcome(bad), ("Tag".into(), "INVALID_ARGUMENT".into()));
    assert_eq!((&bad["documents"], &bad["tokens"]), (&0.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_are_for_those_who_look_closer_and_all_lines_can_be_left_out() {
    let methods = |lines: Vec<Value>| lines.iter().map(|line| line["method"].clone()).collect::<Vec<_>>();
    assert_eq!(methods(lines(&["--log", "debug"]).await), ["Tag", "BatchTag", "Tag", "Health"]);
    assert!(lines(&["--log", "info,rasid::access=warn"]).await.is_empty());
}
