//! How much is asked of the server, and when: calls are begun by the clock, whether or not earlier ones have come back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fastrand::Rng;
use rasid::proto::v1;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Failure,
    books::{Books, Kind, Method},
    calls::{self, Caller},
    server::Server,
    texts,
};

/// What the server can do.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Tokens a second.
    pub tokens: f64,
    /// Documents a second.
    pub documents: f64,
}

/// What is to be asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Documents a second in single calls.
    pub singles: f64,
    /// Documents a second in batches and streams.
    pub bulk: f64,
    /// Whether clients are in a hurry, give up, go away.
    pub is_hostile: bool,
}

impl Capacity {
    /// So many times as much in single calls, and in batches and streams.
    pub fn times(self, singles: f64, bulk: f64) -> Load {
        Load { singles: self.documents * singles, bulk: self.documents * bulk, is_hostile: false }
    }
}

/// Measures with calls that always wait.
pub async fn capacity(server: &Arc<Server>, rng: &mut Rng, span: Duration) -> Result<Capacity, Failure> {
    let until = Instant::now() + span;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (mut client, mut rng) = (server.client("alpha").await?, rng.fork());
        callers.spawn(async move {
            let (mut documents, mut tokens) = (0.0, 0.0);
            while Instant::now() < until {
                let batch: Vec<_> = (0..16).map(|id| texts::document(&mut rng, id)).collect();
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
    Ok(Capacity { tokens: tokens / seconds, documents: documents / seconds })
}

/// Calls until the time is up, then waits for what is open.
pub async fn drive(server: &Arc<Server>, books: &Arc<Books>, load: Load, rng: &mut Rng, span: Duration) {
    let until = Instant::now() + span;
    let caller =
        |rng| Caller { server: Arc::clone(server), books: Arc::clone(books), rng, is_hostile: load.is_hostile };
    let (singles, bulk) = (caller(rng.fork()), caller(rng.fork()));
    tokio::join!(drive_singles(singles, load.singles, until), drive_bulk(bulk, load.bulk, until));
}

/// Single calls, as independent callers send them: Poisson arrivals.
async fn drive_singles(mut caller: Caller, rate: f64, until: Instant) {
    const MOST_OPEN: usize = 3000;
    let mut open = JoinSet::new();
    let mut next = Instant::now();
    while next < until {
        tokio::time::sleep_until(next).await;
        next += Duration::from_secs_f64(-caller.rng.f64().max(1e-9).ln() / rate.max(0.01));
        while open.try_join_next().is_some() {}
        let kinds = [Kind::Single, Kind::Hurried, Kind::Fickle];
        let kind = if caller.is_hostile { caller.rng.choice(kinds) } else { None };
        let call = calls::single(caller.fork(), kind.unwrap_or(Kind::Single));
        begin(&mut open, MOST_OPEN, &caller, call);
    }
    finish(open, &caller.books).await;
}

/// Batches and streams, one begun when the documents of the last would have been sent at the rate.
async fn drive_bulk(mut caller: Caller, rate: f64, until: Instant) {
    const MOST_BATCHES: usize = 1000;
    /// Streams wait for room, where batches are refused: more would only make the end of the run wait.
    const MOST_STREAMS: usize = 40;
    let (mut batches, mut streams) = (JoinSet::new(), JoinSet::new());
    let mut next = Instant::now();
    while rate > 0.0 && next < until {
        tokio::time::sleep_until(next).await;
        while batches.try_join_next().is_some() {}
        while streams.try_join_next().is_some() {}
        let is_fickle = caller.is_hostile && caller.rng.u32(0..5) == 0;
        let documents = if caller.rng.bool() && streams.len() < MOST_STREAMS {
            let documents = caller.rng.usize(1..200);
            let kind = if is_fickle { Kind::Fickle } else { Kind::Stream };
            let call = calls::bulk(caller.fork(), kind, Method::StreamTag, documents);
            begin(&mut streams, MOST_STREAMS, &caller, call);
            documents
        } else {
            let documents = caller.rng.usize(1..50);
            let kind = if is_fickle { Kind::Fickle } else { Kind::Batch };
            let call = calls::bulk(caller.fork(), kind, Method::BatchTag, documents);
            begin(&mut batches, MOST_BATCHES, &caller, call);
            documents
        };
        next += Duration::from_secs_f64(documents as f64 / rate);
    }
    tokio::join!(finish(batches, &caller.books), finish(streams, &caller.books));
}

/// Begins a call unless too many are open: real clients, too, have only so many.
fn begin(open: &mut JoinSet<()>, most: usize, caller: &Caller, call: impl Future<Output = ()> + Send + 'static) {
    if open.len() < most {
        open.spawn(call);
    } else {
        caller.books.held_back.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for what is open, as long as that can take.
async fn finish(mut open: JoinSet<()>, books: &Books) {
    const MOST: Duration = Duration::from_secs(420);
    let _ = tokio::time::timeout(MOST, async { while open.join_next().await.is_some() {} }).await;
    books.left_open.fetch_add(open.len() as u64, Ordering::Relaxed);
}
