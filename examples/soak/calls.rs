//! Clients: single calls, batches and streams; some in a hurry, some slow, some that change their minds or go away.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, document_result::Outcome, stream_tag_request::Message};
use tonic::{Code, Request, Status, codec::CompressionEncoding};
use tonic_types::StatusExt;

use super::{
    books::{Books, Kind, Method, Open},
    server::{Client, STEADY, Server, key, with_key},
    texts,
};

/// Calls after a refusal, the first among them.
const ATTEMPTS: usize = 6;

/// Who calls: everything random about it comes from its own generator.
pub struct Caller {
    /// Whom.
    pub server: Arc<Server>,
    /// Where it is entered.
    pub books: Arc<Books>,
    /// Its dice.
    pub rng: Rng,
    /// Whether clients are in a hurry, give up, go away.
    pub is_hostile: bool,
}

impl Caller {
    /// Another one, which throws its own dice.
    pub fn fork(&mut self) -> Self {
        let (server, books) = (Arc::clone(&self.server), Arc::clone(&self.books));
        Self { server, books, rng: self.rng.fork(), is_hostile: self.is_hostile }
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.rng.u32(0..many) == 0
    }

    fn seconds(&mut self, most: f64) -> Duration {
        Duration::from_secs_f64(self.rng.f64() * most)
    }

    /// Whether a call is one of the steady clients', who never give up.
    fn is_steady(&mut self, kind: Kind) -> bool {
        self.is_hostile && kind != Kind::Hurried && kind != Kind::Fickle && self.one_in(4)
    }

    fn client(&mut self, is_steady: bool) -> Option<Client> {
        let client = if is_steady { self.server.steady_client() } else { self.server.shared_client(&mut self.rng) };
        self.connected(client)
    }

    /// A client over a connection of its own.
    async fn own_client(&mut self, is_steady: bool) -> Option<Client> {
        let name = self.server.any_key(&mut self.rng);
        let channel = self.server.connect().await.ok();
        let client = channel.map(|channel| with_key(channel, &key(if is_steady { STEADY } else { name })));
        self.connected(client)
    }

    /// Half of the clients compress their messages.
    fn connected(&mut self, client: Option<Client>) -> Option<Client> {
        self.books.unconnected.fetch_add(u64::from(client.is_none()), Ordering::Relaxed);
        let encoding = [None, None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)];
        match self.rng.choice(encoding).flatten() {
            Some(encoding) => client.map(|client| client.send_compressed(encoding).accept_compressed(encoding)),
            None => client,
        }
    }

    /// The delay that a refusal asks for.
    fn refused(&self, status: &Status) -> Option<Duration> {
        if status.code() != Code::ResourceExhausted {
            return None;
        }
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let counter = if delay.is_some() { &self.books.advised } else { &self.books.unadvised };
        counter.fetch_add(1, Ordering::Relaxed);
        delay
    }

    fn honoured(&self, attempt: usize) {
        self.books.honoured.fetch_add(u64::from(attempt > 0), Ordering::Relaxed);
    }
}

/// A Tag, again after a refusal as told; a fickle one only for a while.
pub async fn single(mut caller: Caller, kind: Kind) {
    let patience = caller.seconds(0.6);
    if kind == Kind::Fickle {
        let _ = tokio::time::timeout(patience, tag(caller, kind)).await;
    } else {
        tag(caller, kind).await;
    }
}

async fn tag(mut caller: Caller, kind: Kind) {
    let id = caller.books.id();
    let document = texts::document(&mut caller.rng, id);
    let is_steady = caller.is_steady(kind);
    let deadline = match kind {
        Kind::Hurried => Duration::from_millis(caller.rng.u64(1..400)),
        _ => Duration::from_secs(10),
    };
    for attempt in 0..ATTEMPTS {
        let Some(mut client) = caller.client(is_steady) else { return };
        let mut request = Request::new(v1::TagRequest { document: Some(document.clone()), options: None });
        if !is_steady {
            request.set_timeout(deadline);
        }
        let mut open = caller.books.open(kind, Method::Tag, is_steady, 1);
        match client.tag(request).await {
            Ok(answer) => {
                open.answered += 1;
                open.end(Code::Ok);
                if answer.into_inner().analysis.is_none() {
                    caller.books.wrong("an answer without an analysis".to_owned());
                }
                return caller.honoured(attempt);
            }
            Err(status) => {
                open.end(status.code());
                match caller.refused(&status) {
                    Some(delay) if kind == Kind::Single => tokio::time::sleep(delay).await,
                    _ => return,
                }
            }
        }
    }
}

/// A BatchTag or a StreamTag of so many documents; a batch again after a refusal as told; a fickle one only for a while.
pub async fn bulk(mut caller: Caller, kind: Kind, method: Method, documents: usize) {
    let patience = caller.seconds(8.0);
    if kind == Kind::Fickle {
        let _ = tokio::time::timeout(patience, attempts(caller, kind, method, documents)).await;
    } else {
        attempts(caller, kind, method, documents).await;
    }
}

/// A document, and whether it has no analysis.
type Sent = (v1::Document, bool);

