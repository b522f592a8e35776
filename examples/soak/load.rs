//! Clients: single calls at a steady rate, batches and streams behind it, some in a hurry, some that change their minds.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rasid::proto::v1::{self, document_result::Outcome, stream_tag_request::Message};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{Failure, books::Books, server::Server, texts};

/// A way to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Tag with ten seconds' time, again after a refusal as told.
    Single,
    /// BatchTag of up to fifty documents, a bad one among them now and then; again after a refusal as told.
    Batch,
    /// StreamTag of up to two hundred, in order or not, read fast or slowly.
    Stream,
    /// Tag with a deadline that often cannot be met.
    Hurried,
    /// Any of these, given up half-way.
    Fickle,
}

/// What the server can do, or what is to be asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Tokens a second.
    pub tokens: f64,
    /// Documents a second.
    pub documents: f64,
    /// Tokens a second in batches and streams.
    pub bulk: f64,
}

impl Rate {
    /// So many times as much: half of it in single calls.
    pub fn scaled(self, factor: f64) -> Self {
        let tokens = self.tokens * factor;
        Self { tokens: tokens * 0.5, documents: self.documents * factor * 0.5, bulk: tokens * 0.5 }
    }
}

/// Measures with calls that always wait.
pub async fn capacity(server: &Arc<Server>, span: Duration) -> Result<Rate, Failure> {
    let until = Instant::now() + span;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let mut client = server.client("alpha").await?;
        callers.spawn(async move {
            let (mut documents, mut tokens) = (0.0, 0.0);
            while Instant::now() < until {
                let batch: Vec<_> = (0..16).map(texts::document).collect();
                let size: f64 = batch.iter().map(texts::tokens).sum();
                let request = v1::BatchTagRequest { documents: batch, options: None };
                if client.batch_tag(request).await.is_ok() {
                    documents += 16.0;
                    tokens += size;
                }
            }
            (documents, tokens)
        });
    }
    let started = Instant::now();
    let all = callers.join_all().await;
    let seconds = started.elapsed().as_secs_f64();
    let (documents, tokens) = all.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Ok(Rate { tokens: tokens / seconds, documents: documents / seconds, bulk: 0.0 })
}

/// Calls at a rate until the time is up, then waits for what is open. Calls are begun by the clock, whether or not earlier ones
/// have come back; only their number is bounded, as it is for real clients.
pub async fn drive(server: &Arc<Server>, books: &Arc<Books>, rate: Rate, kinds: &[Kind], span: Duration) {
    const MOST_OPEN: usize = 3000;
    let until = Instant::now() + span;
    let mut open = JoinSet::new();
    let mut next_bulk = Instant::now();
    while Instant::now() < until {
        while open.try_join_next().is_some() {}
        let single = [Kind::Single, Kind::Hurried, Kind::Fickle].into_iter().filter(|kind| kinds.contains(kind));
        let kind = fastrand::choice(single.collect::<Vec<_>>()).unwrap_or(Kind::Single);
        if open.len() < MOST_OPEN {
            open.spawn(call(Arc::clone(server), Arc::clone(books), kind));
        }
        if rate.bulk > 0.0 && Instant::now() >= next_bulk && open.len() < MOST_OPEN {
            let bulk = [Kind::Batch, Kind::Stream].into_iter().filter(|kind| kinds.contains(kind));
            let kind = fastrand::choice(bulk.collect::<Vec<_>>()).unwrap_or(Kind::Batch);
            let documents = fastrand::usize(1..if kind == Kind::Batch { 50 } else { 200 });
            open.spawn(bulk_call(Arc::clone(server), Arc::clone(books), kind, documents));
            let tokens_each = rate.tokens / rate.documents.max(0.01);
            next_bulk += Duration::from_secs_f64(documents as f64 * tokens_each / rate.bulk);
        }
        // Poisson arrivals.
        let gap = -fastrand::f64().max(1e-9).ln() / rate.documents.max(0.01);
        tokio::time::sleep(Duration::from_secs_f64(gap.min(1.0))).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(180), async { while open.join_next().await.is_some() {} }).await;
}

async fn call(server: Arc<Server>, books: Arc<Books>, kind: Kind) {
    let Ok(mut client) = server.shared_client() else { return };
    let document = texts::document(books.id());
    let deadline = match kind {
        Kind::Hurried => Duration::from_millis(fastrand::u64(1..400)),
        _ => Duration::from_secs(10),
    };
    for attempt in 0..6 {
        let mut request = Request::new(v1::TagRequest { document: Some(document.clone()), options: None });
        request.set_timeout(deadline);
        books.offered.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let answer = if kind == Kind::Fickle {
            let patience = Duration::from_millis(fastrand::u64(0..600));
            match tokio::time::timeout(patience, client.tag(request)).await {
                Ok(answer) => answer,
                Err(_) => return books.code(kind, Code::Cancelled),
            }
        } else {
            client.tag(request).await
        };
        match answer {
            Ok(answer) => {
                books.answered.fetch_add(1, Ordering::Relaxed);
                books.took(kind, started.elapsed().as_secs_f64());
                if attempt > 0 {
                    books.honoured.fetch_add(1, Ordering::Relaxed);
                }
                if answer.into_inner().analysis.is_none() {
                    books.wrong("an answer without an analysis".to_owned());
                }
                return;
            }
            Err(status) => {
                books.code(kind, status.code());
                match refused(&books, &status) {
                    Some(delay) if kind == Kind::Single => tokio::time::sleep(delay).await,
                    _ => return,
                }
            }
        }
    }
}

