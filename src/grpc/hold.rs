//! Messages on the wire take memory, too: a large one is held room for before it is read, an answer until it is sent.

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

use super::status::CallError;
use crate::engine::{Held, Memory, Tenant};

/// Messages up to this length need no room of their own: as much lies in the window of any open stream.
const SMALL: usize = 64 << 10;

/// Answers go out in pieces of this length (a frame's), so that what is not sent yet is not out of our hands.
const PIECE: usize = 16 << 10;

/// The compression flag and the length before each message.
const PREFIX: usize = 5;

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
        let HoldLayer { memory, limit } = self.layer.clone();
        let request = request
            .map(|inner| Body::new(Incoming { inner, memory, limit, tenant, message: Message::default(), held: None }));
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            let held = response.extensions_mut().remove::<Arc<Held>>();
            Ok(response.map(|inner| Body::new(Outgoing { inner, rest: Bytes::new(), _held: held })))
        })
    }
}

/// A request's messages on their way in.
struct Incoming {
    inner: Body,
    memory: Memory,
    limit: usize,
    tenant: Tenant,
    message: Message,
    /// For the message that is being read, if it is not small.
    held: Option<Held>,
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
            if this.message.advance(data) {
                // Whoever reads the messages takes over.
                this.held = None;
            }
            match this.message {
                Message::Content { length, .. } if length > SMALL && length <= this.limit && this.held.is_none() => {
                    match this.memory.hold(&this.tenant, length) {
                        Ok(held) => this.held = Some(held),
                        Err(source) => {
                            let path = "request".to_owned();
                            return Poll::Ready(Some(Err(CallError::Engine { path, source }.into())));
                        }
                    }
                }
                _ => {}
            }
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

impl Message {
    /// Goes on by some data; whether a message came to its end in it.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
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
                ended = true;
            }
        }
        ended
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
    use crate::{
        engine::{EngineConfig, ModelHost, ModelLoader},
        model::{Bundle, ModelError},
        tagger::Tagger,
    };

    fn memory() -> Memory {
        let config = EngineConfig { max_held_bytes: 1 << 20, ..EngineConfig::default() };
        ModelHost::new(NoModel, config).memory().clone()
    }

    struct NoModel;

    impl ModelLoader for NoModel {
        fn open(&self) -> Result<Bundle, ModelError> {
            Err(ModelError::HubReference(String::new()))
        }

        fn tagger(&self, _: Bundle) -> Result<Tagger, ModelError> {
            Err(ModelError::HubReference(String::new()))
        }
    }

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
        let memory = memory();
        let incoming = |length: u32| Incoming {
            inner: Body::new(Full::new([&[0][..], &length.to_be_bytes(), &[7; 10]].concat().into())),
            memory: memory.clone(),
            limit: 1 << 30,
            tenant: Tenant::anonymous(),
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
    async fn an_answer_goes_out_in_pieces_and_is_held_until_the_last() {
        let memory = memory();
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
            let mut ends = Vec::new();
            for &length in &lengths {
                bytes.push(0);
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend(vec![7; length]);
                ends.push(bytes.len());
            }
            let mut message = Message::default();
            let mut at = 0;
            for cut in cuts.iter().cycle().take_while(|_| !bytes.is_empty()) {
                let end = bytes.len().min(at + cut);
                let ended = message.advance(&bytes[at..end]);
                prop_assert_eq!(ended, ends.iter().any(|&message| at < message && message <= end));
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!(message, Message::default());
        }
    }
}
