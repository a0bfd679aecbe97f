//! A change of a group: who is added, removed, promoted or demoted, and by whom.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::id::{ChangeId, GroupId, MemberId};
use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};

/// A signed change of a group.
///
/// ```text
/// version:u8 = 1 || group:32 || height:u32 || count:u8 (0 to 16) * parent:32 || author:16 ||
/// state:32 || count:u8 (0 to 64) * op || signature:64
/// op = 0:u8 || length:u8 || user || account:32 || role:u8 (0 = member, 1 = admin)   add
///    | 1:u8 || member:16                                                            remove
///    | 2:u8 || member:16                                                            promote
///    | 3:u8 || member:16                                                            demote
///    | 4:u8 || length:u16 || bytes                                                  settings
///    | 5:u8 || group:32                                                            continues
/// ```
///
/// The parents are ascending. `height` is one more than the highest of theirs. In the first change
/// of a group, and in no other, `group`, `author` and `state` are zeros, `height` is 1, there are
/// no parents, op 0 adds the creator as an admin, and the others add members, set the settings, or
/// name the group that this one continues, which no other change does. No two ops of a change name
/// one member, add one user, set the settings, or name a group.
///
/// The id is `H(all before the signature)`. The signature is Ed25519 by the author's account key
/// over `"Subrosa v1 group change" || all before` (docs/groups.md, 1).
///
/// A `Change` has this layout. A [`Roster`](super::Roster) says whether its signature holds and its
/// author could make it.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    id: ChangeId,
    place: Place,
    state: [u8; 32],
    ops: Vec<Op>,
    bytes: Vec<u8>,
}

/// Where a change stands in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It founds the group. 16 drawn bytes keep apart groups that are alike otherwise.
    First([u8; 16]),
    /// It was made by a member who knew its parents.
    Later { group: GroupId, height: u32, parents: Vec<ChangeId>, author: MemberId },
}

/// What a [`Change`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Adds a user.
    Add {
        /// The user, 1 to 255 bytes.
        user: Box<str>,
        /// The user's account key.
        account: IdentityKey,
        /// What the user may do to the roster.
        role: GroupRole,
    },
    /// Removes a member for good.
    Remove(MemberId),
    /// Makes a member an admin.
    Promote(MemberId),
    /// Takes the rights of an admin for good.
    Demote(MemberId),
    /// Sets the title, the picture, and whatever else the app keeps for the group: at most 4 KiB
    /// that this crate does not read.
    Settings(Vec<u8>),
    /// The group is to take the place of this one: its founder says so, and nobody else does.
    Continues(GroupId),
}

/// What a member may do to the roster of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupRole {
    /// Reads, writes, and can leave.
    Member,
    /// Also adds, removes, promotes and demotes others, and sets the settings.
    Admin,
}

/// How the keys of accounts are read: checked, or as our own store has them.
#[derive(Clone, Copy)]
enum Keys {
    Checked,
    Stored,
}

impl Change {
    /// The most ops in one change.
    pub const MAX_OPS: usize = 64;

    /// The most parents of one change.
    pub const MAX_PARENTS: usize = 16;

    /// The most bytes of settings.
    pub const MAX_SETTINGS: usize = 4_096;

    const VERSION: u8 = 1;

