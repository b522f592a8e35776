//! What callers send and what they are to be sent takes no more memory than is set, whatever they do: beyond, calls are refused with
//! advice when to come back, and the memory is given back.
#![cfg(target_os = "linux")]

mod support;

use std::{fs, io::Write, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use prost::Message as _;
use rasid::proto::v1::{self, stream_tag_request::Message, tagger_service_client::TaggerServiceClient};
use support::{process::Process, raw::unfinished_call, text};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const MIB: f64 = (1 << 20) as f64;

/// 16 MiB for requests and answers; so 10 MiB for one tenant alone.
const FLAGS: [&str; 4] = ["--max-held-bytes", "16777216", "--max-request-bytes", "2097152"];

/// The most memory that a process has had so far, in bytes.
fn peak(server: &Process) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn assert_refused(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay).unwrap();
    assert!(delay >= Duration::from_millis(50), "{delay:?}");
}

/// A batch of 1.9 MiB.
fn batch() -> v1::BatchTagRequest {
    let documents = vec![text(&"The army met in Baghdad. ".repeat(400)); 200];
    v1::BatchTagRequest { documents, options: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_large_requests_is_refused_beyond_the_bound() {
    let server = Process::start(&FLAGS).await;
    server.client().await.tag(v1::TagRequest { document: Some(text("Rain.")), options: None }).await.unwrap();
    let before = peak(&server);
    let mut calls = Vec::new();
    for _ in 0..12 {
        let client = server.client().await;
        calls.extend((0..10).map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.batch_tag(batch()).await.map(drop) })
        }));
    }
    // Those that were let in have work for minutes: the others are told at once, and then nobody waits any more.
    let mut refused = 0;
    let mut most_held: f64 = 0.0;
    while refused < 100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most_held = most_held.max(server.figures().unwrap()["rasid_held_bytes"]);
        for call in calls.extract_if(.., |call| call.is_finished()) {
            assert_refused(&call.await.unwrap().unwrap_err());
            refused += 1;
        }
    }
    assert!((1..20).contains(&calls.len()), "{} calls were let in", calls.len());
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    server.wait_for("rasid_held_bytes", 0.0).await;
    assert!(most_held <= 16.0 * MIB, "{most_held} bytes were held");
    let grown = (peak(&server) - before) / MIB;
    println!("peak {grown:.0} MiB above the start, {} of 120 calls let in", calls.len());
    // Held bytes, what readers make of them, and the answers: far from the 228 MiB that were sent.
    assert!(grown < 100.0, "{grown} MiB for 16 MiB of requests");
    assert!(server.client().await.tag(v1::TagRequest { document: Some(text("Rain.")), options: None }).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_that_become_large_ones_are_refused_beyond_the_bound() {
    let server = Process::start(&FLAGS).await;
    server.client().await.tag(v1::TagRequest { document: Some(text("Rain.")), options: None }).await.unwrap();
    let before = peak(&server);
    // 1.9 MiB that are a few KiB on their way, but for the last byte, which does not come.
    let message = batch().encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&message).unwrap();
    let mut refused = 0;
    for (encoding, bomb) in [("zstd", zstd::encode_all(&message[..], 3).unwrap()), ("gzip", gzip.finish().unwrap())] {
        assert!(bomb.len() < 16_384);
        let begin = [&[1][..], &(bomb.len() as u32).to_be_bytes(), &bomb[..bomb.len() - 1]].concat();
        let (channel, headers) = (server.channel().await, [("grpc-encoding", encoding.to_owned())]);
        let calls = (0..120).map(|_| {
            let (channel, headers, begin) = (channel.clone(), headers.clone(), begin.clone());
            tokio::spawn(
                async move { unfinished_call(channel, "/rasid.v1.TaggerService/BatchTag", &headers, begin).await },
            )
        });
        let mut calls: Vec<_> = calls.collect();
        while calls.len() > 12 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for call in calls.extract_if(.., |call| call.is_finished()) {
                assert_refused(&call.await.unwrap());
                refused += 1;
            }
        }
        let held = server.figures().unwrap()["rasid_held_bytes"];
        assert!((2.0 * MIB..=16.0 * MIB).contains(&held), "{held}");
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        server.wait_for("rasid_held_bytes", 0.0).await;
    }
    // Each once; of those whose answer was not awaited, some.
    let counted = server.figures().unwrap()["rasid_refused_total{reason=\"memory\",key=\"anonymous\"}"];
    assert!((f64::from(refused)..=240.0).contains(&counted), "{counted} of {refused}");
    let grown = (peak(&server) - before) / MIB;
    println!("peak {grown:.0} MiB above the start, {refused} of 240 calls refused");
    assert!(grown < 100.0, "{grown} MiB for 16 MiB of requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_hold_no_more_than_the_bound_either() {
    let server = Process::start(&FLAGS).await;
    let before = peak(&server);
    // A hundred streams of endless documents of 100 KB, which nobody takes results of.
    let body = "The army met in Baghdad. ".repeat(4000);
    let elsewhere = tokio::runtime::Runtime::new().unwrap();
    let address = server.address;
    let streams = elsewhere.spawn(async move {
        let connect = || TaggerServiceClient::connect(format!("http://{address}"));
        let clients = join_all((0..10).map(|_| connect())).await;
        let streams = clients.iter().cycle().take(100).map(|client| {
            let (mut client, body) = (client.as_ref().unwrap().clone(), body.clone());
            async move {
                let document = move || v1::StreamTagRequest { message: Some(Message::Document(text(&body))) };
                client.stream_tag(stream::repeat_with(document)).await.map(tonic::Response::into_inner)
            }
        });
        join_all(streams).await
    });
    let mut streams = streams.await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let figures = server.figures().unwrap();
    assert!(figures["rasid_held_bytes"] <= 16.0 * MIB, "{figures:?}");
    assert!(figures["rasid_held_bytes"] > 4.0 * MIB, "{figures:?}");
    let mut refused = 0;
    for results in &mut streams {
        let next = match results {
            Ok(results) => tokio::time::timeout(Duration::from_millis(20), results.next()).await.ok().flatten(),
            Err(status) => Some(Err(status.clone())),
        };
        if let Some(Err(status)) = next {
            assert_refused(&status);
            refused += 1;
        }
    }
    assert!(refused >= 20, "{refused} streams were ended");
    // With all connections at once, as if the machine of the clients were gone.
    elsewhere.shutdown_background();
    server.wait_for("rasid_held_bytes", 0.0).await;
    let grown = (peak(&server) - before) / MIB;
    println!("peak {grown:.0} MiB above the start, {refused} of 100 streams ended");
    assert!(grown < 150.0, "{grown} MiB for 16 MiB of documents");
}
