//! A message of the Sparse Post-Quantum Ratchet on the wire (spqr.md, 6).

use super::braid::Payload;
use super::erasure::Chunk;
use crate::codec::{self, Reader};
use crate::error::Error;

/// One message of the ratchet:
/// `1 || epoch:varint || index:varint || type:u8 [|| chunk index:varint || chunk:32]` (spqr.md, 6).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) epoch: u64,
    /// The number of its key in the chain, from 1.
    pub(crate) index: u32,
    pub(crate) payload: Payload,
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, chunk) = match &self.payload {
            Payload::None => (0, None),
            Payload::Hdr(chunk) => (1, Some(chunk)),
            Payload::Ek(chunk) => (2, Some(chunk)),
            Payload::EkCt1Ack(chunk) => (3, Some(chunk)),
            Payload::Ct1Ack => (4, None),
            Payload::Ct1(chunk) => (5, Some(chunk)),
            Payload::Ct2(chunk) => (6, Some(chunk)),
        };
        let mut out = Bytes { bytes: [0; MAX_MESSAGE], length: 0 };
        out.put(&[1]);
        out.put_varint(self.epoch);
        out.put_varint(self.index.into());
        out.put(&[kind]);
        if let Some(chunk) = chunk {
            out.put_varint(chunk.index.into());
            out.put(&chunk.data);
        }
        out
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        let epoch = reader.varint()?;
        let index = u32::try_from(reader.varint()?).map_err(|_| Error::Malformed)?;
        let kind = reader.u8()?;
        if version != 1 || epoch == 0 || index == 0 {
            return Err(Error::Malformed);
        }
        let mut chunk = || {
            let index = u16::try_from(reader.varint()?).map_err(|_| Error::Malformed)?;
            reader.array().map(|data| Chunk { index, data: *data })
        };
        let payload = match kind {
            0 => Payload::None,
            1 => Payload::Hdr(chunk()?),
            2 => Payload::Ek(chunk()?),
            3 => Payload::EkCt1Ack(chunk()?),
            4 => Payload::Ct1Ack,
            5 => Payload::Ct1(chunk()?),
            6 => Payload::Ct2(chunk()?),
            _ => return Err(Error::Malformed),
        };
        reader.end()?;
        Ok(Self { epoch, index, payload })
    }
}

/// The bytes of a message, at most [`MAX_MESSAGE`].
pub(crate) struct Bytes {
    bytes: [u8; MAX_MESSAGE],
    length: usize,
}

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn put_varint(&mut self, value: u64) {
        let (bytes, length) = codec::varint(value);
        self.put(bytes.get(..length).unwrap_or_default());
    }
}

/// The longest message of this ratchet, while the epoch is below 2^35:
/// `1 || epoch:varint 5 || index:varint 5 || type:u8 || chunk index:varint 3 || chunk:32`.
pub(crate) const MAX_MESSAGE: usize = 47;