    /// From bytes. The layout is checked, and that each account key is one.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::InvalidKey`]: these bytes are
    /// not a change; drop them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes, Keys::Checked)
    }

    /// From our own store.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes, Keys::Stored).map_err(|_| Error::BadState)
    }

    /// The bytes, which travel between members.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the change.
    #[must_use]
    pub const fn id(&self) -> ChangeId {
        self.id
    }

    /// The group that it founds or changes.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        match self.place {
            Place::First(_) => GroupId::founded_by(self.id),
            Place::Later { group, .. } => group,
        }
    }

    /// Who made it.
    #[must_use]
    pub fn author(&self) -> MemberId {
        match self.place {
            Place::First(_) => MemberId::added_by(self.id, 0),
            Place::Later { author, .. } => author,
        }
    }

    /// One more than the highest of its parents.
    #[must_use]
    pub const fn height(&self) -> u32 {
        match self.place {
            Place::First(_) => 1,
            Place::Later { height, .. } => height,
        }
    }

    /// The changes that its author knew of, apart from those that these are built on.
    #[must_use]
    pub fn parents(&self) -> &[ChangeId] {
        match &self.place {
            Place::First(_) => &[],
            Place::Later { parents, .. } => parents,
        }
    }

    /// What it does.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether it adds this member.
    pub(crate) fn adds(&self, id: MemberId) -> bool {
        self.additions().any(|(_, added, _)| added == id)
    }

    /// The group that this one is to take the place of, where it founds one.
    pub(super) fn continues(&self) -> Option<GroupId> {
        self.ops.iter().find_map(|op| match op {
            Op::Continues(group) => Some(*group),
            _ => None,
        })
    }

    /// The hash of the state that its author saw.
    pub(super) const fn state(&self) -> &[u8; 32] {
        &self.state
    }

    /// The ids that it gives, with the index of the op.
    pub(super) fn additions(&self) -> impl Iterator<Item = (u8, MemberId, &Op)> {
        (0..=u8::MAX).zip(&self.ops).filter_map(|(index, op)| match op {
            Op::Add { .. } => Some((index, MemberId::added_by(self.id, index), op)),
            _ => None,
        })
    }

    /// Makes a change and signs it.
    ///
    /// # Errors
    /// [`Error::Malformed`]: no change has these ops.
    pub(super) fn sign(
        place: Place,
        state: [u8; 32],
        ops: Vec<Op>,
        account: &IdentityKeyPair,
    ) -> Result<Self, Error> {
        Ok(Self::unsigned(place, state, ops)?.signed(account))
    }

    /// A change as it would be, with zeros for a signature.
    ///
    /// # Errors
    /// [`Error::Malformed`]: no change has these ops.
    pub(super) fn unsigned(place: Place, state: [u8; 32], ops: Vec<Op>) -> Result<Self, Error> {
        let (unsigned, id) = unsigned(&place, &state, &ops)?;
        Ok(Self { id, place, state, ops, bytes: [&unsigned[..], &[0; 64]].concat() })
    }

    /// The same with the signature of its author.
    pub(super) fn signed(mut self, account: &IdentityKeyPair) -> Self {
        if let Some((unsigned, signature)) = self.bytes.split_last_chunk_mut::<64>() {
            *signature = account.sign(&[LABEL, unsigned].concat());
        }
        self
    }

    /// Whether this account made it.
    ///
    /// # Errors
    /// [`Error::BadSignature`], [`Error::InvalidKey`]
    pub(super) fn verify(&self, account: &IdentityKey) -> Result<(), Error> {
        let (unsigned, signature) = self.bytes.split_last_chunk().ok_or(Error::Malformed)?;
        let (_, key) = IdentityKey::verifying(account.as_bytes())?;
        key.verify(&[LABEL, unsigned].concat(), signature)
    }

    fn read(bytes: &[u8], keys: Keys) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let group: [u8; 32] = *reader.array()?;
        let height = reader.u32()?;
        let mut parents = Vec::new();
        for _ in 0..reader.u8()? {
            parents.push(ChangeId::from(*reader.array::<32>()?));
        }
        let author: [u8; 16] = *reader.array()?;
        let state = *reader.array()?;
        let mut ops = Vec::new();
        for _ in 0..reader.u8()? {
            ops.push(Op::read(&mut reader, keys)?);
        }
        let _: &[u8; 64] = reader.array()?;
        reader.end()?;
        let place = if parents.is_empty() {
            if (group, height, state) != ([0; 32], 1, [0; 32]) {
                return Err(Error::Malformed);
            }
            Place::First(author)
        } else {
            let (group, author) = (group.into(), author.into());
            Place::Later { group, height, parents, author }
        };
        check(&place, &ops)?;
        let unsigned = bytes.split_last_chunk::<64>().ok_or(Error::Malformed)?.0;
        Ok(Self { id: ChangeId::of(unsigned), place, state, ops, bytes: bytes.to_vec() })
    }
}

/// All before the signature, and its hash.
fn unsigned(place: &Place, state: &[u8; 32], ops: &[Op]) -> Result<(Vec<u8>, ChangeId), Error> {
    check(place, ops)?;
    let out = Writer::with_capacity(1_024).u8(Change::VERSION);
    let out = match place {
        Place::First(drawn) => out.bytes(&[0; 32]).u32(1).u8(0).bytes(drawn),
        Place::Later { group, height, parents, author } => {
            let count = u8::try_from(parents.len()).map_err(|_| Error::Malformed)?;
            let out = out.bytes(group.as_bytes()).u32(*height).u8(count);
            let out = parents.iter().fold(out, |out, parent| out.bytes(parent.as_bytes()));
            out.bytes(author.as_bytes())
        }
    };
    let count = u8::try_from(ops.len()).map_err(|_| Error::Malformed)?;
    let out = out.bytes(state).u8(count);
    let bytes = ops.iter().try_fold(out, |out, op| op.write(out))?.done();
    let id = ChangeId::of(&bytes);
    Ok((bytes, id))
}

