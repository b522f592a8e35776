//! Messages on the wire take memory, too: one is held room for before it is read, an answer until it is sent.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::{status::CallError, upload::is_stream};
use crate::engine::{Held, Memory, Tenant};

/// Messages up to this length need no room of their own in a stream of many, which holds as much while it is open.
const SMALL: usize = 64 << 10;

/// Answers go out in pieces of this length (a frame's), so that what is not sent yet is not out of our hands.
const PIECE: usize = 16 << 10;

/// The compression flag and the length before each message.
pub(super) const PREFIX: usize = 5;

/// Room for bytes of a request.
pub(super) fn room(memory: &Memory, tenant: &Tenant, bytes: usize) -> Result<Held, Status> {
    let held = memory.hold(tenant, bytes);
    held.map_err(|source| CallError::Engine { path: "request".to_owned(), source }.into())
}

/// A request that is said to have ended, but within a message. tonic would take it for a fault of ours.
pub(super) fn cut_off() -> Status {
    Status::invalid_argument("the request ends within a message")
}

/// Puts [`Hold`] around a service.
#[derive(Debug, Clone)]
pub struct HoldLayer {
    memory: Memory,
    limit: usize,
}

impl HoldLayer {
    /// Room comes from `memory`; messages above `limit` bytes are refused elsewhere.
    pub fn new(memory: Memory, limit: usize) -> Self {
        Self { memory, limit }
    }
}

impl<S> Layer<S> for HoldLayer {
    type Service = Hold<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Hold { inner, layer: self.clone() }
    }
}

/// A service whose messages are held room for.
#[derive(Debug, Clone)]
pub struct Hold<S> {
    inner: S,
    layer: HoldLayer,
}

impl<S> Service<Request<Body>> for Hold<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let tenant = request.extensions().get::<Tenant>().cloned().unwrap_or_default();
        let reader = Reader::of(request.uri().path());
        let HoldLayer { memory, limit } = self.layer.clone();
        let message = Message::default();
        let request =
            request.map(|inner| Body::new(Incoming { inner, memory, limit, tenant, reader, message, held: None }));
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            let held = response.extensions_mut().remove::<Arc<Held>>();
            Ok(response.map(|inner| Body::new(Outgoing { inner, rest: Bytes::new(), _held: held })))
        })
    }
}

/// Who takes a request's messages, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Each as it comes, through a buffer of its own.
    Stream,
    /// The request as a whole, once it has ended: until then it lies here, however small, and however long its end is in coming.
    Call,
    /// Health and reflection, whose messages are tiny; health must answer when the memory is full.
    Other,
}

impl Reader {
    fn of(path: &str) -> Self {
        if is_stream(path) {
            Self::Stream
        } else if path.starts_with("/rasid.") {
            Self::Call
        } else {
            Self::Other
        }
    }
}

/// A request's messages on their way in.
struct Incoming {
    inner: Body,
    memory: Memory,
    limit: usize,
    tenant: Tenant,
    reader: Reader,
    message: Message,
    /// For what is being read, if it is not small.
    held: Option<Held>,
}

