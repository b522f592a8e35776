//! A batch answers one result for each document, in order; a bad document harms no other.

mod support;

use rasid::proto::v1;
use support::{TestServer, analysis, articles, assert_same, error, text};
use tonic::Code;
use tonic_types::RpcStatusExt;

#[tokio::test]
async fn one_empty_document_among_good_ones_fails_alone() {
    let server = TestServer::start(&[]).await;
    let client = &mut server.client().await;
    let mut documents: Vec<v1::Document> = articles().iter().cycle().take(10).map(|(_, body)| text(body)).collect();
    for (index, document) in documents.iter_mut().enumerate() {
        document.id = format!("article-{index}");
    }
    documents[4].text.clear();

    let request = v1::BatchTagRequest { documents: documents.clone(), options: None };
    let response = client.batch_tag(request).await.unwrap().into_inner();
    assert_eq!(response.results.len(), 10);
    assert!(response.model.unwrap().revision.starts_with("sha256:"));
    for (index, result) in response.results.iter().enumerate() {
        assert_eq!((result.index, &result.id), (index as u64, &documents[index].id));
        if index == 4 {
            let status = error(result);
            assert_eq!(status.code, Code::InvalidArgument as i32);
            let details = status.get_error_details();
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, "documents[4].text");
        } else {
            let alone = v1::TagRequest { document: Some(documents[index].clone()), options: None };
            let alone = client.tag(alone).await.unwrap().into_inner().analysis.unwrap();
            assert_same(analysis(result), &alone);
        }
    }
}

#[tokio::test]
async fn every_kind_of_bad_document_is_told_in_its_result() {
    let server = TestServer::start(&["--max-document-bytes", "5000"]).await;
    let documents = vec![
        text("Floods cut the road to Mosul."),
        text("\n"),
        text(&"x".repeat(5001)),
        v1::Document { id: "x".repeat(2000), ..text("A") },
        text("Floods cut the road to Mosul."),
    ];
    let request = v1::BatchTagRequest { documents, options: None };
    let results = server.client().await.batch_tag(request).await.unwrap().into_inner().results;
    assert_same(analysis(&results[0]), analysis(&results[4]));
    for (index, field) in [(1, "documents[1].text"), (3, "documents[3].id")] {
        let details = error(&results[index]).get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let details = error(&results[2]).get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["actual"].as_str()), ("DOCUMENT_TOO_LARGE", "5001"));
}

#[tokio::test]
async fn a_thousand_documents_are_answered_in_order() {
    let server = TestServer::start(&[]).await;
    let documents = (0..1000).map(|index| text(&format!("Brief {index} from Basra."))).collect();
    let request = v1::BatchTagRequest { documents, options: None };
    let results = server.client().await.batch_tag(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 1000);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result.index, index as u64);
        assert!(analysis(result).coverage.unwrap().total_tokens > 0);
    }
}
