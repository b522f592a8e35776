//! One client's job does not shut out another's: who floods the server waits, or is refused, behind itself.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message};
use support::{
    TestServer,
    keys::{KeysFile, entry, with_key},
    text,
};
use tonic::Code;
use tonic_types::StatusExt;

const FLOOD: &str = "the flood's";
const QUIET: &str = "the quiet one's";

/// A server with two clients and a small queue.
async fn start() -> (TestServer, KeysFile) {
    let keys = KeysFile::new(&(entry("flood", FLOOD) + &entry("quiet", QUIET)));
    let path = keys.path();
    let flags = ["--keys-file", path.to_str().unwrap(), "--max-queued-tokens", "2048"];
    (TestServer::start(&flags).await, keys)
}

/// Some 30 tokens.
fn document() -> v1::Document {
    text(&"The army met in Baghdad. ".repeat(5))
}

fn tag() -> v1::TagRequest {
    v1::TagRequest { document: Some(document()), options: None }
}

/// Twenty streams that send as fast as they may; `answered` counts their results.
async fn flood_with_streams(server: &TestServer, answered: &Arc<AtomicUsize>, stopped: &Arc<AtomicBool>) {
    for _ in 0..20 {
        let (mut client, answered, stopped) = (server.client().await, Arc::clone(answered), Arc::clone(stopped));
        tokio::spawn(async move {
            let document = || v1::StreamTagRequest { message: Some(Message::Document(document())) };
            let documents =
                stream::repeat_with(document).take_while(move |_| std::future::ready(!stopped.load(Ordering::Relaxed)));
            let mut results = client.stream_tag(with_key(FLOOD, documents)).await.unwrap().into_inner();
            while let Some(result) = results.next().await {
                result.unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while answered.load(Ordering::Relaxed) < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_gets_as_much_done_as_twenty_of_another_client() {
    let (server, _keys) = start().await;
    let (answered, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    flood_with_streams(&server, &answered, &stopped).await;

    const DOCUMENTS: usize = 80;
    let before = answered.load(Ordering::Relaxed);
    let documents = vec![v1::StreamTagRequest { message: Some(Message::Document(document())) }; DOCUMENTS];
    let mut client = server.client().await;
    let results = client.stream_tag(with_key(QUIET, stream::iter(documents))).await.unwrap().into_inner();
    let own = results.filter(|result| std::future::ready(result.is_ok())).count().await;
    let others = answered.load(Ordering::Relaxed) - before;
    stopped.store(true, Ordering::Relaxed);
    assert_eq!(own, DOCUMENTS);
    // By turns as many, and what had been let in before: 1,536 tokens, some 50 documents. By calls it would be twenty times as many.
    assert!(others <= DOCUMENTS + 100, "{others} documents of the flood were answered beside {own}");
    assert!(others >= DOCUMENTS / 3, "the flood is not shut out either: {others} beside {own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_finds_its_way_beside_the_streams_of_another_client() {
    let (server, _keys) = start().await;
    let (answered, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    flood_with_streams(&server, &answered, &stopped).await;
    let before = answered.load(Ordering::Relaxed);
    let batch = v1::BatchTagRequest { documents: vec![document(); 40], options: None };
    let results = server.client().await.batch_tag(with_key(QUIET, batch.clone())).await.unwrap().into_inner().results;
    let others = answered.load(Ordering::Relaxed) - before;
    assert_eq!(results.iter().map(support::analysis).count(), 40);
    assert!(others <= 140, "{others} documents of the flood were answered beside a batch of 40");
    // Its own work waits for room already, so a batch of the flood's is told to come back.
    let refused = server.client().await.batch_tag(with_key(FLOOD, batch)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());
    stopped.store(true, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_calls_of_one_client_are_never_refused_for_the_flood_of_another() {
    let (server, _keys) = start().await;
    let stopped = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let client = server.client().await;
    // Far more at a time than the queue holds, and on as soon as they are answered or refused.
    let flood: Vec<_> = (0..150)
        .map(|_| {
            let (mut client, stopped, refused) = (client.clone(), Arc::clone(&stopped), Arc::clone(&refused));
            tokio::spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    match client.tag(with_key(FLOOD, tag())).await {
                        Ok(_) => {}
                        Err(status) if status.code() == Code::ResourceExhausted => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        Err(status) => panic!("{status:?}"),
                    }
                }
            })
        })
        .collect();
    while refused.load(Ordering::Relaxed) < 100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut quiet = server.client().await;
    for index in 0..20 {
        let answer = quiet.tag(with_key(QUIET, tag())).await;
        assert!(answer.is_ok(), "call {index}: {answer:?}");
    }
    stopped.store(true, Ordering::Relaxed);
    for call in flood {
        call.await.unwrap();
    }
}
