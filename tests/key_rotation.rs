//! A key takes another's place while the server runs: nobody is interrupted who should not be, and everybody who should.

mod support;

use std::{fs, os::unix::fs::symlink, process::Command, time::Duration};

use futures_util::StreamExt;
use rasid::proto::v1::{self, tagger_service_client::TaggerServiceClient};
use support::{
    TestServer,
    keys::{KeysFile, entry, reason, with_key},
    text,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

type Client = TaggerServiceClient<Channel>;

async fn server(keys: &KeysFile) -> TestServer {
    let flags = keys.flags();
    TestServer::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn ask(client: &mut Client, key: &str) -> Result<(), Status> {
    client.get_model_info(with_key(key, v1::GetModelInfoRequest {})).await.map(drop)
}

/// Waits until a key opens, or opens no more.
async fn wait_until(client: &mut Client, key: &str, is_valid: bool) {
    for _ in 0..600 {
        if ask(client, key).await.is_ok() == is_valid {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{key} never became {}", if is_valid { "valid" } else { "invalid" });
}

#[tokio::test]
async fn two_keys_are_valid_while_one_takes_the_others_place() {
    let keys = KeysFile::new(&entry("desk", "old"));
    let server = server(&keys).await;
    let client = &mut server.client().await;
    assert!(ask(client, "old").await.is_ok());
    assert_eq!(ask(client, "new").await.unwrap_err().code(), Code::Unauthenticated);

    keys.write(&(entry("desk", "old") + &entry("desk", "new")));
    wait_until(client, "new", true).await;
    assert!(ask(client, "old").await.is_ok());

    keys.write(&entry("desk", "new"));
    wait_until(client, "old", false).await;
    assert!(ask(client, "new").await.is_ok());
}

#[tokio::test]
async fn a_bad_file_leaves_the_keys_as_they_were() {
    let keys = KeysFile::new(&entry("desk", "old"));
    let server = server(&keys).await;
    let client = &mut server.client().await;
    // Each is looked at before the next comes.
    for bad in ["", "[[keys]]\nname = \"desk\"\n", "not toml at all"] {
        let text = if bad.is_empty() { entry("desk", "third") + "expired = 1\n" } else { bad.to_owned() };
        keys.write(&text);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(ask(client, "old").await.is_ok(), "{bad:?}");
    }
    fs::remove_file(keys.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(ask(client, "old").await.is_ok());

    keys.write(&entry("desk", "new"));
    wait_until(client, "new", true).await;
    assert!(ask(client, "old").await.is_err());
}

#[tokio::test]
async fn a_swapped_link_is_followed() {
    // As Kubernetes puts a new secret in the place of an old one.
    let folder = tempfile::tempdir().unwrap();
    let [one, two, data, next, file] = ["1", "2", "data", "next", "keys.toml"].map(|name| folder.path().join(name));
    for (version, key) in [(&one, "old"), (&two, "new")] {
        fs::create_dir(version).unwrap();
        fs::write(version.join("keys.toml"), entry("desk", key)).unwrap();
    }
    symlink(&one, &data).unwrap();
    symlink(data.join("keys.toml"), &file).unwrap();
    let server = TestServer::start(&["--keys-file", file.to_str().unwrap(), "--reload-seconds", "1"]).await;
    let client = &mut server.client().await;
    assert!(ask(client, "old").await.is_ok());
    symlink(&two, &next).unwrap();
    fs::rename(&next, &data).unwrap();
    wait_until(client, "new", true).await;
    assert!(ask(client, "old").await.is_err());
}

#[tokio::test]
async fn a_hangup_has_the_keys_read_at_once() {
    let keys = KeysFile::new(&entry("desk", "old"));
    let path = keys.path();
    let server = TestServer::start(&["--keys-file", path.to_str().unwrap(), "--reload-seconds", "0"]).await;
    let client = &mut server.client().await;
    keys.write(&entry("desk", "new"));
    // Nobody looks by himself.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ask(client, "old").await.is_ok());
    let hangup = Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap();
    assert!(hangup.success());
    wait_until(client, "new", true).await;
    assert!(ask(client, "old").await.is_err());
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_taken_away() {
    let keys = KeysFile::new(&(entry("desk", "old") + &entry("desk", "new")));
    let server = server(&keys).await;
    let mut client = server.client().await;
    let document = || v1::StreamTagRequest { message: Some(v1::stream_tag_request::Message::Document(text("Rain."))) };
    let mut streams = Vec::new();
    for key in ["old", "new"] {
        let (send, messages) = mpsc::channel(1);
        let mut results = client.stream_tag(with_key(key, ReceiverStream::new(messages))).await.unwrap().into_inner();
        send.send(document()).await.unwrap();
        assert!(results.next().await.unwrap().is_ok());
        streams.push((send, results));
    }
    keys.write(&entry("desk", "new"));
    wait_until(&mut client, "old", false).await;
    let (send, results) = &mut streams[0];
    send.send(document()).await.unwrap();
    let status = results.next().await.unwrap().unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "KEY_REVOKED"));
    let (send, results) = &mut streams[1];
    send.send(document()).await.unwrap();
    assert!(results.next().await.unwrap().is_ok());
}
