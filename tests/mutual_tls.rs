//! Mutual TLS: only clients with a certificate of an authority that the server knows get a connection.

mod support;

use std::time::Duration;

use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    TestServer,
    pki::{Authority, Files, Signed},
    text,
};
use tonic::transport::{Channel, ClientTlsConfig};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn start(files: &Files, tls: &ClientTlsConfig) -> TestServer {
    let flags = files.flags();
    TestServer::start_tls(&flags.iter().map(String::as_str).collect::<Vec<_>>(), tls).await
}

async fn tag(channel: Channel) -> Result<(), tonic::Status> {
    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    TaggerServiceClient::new(channel).tag(request).await.map(drop)
}

/// Whether a client with this certificate is served. Under TLS 1.3 a client learns only from its first call that it is not.
async fn is_served(server: &TestServer, tls: &ClientTlsConfig) -> bool {
    match server.try_tls_channel(tls).await {
        Ok(channel) => tag(channel).await.is_ok(),
        Err(_) => false,
    }
}

fn showing(servers: &Authority, signed: &Signed) -> ClientTlsConfig {
    servers.trusting().identity(signed.identity())
}

#[tokio::test]
async fn only_a_certificate_of_a_known_authority_opens() {
    let (servers, clients, others) = (Authority::new("servers"), Authority::new("clients"), Authority::new("others"));
    let files = Files::new(&servers.server());
    files.put("ca.crt", &clients.pem());
    let right = showing(&servers, &clients.client());
    let server = start(&files, &right).await;
    assert!(is_served(&server, &right).await);

    assert!(!is_served(&server, &servers.trusting()).await);
    assert!(!is_served(&server, &showing(&servers, &others.client())).await);
    // Of the right authority, but no certificate for clients.
    assert!(!is_served(&server, &showing(&servers, &clients.server())).await);
    // Not even health.
    if let Ok(channel) = server.try_tls_channel(&servers.trusting()).await {
        assert!(HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_err());
    }
    assert!(is_served(&server, &right).await);
}

#[tokio::test]
async fn authorities_change_while_connections_go_on() {
    let (servers, old, new) = (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
    let files = Files::new(&servers.server());
    files.put("ca.crt", &old.pem());
    let (of_old, of_new) = (showing(&servers, &old.client()), showing(&servers, &new.client()));
    let server = start(&files, &of_old).await;
    let channel = server.try_tls_channel(&of_old).await.unwrap();
    assert!(tag(channel.clone()).await.is_ok());
    assert!(!is_served(&server, &of_new).await);

    // Both while clients change, then the new one alone.
    files.put("ca.crt", &(old.pem() + &new.pem()));
    wait_until(&server, &of_new, true).await;
    assert!(is_served(&server, &of_old).await);
    files.put("ca.crt", &new.pem());
    wait_until(&server, &of_old, false).await;
    assert!(is_served(&server, &of_new).await);
    assert!(tag(channel).await.is_ok());
}

async fn wait_until(server: &TestServer, tls: &ClientTlsConfig, expected: bool) {
    for _ in 0..600 {
        if is_served(server, tls).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never became {expected}");
}
