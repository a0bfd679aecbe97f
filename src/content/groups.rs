//! Contents about groups, between two devices: kinds 12 to 17 (docs/groups.md, 4).

use super::proposals::ProposedChange;
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
    /// A device proposes changes to the managers of its account.
    Proposal(ProposalBody<'a>),
    /// The sender knows the roster up to these changes. It is told in the place of a chain, which
    /// names them too.
    Heads { group: GroupId, heads: &'a [[u8; 32]] },
}

/// What a device proposes, as the member that its account was at that time.
#[derive(Clone, Copy)]
pub(crate) struct ProposalBody<'a> {
    pub(crate) group: GroupId,
    /// Drawn: a device takes it in once, however often it comes.
    pub(crate) id: &'a [u8; 16],
    /// When it was proposed: Unix time in seconds.
    pub(crate) made: u64,
    pub(crate) member: &'a [u8; 16],
    /// As [`ProposedChange::decode_all`] reads them.
    pub(crate) changes: &'a [u8],
}

impl<'a> GroupBody<'a> {
    /// The first of the kinds, a text.
    pub(crate) const FIRST: u8 = Self::TEXT;
    pub(crate) const TEXT: u8 = 12;
    /// The last of them.
    pub(crate) const LAST: u8 = 17;

    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Text { .. } => 12,
            Self::Changes { .. } => 13,
            Self::Chain(_) => 14,
            Self::Ask { .. } => 15,
            Self::Proposal(_) => 16,
            Self::Heads { .. } => 17,
        }
    }

    pub(crate) const fn length(&self) -> usize {
        let bytes = match self {
            Self::Text { text, files, .. } => text.len().saturating_add(files.len()),
            Self::Changes { changes: bytes, .. } | Self::Chain(bytes) => bytes.len(),
            Self::Ask { heads, .. } | Self::Heads { heads, .. } => heads.len().saturating_mul(32),
            Self::Proposal(proposal) => proposal.changes.len(),
        };
        bytes.saturating_add(72)
    }

    pub(crate) fn write(&self, out: Writer) -> Writer {
        match self {
            Self::Text { group, id, text, .. } => {
                out.bytes(group.as_bytes()).bytes(*id).bytes(text)
            }
            Self::Changes { group, changes } => out.bytes(group.as_bytes()).bytes(changes),
            Self::Chain(bytes) => out.bytes(bytes),
            Self::Ask { group, heads } | Self::Heads { group, heads } => {
                out.bytes(group.as_bytes()).bytes(heads.as_flattened())
            }
            Self::Proposal(ProposalBody { group, id, made, member, changes }) => {
                out.bytes(group.as_bytes()).bytes(*id).u64(*made).bytes(*member).bytes(changes)
            }
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
            15 | 17 => match (kind, reader.rest().as_chunks()) {
                (15, (heads, [])) => Ok(Self::Ask { group, heads }),
                (_, (heads, [])) if !heads.is_empty() => Ok(Self::Heads { group, heads }),
                _ => Err(Error::Malformed),
            },
            16 => {
                let (id, made, member) = (reader.array()?, reader.u64()?, reader.array()?);
                let changes = reader.rest();
                ProposedChange::decode_all(changes)?;
                Ok(Self::Proposal(ProposalBody { group, id, made, member, changes }))
            }
            _ => Err(Error::Malformed),
        }
    }
}
