//! Compressed messages. They are decompressed here and not in tonic, so that room is held for what they become while they grow: a few
//! KiB may become many MiB. What is read behind this layer is not compressed.

mod decoder;

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use self::decoder::{Decoder, ENCODING, Encoding, Room, too_long};
use super::hold::{self, PREFIX};
use crate::engine::{Held, Memory, Tenant};

/// Bytes of what is compressed that are taken in at a time: few, since each four may become 128 KiB.
const BITE: usize = 64;

/// Bytes that a message may grow by before others have their turn on this thread.
const TURN: usize = 1 << 20;

/// Puts [`Decompress`] around a service.
#[derive(Debug, Clone)]
pub struct DecompressLayer {
    memory: Memory,
    limit: usize,
}

impl DecompressLayer {
    /// Room comes from `memory`; messages become `limit` bytes long at the most.
    pub fn new(memory: Memory, limit: usize) -> Self {
        Self { memory, limit }
    }
}

impl<S> Layer<S> for DecompressLayer {
    type Service = Decompress<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Decompress { inner, layer: self.clone() }
    }
}

/// A service that gets its messages decompressed.
#[derive(Debug, Clone)]
pub struct Decompress<S> {
    inner: S,
    layer: DecompressLayer,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Decompress<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Health and reflection take none, and unknown encodings nobody: tonic says so.
        let is_ours = request.uri().path().starts_with("/rasid.");
        let Some(encoding) = Encoding::of(request.headers()).filter(|_| is_ours) else {
            return self.inner.call(request);
        };
        request.headers_mut().remove(ENCODING);
        let DecompressLayer { memory, limit } = self.layer.clone();
        let tenant = request.extensions().get::<Tenant>().cloned().unwrap_or_default();
        let room = Room { memory, limit, tenant };
        self.inner.call(request.map(|inner| Body::new(Messages::new(inner, encoding, room))))
    }
}

/// A request whose messages are decompressed on their way in.
struct Messages {
    inner: Body,
    encoding: Encoding,
    room: Room,
    /// What has come and is not handed on.
    unread: Bytes,
    state: State,
    /// For the message that was handed on last, until the reader asks for the next.
    handed_on: Option<Held>,
}

/// How far a message has come.
enum State {
    /// Its flag and length are still to come, or a part of them.
    Prefix { bytes: [u8; PREFIX], have: usize },
    /// It is as it should be.
    Plain { missing: usize },
    /// It is being decompressed; it was so long when its turn began.
    Compressed { missing: usize, decoder: Box<Decoder>, before: usize },
}

/// What came of some data.
enum Step {
    /// Something to hand on.
    Ready(Bytes),
    /// All is taken in.
    Hungry,
    /// There is more to do, but others wait for the thread.
    Busy,
}

impl Default for State {
    fn default() -> Self {
        Self::Prefix { bytes: [0; PREFIX], have: 0 }
    }
}

impl Messages {
    fn new(inner: Body, encoding: Encoding, room: Room) -> Self {
        Self { inner, encoding, room, unread: Bytes::new(), state: State::default(), handed_on: None }
    }

    /// Takes in what is unread, up to something that can be handed on.
    fn advance(&mut self) -> Result<Step, Status> {
        loop {
            match &mut self.state {
                State::Prefix { have: PREFIX, .. } => {
                    if let Some(prefix) = self.begin()? {
                        return Ok(Step::Ready(prefix));
                    }
                }
                State::Plain { missing: 0 } => self.state = State::default(),
                State::Compressed { missing: 0, .. } => return self.finish(),
                _ if self.unread.is_empty() => return Ok(Step::Hungry),
                State::Prefix { bytes, have } => {
                    let own = self.unread.split_to(self.unread.len().min(PREFIX - *have));
                    bytes[*have..*have + own.len()].copy_from_slice(&own);
                    *have += own.len();
                }
                State::Plain { missing } => {
                    let own = self.unread.split_to(self.unread.len().min(*missing));
                    *missing -= own.len();
                    return Ok(Step::Ready(own));
                }
                State::Compressed { missing, decoder, before } => {
                    let own = self.unread.split_to(self.unread.len().min(*missing).min(BITE));
                    *missing -= own.len();
                    decoder.write(&own)?;
                    if decoder.len() - *before > TURN {
                        *before = decoder.len();
                        return Ok(Step::Busy);
                    }
                }
            }
        }
    }

