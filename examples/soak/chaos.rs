//! Attacks and changes, one after the other, while the load goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rasid::proto::{admin::v1::ReloadModelRequest, v1};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use tonic::Code;

use super::{
    Failure,
    books::Books,
    server::{self, Model, Server},
    texts,
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
pub fn start(server: &Arc<Server>, books: &Arc<Books>) -> Attack {
    let stopped = Arc::new(AtomicBool::new(false));
    let log = Arc::new(Log::default());
    let mut tasks = JoinSet::new();
    macro_rules! every {
        ($seconds:expr, $attack:ident) => {{
            let (stopped, log, server) = (Arc::clone(&stopped), Arc::clone(&log), Arc::clone(server));
            let books = Arc::clone(books);
            tasks.spawn(async move {
                let mut round = 0;
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_secs_f64($seconds * (0.5 + fastrand::f64()))).await;
                    if let Err(error) = $attack(&server, &books, &log, round).await {
                        log.expect(false, || format!("{}: {error}", stringify!($attack)));
                    }
                    round += 1;
                }
            });
        }};
    }
    every!(2.0, malformed_frames);
    every!(2.0, malformed_messages);
    every!(1.0, wrong_keys);
    every!(3.0, killed_connections);
    every!(4.0, half_open);
    every!(45.0, new_certificate);
    every!(40.0, new_keys);
    every!(60.0, reload);
    Attack { stopped, log, tasks }
}

impl Attack {
    /// Ends them.
    pub async fn stop(mut self) -> Attacks {
        self.stopped.store(true, Ordering::Relaxed);
        let _ =
            tokio::time::timeout(Duration::from_secs(30), async { while self.tasks.join_next().await.is_some() {} })
                .await;
        Attacks(self.log)
    }
}

/// Bytes that are no TLS, and half a handshake.
async fn malformed_frames(server: &Server, _: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(server.address).await?;
    let bytes: Vec<u8> = match round % 3 {
        0 => (0..fastrand::usize(1..4096)).map(|_| fastrand::u8(..)).collect(),
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x09\x09".to_vec(),
        _ => vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
    };
    let _ = stream.write_all(&bytes).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    log.done("malformed frames");
    Ok(())
}

/// Messages that break the contract.
async fn malformed_messages(server: &Server, books: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    let mut client = server.shared_client()?;
    let mut document = texts::document(books.id());
    let mut options = v1::TagOptions::default();
    match round % 4 {
        0 => document.text = " ".to_owned(),
        1 => options.min_probability = Some(f32::NAN),
        2 => options.topics = vec!["no such topic".to_owned()],
        _ => document.text = "long ".repeat(300_000),
    }
    let answer = client.tag(v1::TagRequest { document: Some(document), options: Some(options) }).await;
    let code = answer.err().map(|status| status.code());
    let refused =
        matches!(code, Some(Code::InvalidArgument | Code::ResourceExhausted | Code::Unavailable | Code::Cancelled));
    log.expect(refused, || format!("a request that breaks the contract ended with {code:?}"));
    log.done("malformed messages");
    Ok(())
}

/// Keys that are expired, unknown or not there.
async fn wrong_keys(server: &Server, books: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    let key = match round % 3 {
        0 => server::key("old"),
        1 => server::key("nobody"),
        _ => String::new(),
    };
    let mut client = server::with_key(server.connect().await?, &key);
    let request = v1::TagRequest { document: Some(texts::document(books.id())), options: None };
    let code = client.tag(request).await.err().map(|status| status.code());
    log.expect(code == Some(Code::Unauthenticated), || format!("a wrong key was answered with {code:?}"));
    log.done("wrong keys");
    Ok(())
}

/// Connections that go away with calls open.
async fn killed_connections(server: &Server, books: &Books, log: &Log, _: u64) -> Result<(), Failure> {
    let channel = server.connect().await?;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let mut client = server::with_key(channel.clone(), &server::key("gamma"));
        let request = v1::TagRequest { document: Some(texts::document(books.id())), options: None };
        calls.spawn(async move { drop(client.tag(request).await) });
    }
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
    calls.abort_all();
    drop(channel);
    log.done("killed connections");
    Ok(())
}

/// Connections that say nothing.
async fn half_open(server: &Server, _: &Books, log: &Log, _: u64) -> Result<(), Failure> {
    let stream = TcpStream::connect(server.address).await?;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(stream);
    });
    log.done("connections that say nothing");
    Ok(())
}

/// A new certificate, and sometimes first one that cannot be used.
async fn new_certificate(server: &Server, _: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    if round % 3 == 2 {
        server.replace("server.pem", "no certificate")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        log.expect(server.connect().await.is_ok(), || "a bad certificate file closed the door".to_owned());
        log.done("bad certificates");
    }
    server.write_certificate()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.connect_anew().await?;
    log.done("certificates changed");
    Ok(())
}

/// The keys in another order, and sometimes first a file that cannot be read.
async fn new_keys(server: &Server, _: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    if round % 3 == 2 {
        server.replace("keys.toml", "keys = 7")?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut client = server.client("alpha").await?;
        let answer = client.get_model_info(v1::GetModelInfoRequest {}).await;
        log.expect(answer.is_ok(), || format!("a bad keys file locked everybody out: {answer:?}"));
        log.done("bad keys files");
    }
    server.write_keys()?;
    log.done("keys changed");
    Ok(())
}

/// Another model, by signal or by call, sometimes a damaged one.
async fn reload(server: &Server, _: &Books, log: &Log, round: u64) -> Result<(), Failure> {
    let model = if round.is_multiple_of(2) { Model::Second } else { Model::First };
    if round % 3 == 2 {
        server.place_model(Model::Damaged)?;
        let answer = server.admin().await?.reload_model(ReloadModelRequest {}).await;
        log.expect(answer.is_err(), || "a damaged model was taken".to_owned());
        log.done("reloads of a damaged model");
    }
    server.place_model(model)?;
    if round.is_multiple_of(3) {
        server.signal("HUP")?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        log.done("reloads by signal");
    } else {
        let answer = server.admin().await?.reload_model(ReloadModelRequest {}).await;
        log.expect(answer.is_ok(), || format!("a reload failed: {answer:?}"));
        log.done("reloads by call");
    }
    let mut client = server.client("alpha").await?;
    let version =
        client.get_model_info(v1::GetModelInfoRequest {}).await?.into_inner().model.unwrap_or_default().version;
    log.expect(version.ends_with("-second") == (model == Model::Second), || {
        format!("after a reload the model is {version}")
    });
    Ok(())
}