/// What the layout asks for beyond the lengths.
fn check(place: &Place, ops: &[Op]) -> Result<(), Error> {
    let fits = match place {
        Place::First(_) => is_first(ops),
        Place::Later { height, parents, .. } => {
            *height > 1
                && (1..=Change::MAX_PARENTS).contains(&parents.len())
                && parents.is_sorted_by(|one, next| one < next)
                && !ops.iter().any(|op| matches!(op, Op::Continues(_)))
        }
    };
    let lone = ops.iter().enumerate().all(|(index, op)| {
        ops.iter().skip(index.saturating_add(1)).all(|other| !op.excludes(other))
    });
    let small = ops.iter().all(|op| match op {
        Op::Add { user, .. } => (1..=usize::from(u8::MAX)).contains(&user.len()),
        Op::Settings(bytes) => bytes.len() <= Change::MAX_SETTINGS,
        _ => true,
    });
    if fits && lone && small && ops.len() <= Change::MAX_OPS {
        Ok(())
    } else {
        Err(Error::Malformed)
    }
}

fn is_first(ops: &[Op]) -> bool {
    matches!(ops.first(), Some(Op::Add { role: GroupRole::Admin, .. }))
        && ops.iter().all(|op| matches!(op, Op::Add { .. } | Op::Settings(_) | Op::Continues(_)))
}

impl Op {
    /// The member that it is about, who has an id already.
    pub(super) const fn member(&self) -> Option<MemberId> {
        match self {
            Self::Remove(id) | Self::Promote(id) | Self::Demote(id) => Some(*id),
            Self::Add { .. } | Self::Settings(_) | Self::Continues(_) => None,
        }
    }

    /// Whether one change cannot have both.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Add { user, .. }, Self::Add { user: another, .. }) => user == another,
            (Self::Settings(_), Self::Settings(_)) | (Self::Continues(_), Self::Continues(_)) => {
                true
            }
            _ => self.member().is_some() && self.member() == other.member(),
        }
    }

    fn read(reader: &mut Reader<'_>, keys: Keys) -> Result<Self, Error> {
        Ok(match reader.u8()? {
            0 => {
                let length = usize::from(reader.u8()?);
                let user = core::str::from_utf8(reader.bytes(length)?);
                let user = user.map_err(|_| Error::Malformed)?.into();
                let bytes = reader.array::<32>()?;
                let account = match keys {
                    Keys::Checked => IdentityKey::decode(bytes)?,
                    Keys::Stored => IdentityKey::unchecked(bytes).ok_or(Error::BadState)?,
                };
                let role = match reader.u8()? {
                    0 => GroupRole::Member,
                    1 => GroupRole::Admin,
                    _ => return Err(Error::Malformed),
                };
                Self::Add { user, account, role }
            }
            1 => Self::Remove(MemberId::from(*reader.array::<16>()?)),
            2 => Self::Promote(MemberId::from(*reader.array::<16>()?)),
            3 => Self::Demote(MemberId::from(*reader.array::<16>()?)),
            4 => {
                let length = usize::from(reader.u16()?);
                Self::Settings(reader.bytes(length)?.to_vec())
            }
            5 => Self::Continues(GroupId::from(*reader.array::<32>()?)),
            _ => return Err(Error::Malformed),
        })
    }

    fn write(&self, out: Writer) -> Result<Writer, Error> {
        Ok(match self {
            Self::Add { user, account, role } => {
                let length = u8::try_from(user.len()).map_err(|_| Error::Malformed)?;
                let role = u8::from(*role == GroupRole::Admin);
                out.u8(0).u8(length).bytes(user.as_bytes()).bytes(account.as_bytes()).u8(role)
            }
            Self::Remove(id) => out.u8(1).bytes(id.as_bytes()),
            Self::Promote(id) => out.u8(2).bytes(id.as_bytes()),
            Self::Demote(id) => out.u8(3).bytes(id.as_bytes()),
            Self::Settings(bytes) => {
                let length = u16::try_from(bytes.len()).map_err(|_| Error::Malformed)?;
                out.u8(4).u16(length).bytes(bytes)
            }
            Self::Continues(group) => out.u8(5).bytes(group.as_bytes()),
        })
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("id", &self.id)
            .field("place", &self.place)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}

const LABEL: &[u8] = b"Subrosa v1 group change";
