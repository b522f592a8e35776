//! With keys configured, only who has one may call; who has none learns nothing and costs nothing.

mod support;

use futures_util::{StreamExt, stream};
use rasid::proto::v1;
use support::{
    TestServer,
    keys::{KeysFile, entry, reason, with_header, with_key},
    raw::endless_call,
    text,
};
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

const KEY: &str = "rasid_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn tag() -> v1::TagRequest {
    v1::TagRequest { document: Some(text("Rain in Basra.")), options: None }
}

async fn server(text: &str, more: &[&str]) -> (KeysFile, TestServer) {
    let keys = KeysFile::new(text);
    let flags = keys.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let server = TestServer::start(&flags).await;
    (keys, server)
}

#[tokio::test]
async fn every_method_wants_a_key_and_takes_a_right_one() {
    let (_keys, server) = server(&entry("desk", KEY), &[]).await;
    let mut client = server.client().await;
    let batch = || v1::BatchTagRequest { documents: vec![text("Rain.")], options: None };
    let messages = || {
        stream::iter([v1::StreamTagRequest { message: Some(v1::stream_tag_request::Message::Document(text("Sun."))) }])
    };

    let refused = [
        client.tag(tag()).await.unwrap_err(),
        client.batch_tag(batch()).await.unwrap_err(),
        client.stream_tag(messages()).await.map(drop).unwrap_err(),
        client.get_model_info(v1::GetModelInfoRequest {}).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "KEY_MISSING"), "{status:?}");
    }
    client.tag(with_key(KEY, tag())).await.unwrap();
    client.batch_tag(with_key(KEY, batch())).await.unwrap();
    let mut results = client.stream_tag(with_key(KEY, messages())).await.unwrap().into_inner();
    assert!(results.next().await.unwrap().unwrap().result.is_some());
    client.get_model_info(with_key(KEY, v1::GetModelInfoRequest {})).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_not_told() {
    let expired = entry("old", "rasid_old") + "expires = 2020-01-01T00:00:00Z\n";
    let (_keys, server) = server(&(entry("desk", KEY) + &expired), &[]).await;
    let mut client = server.client().await;
    let mut refusals: Vec<Status> = Vec::new();
    for wrong in ["x", &KEY[..KEY.len() - 1], &format!("{KEY}0"), &KEY.to_uppercase(), "rasid_old0"] {
        refusals.push(client.tag(with_key(wrong, tag())).await.unwrap_err());
    }
    for status in &refusals {
        assert_eq!((status.code(), &*reason(status)), (Code::Unauthenticated, "KEY_INVALID"));
        assert_eq!(status.message(), refusals[0].message());
        assert!(!format!("{status:?}").contains("rasid_"), "{status:?}");
    }
    for header in ["", "Bearer", "Bearer ", KEY, &format!("Basic {KEY}"), &format!("Bearer{KEY}")] {
        let status = client.tag(with_header(header, tag())).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "KEY_MISSING"), "{header:?}");
    }
    let mut twice = with_key(KEY, tag());
    twice.metadata_mut().append("authorization", format!("Bearer {KEY}").parse().unwrap());
    assert_eq!(reason(&client.tag(twice).await.unwrap_err()), "KEY_MISSING");

    // Told only to who has the key.
    assert_eq!(reason(&client.tag(with_key("rasid_old", tag())).await.unwrap_err()), "KEY_EXPIRED");
    assert!(client.tag(with_header(&format!("bearer  {KEY} "), tag())).await.is_ok());
}

#[tokio::test]
async fn health_needs_no_key_and_reflection_as_it_is_set() {
    for (setting, without, with) in [
        ("open", Ok(()), Ok(())),
        ("authenticated", Err(Code::Unauthenticated), Ok(())),
        ("off", Err(Code::Unauthenticated), Err(Code::Unimplemented)),
    ] {
        let (_keys, server) = server(&entry("desk", KEY), &["--reflection", setting]).await;
        let mut health = HealthClient::new(server.channel().await);
        let watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner().message().await;
        assert_eq!(watched.unwrap().unwrap().status(), ServingStatus::Serving);

        let ask = || {
            let message_request = Some(MessageRequest::ListServices(String::new()));
            stream::iter([ServerReflectionRequest { host: String::new(), message_request }])
        };
        for (request, expected) in [(Request::new(ask()), without), (with_key(KEY, ask()), with)] {
            let mut client = ServerReflectionClient::new(server.channel().await);
            let answer = async { client.server_reflection_info(request).await?.into_inner().message().await };
            assert_eq!(answer.await.map(drop).map_err(|status: Status| status.code()), expected, "{setting}");
        }
    }
}

#[tokio::test]
async fn a_method_that_is_none_is_refused_like_any_other() {
    let (_keys, server) = server(&entry("desk", KEY), &[]).await;
    let status = endless_call(&server, "/rasid.v1.TaggerService/Nothing", None).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    // Health is open by its whole name alone.
    for path in ["/grpc.health.v1.Healthy/Check", "/grpc.health.v1/Health/Check", "//grpc.health.v1.Health/Check"] {
        assert_eq!(endless_call(&server, path, None).await.code(), Code::Unauthenticated, "{path}");
    }
    assert_eq!(endless_call(&server, "/grpc.health.v1.Health/Nothing", None).await.code(), Code::Unimplemented);
    assert_eq!(endless_call(&server, "/rasid.v1.TaggerService/Nothing", Some(KEY)).await.code(), Code::Unimplemented);
}

#[tokio::test]
async fn who_has_no_key_is_refused_before_anything_is_read() {
    let (_keys, server) = server(&entry("desk", KEY), &[]).await;
    for path in ["/rasid.v1.TaggerService/Tag", "/rasid.v1.TaggerService/BatchTag"] {
        assert_eq!(endless_call(&server, path, Some("wrong")).await.code(), Code::Unauthenticated);
    }
    // Far more than is ever read: the answer does not wait for it.
    let documents = vec![text(&"word ".repeat(200_000)); 30];
    let status = server.client().await.batch_tag(v1::BatchTagRequest { documents, options: None }).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_open_takes_no_large_messages() {
    let (_keys, server) = server(&entry("desk", KEY), &["--reflection", "open"]).await;
    let large = "x".repeat(20_000);
    let request = HealthCheckRequest { service: large.clone() };
    let status = HealthClient::new(server.channel().await).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: large, message_request };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let answer = async { client.server_reflection_info(stream::iter([request])).await?.into_inner().message().await };
    // The service of reflection ends the stream without saying why.
    assert!(!matches!(answer.await, Ok::<_, Status>(Some(_))));
}

#[tokio::test]
async fn keys_may_come_by_a_setting_alone() {
    let pair = format!("desk={}", rasid::auth::KeyHash::of(KEY.as_bytes()));
    let server = TestServer::start(&["--api-keys", &pair]).await;
    let mut client = server.client().await;
    assert!(client.tag(with_key(KEY, tag())).await.is_ok());
    assert_eq!(client.tag(tag()).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn keys_that_cannot_be_used_keep_the_server_from_starting() {
    let keys = KeysFile::new("[[keys]]\nname = \"desk\"\nsha256 = \"12\"\n");
    let path = keys.path();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = support::settings(&["--keys-file", path.to_str().unwrap()]);
    let error = rasid::grpc::serve(listener, settings, std::future::pending()).await.unwrap_err().to_string();
    assert!(error.ends_with("keys.toml:3: sha256 must be 64 hexadecimal digits, not 2"), "{error}");
}
