//! A deadline is answered with DEADLINE_EXCEEDED, and work nobody waits for is not computed.

mod support;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message};
use support::{TestServer, text};
use tonic::{Code, Request};

/// About 200,000 tokens: minutes of work.
fn endless() -> v1::Document {
    text(&"The ministers met again in Baghdad on Monday.\n".repeat(20_000))
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_document_is_answered_in_time_and_dropped() {
    let server = TestServer::start(&[]).await;
    let client = &mut server.client().await;
    for timeout in [Duration::from_secs(1), Duration::from_millis(250)] {
        let request = v1::TagRequest { document: Some(endless()), options: None };
        let started = Instant::now();
        let status = client.tag(with_timeout(request, timeout)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(started.elapsed() < timeout + Duration::from_secs(2));
    }
    let request = v1::BatchTagRequest { documents: vec![text("Rain."), endless()], options: None };
    let status = client.batch_tag(with_timeout(request, Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");

    // Were any of it still computed, this would wait for minutes.
    let started = Instant::now();
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    assert!(client.tag(request).await.is_ok());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline_even_if_nothing_is_sent() {
    let server = TestServer::start(&[]).await;
    let first = v1::StreamTagRequest { message: Some(Message::Document(text("Rain."))) };
    let messages = stream::iter([first]).chain(stream::pending());
    let request = with_timeout(messages, Duration::from_millis(1500));
    let mut responses = server.client().await.stream_tag(request).await.unwrap().into_inner();
    assert!(responses.next().await.unwrap().is_ok());
    let end = responses.next().await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_leaves_the_engine_free() {
    let server = TestServer::start(&[]).await;
    for _ in 0..5 {
        let mut client = server.client().await;
        let request = v1::TagRequest { document: Some(endless()), options: None };
        let call = tokio::spawn(async move { client.tag(request).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        call.abort();
    }
    let started = Instant::now();
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    assert!(server.client().await.tag(request).await.is_ok());
    assert!(started.elapsed() < Duration::from_secs(10));
}
