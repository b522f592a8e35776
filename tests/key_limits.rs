//! A key's limits hold, are told with their figures, and touch no other key.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    TestServer,
    keys::{KeysFile, entry, figure, reason, with_key},
    text,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

type Client = TaggerServiceClient<Channel>;

/// Keys `limited` and `free`, each its own name.
async fn server(limits: &str) -> (KeysFile, TestServer) {
    let keys = KeysFile::new(&keys(limits));
    let flags = keys.flags();
    let server = TestServer::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (keys, server)
}

fn keys(limits: &str) -> String {
    entry("limited", "limited") + &entry("free", "free") + "[limits.limited]\n" + limits
}

async fn tag(client: &mut Client, key: &str) -> Result<(), Status> {
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    client.tag(with_key(key, request)).await.map(drop)
}

async fn batch(client: &mut Client, key: &str, documents: usize) -> Result<(), Status> {
    let request = v1::BatchTagRequest { documents: vec![text("Rain."); documents], options: None };
    client.batch_tag(with_key(key, request)).await.map(drop)
}

fn document(body: &str) -> v1::StreamTagRequest {
    v1::StreamTagRequest { message: Some(v1::stream_tag_request::Message::Document(text(body))) }
}

/// A stream on which nothing is sent, open as long as its sender.
async fn silent_stream(client: &mut Client, key: &str) -> Result<Silent, Status> {
    let (sender, messages) = mpsc::channel(1);
    let results = client.stream_tag(with_key(key, ReceiverStream::new(messages))).await?.into_inner();
    Ok((sender, results))
}

type Silent = (mpsc::Sender<v1::StreamTagRequest>, Streaming<v1::StreamTagResponse>);

fn retry_after(status: &Status) -> Duration {
    status.get_error_details().retry_info().unwrap().retry_delay.unwrap()
}

#[tokio::test]
async fn calls_beyond_the_rate_are_told_when_to_come_back() {
    let (_keys, server) = server("calls_per_second = 0.01\ncalls_burst = 2\n").await;
    let client = &mut server.client().await;
    assert!(tag(client, "limited").await.is_ok());
    assert!(batch(client, "limited", 3).await.is_ok());
    for status in
        [tag(client, "limited").await.unwrap_err(), silent_stream(client, "limited").await.map(drop).unwrap_err()]
    {
        assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "CALL_RATE_EXCEEDED"));
        assert_eq!((&*figure(&status, "limit"), &*figure(&status, "burst")), ("0.01", "2"));
        let wait = retry_after(&status);
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(100), "{wait:?}");
    }
    assert!(tag(client, "free").await.is_ok());
}

#[tokio::test]
async fn documents_are_counted_as_they_are() {
    let (_keys, server) = server("documents_per_second = 0.01\ndocuments_burst = 5\n").await;
    let client = &mut server.client().await;
    // Never allowed, now or later.
    let status = batch(client, "limited", 6).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
    assert_eq!((&*figure(&status, "limit"), &*figure(&status, "actual")), ("5", "6"));
    // A request that cannot be used has no document in it.
    assert_eq!(batch(client, "limited", 0).await.unwrap_err().code(), Code::InvalidArgument);

    assert!(batch(client, "limited", 4).await.is_ok());
    let status = batch(client, "limited", 2).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "DOCUMENT_RATE_EXCEEDED"));
    assert_eq!((&*figure(&status, "limit"), &*figure(&status, "actual")), ("0.01", "2"));
    assert!(retry_after(&status) > Duration::from_secs(10));
    // What was refused used nothing up.
    assert!(tag(client, "limited").await.is_ok());
    assert_eq!(reason(&tag(client, "limited").await.unwrap_err()), "DOCUMENT_RATE_EXCEEDED");
    assert!(batch(client, "free", 6).await.is_ok());
}

#[tokio::test]
async fn a_stream_over_its_rate_is_slowed_down_and_answered() {
    let (_keys, server) = server("documents_per_second = 5\ndocuments_burst = 1\n").await;
    let started = Instant::now();
    let messages = stream::iter((0..6).map(|_| document("Rain.")));
    let results = server.client().await.stream_tag(with_key("limited", messages)).await.unwrap().into_inner();
    let results: Vec<_> = results.collect().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 6, "{results:?}");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stream_that_must_wait_is_not_read_ahead() {
    let (_keys, server) = server("documents_per_second = 0.001\ndocuments_burst = 1\n").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let messages = stream::repeat(document(&"word ".repeat(4000))).inspect({
        let sent = Arc::clone(&sent);
        move |_| {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut client = server.client().await;
    let mut results = client.stream_tag(with_key("limited", messages)).await.unwrap().into_inner();
    assert!(results.next().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 50, "{sent} documents of 20 kB left the client");
}

#[tokio::test]
async fn calls_at_a_time_are_counted_until_they_end_and_through_a_reload() {
    let (file, server) = server("concurrent_calls = 2\n").await;
    let client = &mut server.client().await;
    let mut open =
        vec![silent_stream(client, "limited").await.unwrap(), silent_stream(client, "limited").await.unwrap()];
    let status = tag(client, "limited").await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "CONCURRENT_CALLS_EXCEEDED"));
    assert_eq!((&*figure(&status, "limit"), &*figure(&status, "actual")), ("2", "3"));
    assert!(retry_after(&status) > Duration::ZERO);
    assert!(tag(client, "free").await.is_ok());

    // One more is allowed; those that are open stay counted.
    file.write(&keys("concurrent_calls = 3\n"));
    open.push(wait_for_stream(client).await);
    let status = tag(client, "limited").await.unwrap_err();
    assert_eq!((&*figure(&status, "limit"), &*figure(&status, "actual")), ("3", "4"));

    // A call that ends makes room.
    open.pop();
    open.push(wait_for_stream(client).await);
}

async fn wait_for_stream(client: &mut Client) -> Silent {
    for _ in 0..600 {
        if let Ok(stream) = silent_stream(client, "limited").await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there was never room");
}
