//! The roster of a group: a set of signed changes, and who is in by them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::bits::Bits;
use super::change::{Change, GroupRole, Op, Place};
use super::history::{Entry, History, Right};
use super::id::{ChangeId, GroupId, MemberId};
use super::state::{GroupMember, MAX_MEMBERS, State};
use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};

/// Who is in a group, and who may change that: a set of signed [`Change`]s.
///
/// Everybody who holds the same changes sees the same members, in whatever order the changes came.
/// No server takes part: a change is made by a member and signed with the member's account key. A
/// roster holds no key of messages, no clock and no store.
///
/// - **Rank.** A right is an add as an admin, or a promotion. Its rank is
///   `(height, change id, index of the op)`; the smaller rank is the more senior one.
/// - **Allowed.** A change is judged once, in the state that its parents make: its author is a
///   member, and each op is about the author's own membership, or the author is an admin who
///   outranks the member that it is about. What is not allowed is refused, and what is built on it.
/// - **Counts.** Of changes that were made without knowledge of each other, those of a member do
///   not count where a more senior admin removed or demoted the member; so two admins who remove
///   each other do not both fall.
///
/// The rules, to the letter, are in docs/groups.md, section 1.
///
/// ```
/// use subrosa::group::{GroupRole, Op, Roster};
/// use subrosa::protocol::IdentityKeyPair;
/// use subrosa::SystemRng;
///
/// let [alice, bob] = [(); 2].map(|()| IdentityKeyPair::generate(&mut SystemRng));
/// let add = |user: &str, account: &IdentityKeyPair, role| Op::Add {
///     user: user.into(),
///     account: account.public_key(),
///     role,
/// };
/// let mut roster = Roster::found("alice", &[], &alice, &mut SystemRng)?;
/// let by = roster.members()[0].id;
/// let change = roster.sign(by, &[add("bob", &bob, GroupRole::Member)], &alice)?;
/// roster.merge([change]);
///
/// let mut theirs = Roster::from_changes(roster.changes().cloned())?;
/// let names: Vec<&str> = theirs.members().iter().map(|member| &*member.user).collect();
/// assert_eq!(names, ["alice", "bob"]);
/// let leave = theirs.sign(theirs.members()[1].id, &[Op::Remove(theirs.members()[1].id)], &bob)?;
/// theirs.merge([leave.clone()]);
/// roster.merge([leave]);
/// assert_eq!(roster.members(), theirs.members());
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Roster {
    group: GroupId,
    pub(super) history: History,
    /// The state that all changes make.
    pub(super) counts: Bits,
    members: Vec<GroupMember>,
    settings: Option<Vec<u8>>,
}

/// What became of the changes that [`Roster::merge`] was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// These are part of the roster now, in an order in which parents come first.
    pub accepted: Vec<ChangeId>,
    /// These never will be: drop them. [`Error::BadSignature`], [`Error::Malformed`],
    /// [`Error::NotPermitted`]; [`Error::Exhausted`] where the roster is full.
    pub refused: Vec<(ChangeId, Error)>,
    /// These are built on changes that are not here.
    pub waiting: Vec<Change>,
    /// The changes that are not here: ask for them.
    pub missing: Vec<ChangeId>,
}

/// Why a change is not part of the roster.
enum Refusal {
    Known,
    Missing,
    For(Error),
}

/// Whether signatures are verified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signatures {
    Verified,
    Trusted,
}

impl Roster {
    /// The most members that are given keys.
    pub const MAX_MEMBERS: usize = MAX_MEMBERS;

    /// The most changes of a group.
    pub const MAX_CHANGES: usize = 4_096;

    /// Founds a group: `user`, with this account key, is its first admin. The other ops add members
    /// or set the settings. Draws 16 bytes, so that no two groups have the same id, even where one
    /// user founds both for the same people.
    ///
    /// # Errors
    /// [`Error::Malformed`]: a name is empty or longer than 255 bytes, the settings are longer than
    /// 4 KiB, there are more than 63 other ops, a user is added twice, or one of the ops is about a
    /// member; correct the call.
    pub fn found(
        user: &str,
        others: &[Op],
        account: &IdentityKeyPair,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let mut drawn = [0; 16];
        rng.fill_bytes(&mut drawn);
        Self::found_as(drawn, user, others, account)
    }

    /// As [`Roster::found`], of bytes that no other group of this founder is made of.
    pub(crate) fn found_as(
        drawn: [u8; 16],
        user: &str,
        others: &[Op],
        account: &IdentityKeyPair,
    ) -> Result<Self, Error> {
        let creator =
            Op::Add { user: user.into(), account: account.public_key(), role: GroupRole::Admin };
        let ops = [&[creator], others].concat();
        Self::of_first(Change::sign(Place::First(drawn), [0; 32], ops, account)?)
    }

