//! Contents about groups, between two devices: kinds 12 to 15 (docs/groups.md, 4).

use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::group::GroupId;

/// What a content about a group says.
#[derive(Clone, Copy)]
pub(crate) enum GroupBody<'a> {
    /// A text to the group, for a device that its envelope did not reach. Its files are in field 5.
    Text { group: GroupId, id: &'a [u8; 16], text: &'a [u8], files: &'a [u8] },
    /// Changes of its roster, each behind its length:u32.
    Changes { group: GroupId, changes: &'a [u8] },
    /// A chain, as `group::Distribution` reads it.
    Chain(&'a [u8]),
    /// The sender knows the roster up to these changes, and lacks what is built on them.
    Ask { group: GroupId, heads: &'a [[u8; 32]] },
}

impl<'a> GroupBody<'a> {
    /// The first of the kinds, a text.
    pub(crate) const FIRST: u8 = Self::TEXT;
    pub(crate) const TEXT: u8 = 12;
    /// The last of them.
    pub(crate) const LAST: u8 = 15;

    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Text { .. } => 12,
            Self::Changes { .. } => 13,
            Self::Chain(_) => 14,
            Self::Ask { .. } => 15,
        }
    }

    pub(crate) const fn length(&self) -> usize {
        let bytes = match self {
            Self::Text { text, files, .. } => text.len().saturating_add(files.len()),
            Self::Changes { changes: bytes, .. } | Self::Chain(bytes) => bytes.len(),
            Self::Ask { heads, .. } => heads.len().saturating_mul(32),
        };
        bytes.saturating_add(48)
    }

    pub(crate) fn write(&self, out: Writer) -> Writer {
        match self {
            Self::Text { group, id, text, .. } => {
                out.bytes(group.as_bytes()).bytes(*id).bytes(text)
            }
            Self::Changes { group, changes } => out.bytes(group.as_bytes()).bytes(changes),
            Self::Chain(bytes) => out.bytes(bytes),
            Self::Ask { group, heads } => out.bytes(group.as_bytes()).bytes(heads.as_flattened()),
        }
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(crate) fn read(kind: u8, files: &'a [u8], mut reader: Reader<'a>) -> Result<Self, Error> {
        if kind == 14 {
            return Ok(Self::Chain(reader.rest()));
        }
        let group = GroupId::from(*reader.array::<32>()?);
        match kind {
            12 => Ok(Self::Text { group, id: reader.array()?, text: reader.rest(), files }),
            13 => Ok(Self::Changes { group, changes: reader.rest() }),
            15 => match reader.rest().as_chunks() {
                (heads, []) => Ok(Self::Ask { group, heads }),
                _ => Err(Error::Malformed),
            },
            _ => Err(Error::Malformed),
        }
    }
}