async fn attempts(mut caller: Caller, kind: Kind, method: Method, count: usize) {
    let mut documents: Vec<Sent> = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, is_bad) = (caller.books.id(), caller.one_in(60));
        documents.push((if is_bad { texts::bad(id) } else { texts::document(&mut caller.rng, id) }, is_bad));
    }
    let is_steady = caller.is_steady(kind);
    for attempt in 0..ATTEMPTS {
        let ended = match method {
            Method::StreamTag => streamed(&mut caller, kind, is_steady, documents.clone()).await,
            _ => batch(&mut caller, kind, is_steady, documents.clone()).await,
        };
        match ended {
            None => return,
            Some(Ok(())) => return caller.honoured(attempt),
            Some(Err(status)) => match caller.refused(&status) {
                Some(delay) if kind == Kind::Batch => tokio::time::sleep(delay).await,
                _ => return,
            },
        }
    }
}

/// How a call ended, as the server said; none if it was not begun or was given up.
type Ended = Option<Result<(), Status>>;

/// A request that at times has a deadline, if its caller may give up at all.
fn at_times_with_deadline<T>(caller: &mut Caller, is_steady: bool, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if caller.is_hostile && !is_steady && caller.one_in(4) {
        request.set_timeout(Duration::from_secs(1) + caller.seconds(30.0));
    }
    request
}

fn end(open: Open, ended: Result<(), Status>) -> Ended {
    open.end(ended.as_ref().err().map_or(Code::Ok, Status::code));
    Some(ended)
}

async fn batch(caller: &mut Caller, kind: Kind, is_steady: bool, sent: Vec<Sent>) -> Ended {
    let mut client = caller.client(is_steady)?;
    let mut open = caller.books.open(kind, Method::BatchTag, is_steady, sent.len());
    let expected: Vec<(String, bool)> = sent.iter().map(|(document, is_bad)| (document.id.clone(), *is_bad)).collect();
    let documents = sent.into_iter().map(|(document, _)| document).collect();
    let request = at_times_with_deadline(caller, is_steady, v1::BatchTagRequest { documents, options: None });
    let results = match client.batch_tag(request).await {
        Ok(answer) => answer.into_inner().results,
        Err(status) => return end(open, Err(status)),
    };
    if results.len() != expected.len() {
        caller.books.wrong(format!("{} results for {} documents", results.len(), expected.len()));
    }
    for ((id, is_bad), result) in expected.iter().zip(&results) {
        if *id != result.id {
            caller.books.wrong(format!("document {} was answered in another's place", result.id));
        }
        note(&caller.books, &mut open, result, *is_bad);
    }
    end(open, Ok(()))
}

async fn streamed(caller: &mut Caller, kind: Kind, is_steady: bool, sent: Vec<Sent>) -> Ended {
    let mut client = caller.own_client(is_steady).await?;
    let (unordered, is_slow) = (caller.rng.bool(), caller.is_hostile && caller.one_in(4));
    let goes_away = caller.is_hostile && !is_steady && caller.one_in(5);
    let leaves_after = goes_away.then(|| caller.rng.usize(0..sent.len()));
    let mut open = caller.books.open(kind, Method::StreamTag, is_steady, sent.len());
    let mut waiting: Vec<(String, bool)> = sent.iter().rev().map(|(it, is_bad)| (it.id.clone(), *is_bad)).collect();
    let request = at_times_with_deadline(caller, is_steady, outbound(unordered, sent));
    let mut results = match client.stream_tag(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return end(open, Err(status)),
    };
    let mut count = 0;
    while let Some(response) = results.next().await {
        let result = match response {
            Ok(response) => response.result.unwrap_or_default(),
            Err(status) => return end(open, Err(status)),
        };
        match place(&waiting, &result.id, unordered) {
            Some(place) => note(&caller.books, &mut open, &result, waiting.remove(place).1),
            None => caller.books.wrong(format!("a stream answered document {} twice or out of turn", result.id)),
        }
        count += 1;
        // The connection goes with the client.
        if leaves_after.is_some_and(|most| count > most) {
            return None;
        }
        if is_slow {
            tokio::time::sleep(caller.seconds(0.15)).await;
        }
    }
    if !waiting.is_empty() {
        caller.books.wrong(format!("a stream ended well with {} documents unanswered", waiting.len()));
    }
    end(open, Ok(()))
}

/// The messages of a stream.
fn outbound(unordered: bool, sent: Vec<Sent>) -> impl futures_util::Stream<Item = v1::StreamTagRequest> + Send + use<> {
    let config = v1::StreamConfig { unordered, ..v1::StreamConfig::default() };
    let config = v1::StreamTagRequest { message: Some(Message::Config(config)) };
    let documents = sent.into_iter().map(|(it, _)| v1::StreamTagRequest { message: Some(Message::Document(it)) });
    stream::iter([config]).chain(stream::iter(documents))
}

/// Where a document waits, the next one last.
fn place(waiting: &[(String, bool)], id: &str, unordered: bool) -> Option<usize> {
    if unordered {
        waiting.iter().position(|(waiting, _)| waiting == id)
    } else {
        waiting.last().filter(|(waiting, _)| waiting == id).map(|_| waiting.len() - 1)
    }
}

/// Enters a result; only a bad document may fail, and it must.
fn note(books: &Books, open: &mut Open, result: &v1::DocumentResult, is_bad: bool) {
    let id = &result.id;
    match &result.outcome {
        Some(Outcome::Analysis(_)) => {
            open.answered += 1;
            if is_bad {
                books.wrong(format!("document {id} has an analysis, and nothing in it"));
            }
        }
        Some(Outcome::Error(error)) => {
            open.failed += 1;
            if !is_bad || error.code != Code::InvalidArgument as i32 {
                books.wrong(format!("document {id} failed with code {}", error.code));
            }
        }
        None => books.wrong(format!("document {id} has neither analysis nor error")),
    }
}