impl Incoming {
    /// Takes room for a message as soon as its length is known.
    fn follow(&mut self, step: Step) -> Result<(), Status> {
        let length = match self.reader {
            // Refused elsewhere.
            _ if step.longest > self.limit => 0,
            Reader::Call => step.began,
            // The reader's buffer grows to the longest message and stays so.
            Reader::Stream if step.longest > SMALL => {
                step.longest.saturating_sub(self.held.as_ref().map_or(0, Held::bytes))
            }
            Reader::Stream | Reader::Other => 0,
        };
        if length == 0 {
            return Ok(());
        }
        let held = room(&self.memory, &self.tenant, length)?;
        match &mut self.held {
            Some(before) => before.absorb(held),
            None => self.held = Some(held),
        }
        Ok(())
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let step = this.message.advance(data);
            this.follow(step)?;
        }
        if frame.is_none() && this.message != Message::default() {
            return Poll::Ready(Some(Err(cut_off())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Its length is still to come, or a part of it.
    Prefix { bytes: [u8; PREFIX], have: usize },
    /// Its length is known.
    Content { length: usize, missing: usize },
}

impl Default for Message {
    fn default() -> Self {
        Self::Prefix { bytes: [0; PREFIX], have: 0 }
    }
}

/// What some data brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Step {
    /// Bytes of the messages whose length became known.
    began: usize,
    /// The longest of them.
    longest: usize,
}

impl Message {
    /// Goes on by some data.
    fn advance(&mut self, mut data: &[u8]) -> Step {
        let mut step = Step::default();
        while !data.is_empty() {
            match self {
                Self::Prefix { bytes, have } => {
                    let (own, rest) = data.split_at(data.len().min(PREFIX - *have));
                    bytes[*have..*have + own.len()].copy_from_slice(own);
                    *have += own.len();
                    data = rest;
                    if *have == PREFIX {
                        let [_, a, b, c, d] = *bytes;
                        let length = u32::from_be_bytes([a, b, c, d]) as usize;
                        step.began = step.began.saturating_add(length);
                        step.longest = step.longest.max(length);
                        *self = Self::Content { length, missing: length };
                    }
                }
                Self::Content { missing, .. } => {
                    let own = data.len().min(*missing);
                    *missing -= own;
                    data = &data[own..];
                }
            }
            if matches!(self, Self::Content { missing: 0, .. }) {
                *self = Self::default();
            }
        }
        step
    }
}

/// An answer's messages on their way out.
struct Outgoing {
    inner: Body,
    /// Of the frame that is being sent.
    rest: Bytes,
    /// Given back when all is sent, or nobody takes it any more.
    _held: Option<Arc<Held>>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.len().min(PIECE);
        let piece = if piece == self.rest.len() { mem::take(&mut self.rest) } else { self.rest.split_to(piece) };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use proptest::prelude::*;

    use super::*;
    /// Reads a body to its end; the first error ends it, too.
    async fn read(body: Body) -> Result<Vec<usize>, Status> {
        let mut body = std::pin::pin!(body);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame?.into_data().unwrap().len());
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn a_large_message_is_refused_by_its_length_alone() {
        let memory = Memory::alone(1 << 20);
        let incoming = |length: u32| Incoming {
            inner: Body::new(Full::new([&[0][..], &length.to_be_bytes(), &[7; 10]].concat().into())),
            memory: memory.clone(),
            limit: 1 << 30,
            tenant: Tenant::anonymous(),
            reader: Reader::Call,
            message: Message::default(),
            held: None,
        };
        assert!(read(Body::new(incoming(10))).await.is_ok());
        let refused = read(Body::new(incoming(1 << 20))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);

        let mut upload = Box::pin(incoming(500_000));
        assert!(upload.as_mut().frame().await.unwrap().is_ok());
        assert!(memory.hold(&Tenant::anonymous(), 400_000).is_err(), "room is taken as soon as the length is known");
        drop(upload);
        assert!(memory.hold(&Tenant::anonymous(), 400_000).is_ok());
    }

    #[tokio::test]
    async fn what_a_request_brings_is_held_until_it_ends() {
        let memory = Memory::alone(1 << 20);
        for (reader, length, held) in [
            (Reader::Call, 100, 100),
            (Reader::Call, 200_000, 200_000),
            (Reader::Stream, 500_000, 500_000),
            (Reader::Stream, 9, 0),
            (Reader::Other, 9, 0),
        ] {
            // Two of them: a call's lie there both, a stream's one after the other.
            let bytes = [&[0][..], &u32::to_be_bytes(length), &vec![7; length as usize]].concat().repeat(2);
            let held = if reader == Reader::Call { 2 * held } else { held };
            let mut incoming = Box::pin(Incoming {
                inner: Body::new(Full::new(bytes.into())),
                memory: memory.clone(),
                limit: 1 << 30,
                tenant: Tenant::anonymous(),
                reader,
                message: Message::default(),
                held: None,
            });
            assert!(incoming.as_mut().frame().await.unwrap().is_ok());
            let by_tenant: usize = memory.by_tenant().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(by_tenant, held, "{reader:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_goes_out_in_pieces_and_is_held_until_the_last() {
        let memory = Memory::alone(1 << 20);
        let held = memory.hold(&Tenant::anonymous(), 500_000).unwrap();
        let mut outgoing = Box::pin(Outgoing {
            inner: Body::new(Full::new(vec![7; 150_000].into())),
            rest: Bytes::new(),
            _held: Some(Arc::new(held)),
        });
        let mut pieces = Vec::new();
        while let Some(frame) = outgoing.as_mut().frame().await {
            assert!(memory.hold(&Tenant::anonymous(), 400_000).is_err());
            pieces.push(frame.unwrap().into_data().unwrap().len());
        }
        assert!(pieces.iter().all(|&piece| piece <= PIECE) && pieces.iter().sum::<usize>() == 150_000, "{pieces:?}");
        drop(outgoing);
        assert!(memory.hold(&Tenant::anonymous(), 400_000).is_ok());
    }

    proptest! {
        #[test]
        fn messages_are_followed_however_they_are_cut(
            lengths in prop::collection::vec(0_usize..40, 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..60),
        ) {
            let mut bytes = Vec::new();
            for &length in &lengths {
                bytes.push(0);
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend(vec![7; length]);
            }
            let mut message = Message::default();
            let (mut at, mut began) = (0, 0);
            for cut in cuts.iter().cycle().take_while(|_| !bytes.is_empty()) {
                let end = bytes.len().min(at + cut);
                let step = message.advance(&bytes[at..end]);
                prop_assert!(step.longest <= step.began);
                began += step.began;
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!(message, Message::default());
            prop_assert_eq!(began, lengths.iter().sum::<usize>());
        }
    }
}
