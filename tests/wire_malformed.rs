//! Bytes that are no message of the contract are the client's fault, said so, and harm nobody else.

mod support;

use rasid::proto::v1;
use support::{TestServer, raw::call_with_bytes, text};
use tonic::Code;

/// Calls Tag with raw bytes as the message.
async fn raw(server: &TestServer, message: &[u8]) -> Code {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    raw_frame(server, frame).await
}

async fn raw_frame(server: &TestServer, frame: Vec<u8>) -> Code {
    call_with_bytes(server, "/rasid.v1.TaggerService/Tag", &[], frame).await.code()
}

#[tokio::test]
async fn what_does_not_decode_is_an_invalid_argument() {
    let server = TestServer::start(&[]).await;
    // TagRequest{document{text}}: field 1, then field 3, with a text that is not UTF-8.
    assert_eq!(raw(&server, &[0x0a, 0x04, 0x1a, 0x02, 0xff, 0xfe]).await, Code::InvalidArgument);
    // A length that goes beyond the message.
    assert_eq!(raw(&server, &[0x0a, 0x7f, 0x1a]).await, Code::InvalidArgument);
    // A wire type that does not exist.
    assert_eq!(raw(&server, &[0x0f]).await, Code::InvalidArgument);
    // Another wire type than the field's.
    assert_eq!(raw(&server, &[0x08, 0x01]).await, Code::InvalidArgument);
    // Nothing at all is a message without a document.
    assert_eq!(raw(&server, &[]).await, Code::InvalidArgument);
    // Unknown fields are those of a later contract: ignored.
    assert_eq!(raw(&server, &[0x0a, 0x06, 0x1a, 0x04, b'R', b'a', b'i', b'n', 0xf8, 0x07, 0x01]).await, Code::Ok);
    // A flag that says compressed, without an encoding.
    assert_ne!(raw_frame(&server, vec![1, 0, 0, 0, 1, 0]).await, Code::Ok);
    // A request that ends within a message, or within its length.
    assert_eq!(raw_frame(&server, vec![0, 0, 0, 0, 9, 0x0a]).await, Code::InvalidArgument);
    assert_eq!(raw_frame(&server, vec![0, 0, 0]).await, Code::InvalidArgument);

    let request = v1::TagRequest { document: Some(text("Rain in Basra.")), options: None };
    assert!(server.client().await.tag(request).await.is_ok());
}

#[tokio::test]
async fn a_message_beyond_the_ceiling_is_out_of_range() {
    let server = TestServer::start(&["--max-request-bytes", "10000"]).await;
    assert_eq!(raw(&server, &vec![0; 20_001]).await, Code::OutOfRange);
}
