//! The moves of a verification, between a device of one user and a device of the other
//! (docs/verification.md, 5).

use crate::codec::{Reader, Writer};
use crate::error::Error;

/// What one device tells another in a verification: kinds 8 to 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move<'a> {
    /// 8, `answer:32`: a code was scanned.
    Scanned { answer: &'a [u8; 32] },
    /// 9, `id:16 || commitment:32`: a comparison begins.
    Start { id: &'a [u8; 16], commitment: &'a [u8; 32] },
    /// 10, `id:16 || nonce:32`: an answer to that, and what was committed to.
    Nonce { id: &'a [u8; 16], nonce: &'a [u8; 32] },
    /// 11, `id:16 || why:u8`: it is over.
    End { id: &'a [u8; 16], why: u8 },
}

impl<'a> Move<'a> {
    pub(crate) const FIRST_KIND: u8 = 8;
    pub(crate) const LAST_KIND: u8 = 11;

    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Scanned { .. } => 8,
            Self::Start { .. } => 9,
            Self::Nonce { .. } => 10,
            Self::End { .. } => 11,
        }
    }

    pub(super) const fn length(&self) -> usize {
        match self {
            Self::Scanned { .. } => 32,
            Self::Start { .. } | Self::Nonce { .. } => 48,
            Self::End { .. } => 17,
        }
    }

    pub(super) fn write(&self, out: Writer) -> Writer {
        match self {
            Self::Scanned { answer } => out.bytes(*answer),
            Self::Start { id, commitment } => out.bytes(*id).bytes(*commitment),
            Self::Nonce { id, nonce } => out.bytes(*id).bytes(*nonce),
            Self::End { id, why } => out.bytes(*id).u8(*why),
        }
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(super) fn read(kind: u8, mut reader: Reader<'a>) -> Result<Self, Error> {
        let read = match kind {
            8 => Self::Scanned { answer: reader.array()? },
            9 => Self::Start { id: reader.array()?, commitment: reader.array()? },
            10 => Self::Nonce { id: reader.array()?, nonce: reader.array()? },
            11 => Self::End { id: reader.array()?, why: reader.u8()? },
            _ => return Err(Error::Malformed),
        };
        reader.end()?;
        Ok(read)
    }
}
