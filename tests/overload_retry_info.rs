//! A full queue refuses single documents at once, with advice when to come back, and lets batches wait their turn.

mod support;

use std::time::Duration;

use rasid::proto::v1;
use support::{TestServer, analysis, text};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn a_full_queue_refuses_with_retry_info_and_recovers() {
    let server = TestServer::start(&["--max-queued-tokens", "1024"]).await;
    let client = server.client().await;
    let request = v1::TagRequest { document: Some(text(&"The army met. ".repeat(60))), options: None };
    let calls = (0..40).map(|_| {
        let (mut client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { client.tag(request).await })
    });
    let calls: Vec<_> = calls.collect();
    let (mut answered, mut refused) = (0, 0);
    let mut longest = Duration::ZERO;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => answered += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                let details = status.get_error_details();
                let delay = details.retry_info().unwrap().retry_delay.unwrap();
                assert!(delay >= Duration::from_millis(50) && delay <= Duration::from_secs(60));
                let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
                assert_eq!(pushback.parse::<u128>().unwrap(), delay.as_millis(), "for clients whose gRPC retries");
                longest = longest.max(delay);
                refused += 1;
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    tokio::time::sleep(longest).await;
    assert!(client.clone().tag(request).await.is_ok(), "after the delay there is room");
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_waits_and_is_answered() {
    let server = TestServer::start(&["--max-queued-tokens", "1024"]).await;
    let documents = vec![text(&"The army met. ".repeat(60)); 40];
    let request = v1::BatchTagRequest { documents, options: None };
    let results = server.client().await.batch_tag(request).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(analysis).count(), 40);
}

#[tokio::test]
async fn single_documents_find_room_beside_a_batch() {
    let server = TestServer::start(&["--max-queued-tokens", "2048"]).await;
    let documents = vec![text(&"The army met. ".repeat(60)); 100];
    let mut client = server.client().await;
    let batch = tokio::spawn(async move { client.batch_tag(v1::BatchTagRequest { documents, options: None }).await });
    let mut client = server.client().await;
    let mut single = 0;
    while !batch.is_finished() {
        let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
        assert!(client.tag(request).await.is_ok(), "a quarter of the queue is kept for single documents");
        single += 1;
    }
    assert!(batch.await.unwrap().is_ok());
    assert!(single > 3, "only {single} single documents were answered beside the batch");
}
