//! Attacks and changes, one after the other, while the load goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use rasid::proto::{
    admin::v1::ReloadModelRequest,
    v1::{self, document_result::Outcome, stream_tag_request::Message},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    Failure,
    books::{Books, Kind, Method},
    files::Model,
    server::{self, STALL_SECONDS, Server},
    texts, wire,
};

/// What was done, and what came of it.
#[derive(Debug, Default)]
struct Log {
    done: Mutex<BTreeMap<&'static str, u64>>,
    broken: Mutex<Vec<String>>,
}

impl Log {
    fn done(&self, what: &'static str) {
        *self.done.lock().entry(what).or_default() += 1;
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.lock().push(what());
        }
    }
}

/// Where it happens.
#[derive(Clone)]
struct Scene {
    server: Arc<Server>,
    books: Arc<Books>,
    log: Arc<Log>,
}

/// Attacks that go on until stopped.
pub struct Attack {
    stopped: Arc<AtomicBool>,
    log: Arc<Log>,
    tasks: JoinSet<()>,
}

/// What the attacks came to.
pub struct Attacks(Arc<Log>);

impl Attacks {
    /// Counts.
    pub fn report(&self) -> Value {
        json!(*self.0.done.lock())
    }

    /// What did not hold.
    pub fn check(&self) -> Vec<String> {
        self.0.broken.lock().clone()
    }
}

/// Starts them all.
pub fn start(server: &Arc<Server>, books: &Arc<Books>, rng: &mut Rng) -> Attack {
    let stopped = Arc::new(AtomicBool::new(false));
    let log = Arc::new(Log::default());
    let scene = Scene { server: Arc::clone(server), books: Arc::clone(books), log: Arc::clone(&log) };
    let mut tasks = JoinSet::new();
    macro_rules! every {
        ($seconds:expr, $attack:ident) => {{
            let (stopped, scene, mut rng) = (Arc::clone(&stopped), scene.clone(), rng.fork());
            tasks.spawn(async move {
                let mut round = 0;
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_secs_f64($seconds * (0.5 + rng.f64()))).await;
                    if let Err(error) = $attack(&scene, &mut rng, round).await {
                        scene.log.expect(false, || format!("{}: {error}", stringify!($attack)));
                    }
                    round += 1;
                }
            });
        }};
    }
    every!(2.0, malformed_bytes);
    every!(2.0, malformed_frames);
    every!(2.0, malformed_messages);
    every!(1.0, wrong_keys);
    every!(3.0, killed_connections);
    every!(4.0, half_open);
    every!(20.0, stopped_reader);
    every!(45.0, new_certificate);
    every!(40.0, new_keys);
    every!(60.0, reload);
    Attack { stopped, log, tasks }
}

impl Attack {
    /// Ends them: each finishes what it has begun.
    pub async fn stop(mut self) -> Attacks {
        self.stopped.store(true, Ordering::Relaxed);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(300), all).await;
        self.log.expect(ended.is_ok(), || "an attack never came to its end".to_owned());
        Attacks(self.log)
    }
}

/// Bytes that are no TLS, and half a handshake.
async fn malformed_bytes(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(scene.server.address).await?;
    let bytes: Vec<u8> = match round % 3 {
        0 => (0..rng.usize(1..4096)).map(|_| rng.u8(..)).collect(),
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x09\x09".to_vec(),
        _ => vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
    };
    let _ = stream.write_all(&bytes).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.log.done("bytes that are no TLS");
    Ok(())
}

/// Frames that break HTTP/2, behind a handshake that is right.
async fn malformed_frames(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    let way = round as usize % wire::WAYS.len();
    let is_closed = wire::break_protocol(&scene.server, way, rng).await?;
    scene.log.expect(is_closed, || format!("{} left the connection open", wire::WAYS[way]));
    scene.log.done(wire::WAYS[way]);
    Ok(())
}

