//! What is inside a message of the client (docs/client.md, 3).
//!
//! ```text
//! content = kind:u8 || version:u64 || digest:8 || known version:u64 || known digest:8 ||
//!           fields || 0 || body
//! field   = tag:u8 || length:u16 || value
//! ```
//!
//! `version` and `digest` are those of the sender's device list, `known` those of the receiver's
//! list as the sender knows it (all zero: not at all). Tags ascend, each at most once.
//!
//! | tag | value |
//! | --- | --- |
//! | 1 rank | `u64`: the session's rank, in each content of a session that was not answered |
//! | 2 asks | empty: the sender writes its other contents in another session |
//! | 3 resent | `reference:16`: the envelope that this content stands for |
//! | 4 devices | the sender's device list |
//! | 5 files | those of a text or a copy: [`Files`] |
//! | 10 to 14 | what sealed sender needs: `sealed` |
//!
//! | kind | body |
//! | --- | --- |
//! | 1 text | `id:16 \|\| text` |
//! | 2 copy of a text, for the sender's other devices | `id:16 \|\| length:u8 \|\| user \|\| text` |
//! | 3 retry request | `holds:8 \|\| references, 16 bytes each` |
//! | 4 none: what counts are the fields | |
//! | 5 account key, for the sender's other devices | `present:u8 (0\|1) [\|\| seed:32]` |
//! | 6 gone: these cannot be sent again | `references, 16 bytes each` |
//! | 7 mark, for the sender's other devices | `verified:u8 (0\|1) \|\| account:32 \|\| user` |
//! | 20 history, for another device of the sender's user | `key:32 \|\| descriptor:74 \|\| location` |
//! | 8 to 11 moves of a verification | docs/verification.md, 5 |
//! | 24 signal | `type:u8 \|\| call:16 \|\| expires:u64 \|\| body` |
//! | 12 text to a group | `group:32 \|\| id:16 \|\| text` |
//! | 13 changes of a group | `group:32 \|\| (length:u32 \|\| change), each` |
//! | 14 chain of a group | a distribution |
//! | 15 roster request | `group:32 \|\| heads, 32 bytes each` |
//! | 16 proposal, for managers of the sender's account | docs/groups.md, 4 |
//! | 17 heads that the sender knows | `group:32 \|\| heads, 32 bytes each` |
//!
//! A later version may add kinds and fields. A device that does not know them opens the message all
//! the same: the session moves on. Kinds and tags below 128 matter to a person: the app is told
//! that there is something that it cannot show. Those from 128 on may be ignored.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::codec::{Reader, Writer};
use crate::devices::ListStamp;
use crate::error::Error;
use crate::reference::Reference;
use crate::signal::SignalBody;

pub(crate) mod attachment;
mod groups;
mod history;
mod moves;
mod proposals;
mod sealed;

pub use attachment::Attachment;
pub(crate) use groups::{GroupBody, ProposalBody};
pub(crate) use history::History;
pub(crate) use moves::Move;
pub use proposals::ProposedChange;
pub(crate) use sealed::{Claimed, MOST_TICKETS, SealedFields};

use attachment::Files;

/// The name of a text, the same on every device that has it: 16 bytes, drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(#[serde(with = "at_rest::array")] [u8; 16]);

impl MessageId {
    /// From the 16 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Draws 16 bytes.
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self(id)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// In hexadecimal.
impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        crate::codec::hex(f, &self.0)
    }
}

impl core::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// What is inside a message.
pub(crate) struct Content<'a> {
    /// The sender's device list.
    pub(crate) list: ListStamp,
    /// The receiver's, as far as the sender knows it.
    pub(crate) known: Option<ListStamp>,
    pub(crate) rank: Option<u64>,
    pub(crate) asks: bool,
    pub(crate) resent: Option<Reference>,
    pub(crate) devices: Option<&'a [u8]>,
    pub(crate) sealed: SealedFields<'a>,
    pub(crate) body: Body<'a>,
}

/// What somebody wrote.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) id: MessageId,
    pub(crate) text: &'a [u8],
    pub(crate) files: Files<'a>,
}