/// The delay that a refusal asks for.
fn refused(books: &Books, status: &Status) -> Option<Duration> {
    if status.code() != Code::ResourceExhausted {
        return None;
    }
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let counter = if delay.is_some() { &books.advised } else { &books.unadvised };
    counter.fetch_add(1, Ordering::Relaxed);
    delay
}

async fn bulk_call(server: Arc<Server>, books: Arc<Books>, kind: Kind, count: usize) {
    let documents: Vec<v1::Document> = (0..count)
        .map(|_| if fastrand::u32(0..60) == 0 { texts::bad(books.id()) } else { texts::document(books.id()) })
        .collect();
    for attempt in 0..6 {
        let started = Instant::now();
        let ended = match kind {
            Kind::Batch => batch(&server, &books, documents.clone()).await,
            _ => streamed(&server, &books, documents.clone()).await,
        };
        let Err(status) = ended else {
            books.honoured.fetch_add(u64::from(attempt > 0), Ordering::Relaxed);
            return books.took(kind, started.elapsed().as_secs_f64());
        };
        books.code(kind, status.code());
        match refused(&books, &status) {
            Some(delay) if kind == Kind::Batch => tokio::time::sleep(delay).await,
            _ => return,
        }
    }
}

async fn batch(server: &Server, books: &Books, documents: Vec<v1::Document>) -> Result<(), Status> {
    let mut client = server.shared_client()?;
    let ids: Vec<String> = documents.iter().map(|document| document.id.clone()).collect();
    books.offered.fetch_add(ids.len() as u64, Ordering::Relaxed);
    let answer = client.batch_tag(v1::BatchTagRequest { documents, options: None }).await?.into_inner();
    if answer.results.len() != ids.len() {
        books.wrong(format!("{} results for {} documents", answer.results.len(), ids.len()));
    }
    for (id, result) in ids.iter().zip(&answer.results) {
        note(books, result, |found| found == id);
    }
    Ok(())
}

async fn streamed(server: &Server, books: &Books, documents: Vec<v1::Document>) -> Result<(), Status> {
    let mut client = server.own_client().await?;
    let unordered = fastrand::bool();
    let slow = fastrand::u32(0..4) == 0;
    let killed = (fastrand::u32(0..5) == 0).then(|| fastrand::usize(0..documents.len()));
    let mut waiting: Vec<String> = documents.iter().map(|document| document.id.clone()).collect();
    waiting.reverse();
    books.offered.fetch_add(waiting.len() as u64, Ordering::Relaxed);
    let config = v1::StreamConfig { unordered, ..v1::StreamConfig::default() };
    let config = v1::StreamTagRequest { message: Some(Message::Config(config)) };
    let documents = documents.into_iter().map(|d| v1::StreamTagRequest { message: Some(Message::Document(d)) });
    let outbound = stream::iter([config]).chain(stream::iter(documents));
    let mut results = client.stream_tag(outbound).await?.into_inner();
    let mut count = 0;
    while let Some(response) = results.next().await {
        let result = response?.result.unwrap_or_default();
        let place = if unordered {
            waiting.iter().position(|id| *id == result.id)
        } else {
            waiting.last().filter(|id| **id == result.id).map(|_| waiting.len() - 1)
        };
        match place {
            Some(place) => drop(waiting.remove(place)),
            None => books.wrong(format!("a stream answered document {} twice or out of turn", result.id)),
        }
        note(books, &result, |_| true);
        count += 1;
        if killed == Some(count) {
            return Err(Status::cancelled("the client went away"));
        }
        if slow {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..150))).await;
        }
    }
    if !waiting.is_empty() {
        books.wrong(format!("a stream ended well with {} documents unanswered", waiting.len()));
    }
    Ok(())
}

fn note(books: &Books, result: &v1::DocumentResult, is_its: impl Fn(&str) -> bool) {
    if !is_its(&result.id) {
        books.wrong(format!("document {} was answered in another's place", result.id));
    }
    match &result.outcome {
        Some(Outcome::Analysis(_)) => books.answered.fetch_add(1, Ordering::Relaxed),
        Some(Outcome::Error(error)) => {
            if error.code != Code::InvalidArgument as i32 {
                books.wrong(format!("document {} failed with code {}", result.id, error.code));
            }
            books.failed.fetch_add(1, Ordering::Relaxed)
        }
        None => {
            books.wrong(format!("document {} has neither analysis nor error", result.id));
            0
        }
    };
}