/// Messages that break the contract.
async fn malformed_messages(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    let mut client = scene.server.shared_client(rng).ok_or("no connection")?;
    let mut document = texts::document(rng, scene.books.id());
    let mut options = v1::TagOptions::default();
    match round % 4 {
        0 => document.text = " ".to_owned(),
        1 => options.min_probability = Some(f32::NAN),
        2 => options.topics = vec!["no such topic".to_owned()],
        _ => document.text = "long ".repeat(300_000),
    }
    let mut open = scene.books.open(Kind::Attack, Method::Tag, false, 1);
    let answer = client.tag(v1::TagRequest { document: Some(document), options: Some(options) }).await;
    let code = answer.err().map_or(Code::Ok, |status| status.code());
    // The engine finds what is wrong with a document; what is wrong with options never gets there.
    open.failed = u64::from(code == Code::InvalidArgument && matches!(round % 4, 0 | 3));
    open.answered = u64::from(code == Code::Ok);
    open.end(code);
    let is_refused =
        matches!(code, Code::InvalidArgument | Code::ResourceExhausted | Code::Unavailable | Code::Cancelled);
    scene.log.expect(is_refused, || format!("a request that breaks the contract ended with {code:?}"));
    scene.log.done("malformed messages");
    Ok(())
}

/// Keys that are expired, unknown or not there.
async fn wrong_keys(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    let (key, expected) = match round % 3 {
        0 => (server::key("old"), "KEY_EXPIRED"),
        1 => (server::key("nobody"), "KEY_INVALID"),
        _ => (String::new(), "KEY_MISSING"),
    };
    let mut client = server::with_key(scene.server.connect().await?, &key);
    let request = v1::TagRequest { document: Some(texts::document(rng, scene.books.id())), options: None };
    let mut open = scene.books.open(Kind::Attack, Method::Tag, false, 1);
    let status = client.tag(request).await.err();
    let code = status.as_ref().map_or(Code::Ok, tonic::Status::code);
    open.answered = u64::from(code == Code::Ok);
    open.end(code);
    let reason = status.and_then(|status| status.get_details_error_info()).map(|info| info.reason).unwrap_or_default();
    let is_right = code == Code::Unauthenticated && reason == expected;
    scene.log.expect(is_right, || format!("a wrong key was answered with {code:?} {reason}, not {expected}"));
    scene.log.done("wrong keys");
    Ok(())
}

/// Connections that go away with calls open: closed in peace, or by RST.
async fn killed_connections(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    if round % 2 == 1 {
        wire::reset(&scene.server, &scene.books, rng).await?;
        scene.log.done("connections killed by RST");
        return Ok(());
    }
    let channel = scene.server.connect().await?;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let mut client = server::with_key(channel.clone(), &server::key("gamma"));
        let request = v1::TagRequest { document: Some(texts::document(rng, scene.books.id())), options: None };
        let mut open = scene.books.open(Kind::Attack, Method::Tag, false, 1);
        calls.spawn(async move {
            let code = client.tag(request).await.err().map_or(Code::Ok, |status| status.code());
            open.answered = u64::from(code == Code::Ok);
            open.end(code);
        });
    }
    tokio::time::sleep(Duration::from_millis(rng.u64(0..300))).await;
    calls.abort_all();
    drop(channel);
    scene.log.done("connections closed with calls open");
    Ok(())
}

/// Connections that say nothing.
async fn half_open(scene: &Scene, _: &mut Rng, _: u64) -> Result<(), Failure> {
    let stream = TcpStream::connect(scene.server.address).await?;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(stream);
    });
    scene.log.done("connections that say nothing");
    Ok(())
}

