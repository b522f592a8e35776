//! TLS: what is spoken, and certificates that change while connections go on.

mod support;

use std::{sync::Arc, time::Duration};

use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    TestServer,
    pki::{Authority, Files, Signed},
    text,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::transport::Channel;

async fn start(files: &Files, authority: &Authority) -> TestServer {
    let flags = files.flags();
    TestServer::start_tls(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &authority.trusting()).await
}

async fn tag(channel: &Channel) -> Result<(), tonic::Status> {
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    TaggerServiceClient::new(channel.clone()).tag(request).await.map(drop)
}

/// A handshake of its own.
async fn connect(
    server: &TestServer,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config =
        config.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The certificate that a new connection is shown.
async fn shown(server: &TestServer, authority: &Authority) -> Option<Vec<u8>> {
    let stream = connect(server, authority, &[&TLS13], &["h2"]).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

async fn wait_until_shown(server: &TestServer, authority: &Authority, signed: &Signed) {
    for _ in 0..600 {
        if shown(server, authority).await == Some(der(signed)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the certificate was never shown");
}

fn der(signed: &Signed) -> Vec<u8> {
    CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn http2_is_spoken_through_either_version_of_tls() {
    let authority = Authority::new("a");
    let files = Files::new(&authority.server());
    let server = start(&files, &authority).await;
    assert!(tag(&server.try_tls_channel(&authority.trusting()).await.unwrap()).await.is_ok());

    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = connect(&server, &authority, &[version], &["h2"]).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
    assert!(connect(&server, &authority, &[&TLS13], &["http/1.1"]).await.is_err());
    // A server that is not the one it says it is, to a client that knows another authority.
    assert!(server.try_tls_channel(&Authority::new("b").trusting()).await.is_err());
}

#[tokio::test]
async fn who_speaks_no_tls_gets_nothing() {
    let authority = Authority::new("a");
    let files = Files::new(&authority.server());
    let server = start(&files, &authority).await;
    for bytes in [support::raw::HELLO, b"GET / HTTP/1.1\r\n\r\n", &[0; 1000]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // An alert of TLS at most, and then the end.
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.len() < 10, "{answer:?}");
    }
    assert!(tag(&server.try_tls_channel(&authority.trusting()).await.unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_old_connections_go_on() {
    let authority = Authority::new("a");
    let old = authority.server();
    let files = Files::new(&old);
    let server = start(&files, &authority).await;
    let channel = server.try_tls_channel(&authority.trusting()).await.unwrap();
    assert_eq!(shown(&server, &authority).await, Some(der(&old)));

    let new = authority.server();
    files.write(&new);
    wait_until_shown(&server, &authority, &new).await;
    assert!(tag(&channel).await.is_ok());
    assert!(tag(&server.try_tls_channel(&authority.trusting()).await.unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_bad_certificate_leaves_the_old_one() {
    let authority = Authority::new("a");
    let old = authority.server();
    let files = Files::new(&old);
    let server = start(&files, &authority).await;
    let other = authority.server();
    let bad = [
        Signed { certificate: String::new(), key: old.key.clone() },
        Signed { certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(), key: old.key.clone() },
        // Each is fine, but not together.
        Signed { certificate: other.certificate.clone(), key: old.key.clone() },
    ];
    for signed in bad {
        files.write(&signed);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(shown(&server, &authority).await, Some(der(&old)));
    }
    let new = authority.server();
    files.write(&new);
    wait_until_shown(&server, &authority, &new).await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_keep_the_server_from_starting() {
    let authority = Authority::new("a");
    let (one, two) = (authority.server(), authority.server());
    let files = Files::new(&one);
    files.put("other.key", &two.key);
    files.put("empty", "");
    files.put("broken.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let path = |name| files.path(name).to_str().unwrap().to_owned();
    let [certificate, key, other, empty, broken, none] =
        ["tls.crt", "tls.key", "other.key", "empty", "broken.crt", "none"].map(path);
    for (flags, expected) in [
        (vec!["--tls-cert", &certificate], "tls_cert and tls_key go together"),
        (vec!["--tls-key", &key], "tls_cert and tls_key go together"),
        (vec!["--tls-client-ca", &certificate], "tls_client_ca needs tls_cert and tls_key"),
        (vec!["--tls-cert", &certificate, "--tls-key", &other], "tls.crt: keys may not be consistent"),
        (vec!["--tls-cert", &empty, "--tls-key", &key], "empty: no items found"),
        (vec!["--tls-cert", &certificate, "--tls-key", &empty], "empty: no items found"),
        (vec!["--tls-cert", &certificate, "--tls-key", &certificate], "tls.crt: no items found"),
        (vec!["--tls-cert", &broken, "--tls-key", &key], "broken.crt: invalid peer certificate"),
        (vec!["--tls-cert", &none, "--tls-key", &key], "cannot read"),
        (vec!["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &empty], "empty: no items found"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ended = rasid::grpc::serve(listener, support::settings(&flags), std::future::pending());
        let error = ended.await.unwrap_err().to_string();
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_is_in_flight() {
    let authority = Authority::new("a");
    let files = Files::new(&authority.server());
    let mut server = start(&files, &authority).await;
    let channel = server.try_tls_channel(&authority.trusting()).await.unwrap();
    // One that has only begun its handshake holds nothing up.
    let _half_open = TcpStream::connect(server.address).await.unwrap();
    let (sender, messages) = tokio::sync::mpsc::channel(2);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut results = TaggerServiceClient::new(channel).stream_tag(messages).await.unwrap().into_inner();
    let long = "Ministers met in Baghdad. ".repeat(400);
    for _ in 0..2 {
        let document = v1::stream_tag_request::Message::Document(text(&long));
        sender.send(v1::StreamTagRequest { message: Some(document) }).await.unwrap();
    }
    drop(sender);
    // Both have been read when the first is answered.
    assert!(results.message().await.unwrap().is_some());
    server.stop();
    assert!(results.message().await.unwrap().is_some());
    assert!(results.message().await.unwrap().is_none());
    let address = server.address;
    server.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