impl Written<'_> {
    /// Bytes of the text and of what is said of files.
    pub(crate) const fn length(&self) -> usize {
        self.text.len().saturating_add(self.files.as_bytes().len())
    }
}

/// What it is about.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    Text(Written<'a>),
    Copy {
        to: &'a str,
        written: Written<'a>,
    },
    Request {
        holds: [u8; 8],
        references: &'a [[u8; 16]],
    },
    Devices,
    Account(Option<&'a [u8; 32]>),
    Gone(&'a [[u8; 16]]),
    Mark {
        verified: bool,
        account: &'a [u8; 32],
        user: &'a str,
    },
    History(History<'a>),
    /// A move of a verification.
    Move(Move<'a>),
    /// Of a call.
    Signal(SignalBody<'a>),
    /// About a group.
    Group(GroupBody<'a>),
    /// A later version's, which matters to a person.
    Unsupported,
    /// A later version's, which does not.
    Ignored,
}

const RANK: u8 = 1;
const ASKS: u8 = 2;
const RESENT: u8 = 3;
const DEVICES: u8 = 4;
const FILES: u8 = 5;

/// The kind of a signal.
const SIGNAL: u8 = 24;

/// Kinds and tags from here on may be ignored.
const IGNORABLE: u8 = 128;

impl Body<'_> {
    /// The name of the text or the proposal, whichever envelope it comes in.
    pub(crate) const fn message(&self) -> Option<MessageId> {
        match self {
            Self::Text(written) | Self::Copy { written, .. } => Some(written.id),
            Self::Group(GroupBody::Text { id, .. }) => Some(MessageId(**id)),
            Self::Group(GroupBody::Proposal(proposal)) => Some(MessageId(*proposal.id)),
            _ => None,
        }
    }

    const fn files(&self) -> &[u8] {
        match self {
            Self::Text(written) | Self::Copy { written, .. } => written.files.as_bytes(),
            Self::Group(GroupBody::Text { files, .. }) => files,
            _ => &[],
        }
    }

    /// Whether it says nothing but which devices the sender has.
    pub(crate) const fn is_about_devices(&self) -> bool {
        matches!(self, Self::Devices | Self::Account(_))
    }

    const fn length(&self) -> usize {
        match self {
            Self::Text(written) => written.length(),
            Self::Copy { to, written } => written.length().saturating_add(to.len()),
            Self::Mark { user, .. } => user.len(),
            Self::History(history) => history.location.len().saturating_add(History::AROUND),
            Self::Signal(signal) => signal.body.len(),
            Self::Group(body) => body.length(),
            Self::Request { references, .. } | Self::Gone(references) => {
                references.len().saturating_mul(Reference::LENGTH)
            }
            Self::Move(a_move) => a_move.length(),
            _ => 0,
        }
    }
}

impl<'a> Content<'a> {
    /// Bytes that a content takes beside its text, name and device list.
    const MOST_AROUND: usize = 128;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let devices = self.devices.map_or(0, <[u8]>::len);
        let sealed = if self.sealed.is_empty() { 0 } else { sealed::MOST_BYTES };
        let capacity = self.body.length().saturating_add(devices).saturating_add(sealed);
        let capacity = capacity.saturating_add(Self::MOST_AROUND);
        let kind = match &self.body {
            Body::Text(_) => 1,
            Body::Copy { .. } => 2,
            Body::Request { .. } => 3,
            Body::Devices => 4,
            Body::Account(_) => 5,
            Body::Gone(_) => 6,
            Body::Mark { .. } => 7,
            Body::History(_) => 20,
            Body::Move(a_move) => a_move.kind(),
            Body::Signal(_) => SIGNAL,
            Body::Group(body) => body.kind(),
            Body::Unsupported => IGNORABLE.saturating_sub(1),
            Body::Ignored => u8::MAX,
        };
        let known = self.known.unwrap_or(ListStamp { version: 0, digest: [0; 8] });
        let mut out = Writer::with_capacity(capacity).u8(kind);
        for stamp in [self.list, known] {
            out = out.u64(stamp.version).bytes(&stamp.digest);
        }
        if let Some(rank) = self.rank {
            out = field(out, RANK, &rank.to_be_bytes());
        }
        if self.asks {
            out = field(out, ASKS, &[]);
        }
        if let Some(resent) = &self.resent {
            out = field(out, RESENT, &resent.0);
        }
        if let Some(devices) = self.devices {
            out = field(out, DEVICES, devices);
        }
        if !self.body.files().is_empty() {
            out = field(out, FILES, self.body.files());
        }
        out = self.sealed.write(out, field);
        let out = out.u8(0);
        match &self.body {
            Body::Text(written) => out.bytes(&written.id.0).bytes(written.text),
            Body::Copy { to, written } => {
                let length = u8::try_from(to.len()).expect("names have at most 255 bytes");
                out.bytes(&written.id.0).u8(length).bytes(to.as_bytes()).bytes(written.text)
            }
            Body::Request { holds, references } => {
                out.bytes(holds).bytes(references.as_flattened())
            }
            Body::Gone(references) => out.bytes(references.as_flattened()),
            Body::Mark { verified, account, user } => {
                out.u8(u8::from(*verified)).bytes(*account).bytes(user.as_bytes())
            }
            Body::History(history) => history.write(out),
            Body::Signal(signal) => signal.write(out),
            Body::Group(body) => body.write(out),
            Body::Account(None) => out.u8(0),
            Body::Account(Some(seed)) => out.u8(1).bytes(*seed),
            Body::Move(a_move) => a_move.write(out),
            Body::Devices | Body::Unsupported | Body::Ignored => out,
        }
        .done()
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let list = read_stamp(&mut reader)?.ok_or(Error::Malformed)?;
        let known = read_stamp(&mut reader)?;
        let (mut rank, mut asks, mut resent, mut devices) = (None, false, None, None);
        let mut sealed = SealedFields::default();
        let (mut files, mut last, mut is_supported) = (None, 0, true);
        loop {
            let tag = reader.u8()?;
            if tag == 0 {
                break;
            }
            if tag <= last {
                return Err(Error::Malformed);
            }
            last = tag;
            let length = usize::from(reader.u16()?);
            let value = reader.bytes(length)?;
            let mut field = Reader::new(value);
            match tag {
                RANK => {
                    rank = Some(field.u64()?);
                    field.end()?;
                }
                ASKS => {
                    asks = true;
                    field.end()?;
                }
                RESENT => {
                    resent = Some(Reference(*field.array()?));
                    field.end()?;
                }
                DEVICES => devices = Some(value),
                FILES => match Files::read(value) {
                    Ok(read) => files = Some(read),
                    // A later version wrote it, and the session moves on.
                    Err(Error::UnsupportedVersion) => is_supported = false,
                    Err(error) => return Err(error),
                },
                sealed::TICKETS..=sealed::KNOWS_PASS => sealed.read(tag, value)?,
                IGNORABLE.. => {}
                _ => is_supported = false,
            }
        }
        let body = if is_supported { Self::body(kind, files, reader)? } else { Body::Unsupported };
        Ok(Self { list, known, rank, asks, resent, devices, sealed, body })
    }

    fn body(kind: u8, files: Option<Files<'a>>, mut reader: Reader<'a>) -> Result<Body<'a>, Error> {
        let is_text = matches!(kind, 1 | 2 | GroupBody::TEXT);
        if files.is_some() && !is_text && kind <= GroupBody::LAST {
            return Err(Error::Malformed);
        }
        let files = files.unwrap_or(Files::of(&[]));
        let body = match kind {
            1 => {
                let id = MessageId(*reader.array()?);
                Body::Text(Written { id, text: reader.rest(), files })
            }
            2 => {
                let id = MessageId(*reader.array()?);
                let length = usize::from(reader.u8()?);
                let to =
                    core::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Malformed)?;
                if to.is_empty() {
                    return Err(Error::Malformed);
                }
                Body::Copy { to, written: Written { id, text: reader.rest(), files } }
            }
            3 => Body::Request { holds: *reader.array()?, references: references(reader.rest())? },
            4 => {
                reader.end()?;
                Body::Devices
            }
            5 => {
                let seed = match reader.u8()? {
                    0 => None,
                    1 => Some(reader.array()?),
                    _ => return Err(Error::Malformed),
                };
                reader.end()?;
                Body::Account(seed)
            }
            6 => Body::Gone(references(reader.rest())?),
            7 => {
                let verified = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Error::Malformed),
                };
                let account = reader.array()?;
                let user = core::str::from_utf8(reader.rest()).map_err(|_| Error::Malformed)?;
                if !(1..=255).contains(&user.len()) {
                    return Err(Error::Malformed);
                }
                Body::Mark { verified, account, user }
            }
            Move::FIRST_KIND..=Move::LAST_KIND => Body::Move(Move::read(kind, reader)?),
            20 => Body::History(History::read(reader)?),
            SIGNAL => SignalBody::read(reader)?.map_or(Body::Ignored, Body::Signal),
            GroupBody::FIRST..=GroupBody::LAST => {
                match GroupBody::read(kind, files.as_bytes(), reader) {
                    Err(Error::UnsupportedVersion) => Body::Unsupported,
                    body => Body::Group(body?),
                }
            }
            18..IGNORABLE => Body::Unsupported,
            IGNORABLE.. => Body::Ignored,
            0 => return Err(Error::Malformed),
        };
        Ok(body)
    }
}

