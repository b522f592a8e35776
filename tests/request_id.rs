//! Every answer names the id of its call, the caller's own if that is sane; a defect is told under the same id.

mod support;

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message};
use support::{
    TestServer, error,
    poisoned::{POISONED, poisoned_bundle},
    text,
};
use tonic::{Code, Request, metadata::MetadataMap};
use tonic_types::{RpcStatusExt, StatusExt};

fn tag(body: &str, id: Option<&str>) -> Request<v1::TagRequest> {
    let mut request = Request::new(v1::TagRequest { document: Some(text(body)), options: None });
    if let Some(id) = id {
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    }
    request
}

fn id(metadata: &MetadataMap) -> String {
    metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_sane_id_is_the_callers_own() {
    let server = TestServer::start(&[]).await;
    let mut client = server.client().await;
    let answer = client.tag(tag("Rain in Basra.", Some("edge-7:42"))).await.unwrap();
    assert_eq!(id(answer.metadata()), "edge-7:42");
    // Also where the answer is nothing but a status.
    let status = client.tag(tag(" ", Some("edge-7:43"))).await.unwrap_err();
    assert_eq!((status.code(), id(status.metadata())), (Code::InvalidArgument, "edge-7:43".to_owned()));
}

#[tokio::test]
async fn a_missing_or_strange_id_is_replaced_by_one_that_no_other_call_has() {
    let server = TestServer::start(&[]).await;
    let mut client = server.client().await;
    let long = "x".repeat(129);
    let mut ids = Vec::new();
    for given in [None, None, Some("two words"), Some("{\"level\":\"error\"}"), Some(&long)] {
        ids.push(id(client.tag(tag("Rain.", given)).await.unwrap().metadata()));
    }
    let first = v1::StreamTagRequest { message: Some(Message::Document(text("Rain."))) };
    let mut answer = client.stream_tag(stream::iter([first])).await.unwrap();
    ids.push(id(answer.metadata()));
    assert!(answer.get_mut().next().await.unwrap().is_ok());
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_defect_is_told_under_the_id_of_its_call() {
    let bundle = poisoned_bundle();
    let server = TestServer::start(&["--model", bundle.path().to_str().unwrap()]).await;
    let mut client = server.client().await;
    let bad = format!("The president of {POISONED} spoke.");
    let status = client.tag(tag(&bad, Some("call-1"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.get_error_details().request_info().unwrap().request_id, "call-1");
    assert_eq!(id(status.metadata()), "call-1");

    let mut batch = Request::new(v1::BatchTagRequest { documents: vec![text("Rain."), text(&bad)], options: None });
    batch.metadata_mut().insert("x-request-id", "call-2".parse().unwrap());
    let results = client.batch_tag(batch).await.unwrap().into_inner().results;
    let details = error(&results[1]).get_error_details();
    assert_eq!(details.request_info().unwrap().request_id, "call-2");

    // A stream is worked on while its answer is taken: the id must be known there, too.
    let messages = stream::iter([v1::StreamTagRequest { message: Some(Message::Document(text(&bad))) }]);
    let mut stream = Request::new(messages);
    stream.metadata_mut().insert("x-request-id", "call-3".parse().unwrap());
    let answer = client.stream_tag(stream).await.unwrap().into_inner().next().await.unwrap().unwrap();
    let details = error(answer.result.as_ref().unwrap()).get_error_details();
    assert_eq!(details.request_info().unwrap().request_id, "call-3");
}