    /// From the changes of a group, in any order. What is not allowed is left out, and what lacks
    /// a parent.
    ///
    /// # Errors
    /// [`Error::Malformed`]: there is no first change among them. [`Error::BadSignature`]: it is
    /// not signed by the account that it names.
    pub fn from_changes(changes: impl IntoIterator<Item = Change>) -> Result<Self, Error> {
        Self::of_all(changes, Signatures::Verified)
    }

    /// From our own store, where every change was part of this roster.
    pub(crate) fn restore(changes: impl IntoIterator<Item = Change>) -> Result<Self, Error> {
        Self::of_all(changes, Signatures::Trusted).map_err(|_| Error::BadState)
    }

    fn of_all(
        changes: impl IntoIterator<Item = Change>,
        signatures: Signatures,
    ) -> Result<Self, Error> {
        let (mut first, mut later): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.parents().is_empty());
        let first = first.pop().ok_or(Error::Malformed)?;
        if signatures == Signatures::Verified {
            verify_first(&first)?;
        }
        let mut roster = Self::begun(first);
        later.sort_by_key(Change::height);
        let merged = roster.take(later, signatures);
        let is_whole = merged.refused.is_empty() && merged.waiting.is_empty();
        if signatures == Signatures::Trusted && !is_whole {
            return Err(Error::BadState);
        }
        Ok(roster)
    }

    fn of_first(first: Change) -> Result<Self, Error> {
        verify_first(&first)?;
        let mut roster = Self::begun(first);
        roster.refresh();
        Ok(roster)
    }

    fn begun(first: Change) -> Self {
        let mut roster = Self {
            group: first.group(),
            history: History::default(),
            counts: Bits::default(),
            members: Vec::new(),
            settings: None,
        };
        let right = Right { rank: (1, first.id(), 0), given_in: 0 };
        roster.history.keep(Entry {
            change: first,
            ancestors: Bits::default(),
            author: 0,
            right: Some(right),
        });
        roster
    }

    /// Takes changes in, in whatever order they are.
    ///
    /// Of the changes that are not taken in, nothing is kept.
    pub fn merge(&mut self, changes: impl IntoIterator<Item = Change>) -> Merged {
        let mut changes: Vec<Change> = changes.into_iter().collect();
        changes.sort_by_key(Change::height);
        self.take(changes, Signatures::Verified)
    }

    /// As [`Roster::merge`], of changes that another roster of this group has taken in, parents
    /// first: their signatures are known to be good.
    pub(crate) fn take_verified(&mut self, changes: Vec<Change>) -> Merged {
        self.take(changes, Signatures::Trusted)
    }

    /// Takes in changes that are sorted by height.
    fn take(&mut self, changes: Vec<Change>, signatures: Signatures) -> Merged {
        let (mut merged, mut out) = (Merged::default(), BTreeSet::new());
        for change in changes {
            let id = change.id();
            if change.parents().iter().any(|parent| out.contains(parent)) {
                out.insert(id);
                merged.refused.push((id, Error::NotPermitted));
                continue;
            }
            match self.judge(&change, signatures) {
                Ok((ancestors, author, right)) => {
                    self.history.keep(Entry { change, ancestors, author, right });
                    merged.accepted.push(id);
                }
                Err(Refusal::Known) => {}
                Err(Refusal::Missing) => merged.waiting.push(change),
                Err(Refusal::For(error)) => {
                    // Somebody else can write a bad signature under a good change.
                    if error == Error::NotPermitted {
                        out.insert(id);
                    }
                    merged.refused.push((id, error));
                }
            }
        }
        let coming: BTreeSet<ChangeId> = merged.waiting.iter().map(Change::id).collect();
        let parents = merged.waiting.iter().flat_map(Change::parents);
        let missing: BTreeSet<ChangeId> =
            parents.filter(|id| !coming.contains(id) && !self.contains(id)).copied().collect();
        merged.missing.extend(missing);
        self.refresh();
        merged
    }

    /// Whether the change may be part of the roster, and what follows from its ancestors.
    fn judge(
        &mut self,
        change: &Change,
        signatures: Signatures,
    ) -> Result<(Bits, usize, Option<Right>), Refusal> {
        if self.contains(&change.id()) {
            return Err(Refusal::Known);
        }
        if change.group() != self.group || change.parents().is_empty() {
            return Err(Refusal::For(Error::Malformed));
        }
        let parents = change.parents().iter().map(|id| self.history.get(id));
        let parents: Vec<usize> = parents.collect::<Option<_>>().ok_or(Refusal::Missing)?;
        let ancestors = self.history.ancestors(&parents, change.height()).map_err(Refusal::For)?;
        let author = self.history.number_of(change.author());
        let author = author.ok_or(Refusal::For(Error::NotPermitted))?;
        if signatures == Signatures::Verified {
            let account = self.history.named(author).account;
            change.verify(&account).map_err(Refusal::For)?;
        }
        let state = State::decide(&self.history, ancestors);
        if !state.allows(author, change.ops()) {
            return Err(Refusal::For(Error::NotPermitted));
        }
        if self.history.len() >= Self::MAX_CHANGES {
            return Err(Refusal::For(Error::Exhausted));
        }
        let right = state.right(author);
        Ok((state.into_set(), author, right))
    }

    fn refresh(&mut self) {
        let state = State::decide(&self.history, self.history.all().clone());
        let members = state.members();
        let settings = state.settings().map(|(_, bytes)| bytes.to_vec());
        self.counts = state.into_counts();
        self.members = members;
        self.settings = settings;
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The group that this one is to take the place of, by the word of its founder.
    #[must_use]
    pub fn continues(&self) -> Option<GroupId> {
        self.changes().next().and_then(Change::continues)
    }

    /// The user and the account key that founded the group.
    #[must_use]
    pub fn founder(&self) -> (&str, IdentityKey) {
        let named = self.history.named(0);
        (&named.user, named.account)
    }

    /// Who is in, in the order in which they were added.
    #[must_use]
    pub fn members(&self) -> &[GroupMember] {
        &self.members
    }

    /// The member of this id, if it is in.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&GroupMember> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The user and the account key that an id was given for, in or not.
    #[must_use]
    pub fn was_given_for(&self, id: MemberId) -> Option<(&str, IdentityKey)> {
        let named = self.history.named(self.history.number_of(id)?);
        Some((&named.user, named.account))
    }

    /// The settings that count.
    #[must_use]
    pub fn settings(&self) -> Option<&[u8]> {
        self.settings.as_deref()
    }

    /// The changes that no other one is built on, ascending.
    #[must_use]
    pub fn heads(&self) -> Vec<ChangeId> {
        let mut heads: Vec<ChangeId> =
            self.history.heads().map(|at| self.history.entry(at).change.id()).collect();
        heads.sort_unstable();
        heads
    }

    /// All changes, parents first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.history.entries().map(|(_, entry)| &entry.change)
    }

    /// The change of this id.
    #[must_use]
    pub fn get(&self, id: &ChangeId) -> Option<&Change> {
        self.history.get(id).map(|at| &self.history.entry(at).change)
    }

    /// Whether this change is part of the roster.
    #[must_use]
    pub fn contains(&self, id: &ChangeId) -> bool {
        self.history.get(id).is_some()
    }

    /// Whether this change is part of the roster, and counts.
    #[must_use]
    pub fn counts(&self, id: &ChangeId) -> bool {
        self.history.get(id).is_some_and(|at| self.counts.contains(at))
    }

    /// What somebody lacks who has these changes and all that they are built on. Ids that are not
    /// part of the roster are ignored.
    pub fn changes_since(&self, known: &[ChangeId]) -> impl Iterator<Item = &Change> {
        let held = self.held_by(known);
        let lacking = self.history.entries().filter(move |(at, _)| !held.contains(*at));
        lacking.map(|(_, entry)| &entry.change)
    }

    /// These changes, as far as they are here, and what they are built on.
    pub(super) fn held_by(&self, known: &[ChangeId]) -> Bits {
        let mut held = Bits::with_room(self.history.len());
        for at in known.iter().filter_map(|id| self.history.get(id)) {
            held.extend(&self.history.entry(at).ancestors);
            held.insert(at);
        }
        held
    }

    /// Whether the author of this change saw another state than this roster has for its parents:
    /// one of the two devices judges changes wrongly. Nothing follows from it but a report.
    #[must_use]
    pub fn disagrees(&self, id: &ChangeId) -> bool {
        let entry = self.history.get(id).map(|at| self.history.entry(at));
        entry.filter(|entry| !entry.change.parents().is_empty()).is_some_and(|entry| {
            State::decide(&self.history, entry.ancestors.clone()).hash() != *entry.change.state()
        })
    }

    /// How many changes of this member no other one is built on.
    pub(crate) fn heads_of(&self, author: MemberId) -> usize {
        let author = self.history.number_of(author);
        self.history.heads().filter(|at| Some(self.history.entry(*at).author) == author).count()
    }

    /// Whether a change that counts, and is by one of those authors, is built on this one.
    pub(crate) fn is_taken_up(&self, id: &ChangeId, by: impl Fn(MemberId) -> bool) -> bool {
        let Some(at) = self.history.get(id) else { return false };
        self.history.entries().any(|(above, entry)| {
            entry.ancestors.contains(at) && self.counts.contains(above) && by(entry.change.author())
        })
    }

    /// The ids under which a user is in.
    pub(crate) fn ids_in(&self, user: &str) -> Vec<MemberId> {
        let of = self.members.iter().filter(|member| *member.user == *user);
        of.map(|member| member.id).collect()
    }

    /// The role of a user who is in: the highest, where the user is in under several ids.
    pub(crate) fn role_in(&self, user: &str) -> Option<GroupRole> {
        let of = self.members.iter().filter(|member| *member.user == *user);
        of.map(|member| member.role).max()
    }

    /// Every id that was ever given to any user.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.changes().flat_map(Change::additions).map(|(_, id, _)| id)
    }

    /// Every id that was ever given for a user.
    pub(crate) fn ids_of(&self, user: &str) -> Vec<MemberId> {
        let is_of = |op: &Op| matches!(op, Op::Add { user: name, .. } if **name == *user);
        let additions = self.changes().flat_map(Change::additions);
        additions.filter(|(_, _, op)| is_of(op)).map(|(_, id, _)| id).collect()
    }

    /// Makes a change by this member, on all that is known here, and signs it. It is not part of
    /// the roster before it is merged.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: the member is not in, or may not do this. [`Error::Malformed`]: no
    /// change has these ops. Correct the call in both cases. [`Error::Exhausted`]: the group has
    /// 4,096 changes; found a successor.
    pub fn sign(
        &self,
        author: MemberId,
        ops: &[Op],
        account: &IdentityKeyPair,
    ) -> Result<Change, Error> {
        let number = self.history.number_of(author).ok_or(Error::NotPermitted)?;
        if self.history.named(number).account != account.public_key() {
            return Err(Error::NotPermitted);
        }
        Ok(self.draft(author, ops)?.signed(account))
    }

    /// The roster as it would be with such a change, which nobody signed.
    ///
    /// # Errors
    /// As [`Roster::sign`].
    pub fn preview(&self, author: MemberId, ops: &[Op]) -> Result<Self, Error> {
        self.draft(author, ops).map(|change| self.with(change))
    }

    /// A change by this member on all that is known here, without its signature.
    fn draft(&self, author: MemberId, ops: &[Op]) -> Result<Change, Error> {
        if self.history.len() >= Self::MAX_CHANGES {
            return Err(Error::Exhausted);
        }
        // More than 16 heads are for several changes to bring together: the lowest come first.
        let of = |at: &usize| &self.history.entry(*at).change;
        let mut heads: Vec<usize> = self.history.heads().collect();
        heads.sort_by_key(|at| (of(at).height(), of(at).id()));
        heads.truncate(Change::MAX_PARENTS);
        let highest = heads.iter().map(|at| of(at).height()).max();
        let height = highest.unwrap_or(0).saturating_add(1);
        let state = State::decide(&self.history, self.history.ancestors(&heads, height)?);
        let number = self.history.number_of(author).ok_or(Error::NotPermitted)?;
        let mut parents: Vec<ChangeId> = heads.iter().map(|at| of(at).id()).collect();
        parents.sort_unstable();
        let place = Place::Later { group: self.group, height, parents, author };
        let change = Change::unsigned(place, state.hash(), ops.to_vec())?;
        if state.allows(number, ops) { Ok(change) } else { Err(Error::NotPermitted) }
    }

    /// The state at rest: `count:u32 * (length:u32 || change)`, parents first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.history.len()).unwrap_or(u32::MAX);
        let out = Writer::with_capacity(4_096).u32(count);
        let changes = self.changes().map(Change::encode);
        let one = |out: Writer, bytes: &[u8]| {
            out.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).bytes(bytes)
        };
        changes.fold(out, one).done()
    }

    /// From what [`Roster::encode`] made, in our own store: signatures are not verified again. Give
    /// what comes from others to [`Roster::from_changes`].
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let mut changes = Vec::new();
        for _ in 0..reader.u32().map_err(|_| Error::BadState)? {
            let length = reader.u32().map_err(|_| Error::BadState)?;
            let length = usize::try_from(length).map_err(|_| Error::BadState)?;
            changes.push(Change::restore(reader.bytes(length).map_err(|_| Error::BadState)?)?);
        }
        reader.end().map_err(|_| Error::BadState)?;
        Self::restore(changes)
    }

    /// The roster as it would be with this change. What the change would void is what is not the
    /// same.
    #[must_use]
    pub fn with(&self, change: Change) -> Self {
        let mut roster = self.clone();
        roster.take(Vec::from([change]), Signatures::Trusted);
        roster
    }
}

/// Whether the account that a first change adds made it.
fn verify_first(change: &Change) -> Result<(), Error> {
    match change.ops().first() {
        Some(Op::Add { account, .. }) => change.verify(account),
        _ => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests;
