//! Clients that open calls only to cancel them, and other floods of small frames: the server goes on serving others and ends the
//! connection that they come from.

mod support;

use std::{net::SocketAddr, time::Duration};

use rasid::proto::v1;
use support::{
    TestServer,
    keys::{KeysFile, entry, with_key},
    raw::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, HELLO, RST_STREAM, call_headers, frame},
    text,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LONG: Duration = Duration::from_secs(60);

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Sends all it can until the server closes; says how many pieces went out.
async fn flood(address: SocketAddr, most: u32, piece: impl Fn(u32) -> Vec<u8>) -> Result<u32, u32> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(HELLO).await.unwrap();
    let reads = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while matches!(reader.read(&mut bytes).await, Ok(1..)) {}
    });
    for sent in 0..most {
        if reads.is_finished() || writer.write_all(&piece(sent)).await.is_err() {
            return Err(sent);
        }
    }
    // All went out; the server may still find that it was too much.
    match timeout(Duration::from_secs(5), reads).await {
        Ok(_) => Err(most),
        Err(_) => Ok(most),
    }
}

fn rapid_reset(flags: u8) -> impl Fn(u32) -> Vec<u8> {
    let headers = call_headers("Tag");
    move |sent| {
        let id = 2 * sent + 1;
        let mut piece = frame(HEADERS, END_HEADERS | flags, id, &headers);
        piece.extend(frame(RST_STREAM, 0, id, &CANCEL));
        piece
    }
}

async fn assert_serves(server: &TestServer, key: &str) {
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    let mut client = server.client().await;
    assert!(timeout(LONG, client.tag(with_key(key, request))).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connection_and_no_other() {
    let server = TestServer::start(&[]).await;
    let mut neighbour = server.client().await;
    let address = server.address;
    let floods: Vec<_> =
        [0, END_STREAM].map(|flags| tokio::spawn(flood(address, 200_000, rapid_reset(flags)))).into_iter().collect();
    for _ in 0..5 {
        let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
        assert!(timeout(LONG, neighbour.tag(request)).await.unwrap().is_ok());
    }
    for flood in floods {
        let sent = timeout(LONG, flood).await.unwrap().unwrap();
        assert!(sent.is_err(), "{sent:?} resets were taken");
    }
    assert_serves(&server, "none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_they_end_as_well() {
    let keys = KeysFile::new(&entry("desk", "key"));
    let flags = keys.flags();
    let server = TestServer::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let sent = timeout(LONG, flood(server.address, 200_000, rapid_reset(0))).await.unwrap();
    assert!(sent.is_err(), "{sent:?} resets were taken");
    assert_serves(&server, "key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_within_the_limit_is_fine() {
    let server = TestServer::start(&[]).await;
    // Fewer at once than ten seconds' worth.
    let sent = flood(server.address, 500, rapid_reset(0)).await;
    assert_eq!(sent, Ok(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_cut_off() {
    let server = TestServer::start(&[]).await;
    // CVE-2024-27316: HEADERS, then CONTINUATION after CONTINUATION.
    let sent = flood(server.address, 100_000, |sent| match sent {
        0 => frame(HEADERS, END_STREAM, 1, &call_headers("Tag")),
        _ => frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"),
    });
    let sent = timeout(LONG, sent).await.unwrap();
    assert!(sent.is_err(), "{sent:?} frames were taken");
    assert_serves(&server, "none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_break_the_protocol_end_their_connection() {
    let server = TestServer::start(&[]).await;
    // RUSTSEC-2024-0003: a header that may not be there has each stream reset by us.
    let mut headers = call_headers("Tag");
    headers.extend(b"\0\x0aconnection\x05close");
    let sent = flood(server.address, 100_000, |sent| frame(HEADERS, END_HEADERS | END_STREAM, 2 * sent + 1, &headers));
    let sent = timeout(LONG, sent).await.unwrap();
    assert!(sent.is_err(), "{sent:?} streams were taken");
    assert_serves(&server, "none").await;
}