/// Zeros stand for none.
fn read_stamp(reader: &mut Reader<'_>) -> Result<Option<ListStamp>, Error> {
    let (version, digest) = (reader.u64()?, *reader.array()?);
    match (version, digest) {
        (0, [0, 0, 0, 0, 0, 0, 0, 0]) => Ok(None),
        (0, _) => Err(Error::Malformed),
        _ => Ok(Some(ListStamp { version, digest })),
    }
}

/// At least one whole reference, and nothing else.
fn references(bytes: &[u8]) -> Result<&[[u8; 16]], Error> {
    match bytes.as_chunks() {
        (references, []) if !references.is_empty() => Ok(references),
        _ => Err(Error::Malformed),
    }
}

fn field(out: Writer, tag: u8, value: &[u8]) -> Writer {
    let length = u16::try_from(value.len()).expect("the longest field is that of 16 files");
    out.u8(tag).u16(length).bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{CallId, Signal, SignalKind};
    use crate::time::UnixTime;
    use alloc::vec;

    const ID: MessageId = MessageId([7; 16]);
    const LIST: ListStamp = ListStamp { version: 1, digest: [3; 8] };

    /// Two of one chunk, of which nothing more is said.
    const TWO_FILES: [u8; 153] = {
        let mut bytes = [0; 153];
        (bytes[0], bytes[1], bytes[2]) = (2, 1, 16);
        (bytes[77], bytes[78]) = (1, 16);
        bytes
    };

    fn written(text: &'static [u8], files: Files<'static>) -> Written<'static> {
        Written { id: ID, text, files }
    }

    fn bodies() -> [Body<'static>; 25] {
        let group = crate::group::GroupId::from([2; 32]);
        [
            Body::Text(written(b"text", Files::of(&[]))),
            Body::Text(written(b"text", Files::of(&TWO_FILES))),
            Body::Copy { to: "bob", written: written(b"", Files::of(&[])) },
            Body::Copy { to: "bob", written: written(b"text", Files::of(&TWO_FILES)) },
            Body::Group(GroupBody::Heads { group, heads: &[[4; 32]; 2] }),
            Body::Group(GroupBody::Text { group, id: &[7; 16], text: b"text", files: &[] }),
            Body::Group(GroupBody::Text { group, id: &[7; 16], text: b"", files: &TWO_FILES }),
            Body::Group(GroupBody::Changes { group, changes: b"changes" }),
            Body::Group(GroupBody::Chain(b"chain")),
            Body::Group(GroupBody::Ask { group, heads: &[[1; 32], [2; 32]] }),
            Body::Group(GroupBody::Proposal(ProposalBody {
                group,
                id: &[7; 16],
                made: 7,
                member: &[8; 16],
                changes: &[0, 1, 3, b'b', b'o', b'b'],
            })),
            Body::Request { holds: [0; 8], references: &[[9; 16], [8; 16]] },
            Body::Devices,
            Body::Account(None),
            Body::Account(Some(&[5; 32])),
            Body::Gone(&[[1; 16]]),
            Body::Mark { verified: true, account: &[4; 32], user: "carol" },
            Body::History(History { key: &[6; 32], descriptor: &[7; 74], location: b"where" }),
            Body::Move(Move::Scanned { answer: &[1; 32] }),
            Body::Move(Move::Start { id: &[2; 16], commitment: &[3; 32] }),
            Body::Move(Move::Nonce { id: &[2; 16], nonce: &[4; 32] }),
            Body::Move(Move::End { id: &[2; 16], why: 1 }),
            Body::Signal(SignalBody {
                call: CallId::new([6; 16]),
                kind: SignalKind::Candidates,
                expires: UnixTime::MIN,
                body: b"sdp",
            }),
            Body::Unsupported,
            Body::Ignored,
        ]
    }

    #[test]
    fn a_content_is_read_as_it_was_written() {
        for known in [None, Some(ListStamp { version: u64::MAX, digest: [0; 8] })] {
            for resent in [None, Some(Reference([3; 16]))] {
                for (devices, asks, rank) in
                    [(None, false, None), (Some(&b"a list"[..]), true, Some(9))]
                {
                    for body in bodies() {
                        let sealed = if asks { every_field() } else { SealedFields::default() };
                        let content = Content {
                            list: LIST,
                            known,
                            rank,
                            asks,
                            resent,
                            devices,
                            sealed,
                            body,
                        };
                        let bytes = content.encode();
                        let read = Content::decode(&bytes).unwrap();
                        assert_eq!((read.list, read.known, read.rank), (LIST, known, rank));
                        assert_eq!((read.asks, read.resent, read.devices), (asks, resent, devices));
                        assert_eq!(read.encode(), bytes);
                        for length in 0..bytes.len() {
                            // Cut short, it is refused, or says something shorter.
                            if let Ok(read) = Content::decode(&bytes[..length]) {
                                assert_eq!(read.encode(), bytes[..length]);
                            }
                        }
                    }
                }
            }
        }
    }

    fn every_field() -> SealedFields<'static> {
        SealedFields {
            tickets: &[[6; 16], [7; 16]],
            sender: Some(Claimed { device: 1, user: "alice" }),
            certificate: Some(b"anything"),
            pass: Some((2, &[8; 16])),
            knows_pass: Some(3),
        }
    }

    fn with(kind: u8, fields: &[u8], body: &[u8]) -> Vec<u8> {
        let stamp = [&1_u64.to_be_bytes()[..], &[3; 8]].concat();
        [&[kind][..], &stamp, &[0; 16], fields, &[0], body].concat()
    }

    #[test]
    fn later_kinds_and_fields_are_told_or_ignored() {
        let kind = |bytes: &[u8]| match Content::decode(bytes).unwrap().body {
            Body::Unsupported => "unsupported",
            Body::Ignored => "ignored",
            Body::Devices => "devices",
            _ => "other",
        };
        assert_eq!(kind(&with(18, &[], b"anything")), "unsupported");
        assert_eq!(kind(&with(19, &[], b"")), "unsupported");
        assert_eq!(kind(&with(25, &[], b"")), "unsupported");
        assert_eq!(kind(&with(24, &[], &[10; 25])), "ignored");
        assert_eq!(kind(&with(127, &[], b"")), "unsupported");
        assert_eq!(kind(&with(128, &[], b"anything")), "ignored");
        assert_eq!(kind(&with(19, &[], b"")), "unsupported");
        assert_eq!(kind(&with(255, &[], b"")), "ignored");
        assert_eq!(kind(&with(4, &[99, 0, 1, 9], b"")), "unsupported");
        assert_eq!(kind(&with(4, &[99, 0, 1, 9], b"not empty")), "unsupported");
        assert_eq!(kind(&with(4, &[128, 0, 1, 9, 255, 0, 0], b"")), "devices");
    }

    #[test]
    fn a_proposal_of_a_later_version_is_told() {
        let bytes = with(16, &[], &[7; 73]);
        assert!(matches!(Content::decode(&bytes).unwrap().body, Body::Unsupported));
    }

    #[test]
    fn a_file_of_a_later_version_is_told() {
        let mut files = [&[FILES, 0, 153][..], &TWO_FILES].concat();
        assert!(matches!(Content::decode(&with(1, &files, &[7; 16])).unwrap().body, Body::Text(_)));
        files[80] = 2;
        let bytes = with(1, &files, &[7; 16]);
        assert!(matches!(Content::decode(&bytes).unwrap().body, Body::Unsupported));
    }

    #[test]
    fn every_fault_of_the_layout_is_malformed() {
        let files = [&[FILES, 0, 153][..], &TWO_FILES].concat();
        let faults: [(&str, Vec<u8>); 38] = [
            ("a short history", with(20, &[], &[1; 105])),
            ("a history with a long location", with(20, &[], &[1; 1_131])),
            ("files of kind 4", with(4, &files, b"")),
            ("files of kind 10", with(10, &files, &[7; 48])),
            ("files of kind 16", with(16, &files, &[0; 73])),
            ("a proposal of nothing", with(16, &[], &[0; 72])),
            ("a proposal of half a name", with(16, &[], &[1; 74])),
            ("files of kind 6", with(6, &files, &[7; 16])),
            ("files that are none", with(1, &[FILES, 0, 0], &[7; 16])),
            ("half a file", with(1, &[&[FILES, 0, 40][..], &[1; 40]].concat(), &[7; 16])),
            ("a signal of type 0", with(24, &[], &[0; 25])),
            ("a short signal", with(24, &[], &[1; 24])),
            ("a signal of no time", with(24, &[], &[1; 25])),
            ("a long signal", with(24, &[], &vec![1; 25 + Signal::MAX_BODY + 1])),
            ("kind 0", with(0, &[], b"")),
            ("a list of version 0", [&[4][..], &[0; 32], &[0]].concat()),
            ("a known digest without version", {
                let mut bytes = with(4, &[], b"");
                bytes[25] = 1;
                bytes
            }),
            ("bytes after kind 4", with(4, &[], b"x")),
            ("bytes after kind 5", with(5, &[], &[0, 0])),
            ("bytes after a seed", with(5, &[], &[[1; 34].as_slice()].concat())),
            ("presence 2", with(5, &[], &[2])),
            ("half a reference", with(3, &[], &[0; 32])),
            ("no reference", with(3, &[], &[0; 8])),
            ("half a gone reference", with(6, &[], &[0; 17])),
            ("a field twice", with(4, &[2, 0, 0, 2, 0, 0], b"")),
            ("fields out of order", with(4, &[2, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1], b"")),
            ("a long rank", with(4, &[1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0], b"")),
            ("a mark for nobody", with(7, &[], &[1; 33])),
            ("a mark that is neither", with(7, &[], &[2; 40])),
            ("half a scan's answer", with(8, &[], &[1; 31])),
            ("a long answer of a scan", with(8, &[], &[1; 33])),
            ("half a commitment", with(9, &[], &[1; 47])),
            ("a long commitment", with(9, &[], &[1; 49])),
            ("half a nonce", with(10, &[], &[1; 47])),
            ("a long nonce", with(10, &[], &[1; 49])),
            ("an end without a reason", with(11, &[], &[1; 16])),
            ("an end with two reasons", with(11, &[], &[1; 18])),
            ("a copy to nobody", with(2, &[], &[[0; 17].as_slice()].concat())),
        ];
        for (name, bytes) in faults {
            assert_eq!(Content::decode(&bytes).err(), Some(Error::Malformed), "{name}");
        }
    }
}
