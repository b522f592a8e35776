//! Where the model itself fails, the document concerned gets INTERNAL with a request id and nothing else; its neighbours in the
//! same batch get their answers.

mod support;

use rasid::proto::v1;
use support::{
    TestServer, analysis, assert_same, error,
    poisoned::{POISONED, poisoned_bundle},
    text,
};
use tonic::Code;
use tonic_types::{RpcStatusExt, StatusExt};

#[tokio::test]
async fn a_document_at_which_the_model_fails_fails_alone() {
    let bundle = poisoned_bundle();
    let server = TestServer::start(&["--model", bundle.path().to_str().unwrap()]).await;
    let client = &mut server.client().await;
    let bad = format!("The president of {POISONED} spoke.");
    let documents = vec![text("Rain in Basra."), text(&bad), text("Rain in Basra.")];
    let results =
        client.batch_tag(v1::BatchTagRequest { documents, options: None }).await.unwrap().into_inner().results;
    assert_same(analysis(&results[0]), analysis(&results[2]));
    let fault = error(&results[1]);
    assert_eq!((fault.code, fault.message.as_str()), (Code::Internal as i32, "internal error"));
    assert!(!fault.get_error_details().request_info().unwrap().request_id.is_empty());

    let request = v1::TagRequest { document: Some(text(&bad)), options: None };
    let status = client.tag(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    assert!(status.get_error_details().request_info().is_some());
}