/// A reader that stops for long. The server must not keep its answers, and tells it so when it comes back.
async fn stopped_reader(scene: &Scene, rng: &mut Rng, _: u64) -> Result<(), Failure> {
    // Far more answers than lie in windows and buffers on the way: what fits there has been sent.
    const DOCUMENTS: usize = 400;
    let mut client = server::with_key(scene.server.connect_narrow().await?, &server::key("gamma"));
    let documents: Vec<_> = (0..DOCUMENTS).map(|_| texts::headline(rng, scene.books.id())).collect();
    let outbound = documents.into_iter().map(|it| v1::StreamTagRequest { message: Some(Message::Document(it)) });
    let mut open = scene.books.open(Kind::Attack, Method::StreamTag, false, DOCUMENTS);
    let mut results = match client.stream_tag(stream::iter(outbound)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            open.end(status.code());
            return Ok(());
        }
    };
    // Some time for the answers to be ready, then the server's patience.
    tokio::time::sleep(Duration::from_secs(STALL_SECONDS * 4)).await;
    let code = loop {
        match results.next().await {
            Some(Ok(response)) => match response.result.unwrap_or_default().outcome {
                Some(Outcome::Analysis(_)) => open.answered += 1,
                _ => open.failed += 1,
            },
            Some(Err(status)) => break status.code(),
            None => break Code::Ok,
        }
    };
    let is_whole = open.answered + open.failed == DOCUMENTS as u64;
    open.end(code);
    let told = match code {
        Code::Aborted => Some("stopped readers, given up"),
        // Full memory is a refusal, which is no less right.
        Code::ResourceExhausted => Some("stopped readers, refused"),
        // Its documents waited longer than it did.
        Code::Ok if is_whole => Some("stopped readers, answered later"),
        _ => None,
    };
    scene.log.expect(told.is_some(), || format!("a reader that had stopped was told {code:?}"));
    scene.log.done(told.unwrap_or("stopped readers, told something else"));
    Ok(())
}

/// A new certificate, and sometimes first one that cannot be used.
async fn new_certificate(scene: &Scene, _: &mut Rng, round: u64) -> Result<(), Failure> {
    if round % 3 == 2 {
        scene.server.replace("server.pem", "no certificate")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.log.expect(scene.server.connect().await.is_ok(), || "a bad certificate file closed the door".to_owned());
        scene.log.done("bad certificates");
    }
    scene.server.write_certificate()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.server.connect_anew().await?;
    scene.log.done("certificates changed");
    Ok(())
}

/// The keys in another order, and sometimes first a file that cannot be read.
async fn new_keys(scene: &Scene, rng: &mut Rng, round: u64) -> Result<(), Failure> {
    if round % 3 == 2 {
        scene.server.replace("keys.toml", "keys = 7")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut client = scene.server.client("alpha").await?;
        let answer = client.get_model_info(v1::GetModelInfoRequest {}).await;
        scene.log.expect(answer.is_ok(), || format!("a bad keys file locked everybody out: {answer:?}"));
        scene.log.done("bad keys files");
    }
    scene.server.write_keys(rng)?;
    scene.log.done("keys changed");
    Ok(())
}

/// Another model, by signal or by call, sometimes a damaged one.
async fn reload(scene: &Scene, _: &mut Rng, round: u64) -> Result<(), Failure> {
    let model = if round.is_multiple_of(2) { Model::Second } else { Model::First };
    if round % 3 == 2 {
        scene.server.place_model(Model::Damaged)?;
        let answer = scene.server.admin().await?.reload_model(ReloadModelRequest {}).await;
        scene.log.expect(answer.is_err(), || "a damaged model was taken".to_owned());
        scene.log.done("reloads of a damaged model");
    }
    scene.server.place_model(model)?;
    if round.is_multiple_of(3) {
        scene.server.signal("HUP")?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        scene.log.done("reloads by signal");
    } else {
        let answer = scene.server.admin().await?.reload_model(ReloadModelRequest {}).await;
        scene.log.expect(answer.is_ok(), || format!("a reload failed: {answer:?}"));
        scene.log.done("reloads by call");
    }
    let mut client = scene.server.client("alpha").await?;
    let version =
        client.get_model_info(v1::GetModelInfoRequest {}).await?.into_inner().model.unwrap_or_default().version;
    scene.log.expect(version.ends_with("-second") == (model == Model::Second), || {
        format!("after a reload the model is {version}")
    });
    Ok(())
}
