//! `rasid health` tells an orchestrator whether a server serves, with TLS and without.

mod support;

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use support::{
    TestServer,
    pki::{Authority, Files},
    process::free_address,
};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Server, ServerTlsConfig, server::TcpIncoming};
use tonic_health::ServingStatus;

fn health(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rasid")).arg("health").args(flags).output().unwrap()
}

#[track_caller]
fn assert_says(output: &Output, code: i32, word: &str) {
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(word), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_is_the_answer() {
    let mut server = TestServer::start_cold(&[]).await;
    let url = format!("http://{}", server.address);
    assert_says(&health(&["--server", &url]), 1, "NOT_SERVING");
    server.wait_until_serving().await;
    assert_says(&health(&["--server", &url]), 0, "SERVING");
    assert_says(&health(&["--server", &url, "--service", "rasid.v1.TaggerService"]), 0, "SERVING");
    assert_says(&health(&["--server", &url, "--service", "no.such.Service"]), 1, "the server does not say");
    let nobody = format!("http://{}", free_address());
    assert_says(&health(&["--server", &nobody]), 1, "cannot reach the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    assert_says(&health(&["--server", &url, "--timeout", "1"]), 1, "did not answer within 1 s");
}

/// A server of health alone, that wants a certificate of its clients.
async fn tls_server(authority: &Authority) -> SocketAddr {
    let tls = ServerTlsConfig::new()
        .identity(authority.server().identity())
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().tls_config(tls).unwrap().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_both_ways() {
    let authority = Authority::new("the authority");
    let files = Files::new(&authority.client());
    files.put("ca.crt", &authority.pem());
    let url = format!("https://{}", tls_server(&authority).await);
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| files.path(name).to_str().unwrap().to_owned());
    let ours = ["--cert", &cert, "--key", &key];
    let named = ["--server", &url, "--ca", &ca, "--server-name", "localhost"];
    assert_says(&health(&[&named[..], &ours[..]].concat()), 0, "SERVING");
    // Without our certificate, the right name, or an authority to trust.
    assert_eq!(health(&named).status.code(), Some(1));
    assert_eq!(health(&[&named[..4], &ours[..]].concat()).status.code(), Some(1));
    assert_says(&health(&["--server", &url]), 1, "--ca is required");
    assert_says(&health(&["--server", &url, "--ca", "no/such.pem"]), 1, "cannot read no/such.pem");
    assert_says(&health(&["--cert", &cert]), 2, "--key");
}
