//! Messages may be compressed, in any call, each for itself: the answer is the same, and what is not valid is the client's fault.

mod support;

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, stream_tag_request::Message, tagger_service_client::TaggerServiceClient};
use support::{TestServer, analysis, assert_same, raw::call_with_bytes, text};
use tonic::{
    Code, Status,
    codec::CompressionEncoding::{self, Gzip, Zstd},
    transport::Channel,
};

const ARTICLE: &str = "The president of Iraq met the army in Baghdad. Rain fell in Basra. ";

async fn client(server: &TestServer, encoding: Option<CompressionEncoding>) -> TaggerServiceClient<Channel> {
    let client = server.client().await;
    match encoding {
        Some(encoding) => client.send_compressed(encoding).accept_compressed(encoding),
        None => client,
    }
}

/// The answers to Tag, to a batch and to a stream.
async fn answers(server: &TestServer, encoding: Option<CompressionEncoding>) -> Result<Vec<v1::Analysis>, Status> {
    let client = &mut client(server, encoding).await;
    let documents = [1, 40, 400].map(|times| text(&ARTICLE.repeat(times)));
    let tag = v1::TagRequest { document: Some(documents[1].clone()), options: None };
    let mut all = vec![client.tag(tag).await?.into_inner().analysis.unwrap()];
    let batch = v1::BatchTagRequest { documents: documents.to_vec(), options: None };
    all.extend(client.batch_tag(batch).await?.into_inner().results.iter().map(analysis).cloned());
    let messages = documents.map(|document| v1::StreamTagRequest { message: Some(Message::Document(document)) });
    let mut results = client.stream_tag(stream::iter(messages)).await?.into_inner();
    while let Some(result) = results.next().await {
        all.push(analysis(&result?.result.unwrap()).clone());
    }
    Ok(all)
}

#[tokio::test]
async fn compressed_messages_have_the_same_answers() {
    let server = TestServer::start(&[]).await;
    let plain = answers(&server, None).await.unwrap();
    assert_eq!(plain.len(), 7);
    for encoding in [Gzip, Zstd] {
        let compressed = answers(&server, Some(encoding)).await.unwrap();
        assert_eq!(compressed.len(), plain.len());
        compressed.iter().zip(&plain).for_each(|(one, other)| assert_same(one, other));
    }
}

#[tokio::test]
async fn what_a_message_becomes_counts_and_not_its_length_on_the_wire() {
    let server = TestServer::start(&["--max-request-bytes", "100000"]).await;
    for encoding in [Gzip, Zstd] {
        let mut client = client(&server, Some(encoding)).await;
        let batch = |times| {
            let documents = vec![text(&ARTICLE.repeat(times)); 100];
            let mut client = client.clone();
            async move { client.batch_tag(v1::BatchTagRequest { documents, options: None }).await.map(drop) }
        };
        batch(10).await.unwrap();
        let status = batch(20).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("at most 100000"), "{status:?}");
        let status = batch(40).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        let request = v1::TagRequest { document: Some(text("Rain.")), options: None };
        assert!(client.tag(request).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_not_valid_is_told_as_the_clients_fault() {
    let server = TestServer::start(&[]).await;
    let compressed = |content: &[u8]| [&[1][..], &(content.len() as u32).to_be_bytes(), content].concat();
    for encoding in ["gzip", "zstd"] {
        let whole = compressed(b"no such thing");
        for bytes in [&whole[..], &whole[..whole.len() - 1]] {
            let status = tag(&server, encoding, bytes.to_vec()).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        }
    }
    let status = tag(&server, "br", compressed(b"no such thing")).await;
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}

async fn tag(server: &TestServer, encoding: &str, bytes: Vec<u8>) -> Status {
    let headers = [("grpc-encoding", encoding.to_owned())];
    call_with_bytes(server, "/rasid.v1.TaggerService/Tag", &headers, bytes).await
}
