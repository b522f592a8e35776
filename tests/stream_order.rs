//! A stream answers every document, in order unless told otherwise, and reads no more than its bound ahead of the reader.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message};
use support::{TestServer, analysis, arabic_article, articles, assert_same, error, text};
use tonic::Code;

fn message(message: Message) -> v1::StreamTagRequest {
    v1::StreamTagRequest { message: Some(message) }
}

fn documents(texts: impl IntoIterator<Item = String>) -> Vec<v1::StreamTagRequest> {
    texts.into_iter().map(|body| message(Message::Document(text(&body)))).collect()
}

async fn run(
    server: &TestServer,
    messages: impl Stream<Item = v1::StreamTagRequest> + Send + 'static,
) -> Vec<Result<v1::StreamTagResponse, tonic::Status>> {
    let responses = server.client().await.stream_tag(messages).await.unwrap().into_inner();
    responses.collect().await
}

fn results(responses: Vec<Result<v1::StreamTagResponse, tonic::Status>>) -> Vec<v1::DocumentResult> {
    responses.into_iter().map(|response| response.unwrap().result.unwrap()).collect()
}

#[tokio::test]
async fn a_thousand_documents_come_back_in_order() {
    let server = TestServer::start(&[]).await;
    // Long ones among short ones, which would overtake them.
    let texts = (0..1000)
        .map(|index| if index % 100 == 0 { arabic_article() } else { format!("Brief {index}: rain in Basra.") });
    let results = results(run(&server, stream::iter(documents(texts))).await);
    assert_eq!(results.len(), 1000);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result.index, index as u64);
        let windows = analysis(result).coverage.unwrap().windows;
        assert_eq!(windows > 1, index % 100 == 0);
        assert!(result.model.is_some());
    }
}

#[tokio::test]
async fn headlines_sent_far_ahead_of_their_results_do_not_end_the_connection() {
    let server = TestServer::start(&[]).await;
    // Each in a frame of its own, as other languages' clients send them.
    let messages = stream::iter(documents((0..4000).map(|index| format!("Rain {index}")))).then(|message| async {
        tokio::task::yield_now().await;
        message
    });
    let mut responses = server.client().await.stream_tag(messages).await.unwrap().into_inner();
    // The client has sent all that the window lets it before it takes the second.
    let first = responses.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rest = responses.collect::<Vec<_>>().await;
    let results = results([first].into_iter().chain(rest).collect());
    assert_eq!(results.len(), 4000);
    assert!(results.iter().enumerate().all(|(index, result)| result.index == index as u64));
}

#[tokio::test]
async fn unordered_results_come_as_they_are_done_each_once() {
    let server = TestServer::start(&["--batch-tokens", "64"]).await;
    let config = v1::StreamConfig { unordered: true, ..v1::StreamConfig::default() };
    let long = articles().iter().map(|(_, body)| body.clone()).collect::<String>();
    let texts = [long].into_iter().chain((0..20).map(|index| format!("Brief {index}.")));
    let messages = [message(Message::Config(config))].into_iter().chain(documents(texts));
    let results = results(run(&server, stream::iter(messages.collect::<Vec<_>>())).await);
    let order: Vec<u64> = results.iter().map(|result| result.index).collect();
    assert_eq!(order.last(), Some(&0), "the long document must be overtaken: {order:?}");
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..21).collect::<Vec<u64>>());
}

#[tokio::test]
async fn options_of_the_first_message_hold_for_all() {
    let server = TestServer::start(&[]).await;
    let options =
        v1::TagOptions { features: vec![v1::Feature::Topics.into()], include_all_scores: true, ..Default::default() };
    let config = v1::StreamConfig { options: Some(options.clone()), max_in_flight: 2, ..v1::StreamConfig::default() };
    let messages = [message(Message::Config(config))].into_iter().chain(documents(vec![arabic_article(); 3]));
    let results = results(run(&server, stream::iter(messages.collect::<Vec<_>>())).await);
    let request = v1::TagRequest { document: Some(text(&arabic_article())), options: Some(options) };
    let alone = server.client().await.tag(request).await.unwrap().into_inner().analysis.unwrap();
    assert_eq!(alone.topics.len(), 17);
    assert!(alone.entities.is_empty() && alone.language.is_none());
    for result in &results {
        assert_same(analysis(result), &alone);
    }
}

#[tokio::test]
async fn a_bad_document_does_not_end_the_stream() {
    let server = TestServer::start(&[]).await;
    let texts = ["Good.", " ", "Good."].map(str::to_owned);
    let results = results(run(&server, stream::iter(documents(texts))).await);
    assert_eq!(error(&results[1]).code, Code::InvalidArgument as i32);
    assert_same(analysis(&results[0]), analysis(&results[2]));
}

#[tokio::test]
async fn an_empty_stream_ends_well() {
    let server = TestServer::start(&[]).await;
    assert!(run(&server, stream::iter(Vec::new())).await.is_empty());
}

#[tokio::test]
async fn messages_out_of_place_end_the_stream_and_name_the_field() {
    let server = TestServer::start(&["--max-in-flight", "8"]).await;
    let config = |max_in_flight| message(Message::Config(v1::StreamConfig { max_in_flight, ..Default::default() }));
    let cases = [
        (vec![documents(["Good.".to_owned()]).remove(0), config(1)], "config"),
        (vec![config(9)], "config.max_in_flight"),
        (vec![config(1), v1::StreamTagRequest { message: None }], "document"),
    ];
    for (messages, field) in cases {
        let last = run(&server, stream::iter(messages)).await.pop().unwrap().unwrap_err();
        assert_eq!(last.code(), Code::InvalidArgument);
        assert!(last.message().starts_with(field), "{}", last.message());
    }
}

#[tokio::test]
async fn the_server_reads_no_faster_than_its_results_are_taken() {
    let server = TestServer::start(&["--max-in-flight", "4"]).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let body = "word ".repeat(2000);
    let counter = Arc::clone(&sent);
    let messages = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        message(Message::Document(text(&body)))
    });
    let mut client = server.client().await;
    let mut responses = client.stream_tag(messages).await.unwrap().into_inner();
    assert!(responses.next().await.is_some());
    // From here on nobody reads: what is sent must come to a stand, held by flow control.
    let mut before = 0;
    let mut still = 0;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = sent.load(Ordering::Relaxed);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        if still == 20 {
            break;
        }
    }
    assert_eq!(still, 20, "the client could send {before} documents and go on");
    assert!(before < 500, "{before} documents were read ahead");
}
