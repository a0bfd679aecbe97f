//! Changes of a group that a device proposes to the managers of its account: the list in a content
//! of kind 16 (docs/groups.md, 4).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::group::Change;

/// Something that a device without the account key wants to change in a group.
///
/// ```text
/// 0:u8                                leave
/// 1:u8 || length:u8 || user           add
/// 2:u8 || length:u8 || user           remove
/// 3:u8 || length:u8 || user           promote
/// 4:u8 || length:u8 || user           demote
/// 5:u8 || length:u16 || bytes         set the settings
/// 6:u8 || length:u8 || user           restore
/// ```
///
/// Names have 1 to 255 bytes of UTF-8, settings at most 4,096 (docs/groups.md, 4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProposedChange {
    /// Leave.
    Leave,
    /// Add this user.
    Add(String),
    /// Remove this user.
    Remove(String),
    /// Make this user an admin.
    Promote(String),
    /// Take the rights of this admin.
    Demote(String),
    /// Set what the app keeps for the group.
    Set(Vec<u8>),
    /// Make again what this user did and what does not count.
    Restore(String),
}

/// The most of them in one proposal.
const MOST: usize = Change::MAX_OPS;

impl ProposedChange {
    /// # Errors
    /// [`Error::Malformed`]: there are none, or more than 64, or two that set the settings, or a
    /// name or the settings are too long.
    pub(crate) fn encode_all(all: &[Self]) -> Result<Vec<u8>, Error> {
        if !is_one(all) {
            return Err(Error::Malformed);
        }
        let out = Writer::with_capacity(256);
        all.iter().try_fold(out, |out, one| one.write(out)).map(Writer::done)
    }

    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnsupportedVersion`]: there is one of a later version.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        let (mut reader, mut all) = (Reader::new(bytes), Vec::new());
        while let Ok(kind) = reader.u8() {
            all.push(Self::read(kind, &mut reader)?);
        }
        if is_one(&all) { Ok(all) } else { Err(Error::Malformed) }
    }

    /// The most bytes that these take at rest.
    pub(crate) fn stored(all: &[Self]) -> usize {
        all.len().saturating_mul(264).saturating_add(Change::MAX_SETTINGS)
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Self, Error> {
        match kind {
            0 => Ok(Self::Leave),
            1 => name(reader).map(Self::Add),
            2 => name(reader).map(Self::Remove),
            3 => name(reader).map(Self::Promote),
            4 => name(reader).map(Self::Demote),
            5 => {
                let length = usize::from(reader.u16()?);
                let bytes = reader.bytes(length)?.to_vec();
                if length > Change::MAX_SETTINGS {
                    Err(Error::Malformed)
                } else {
                    Ok(Self::Set(bytes))
                }
            }
            6 => name(reader).map(Self::Restore),
            _ => Err(Error::UnsupportedVersion),
        }
    }

    fn write(&self, out: Writer) -> Result<Writer, Error> {
        let named = |kind: u8, user: &str| {
            let length = u8::try_from(user.len()).map_err(|_| Error::Malformed)?;
            if length == 0 {
                return Err(Error::Malformed);
            }
            Ok((kind, length))
        };
        let (kind, user) = match self {
            Self::Leave => return Ok(out.u8(0)),
            Self::Set(bytes) if bytes.len() > Change::MAX_SETTINGS => return Err(Error::Malformed),
            Self::Set(bytes) => {
                let length = u16::try_from(bytes.len()).map_err(|_| Error::Malformed)?;
                return Ok(out.u8(5).u16(length).bytes(bytes));
            }
            Self::Add(user) => (1, user),
            Self::Remove(user) => (2, user),
            Self::Promote(user) => (3, user),
            Self::Demote(user) => (4, user),
            Self::Restore(user) => (6, user),
        };
        let (kind, length) = named(kind, user)?;
        Ok(out.u8(kind).u8(length).bytes(user.as_bytes()))
    }
}

/// Whether one change could do all of these.
fn is_one(all: &[ProposedChange]) -> bool {
    let sets = all.iter().filter(|one| matches!(one, ProposedChange::Set(_))).count();
    (1..=MOST).contains(&all.len()) && sets <= 1
}

fn name(reader: &mut Reader<'_>) -> Result<String, Error> {
    let length = usize::from(reader.u8()?);
    let user = core::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Malformed)?;
    if user.is_empty() { Err(Error::Malformed) } else { Ok(user.into()) }
}

/// Shows how long the settings are.
impl fmt::Debug for ProposedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave => f.write_str("Leave"),
            Self::Add(user) => write!(f, "Add({user:?})"),
            Self::Remove(user) => write!(f, "Remove({user:?})"),
            Self::Promote(user) => write!(f, "Promote({user:?})"),
            Self::Demote(user) => write!(f, "Demote({user:?})"),
            Self::Set(bytes) => write!(f, "Set({} bytes)", bytes.len()),
            Self::Restore(user) => write!(f, "Restore({user:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_is_proposed_is_read_as_it_was_written_and_in_no_other_form() {
        let all = [
            ProposedChange::Leave,
            ProposedChange::Add("bob".into()),
            ProposedChange::Remove("b".into()),
            ProposedChange::Promote("x".repeat(255)),
            ProposedChange::Demote("bob".into()),
            ProposedChange::Set(vec![7; Change::MAX_SETTINGS]),
            ProposedChange::Restore("bob".into()),
        ];
        let bytes = ProposedChange::encode_all(&all).unwrap();
        assert_eq!(ProposedChange::decode_all(&bytes).unwrap(), all);
        let leave = ProposedChange::Leave;
        let most = ProposedChange::encode_all(&vec![leave.clone(); MOST]).unwrap();
        assert_eq!(most, [0; MOST]);
        assert_eq!(ProposedChange::decode_all(&most).unwrap().len(), MOST);
        for wrong in [
            vec![],
            vec![leave; MOST + 1],
            vec![ProposedChange::Add(String::new())],
            vec![ProposedChange::Add("x".repeat(256))],
            vec![ProposedChange::Set(vec![7; Change::MAX_SETTINGS + 1])],
        ] {
            assert_eq!(ProposedChange::encode_all(&wrong), Err(Error::Malformed));
        }
        for (fault, bytes) in [
            ("nothing", &[][..]),
            ("65 of them", &[0; MOST + 1]),
            ("no name", &[1, 0]),
            ("half a name", &[1, 2, b'b']),
            ("a name that is no UTF-8", &[1, 1, 0xff]),
            ("settings twice", &[5, 0, 0, 5, 0, 0]),
            ("half a length", &[5, 0]),
            ("long settings", &[&[5, 0x10, 0x01][..], &[0; 0x1001]].concat()),
        ] {
            assert_eq!(ProposedChange::decode_all(bytes), Err(Error::Malformed), "{fault}");
        }
        assert_eq!(ProposedChange::decode_all(&[0, 7, 1]), Err(Error::UnsupportedVersion));
        let words = std::format!("{all:?}");
        assert!(words.contains("4096 bytes") && !words.contains("7, 7"), "{words}");
    }
}