    /// Begins a message whose prefix is there, which is handed on if the message is not compressed.
    fn begin(&mut self) -> Result<Option<Bytes>, Status> {
        let State::Prefix { bytes, .. } = mem::take(&mut self.state) else { return Ok(None) };
        let [flag, a, b, c, d] = bytes;
        let missing = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 1 {
            self.state = State::Plain { missing };
            return Ok(Some(Bytes::copy_from_slice(&bytes)));
        }
        if missing > self.room.limit {
            return Err(too_long(self.room.limit));
        }
        let decoder = Box::new(Decoder::new(self.encoding, self.room.clone())?);
        self.state = State::Compressed { missing, decoder, before: 0 };
        Ok(None)
    }

    /// Hands a message on that is decompressed.
    fn finish(&mut self) -> Result<Step, Status> {
        let State::Compressed { decoder, .. } = mem::take(&mut self.state) else { return Ok(Step::Hungry) };
        let (message, held) = decoder.finish()?;
        self.handed_on = Some(held);
        Ok(Step::Ready(message))
    }

    /// Whether no message has begun that has not ended.
    fn is_between(&self) -> bool {
        matches!(self.state, State::Prefix { have: 0, .. } | State::Plain { missing: 0 })
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        this.handed_on = None;
        loop {
            match this.advance()? {
                Step::Ready(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Hungry => {}
                Step::Busy => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.unread = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None if this.is_between() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(hold::cut_off()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_empty() && self.is_between() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;
    use tonic::Code;
    use zstd::stream::{
        raw::{CParameter, Encoder as ZstdEncoder},
        zio,
    };

    use super::{decoder::ZSTD_WINDOW_LOG, *};

    const ENCODINGS: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

    fn compressed(encoding: Encoding, message: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(message).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(message, 0).unwrap(),
        }
    }

    fn framed(flag: u8, content: &[u8]) -> Vec<u8> {
        [&[flag][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    /// A request that comes in these pieces.
    fn request(memory: &Memory, limit: usize, encoding: Encoding, pieces: Vec<Vec<u8>>) -> Messages {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        let room = Room { memory: memory.clone(), limit, tenant: Tenant::anonymous() };
        Messages::new(Body::new(StreamBody::new(futures_util::stream::iter(pieces))), encoding, room)
    }

    /// All that is handed on, and the most that was held.
    async fn read(mut messages: Messages, memory: &Memory) -> Result<(Vec<u8>, usize), Status> {
        let (mut all, mut most) = (Vec::new(), 0);
        while let Some(frame) = messages.frame().await {
            all.extend(frame?.into_data().unwrap());
            most = most.max(held(memory));
        }
        Ok((all, most))
    }

    fn held(memory: &Memory) -> usize {
        memory.by_tenant().iter().map(|(_, bytes)| bytes).sum()
    }

    #[tokio::test]
    async fn a_bomb_is_refused_when_it_has_grown_beyond_the_room() {
        let memory = Memory::alone(4 << 20);
        for encoding in ENCODINGS {
            let bomb = framed(1, &compressed(encoding, &vec![0; 16 << 20]));
            assert!(bomb.len() < 20_000);
            let messages = request(&memory, 64 << 20, encoding, vec![bomb]);
            let refused = read(messages, &memory).await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            assert_eq!(held(&memory), 0);
        }
    }

    #[tokio::test]
    async fn a_message_holds_what_it_becomes_until_the_next_is_asked_for() {
        let memory = Memory::alone(64 << 20);
        for encoding in ENCODINGS {
            let message = vec![7; 1 << 20];
            let one = framed(1, &compressed(encoding, &message));
            let messages = request(&memory, 1 << 20, encoding, vec![one.clone(), one]);
            let (all, most) = read(messages, &memory).await.unwrap();
            assert_eq!(all, framed(0, &message).repeat(2));
            assert!((1 << 20..2 << 20).contains(&most), "{most}");
            assert_eq!(held(&memory), 0);
        }
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_out_of_range() {
        let memory = Memory::alone(64 << 20);
        for encoding in ENCODINGS {
            let messages =
                |length| request(&memory, 1000, encoding, vec![framed(1, &compressed(encoding, &vec![7; length]))]);
            assert!(read(messages(1000), &memory).await.is_ok());
            let refused = read(messages(1001), &memory).await.unwrap_err();
            assert_eq!(refused.code(), Code::OutOfRange);
            assert!(refused.message().contains("1000 bytes"), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_valid_is_the_clients_fault() {
        let memory = Memory::alone(64 << 20);
        for encoding in ENCODINGS {
            let good = compressed(encoding, b"The army met in Baghdad.");
            let mut flipped = good.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let cases =
                [b"no such thing".to_vec(), good[..good.len() - 1].to_vec(), [&good[..], b"more"].concat(), Vec::new()];
            // zstd's own checksum is off unless asked for.
            for content in cases.into_iter().chain((encoding == Encoding::Gzip).then_some(flipped)) {
                let messages = request(&memory, 1000, encoding, vec![framed(1, &content)]);
                let refused = read(messages, &memory).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument, "{content:?}: {refused:?}");
            }
            // The call ends within a message, or within its length.
            let whole = framed(1, &good);
            for end in [1, PREFIX, whole.len() - 1] {
                let messages = request(&memory, 1000, encoding, vec![whole[..end].to_vec()]);
                assert_eq!(read(messages, &memory).await.unwrap_err().code(), Code::InvalidArgument, "{end}");
            }
            assert_eq!(held(&memory), 0);
        }
    }

    #[tokio::test]
    async fn a_window_that_no_message_needs_is_refused() {
        let memory = Memory::alone(64 << 20);
        let with_window = |log| {
            let mut encoder = ZstdEncoder::new(1).unwrap();
            encoder.set_parameter(CParameter::WindowLog(log)).unwrap();
            let mut writer = zio::Writer::new(Vec::new(), encoder);
            writer.write_all(b"Rain.").unwrap();
            // The length is not known when the frame begins, so that it says its window.
            writer.flush().unwrap();
            writer.finish().unwrap();
            let content = writer.into_inner().0;
            request(&memory, 1000, Encoding::Zstd, vec![framed(1, &content)])
        };
        assert!(read(with_window(ZSTD_WINDOW_LOG), &memory).await.is_ok());
        assert_eq!(read(with_window(27), &memory).await.unwrap_err().code(), Code::InvalidArgument);
    }

    proptest! {
        #[test]
        fn messages_come_out_however_they_are_cut(
            messages in prop::collection::vec((any::<bool>(), prop::collection::vec(0_u8..4, 0..300)), 0..8),
            cuts in prop::collection::vec(1_usize..60, 1..20),
        ) {
            let memory = Memory::alone(64 << 20);
            for encoding in ENCODINGS {
                let wire: Vec<u8> = messages
                    .iter()
                    .flat_map(|(small, message)| if *small { framed(1, &compressed(encoding, message)) } else { framed(0, message) })
                    .collect();
                let mut rest = &wire[..];
                let pieces = cuts.iter().cycle().map_while(|&cut| {
                    let (piece, later) = rest.split_at(cut.min(rest.len()));
                    rest = later;
                    (!piece.is_empty()).then(|| piece.to_vec())
                });
                let messages_in = request(&memory, 1000, encoding, pieces.collect());
                let (all, _) = read(messages_in, &memory).now_or_never().unwrap().unwrap();
                let expected: Vec<u8> = messages.iter().flat_map(|(_, message)| framed(0, message)).collect();
                prop_assert_eq!(all, expected);
            }
        }
    }
}
