//! Any bytes as the message of any call, through the whole service: decoding, options, reading, model, answer. Whatever comes back
//! must keep the contract.

#![no_main]

use std::{net::SocketAddr, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use prost::Message;
use rasid::proto::v1;
use tokio::runtime::Runtime;
use tonic::{Code, Status, client::Grpc, codec::Codec, transport::Channel};

/// A server with a small model, and a connection to it.
struct Service {
    runtime: Runtime,
    channel: Channel,
    _bundle: tempfile::TempDir,
}

fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let bundle = tempfile::tempdir().expect("a folder");
        rasid_fuzz::small_bundle(bundle.path());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let channel = runtime.block_on(start(bundle.path().to_str().expect("a name")));
        Service { runtime, channel, _bundle: bundle }
    })
}

async fn start(model: &str) -> Channel {
    use clap::{Args, FromArgMatches};
    let command = rasid::config::ServeSettings::augment_args(clap::Command::new("serve"));
    let flags = ["serve", "--model", model, "--threads", "1", "--batch-tokens", "64", "--max-batch-documents", "16"];
    let settings = rasid::config::ServeSettings::from_arg_matches(&command.get_matches_from(flags)).expect("settings");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("an address");
    tokio::spawn(rasid::grpc::serve(listener, settings, std::future::pending()));
    loop {
        if let Ok(channel) = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await {
            let mut client = v1::tagger_service_client::TaggerServiceClient::new(channel.clone());
            if client.get_model_info(v1::GetModelInfoRequest {}).await.is_ok() {
                return channel;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Sends the bytes it is given.
#[derive(Default)]
struct Raw<T>(std::marker::PhantomData<T>);

impl<T: Message + Default + 'static> Codec for Raw<T> {
    type Encode = bytes::Bytes;
    type Decode = T;
    type Encoder = RawEncoder;
    type Decoder = tonic_prost::ProstDecoder<T>;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::new(Default::default())
    }
}

struct RawEncoder;

impl tonic::codec::Encoder for RawEncoder {
    type Item = bytes::Bytes;
    type Error = Status;

    fn encode(&mut self, item: bytes::Bytes, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

async fn unary<T: Message + Default + 'static>(method: &'static str, message: bytes::Bytes) -> Result<T, Status> {
    let mut client = Grpc::new(service().channel.clone());
    client.ready().await.expect("the server is there");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
    client.unary(tonic::Request::new(message), path, Raw::<T>::default()).await.map(tonic::Response::into_inner)
}

/// A client's faults are its own; none may look like a defect of the server.
fn check_status(status: &Status) {
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted),
        "{status:?}"
    );
}

fn check(document: &v1::Document, analysis: &v1::Analysis) {
    let units = |text: &str| match analysis.offset_unit() {
        v1::OffsetUnit::Utf8Byte => text.len(),
        v1::OffsetUnit::Utf16CodeUnit => text.encode_utf16().count(),
        _ => text.chars().count(),
    };
    let mut last = (0, 0);
    for entity in &analysis.entities {
        let span = entity.span.as_ref().expect("a span");
        let field = if span.field() == v1::TextField::Title { &document.title } else { &document.text };
        let start = field.char_indices().map(|(at, _)| at).find(|&at| units(&field[..at]) as u64 == span.start as u64);
        let rest = &field[start.expect("offsets are on characters")..];
        assert!(rest.starts_with(&span.content) && units(&span.content) as u64 == (span.end - span.start) as u64);
        assert!((span.field, span.start) >= last && span.start < span.end, "in order, not overlapping");
        assert!((0.0..=1.0).contains(&entity.probability));
        last = (span.field, span.end);
    }
    for pair in analysis.topics.windows(2) {
        assert!(pair[0].probability >= pair[1].probability);
    }
    for topic in &analysis.topics {
        assert!((0.0..=1.0).contains(&topic.probability) && topic.assigned == (topic.probability >= topic.threshold));
    }
    let coverage = analysis.coverage.as_ref().expect("coverage");
    assert!(coverage.analyzed_tokens <= coverage.total_tokens);
}

async fn run(method: u8, message: bytes::Bytes) {
    if method % 2 == 0 {
        match unary::<v1::TagResponse>("/rasid.v1.TaggerService/Tag", message.clone()).await {
            Ok(answer) => {
                let request = v1::TagRequest::decode(message).expect("what was answered can be read");
                check(&request.document.expect("a document"), &answer.analysis.expect("an analysis"));
            }
            Err(status) => check_status(&status),
        }
        return;
    }
    match unary::<v1::BatchTagResponse>("/rasid.v1.TaggerService/BatchTag", message.clone()).await {
        Ok(answer) => {
            let request = v1::BatchTagRequest::decode(message).expect("what was answered can be read");
            assert_eq!(request.documents.len(), answer.results.len());
            for (document, result) in request.documents.iter().zip(&answer.results) {
                match result.outcome.as_ref().expect("an outcome") {
                    v1::document_result::Outcome::Analysis(analysis) => check(document, analysis),
                    v1::document_result::Outcome::Error(error) => assert_eq!(error.code, Code::InvalidArgument as i32),
                }
            }
        }
        Err(status) => check_status(&status),
    }
}

fuzz_target!(
    // Loading takes longer than an input may.
    init: {
        service();
    },
    |data: &[u8]| {
    if let Some((method, message)) = data.split_first() {
        let service = service();
        service.runtime.block_on(run(*method, bytes::Bytes::copy_from_slice(message)));
    }
    }
);
