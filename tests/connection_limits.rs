//! Connections are limited in number, in time and in what they may send; whoever passes a limit loses his own connection and no other.

mod support;

use std::{
    io::Read,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::stream;
use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    TestServer,
    keys::{KeysFile, entry, with_key},
    model_folder,
    pki::{Authority, Files},
    raw::{DATA, END_HEADERS, END_STREAM, HEADERS, HELLO, call_headers, frame},
    text,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Longer than anything should take.
const LONG: Duration = Duration::from_secs(30);

fn tag() -> v1::TagRequest {
    v1::TagRequest { document: Some(text("Rain in Basra.")), options: None }
}

/// Whether a client of its own is served.
async fn is_served(address: SocketAddr) -> bool {
    let Ok(channel) = Channel::from_shared(format!("http://{address}")).unwrap().connect().await else { return false };
    matches!(timeout(LONG, TaggerServiceClient::new(channel).tag(tag())).await, Ok(Ok(_)))
}

async fn wait_until_served(address: SocketAddr) {
    for _ in 0..300 {
        if is_served(address).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody is served any more");
}

/// Waits for the end of a connection, whatever comes before it.
async fn wait_for_end(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection is open for ever").ok();
}

/// A connection that is served, once there is a seat: those of the start take a moment to go.
async fn seated(server: &TestServer) -> TaggerServiceClient<Channel> {
    for _ in 0..300 {
        let mut client = server.client().await;
        if client.tag(tag()).await.is_ok() {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("there was never a seat");
}

/// Whether a connection that says nothing is closed at once.
async fn is_refused(server: &TestServer) -> bool {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    matches!(timeout(LONG, stream.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    for limit in ["--max-connections", "--max-connections-per-ip"] {
        let server = TestServer::start(&[limit, "2", "--handshake-seconds", "300"]).await;
        let (mut first, second) = (seated(&server).await, seated(&server).await);
        for _ in 0..10 {
            assert!(is_refused(&server).await, "{limit}");
        }
        assert!(first.tag(tag()).await.is_ok());
        drop(second);
        seated(&server).await;
    }
}

#[tokio::test]
async fn nobody_keeps_others_out_by_sitting_still() {
    let keys = KeysFile::new(&entry("desk", "key"));
    let flags = keys.flags();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--max-connections", "5"]);
    let server = TestServer::start(&flags).await;
    let mut client = server.client().await;
    client.tag(with_key("key", tag())).await.unwrap();
    // Connections that speak HTTP/2 and nothing more, answer pings, and watch health, which needs no key.
    let mut idle = Vec::new();
    for _ in 0..10 {
        let channel = server.channel().await;
        let mut health = HealthClient::new(channel.clone());
        idle.push((channel, health.watch(HealthCheckRequest::default()).await));
        let mut other = server.client().await;
        assert!(other.tag(with_key("key", tag())).await.is_ok());
    }
    assert!(client.tag(with_key("key", tag())).await.is_ok());
}

#[tokio::test]
async fn who_does_not_say_what_he_is_is_closed() {
    let server = TestServer::start(&["--handshake-seconds", "1"]).await;
    let mut silent = Vec::new();
    for beginning in [&b""[..], b"P", &HELLO[..23]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        silent.push(stream);
    }
    for stream in &mut silent {
        wait_for_end(stream).await;
    }
    assert!(is_served(server.address).await);
}

#[tokio::test]
async fn what_is_no_http2_is_closed_before_its_time_is_up() {
    let server = TestServer::start(&["--handshake-seconds", "300"]).await;
    for bytes in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"PRI * HTTP/1", &[0x16, 3, 1, 0, 5]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        wait_for_end(&mut stream).await;
    }
}

#[tokio::test]
async fn half_open_tls_handshakes_end_and_hold_nobody_up() {
    let authority = Authority::new("a");
    let files = Files::new(&authority.server());
    let flags = files.flags();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--handshake-seconds", "2"]);
    let server = TestServer::start_tls(&flags, &authority.trusting()).await;
    let mut half_open = Vec::new();
    for length in [0, 1, 5, 6] {
        for _ in 0..20 {
            // A ClientHello of 512 bytes that never comes.
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&[0x16, 3, 1, 2, 0, 1][..length]).await.unwrap();
            half_open.push(stream);
        }
    }
    let channel = server.try_tls_channel(&authority.trusting()).await.unwrap();
    assert!(TaggerServiceClient::new(channel).tag(tag()).await.is_ok());
    for stream in &mut half_open {
        wait_for_end(stream).await;
    }
}

#[tokio::test]
async fn silent_connections_give_way_to_those_that_speak() {
    let server = TestServer::start(&["--max-handshakes", "4", "--handshake-seconds", "300"]).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        assert!(is_served(server.address).await);
    }
    // The oldest have been displaced.
    for stream in &mut silent[..12] {
        wait_for_end(stream).await;
    }
}

#[tokio::test]
async fn headers_that_are_too_large_cost_their_call_only() {
    let server = TestServer::start(&["--max-header-bytes", "4096"]).await;
    let mut client = server.client().await;
    assert!(client.tag(tag()).await.is_ok());
    let mut large = Request::new(tag());
    large.metadata_mut().insert("x-large", "x".repeat(5000).parse().unwrap());
    let status = client.tag(large).await.unwrap_err();
    assert_ne!(status.code(), Code::Ok, "{status:?}");
    assert!(client.tag(tag()).await.is_ok());
    // Far beyond the limit the connection ends; the next is fine.
    let mut huge = Request::new(tag());
    huge.metadata_mut().insert("x-huge", "x".repeat(1 << 20).parse().unwrap());
    assert!(client.tag(huge).await.is_err());
    assert!(is_served(server.address).await);
}

#[tokio::test]
async fn a_connection_has_so_many_streams() {
    let server = TestServer::start(&["--max-streams", "7"]).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..300 {
        if requests.current_max_send_streams() == 7 {
            return;
        }
        requests = requests.ready().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} streams are allowed", requests.current_max_send_streams());
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_connection() {
    let flags = ["--keepalive-seconds", "1", "--keepalive-timeout-seconds", "1"];
    let server = TestServer::start(&flags).await;
    let socket = TcpSocket::new_v4().unwrap();
    // So that few answers fill it.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    // Calls whose answers nobody takes, until the server takes no more and closes.
    let ended = timeout(LONG, async {
        for id in (1..).step_by(2) {
            let mut call = frame(HEADERS, END_HEADERS, id, &call_headers("GetModelInfo"));
            call.extend(frame(DATA, END_STREAM, id, &[0; 5]));
            if stream.write_all(&call).await.is_err() {
                return;
            }
        }
    });
    assert!(ended.await.is_ok(), "the connection is open for ever");
    assert!(is_served(server.address).await);
}

#[tokio::test]
async fn a_connection_of_age_is_asked_to_end_and_then_ended() {
    let flags = ["--connection-age-seconds", "1", "--connection-age-grace-seconds", "2", "--max-connections", "4"];
    let server = TestServer::start(&flags).await;
    // Without calls it ends when asked to: a GOAWAY, no error.
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (_requests, connection) = h2::client::handshake(stream).await.unwrap();
    assert!(timeout(LONG, connection).await.unwrap().is_ok());
    // A client goes on over a connection of its own making, and a call in flight is finished.
    let mut client = server.client().await;
    let slow = stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let document = v1::stream_tag_request::Message::Document(text("Rain."));
        (sent < 4).then_some((v1::StreamTagRequest { message: Some(document) }, sent + 1))
    });
    let results = client.stream_tag(slow).await.unwrap().into_inner();
    let results: Vec<_> = futures_util::StreamExt::collect(results).await;
    assert!(results.len() == 4 && results.iter().all(Result::is_ok), "{results:?}");
    assert!(client.tag(tag()).await.is_ok());
    // A call that does not end is cut off with it.
    let mut held = client.stream_tag(stream::pending()).await.unwrap().into_inner();
    let ended = timeout(LONG, held.message()).await.expect("the call is open for ever");
    assert!(ended.is_err(), "{ended:?}");
    assert!(is_served(server.address).await);
}

/// A server in a process of its own, with few file descriptors.
struct Poor(Child);

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn without_file_descriptors_it_waits_for_some() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Poor(
        Command::new("sh")
            .args(["-c", "ulimit -n 48; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rasid"), "serve", "--model"])
            .arg(model_folder())
            .args(["--listen", &address.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    wait_until_served(address).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(held);
    wait_until_served(address).await;
    server.0.kill().unwrap();
    let mut log = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("cannot accept connections"), "{log}");
}
