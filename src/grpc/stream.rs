//! StreamTag: documents in, results out, never more in flight than the bound.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    call::{Call, Model, document_bytes, item_path},
    idle::Activity,
    limits::Allowance,
    observe::{self, note_document},
    response,
    shared::Shared,
    status::CallError,
};
use crate::{
    engine::{Engine, EngineError, Held, Ticket},
    proto::v1::{self, stream_tag_request::Message},
    tagger::Plan,
};

/// Bytes that an open stream holds: as much may lie in its window, and in the message that is being looked at.
const STREAM_BYTES: usize = 64 << 10;

/// Most bytes of documents of one stream, and of what their results will probably take: it reads on only below that. A single document may
/// be larger.
const MAX_STREAM_BYTES: usize = 4 << 20;

/// The results of a stream.
pub type TagStream = Pin<Box<dyn Stream<Item = Result<v1::StreamTagResponse, Status>> + Send>>;

/// Answers a stream of documents. Polled by the transport only as far as the client takes results, it reads on only then.
pub fn tag_stream(
    shared: Arc<Shared>,
    inbound: Streaming<v1::StreamTagRequest>,
    ticket: Ticket,
    allowance: Allowance,
) -> TagStream {
    let deadline = ticket.deadline;
    let expired = async move {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let activity = Activity::new(shared.stream_idle);
    let silence = activity.clone().silence();
    let ended = async {
        tokio::select! {
            () = expired => {}
            () = silence => {}
        }
    };
    let results = open(shared, inbound, ticket, allowance, activity.clone()).into_stream().try_flatten();
    let why = move || {
        let is_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let path = "stream".to_owned();
        if is_late {
            Some(CallError::Engine { path, source: EngineError::DeadlineExceeded })
        } else {
            activity.has_ended().then(|| CallError::StreamIdle { limit: activity.limit() })
        }
    };
    // The end of the stream is looked at when it is reached, not when it is built.
    let end = stream::once(async {}).filter_map(move |()| std::future::ready(why().map(|error| Err(error.into()))));
    results.take_until(ended).chain(end).boxed()
}

/// Reads the first message, which may hold the configuration, and starts on the documents.
async fn open(
    shared: Arc<Shared>,
    mut inbound: Streaming<v1::StreamTagRequest>,
    ticket: Ticket,
    allowance: Allowance,
    activity: Activity,
) -> Result<TagStream, Status> {
    let draining = shared.draining.clone();
    let held = shared.hold(&ticket.tenant, STREAM_BYTES, "stream")?;
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
    let session = Session::new(shared, config.options, ticket, held, allowance, activity.clone())?;
    let session = Arc::new(session);

    let half_closed = Arc::new(AtomicBool::new(false));
    let later = documents(inbound, Arc::clone(&half_closed)).take_until(draining.clone().cancelled_owned());
    let arrived = stream::iter(first.map(Ok)).chain(later).enumerate().then({
        let session = Arc::clone(&session);
        move |(index, document)| Arc::clone(&session).take_in(index, document)
    });
    // Of its own: whoever does not take results must not keep the room in the queue that his documents are given meanwhile.
    let work = arrived.map(move |item| observe::spawn(Arc::clone(&session).tag(item)));
    let results =
        if config.unordered { work.buffer_unordered(in_flight).boxed() } else { work.buffered(in_flight).boxed() };
    let results = results.map_ok(|(response, _)| response);
    let results = results.inspect(move |_| activity.end());
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

/// What the documents of a stream share.
struct Session {
    shared: Arc<Shared>,
    call: Call,
    /// The options as they were checked against a model last. The model is not kept: it may be replaced while the stream is open.
    planned: Mutex<(Weak<Engine>, Arc<Plan>)>,
    room: Arc<Semaphore>,
    allowance: Allowance,
    activity: Activity,
    _held: Held,
}

/// A document with all that it holds.
struct Item {
    index: usize,
    document: v1::Document,
    held: Held,
    room: OwnedSemaphorePermit,
}

impl Session {
    fn new(
        shared: Arc<Shared>,
        options: Option<v1::TagOptions>,
        ticket: Ticket,
        held: Held,
        allowance: Allowance,
        activity: Activity,
    ) -> Result<Self, CallError> {
        let engine = shared.engine()?;
        let call = Call::new(options, ticket)?;
        let planned = Mutex::new((Arc::downgrade(&engine), call.plan(&engine)?));
        let room = Arc::new(Semaphore::new(MAX_STREAM_BYTES));
        Ok(Self { shared, call, planned, room, allowance, activity, _held: held })
    }

    /// The current model, and the options checked against it.
    fn model(&self) -> Result<Model, CallError> {
        // Documents read before a shutdown are answered.
        let engine = self.shared.host.current().ok_or(CallError::Loading)?;
        let mut planned = self.planned.lock();
        if !std::ptr::eq(planned.0.as_ptr(), Arc::as_ptr(&engine)) {
            *planned = (Arc::downgrade(&engine), self.call.plan(&engine)?);
        }
        Ok((engine, Arc::clone(&planned.1)))
    }

    /// Holds a document's bytes, and waits until the stream has room for it and the key allows it. Meanwhile nothing is read, so that the
    /// flow control of HTTP/2 slows the client down.
    async fn take_in(self: Arc<Self>, index: usize, document: Result<v1::Document, Status>) -> Result<Item, Status> {
        self.activity.begin();
        let document = document?;
        let bytes = document_bytes(&document);
        let held = self.shared.hold(&self.call.ticket.tenant, bytes, &item_path(index))?;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.min(MAX_STREAM_BYTES) as u32).await;
        // Nobody closes it.
        let room = room.map_err(|_| CallError::Draining)?;
        self.allowance.wait().await?;
        Ok(Item { index, document, held, room })
    }

    /// What a document holds is given back when its result is taken.
    async fn tag(self: Arc<Self>, item: Result<Item, Status>) -> Result<(v1::StreamTagResponse, Holds), Status> {
        let Item { index, document, mut held, room } = item?;
        let document = document.into();
        let place = self.call.admit(&self.shared.host, &document, &item_path(index)).await?;
        let model = match self.model() {
            Ok(model) => model,
            Err(error) => {
                note_document(None);
                place.fail();
                return Err(error.into());
            }
        };
        let descriptor = response::model_descriptor(model.0.tagger().manifest());
        let (mut result, timings) = self.call.tag_item(model, document, index, place, &mut held).await?;
        result.model = Some(descriptor);
        let response = v1::StreamTagResponse { result: Some(result), timings: Some(response::timings(timings)) };
        Ok((response, Holds { _held: held, _room: room }))
    }
}

/// Kept by a result until it is taken.
struct Holds {
    _held: Held,
    _room: OwnedSemaphorePermit,
}
