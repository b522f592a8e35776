//! StreamTag: documents in, results out, never more in flight than the bound.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::{call::Call, response, shared::Shared, status::CallError};
use crate::{
    engine::{EngineError, Ticket},
    proto::v1::{self, stream_tag_request::Message},
};

/// The results of a stream.
pub type TagStream = Pin<Box<dyn Stream<Item = Result<v1::StreamTagResponse, Status>> + Send>>;

/// Answers a stream of documents. Polled by the transport only as far as the client takes results, it reads on only then.
pub fn tag_stream(shared: Arc<Shared>, inbound: Streaming<v1::StreamTagRequest>, ticket: Ticket) -> TagStream {
    let deadline = ticket.deadline;
    let expired = async move {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let too_late = move || async move {
        let is_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let source = EngineError::DeadlineExceeded;
        is_late.then(|| Err(Status::from(CallError::Engine { path: "stream".to_owned(), source })))
    };
    let results = open(shared, inbound, ticket).into_stream().try_flatten();
    // The end of the stream is looked at when it is reached, not when it is built.
    let end = stream::once(async {}).filter_map(move |()| too_late());
    results.take_until(expired).chain(end).boxed()
}

/// Reads the first message, which may hold the configuration, and starts on the documents.
async fn open(
    shared: Arc<Shared>,
    mut inbound: Streaming<v1::StreamTagRequest>,
    ticket: Ticket,
) -> Result<TagStream, Status> {
    let draining = shared.draining.clone();
    let first = tokio::select! {
        first = inbound.message() => first?,
        () = draining.cancelled() => return Err(CallError::Draining.into()),
    };
    let (config, first) = match first.and_then(|request| request.message) {
        Some(Message::Config(config)) => (config, None),
        Some(Message::Document(document)) => (v1::StreamConfig::default(), Some(document)),
        None => (v1::StreamConfig::default(), None),
    };
    let in_flight = in_flight(&config, shared.max_in_flight)?;
    let call = Call::new(shared.engine()?, config.options, ticket)?;

    let half_closed = Arc::new(AtomicBool::new(false));
    let later = documents(inbound, Arc::clone(&half_closed)).take_until(draining.clone().cancelled_owned());
    let work = stream::iter(first.map(Ok)).chain(later).enumerate().map({
        let shared = Arc::clone(&shared);
        move |(index, document)| tag(Arc::clone(&shared), call.clone(), index, document)
    });
    let results =
        if config.unordered { work.buffer_unordered(in_flight).boxed() } else { work.buffered(in_flight).boxed() };
    // A client that still had documents to send must learn that they were not read.
    let cut_off = stream::once(async {}).filter_map(move |()| {
        let cut = draining.is_cancelled() && !half_closed.load(Ordering::Acquire);
        std::future::ready(cut.then(|| Err(CallError::Draining.into())))
    });
    Ok(results.chain(cut_off).boxed())
}

fn in_flight(config: &v1::StreamConfig, limit: usize) -> Result<usize, CallError> {
    match config.max_in_flight as usize {
        0 => Ok(limit),
        wanted if wanted <= limit => Ok(wanted),
        wanted => Err(CallError::Field {
            field: "config.max_in_flight".to_owned(),
            problem: format!("is {wanted}, at most {limit} are allowed"),
        }),
    }
}

/// The documents behind the first message; notes when the client has sent the last.
fn documents(
    inbound: Streaming<v1::StreamTagRequest>,
    half_closed: Arc<AtomicBool>,
) -> impl Stream<Item = Result<v1::Document, Status>> + Send {
    let document = |request: v1::StreamTagRequest| match request.message {
        Some(Message::Document(document)) => Ok(document),
        Some(Message::Config(_)) => Err(Status::from(CallError::Field {
            field: "config".to_owned(),
            problem: "may only be in the first message of a stream".to_owned(),
        })),
        None => Err(Status::from(CallError::Field { field: "document".to_owned(), problem: "is required".to_owned() })),
    };
    let end = stream::once(async move { half_closed.store(true, Ordering::Release) }).filter_map(|()| async { None });
    inbound.and_then(move |request| std::future::ready(document(request))).chain(end)
}

async fn tag(
    shared: Arc<Shared>,
    call: Call,
    index: usize,
    document: Result<v1::Document, Status>,
) -> Result<v1::StreamTagResponse, Status> {
    // Documents read before a shutdown are answered.
    let engine = shared.engine.get().ok_or(CallError::Loading)?;
    let (mut result, timings) = call.tag_item(engine, document?, index).await?;
    result.model = Some(response::model_descriptor(engine.tagger().manifest()));
    Ok(v1::StreamTagResponse { result: Some(result), timings: Some(response::timings(timings)) })
}
