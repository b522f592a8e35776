//! Single documents do not wait behind the batches and streams that fill the queue, and those go on meanwhile.

mod support;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message, tagger_service_client::TaggerServiceClient};
use support::{process::Process, text};
use tonic::transport::Channel;

/// Tokens of a batch.
const BATCH: f64 = 256.0;

/// Tokens that may wait: 32 batches, of which bulk work takes 24.
const QUEUE: f64 = 32.0 * BATCH;

/// Some 120 tokens: one window.
fn document() -> v1::Document {
    text(&"The army met in Baghdad. ".repeat(20))
}

/// Batches, one after the other.
async fn batches(mut client: TaggerServiceClient<Channel>) {
    loop {
        let request = v1::BatchTagRequest { documents: vec![document(); 100], options: None };
        if client.batch_tag(request).await.is_err() {
            // Refused while others' documents wait for room.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An endless stream.
async fn endless(mut client: TaggerServiceClient<Channel>) {
    let documents = stream::repeat_with(|| v1::StreamTagRequest { message: Some(Message::Document(document())) });
    let Ok(results) = client.stream_tag(documents).await else { return };
    let mut results = results.into_inner();
    while let Some(Ok(_)) = results.next().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_document_waits_for_a_few_batches_however_many_are_queued() {
    let flags = [("--batch-tokens", BATCH), ("--max-queued-tokens", QUEUE)];
    let flags = flags.map(|(flag, value)| [flag.to_owned(), value.to_string()]).concat();
    let server = Process::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for _ in 0..3 {
        tokio::spawn(batches(server.client().await));
        tokio::spawn(endless(server.client().await));
    }
    let figure = |name| server.figures().unwrap().get(name).copied().unwrap_or(0.0);
    let queued = || figure("rasid_queue_tokens");
    let full = async {
        while queued() < QUEUE / 2.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), full).await.expect("the queue never became full");

    // What the model reads between a call and its answer says how long it waited, however slow the machine is.
    let read = || figure("rasid_tokens_total");
    let mut client = server.client().await;
    let bulk_answered = || figure("rasid_document_seconds_count{lane=\"bulk\"}");
    let (bulk, mut waits, mut least) = (bulk_answered(), Vec::new(), QUEUE);
    for _ in 0..15 {
        least = least.min(queued());
        let before = read();
        client.tag(v1::TagRequest { document: Some(document()), options: None }).await.unwrap();
        waits.push(read() - before);
    }
    let bulk = bulk_answered() - bulk;
    waits.sort_by(f64::total_cmp);
    println!("tokens read meanwhile: {waits:?}; at least {least} were queued; {bulk} documents of bulk work");
    assert!(least > QUEUE / 3.0, "the queue was not full: {least}");
    // The batch that is being read, its own, and what is read while the figures are asked for.
    assert!(waits[waits.len() / 2] <= 6.0 * BATCH, "{waits:?}");
    assert!(waits[waits.len() - 1] < least, "one waited as long as the whole queue: {waits:?}");
    assert!(bulk >= 5.0, "bulk work came to a stop: {bulk}");
}
