//! Clients that break the rules cost themselves, not the others.

mod support;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rasid::proto::v1;
use support::{TestServer, text};
use tokio::{io::AsyncWriteExt, net::TcpStream};

async fn assert_serves(server: &TestServer) {
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    let mut client = server.client().await;
    let answer = tokio::time::timeout(Duration::from_secs(20), client.tag(request)).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()));
}

#[tokio::test]
async fn half_open_streams_do_not_hold_the_others_up() {
    let server = TestServer::start(&[]).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut client = server.client().await;
        held.push(client.stream_tag(stream::pending::<v1::StreamTagRequest>()).await.unwrap().into_inner());
    }
    assert_serves(&server).await;
    drop(held);
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_thousand_abandoned_calls_leave_the_server_well() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    for _ in 0..1000 {
        let mut client = client.clone();
        let request = v1::TagRequest { document: Some(text("The army met in Baghdad.")), options: None };
        let call = tokio::spawn(async move { client.tag(request).await });
        tokio::task::yield_now().await;
        call.abort();
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn connections_that_speak_no_http2_are_dropped() {
    let server = TestServer::start(&[]).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x09\x09", b""]
    {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        connection.write_all(bytes).await.unwrap();
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_results_blocks_nobody() {
    let server = TestServer::start(&[]).await;
    let body = "word ".repeat(1000);
    let messages = stream::repeat_with(move || v1::StreamTagRequest {
        message: Some(v1::stream_tag_request::Message::Document(text(&body))),
    });
    let mut client = server.client().await;
    let mut unread = client.stream_tag(messages.take(5000)).await.unwrap().into_inner();
    assert!(unread.next().await.unwrap().is_ok());
    assert_serves(&server).await;
    drop(unread);
    assert_serves(&server).await;
}
