//! Decompresses one message, as far as there is room for what it becomes.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::HeaderMap;
use tonic::Status;
use zstd::stream::{
    raw::{DParameter, Decoder as ZstdDecoder},
    zio,
};

use crate::{
    engine::{Held, Memory, Tenant},
    grpc::hold::{self, PREFIX},
};

/// How the messages of a call are compressed.
pub(super) const ENCODING: &str = "grpc-encoding";

/// What a message may refer back to: 2^23 bytes, as far as every decoder of zstd should go and need not beyond (RFC 8878, 3.1.1.1.2).
pub(super) const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that a decoder takes by itself: tables, and a buffer on either side.
const DECODER: usize = 512 << 10;

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// As the headers of a call say it; `None` if not at all, or in no way that we know.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(ENCODING)?.as_bytes() {
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Most bytes of a message that a decoder keeps a second time. A gzip decoder keeps 32 KiB, which are among its own.
    fn window(self) -> usize {
        match self {
            Self::Gzip => 0,
            Self::Zstd => 1 << ZSTD_WINDOW_LOG,
        }
    }
}

/// Where a call's messages find room.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// What calls may hold.
    pub memory: Memory,
    /// Most bytes of a message.
    pub limit: usize,
    /// Who calls.
    pub tenant: Tenant,
}

/// Decompresses one message.
pub(super) enum Decoder {
    Gzip(GzDecoder<Output>),
    Zstd(zio::Writer<Output, ZstdDecoder<'static>>),
}

impl Decoder {
    pub fn new(encoding: Encoding, room: Room) -> Result<Self, Status> {
        let output = Output::new(encoding, room)?;
        Ok(match encoding {
            Encoding::Gzip => Self::Gzip(GzDecoder::new(output)),
            Encoding::Zstd => {
                Self::Zstd(zio::Writer::new(output, zstd_decoder().map_err(|error| told(encoding, error))?))
            }
        })
    }

    fn encoding(&self) -> Encoding {
        match self {
            Self::Gzip(_) => Encoding::Gzip,
            Self::Zstd(_) => Encoding::Zstd,
        }
    }

    /// How long the message is so far.
    pub fn len(&self) -> usize {
        match self {
            Self::Gzip(decoder) => decoder.get_ref().bytes.len(),
            Self::Zstd(decoder) => decoder.writer().bytes.len(),
        }
    }

    /// Takes in a piece of what is compressed.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Status> {
        let written = match self {
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Zstd(decoder) => decoder.write_all(data),
        };
        written.map_err(|error| told(self.encoding(), error))
    }

    /// The message behind its prefix, and what it holds.
    pub fn finish(self) -> Result<(Bytes, Held), Status> {
        let encoding = self.encoding();
        let output = match self {
            Self::Gzip(decoder) => decoder.finish(),
            // What it keeps back comes with the flush; whether the last frame is whole says the end.
            Self::Zstd(mut decoder) => decoder.flush().and_then(|()| decoder.finish()).map(|()| decoder.into_inner().0),
        };
        Ok(output.map_err(|error| told(encoding, error))?.into_message())
    }
}

fn zstd_decoder() -> io::Result<ZstdDecoder<'static>> {
    let mut decoder = ZstdDecoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(decoder)
}

/// Why a message cannot be decompressed: what [`Output`] says, or that it is not what it should be.
fn told(encoding: Encoding, error: io::Error) -> Status {
    error.downcast::<Status>().unwrap_or_else(|error| {
        Status::invalid_argument(format!("the message is not valid {}: {error}", encoding.name()))
    })
}

/// A message longer than is taken.
pub(super) fn too_long(limit: usize) -> Status {
    Status::out_of_range(format!("the message is longer than {limit} bytes, or becomes so when it is decompressed"))
}

/// A message that grows as far as there is room. Errors are a [`Status`].
pub(super) struct Output {
    /// The prefix, filled in at the end, and the message.
    bytes: Vec<u8>,
    encoding: Encoding,
    room: Room,
    held: Held,
    /// There was no room: nothing more is asked for, though a decoder that is dropped tries to.
    is_over: bool,
}

impl Output {
    fn new(encoding: Encoding, room: Room) -> Result<Self, Status> {
        let held = hold::room(&room.memory, &room.tenant, DECODER)?;
        Ok(Self { bytes: vec![0; PREFIX], encoding, room, held, is_over: false })
    }

    /// Makes room for so many bytes more.
    fn grow(&mut self, more: usize) -> Result<(), Status> {
        let (old, needed, most) =
            (self.bytes.capacity(), self.bytes.len() + more, self.room.limit.saturating_add(PREFIX));
        if needed > most {
            return Err(too_long(self.room.limit));
        }
        if needed > old {
            let new = needed.max(old.saturating_mul(2)).min(most);
            let window = self.encoding.window();
            let held = new - old + (new.min(window) - old.min(window));
            self.held.absorb(hold::room(&self.room.memory, &self.room.tenant, held)?);
            self.bytes.reserve_exact(new - self.bytes.len());
        }
        Ok(())
    }

    fn into_message(self) -> (Bytes, Held) {
        let Self { mut bytes, mut held, .. } = self;
        bytes.shrink_to_fit();
        held.resize(bytes.len());
        // Both the limit and the length in a prefix are below 4 GiB.
        let length = u32::try_from(bytes.len() - PREFIX).unwrap_or(u32::MAX);
        bytes[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        (bytes.into(), held)
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.is_over {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.grow(data.len()).map_err(|status| {
            self.is_over = true;
            io::Error::other(status)
        })?;
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
