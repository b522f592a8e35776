//! Every fault of a request has its status, and the status names the field, the limit and the actual value.

mod support;

use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{TestServer, text};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

type Client = TaggerServiceClient<Channel>;

async fn tag(client: &mut Client, document: v1::Document, options: v1::TagOptions) -> Result<v1::TagResponse, Status> {
    let request = v1::TagRequest { document: Some(document), options: Some(options) };
    client.tag(request).await.map(tonic::Response::into_inner)
}

/// The field that a status blames.
fn field(status: &Status) -> String {
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap_or_else(|| panic!("no BadRequest in {status:?}")).field_violations;
    assert_eq!(violations.len(), 1);
    violations[0].field.clone()
}

/// Reason, limit and actual value that a status names.
fn limit(status: &Status) -> (String, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "rasid.dev");
    (info.reason.clone(), info.metadata["limit"].clone(), info.metadata["actual"].clone())
}

async fn assert_field(client: &mut Client, document: v1::Document, options: v1::TagOptions, expected: &str) {
    let status = tag(client, document, options).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(field(&status), expected);
    assert!(status.message().contains(expected.split('[').next().unwrap()), "{}", status.message());
}

#[tokio::test]
async fn a_field_that_cannot_be_used_is_named() {
    let server = TestServer::start(&["--max-in-flight", "8"]).await;
    let client = &mut server.client().await;
    let options = v1::TagOptions::default;
    let good = || text("Ministers met in Baghdad.");

    let missing = client.tag(v1::TagRequest::default()).await.unwrap_err();
    assert_eq!((missing.code(), field(&missing).as_str()), (Code::InvalidArgument, "document"));

    assert_field(client, text(""), options(), "document.text").await;
    assert_field(client, text(" \n\t\u{a0}\u{3000}"), options(), "document.text").await;
    assert_field(client, text("\u{200b}\u{200f}"), options(), "document.text").await;
    assert_field(client, v1::Document { id: "x".repeat(1025), ..good() }, options(), "document.id").await;
    let long_code = v1::Document { language_code: "x".repeat(65), ..good() };
    assert_field(client, long_code, options(), "document.language_code").await;

    for number in [0, 4, -1, 99] {
        let wrong = v1::TagOptions { features: vec![1, number], ..options() };
        assert_field(client, good(), wrong, "options.features[1]").await;
    }
    for number in [4, -1, i32::MAX] {
        let wrong = v1::TagOptions { offset_unit: number, ..options() };
        assert_field(client, good(), wrong, "options.offset_unit").await;
        let wrong = v1::TagOptions { overflow_policy: number, ..options() };
        assert_field(client, good(), wrong, "options.overflow_policy").await;
    }
    for value in [f32::NAN, -0.1, 1.1, f32::INFINITY] {
        let wrong = v1::TagOptions { min_probability: Some(value), ..options() };
        assert_field(client, good(), wrong, "options.min_probability").await;
        let topic_thresholds = [("security".to_owned(), value)].into();
        let wrong = v1::TagOptions { topic_thresholds, ..options() };
        assert_field(client, good(), wrong, "options.topic_thresholds[\"security\"]").await;
    }
    let topic_thresholds = [("gossip".to_owned(), 0.5)].into();
    let wrong = v1::TagOptions { topic_thresholds, ..options() };
    assert_field(client, good(), wrong, "options.topic_thresholds[\"gossip\"]").await;
    let wrong = v1::TagOptions { topics: vec!["sport".to_owned(), "gossip".to_owned()], ..options() };
    assert_field(client, good(), wrong, "options.topics[1]").await;
    let wrong = v1::TagOptions { entity_types: vec!["GPE".to_owned()], ..options() };
    assert_field(client, good(), wrong, "options.entity_types[0]").await;

    let empty = client.batch_tag(v1::BatchTagRequest::default()).await.unwrap_err();
    assert_eq!((empty.code(), field(&empty).as_str()), (Code::InvalidArgument, "documents"));

    // After all that the server serves on.
    assert!(tag(client, good(), options()).await.is_ok());
}

#[tokio::test]
async fn a_limit_that_is_passed_is_named_with_the_actual_value() {
    let flags = ["--max-document-bytes", "2000", "--max-batch-documents", "3", "--max-request-bytes", "10000"];
    let server = TestServer::start(&flags).await;
    let client = &mut server.client().await;
    let word = "word ";

    let document = v1::Document { title: "t".repeat(100), ..text(&word.repeat(400)) };
    let status = tag(client, document, v1::TagOptions::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(limit(&status), ("DOCUMENT_TOO_LARGE".into(), "2000".into(), "2100".into()));

    let reject = v1::TagOptions { overflow_policy: v1::OverflowPolicy::Reject.into(), ..v1::TagOptions::default() };
    let status = tag(client, text(&word.repeat(300)), reject.clone()).await.unwrap_err();
    let (reason, most, actual) = limit(&status);
    assert_eq!((status.code(), reason.as_str(), most.as_str()), (Code::InvalidArgument, "DOCUMENT_TOO_LARGE", "126"));
    assert_eq!(actual, "300");
    assert!(tag(client, text(&word.repeat(100)), reject).await.is_ok());

    let request = v1::BatchTagRequest { documents: vec![text(word); 4], options: None };
    let status = client.batch_tag(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(limit(&status), ("BATCH_TOO_LARGE".into(), "3".into(), "4".into()));

    let request = v1::BatchTagRequest { documents: vec![text(&"x".repeat(4000)); 3], options: None };
    let status = client.batch_tag(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let (reason, most, _) = limit(&status);
    assert_eq!((reason.as_str(), most.as_str()), ("REQUEST_TOO_LARGE", "10000"));

    // Beyond twice the limit the transport does not even read the message.
    let request = v1::BatchTagRequest { documents: vec![text(&"x".repeat(8000)); 3], options: None };
    let status = client.batch_tag(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn another_model_version_is_a_failed_precondition() {
    let server = TestServer::start(&[]).await;
    let client = &mut server.client().await;
    let info = client.get_model_info(v1::GetModelInfoRequest {}).await.unwrap().into_inner();
    let version = info.model.unwrap().version;

    let required = |version: &str| v1::TagOptions { required_model_version: version.to_owned(), ..Default::default() };
    assert!(tag(client, text("Rain."), required(&version)).await.is_ok());
    let status = tag(client, text("Rain."), required("99.0.0")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "MODEL_VERSION_MISMATCH");
    assert_eq!((info.metadata["required"].as_str(), info.metadata["actual"].as_str()), ("99.0.0", version.as_str()));
}
