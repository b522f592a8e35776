//! Health says what is true: NOT_SERVING until the model is loaded and warm, and again from the shutdown on; what was accepted by
//! then is answered.

mod support;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message};
use support::{TestServer, text};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

#[tokio::test]
async fn calls_before_the_model_is_there_are_told_to_come_back() {
    let mut server = TestServer::start_cold(&[]).await;
    assert_eq!(server.health().await, ServingStatus::NotServing);
    // It is alive all the same.
    let alive = HealthCheckRequest { service: "grpc.health.v1.Health".to_owned() };
    let alive = HealthClient::new(server.channel().await).check(alive).await.unwrap().into_inner();
    assert_eq!(alive.status(), ServingStatus::Serving);
    let request = v1::TagRequest { document: Some(text("Rain.")), options: None };
    let status = server.client().await.tag(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_error_details().retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);

    server.wait_until_serving().await;
    assert!(server.client().await.tag(request).await.is_ok());
}

#[tokio::test]
async fn watchers_see_the_whole_life_and_work_in_flight_is_finished() {
    let mut server = TestServer::start(&[]).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut states = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(states.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut client = server.client().await;
    let documents = vec![text(&"The army met in Baghdad. ".repeat(40)); 50];
    let batch = tokio::spawn(async move { client.batch_tag(v1::BatchTagRequest { documents, options: None }).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.stop();
    assert_eq!(states.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let end = states.next().await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "who watches is told and holds nothing up: {end:?}");
    let results = batch.await.unwrap().unwrap().into_inner().results;
    assert_eq!(results.len(), 50);
    assert!(results.iter().all(|result| support::analysis(result).coverage.is_some()));
    // The watcher's connection is still there.
    tokio::time::timeout(Duration::from_secs(10), server.ended()).await.unwrap().unwrap();
    drop((states, health));
}

#[tokio::test]
async fn an_open_stream_is_told_that_the_server_goes() {
    let mut server = TestServer::start(&[]).await;
    let first = v1::StreamTagRequest { message: Some(Message::Document(text("Rain."))) };
    let messages = stream::iter([first]).chain(stream::pending());
    let mut responses = server.client().await.stream_tag(messages).await.unwrap().into_inner();
    assert!(responses.next().await.unwrap().is_ok());
    server.stop();
    let end = responses.next().await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    assert!(end.get_error_details().retry_info().is_some());
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_call_that_never_ends_holds_the_shutdown_no_longer_than_the_bound() {
    let mut server = TestServer::start(&["--drain-seconds", "1"]).await;
    let endless = text(&"The ministers met again in Baghdad on Monday.\n".repeat(20_000));
    let mut client = server.client().await;
    let _call =
        tokio::spawn(async move { client.tag(v1::TagRequest { document: Some(endless), options: None }).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.stop();
    tokio::time::timeout(Duration::from_secs(20), server.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_server_with_the_reason() {
    let server = TestServer::start_cold(&["--model", "no/such/folder"]).await;
    let error = server.ended().await.unwrap_err().to_string();
    assert!(error.contains("cannot read no/such/folder"), "{error}");
}
