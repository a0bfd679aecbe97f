//! What a set of changes makes: which of them count, who is in, and what is allowed next.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::bits::Bits;
use super::change::{GroupRole, Op};
use super::history::{Act, ActKind, Entry, History, Named, Rank, Right};
use super::id::MemberId;
use crate::crypto::hash::Hash;
use crate::identity::IdentityKey;

/// The state that a set of changes makes. The set holds the ancestors of each change in it.
///
/// Which changes count is decided in one pass, in the order of `(rank of the author, height, id)`.
/// What voids a change has an author of smaller rank, and whether it voids depends on rights of
/// smaller rank still, which were given by authors of yet smaller rank (docs/groups.md, 1).
pub(super) struct State<'a> {
    history: &'a History,
    set: Bits,
    counts: Bits,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The member's name in the group.
    pub id: MemberId,
    /// The user, by the name that was given when the member was added.
    pub user: Box<str>,
    /// The account key that the member signs changes with.
    pub account: IdentityKey,
    /// What the member may do to the roster.
    pub role: GroupRole,
    /// Somebody removed the member, and it does not count, or the group has more than 1,024
    /// members before this one. A suspended member is given no keys.
    pub suspended: bool,
}

impl<'a> State<'a> {
    pub(super) fn decide(history: &'a History, set: Bits) -> Self {
        let counts = Bits::with_room(history.order().len());
        let mut state = State { history, set, counts };
        for &at in history.order() {
            if state.set.contains(at) && state.counts_next(at, history.entry(at)) {
                state.counts.insert(at);
            }
        }
        state
    }

    pub(super) fn into_set(self) -> Bits {
        self.set
    }

    pub(super) fn into_counts(self) -> Bits {
        self.counts
    }

    /// Whether a change counts, given all before it in the order.
    fn counts_next(&self, at: usize, entry: &Entry) -> bool {
        let author = self.history.named(entry.author);
        let founds = author.added_in == at;
        let right = entry.right.is_none_or(|right| self.counts.contains(right.given_in));
        if founds {
            return true;
        }
        if !right || !self.counts.contains(author.added_in) {
            return false;
        }
        let unknown = |act: &&Act| !self.history.entry(act.by).ancestors.contains(at);
        let mut against =
            author.acts.iter().filter(|act| self.counts.contains(act.by)).filter(unknown);
        let standing = self.standing(author, Own::Counts);
        !against.any(|act| act.rank.is_some_and(|rank| outranks(rank, standing)))
    }

    /// The most senior right of an id that counts and is not taken away.
    fn standing(&self, named: &Named, own: Own) -> Option<Rank> {
        let given = named.rights.iter().filter(|right| self.counts.contains(right.given_in));
        let first = given.map(|right| right.rank).min()?;
        let taken = self.demotions(named).any(|act| match act.rank {
            None => own == Own::Counts,
            Some(rank) => rank < first,
        });
        (!taken).then_some(first)
    }

    /// The demotions of an id whose changes count, and those by the member itself.
    fn demotions<'b>(&self, named: &'b Named) -> impl Iterator<Item = &'b Act> {
        named.acts.iter().filter(|act| act.kind == ActKind::Demotion && self.is_made(act))
    }

    /// Whether the change of an act counts. What members do to themselves always counts.
    fn is_made(&self, act: &Act) -> bool {
        match act.rank {
            None => self.set.contains(act.by),
            Some(_) => self.counts.contains(act.by),
        }
    }

    /// Whether a removal or a demotion counts, where `standing` is the right of its target.
    fn act_counts(&self, act: &Act, standing: Option<Rank>) -> bool {
        self.is_made(act) && act.rank.is_none_or(|rank| outranks(rank, standing))
    }

    pub(super) fn is_member(&self, named: &Named) -> bool {
        self.counts.contains(named.added_in) && !self.was_removed(named)
    }

    fn was_removed(&self, named: &Named) -> bool {
        let standing = self.standing(named, Own::Counts);
        let removes = |act: &Act| act.kind == ActKind::Removal && self.act_counts(act, standing);
        named.acts.iter().any(removes)
    }

    /// The most senior right that a member has.
    pub(super) fn right(&self, author: usize) -> Option<Right> {
        let named = self.history.named(author);
        let rank = self.standing(named, Own::Counts)?;
        named.rights.iter().find(|right| right.rank == rank).copied()
    }

    /// Whether this author may make a change with these ops.
    pub(super) fn allows(&self, author: usize, ops: &[Op]) -> bool {
        let named = self.history.named(author);
        let rank = self.standing(named, Own::Counts);
        self.is_member(named)
            && ops.iter().all(|op| match (op, rank) {
                (Op::Remove(id) | Op::Demote(id), _) if *id == named.id => true,
                (_, None) => false,
                (Op::Settings(_), Some(_)) => true,
                // The layout leaves it to a first change.
                (Op::Continues(_), Some(_)) => false,
                (Op::Add { user, .. }, Some(_)) => self.is_free(user, ops),
                (Op::Promote(id), Some(_)) => {
                    self.find(*id).is_some_and(|target| self.may_rise(target))
                }
                (Op::Remove(id) | Op::Demote(id), Some(rank)) => {
                    self.find(*id).is_some_and(|target| self.may_fall(target, rank))
                }
            })
    }

    fn find(&self, id: MemberId) -> Option<&'a Named> {
        self.history.number_of(id).map(|at| self.history.named(at))
    }

    /// Whether no id of this user is in, apart from those that the same change removes.
    fn is_free(&self, user: &str, ops: &[Op]) -> bool {
        self.history.numbers_of(user).iter().all(|at| {
            let named = self.history.named(*at);
            ops.contains(&Op::Remove(named.id)) || !self.is_member(named)
        })
    }

    /// Whether an id may be promoted: a member without a right, who was never demoted.
    pub(super) fn may_rise(&self, target: &Named) -> bool {
        let gave = |right: &Right| self.counts.contains(right.given_in);
        self.is_member(target)
            && !target.rights.iter().any(gave)
            && self.demotions(target).next().is_none()
    }

    /// Whether an admin of this rank may remove or demote an id: a member that the admin outranks,
    /// or one that left, where nobody who outranked it has confirmed that yet.
    fn may_fall(&self, target: &Named, rank: Rank) -> bool {
        if self.is_member(target) {
            return outranks(rank, self.standing(target, Own::Counts));
        }
        let former = self.standing(target, Own::Ignored);
        let confirmed = target.acts.iter().any(|act| {
            let by_other = act.rank.is_some_and(|rank| outranks(rank, former));
            act.kind == ActKind::Removal && by_other && self.is_made(act)
        });
        self.counts.contains(target.added_in) && outranks(rank, former) && !confirmed
    }

    /// Whether a removal names this member that does not count, and nobody who outranks its author
    /// has taken notice since.
    fn is_suspended(&self, at: usize, named: &Named) -> bool {
        let standing = self.standing(named, Own::Counts);
        let open = |act: &&Act| {
            act.kind == ActKind::Removal
                && self.set.contains(act.by)
                && !self.act_counts(act, standing)
        };
        named.acts.iter().filter(open).any(|act| {
            let settled = |(number, entry): (usize, &Entry)| {
                entry.author != at
                    && self.counts.contains(number)
                    && entry.right.is_some_and(|right| Some(right.rank) < act.rank)
                    && entry.ancestors.contains(act.by)
            };
            !self.history.entries().any(settled)
        })
    }

    /// Who is in, in the order of the adds.
    pub(super) fn members(&self) -> Vec<GroupMember> {
        let all = self.history.all_named().enumerate();
        let mut inside: Vec<(usize, &Named)> =
            all.filter(|(_, named)| self.is_member(named)).collect();
        inside.sort_by_key(|(_, named)| named.added);
        let members = inside.into_iter().enumerate().map(|(place, (at, named))| GroupMember {
            id: named.id,
            user: named.user.clone(),
            account: named.account,
            role: match self.standing(named, Own::Counts) {
                Some(_) => GroupRole::Admin,
                None => GroupRole::Member,
            },
            suspended: place >= MAX_MEMBERS || self.is_suspended(at, named),
        });
        members.collect()
    }

    /// The bytes of the settings that count, with the change that set them.
    pub(super) fn settings(&self) -> Option<(&'a Entry, &'a [u8])> {
        let counting = self.history.entries().filter(|(at, _)| self.counts.contains(*at));
        let settings = counting.filter_map(|(_, entry)| {
            entry.change.ops().iter().find_map(|op| match op {
                Op::Settings(bytes) => Some((entry, &bytes[..])),
                _ => None,
            })
        });
        settings.max_by_key(|(entry, _)| (entry.change.height(), entry.change.id()))
    }

    /// `H("Subrosa v1 group state" || count:u32 * (member:16 || flags:u8) || settings:32)`, the
    /// members ascending, bit 0 of the flags for an admin, bit 1 for a suspended member, `settings`
    /// the change that set them or zeros.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut members = self.members();
        members.sort_unstable_by_key(|member| member.id);
        let mut hash = Hash::new();
        hash.update(b"Subrosa v1 group state");
        hash.update(&u32::try_from(members.len()).unwrap_or(u32::MAX).to_be_bytes());
        for member in &members {
            let flags = u8::from(member.role == GroupRole::Admin)
                | u8::from(member.suspended).wrapping_shl(1);
            hash.update(member.id.as_bytes());
            hash.update(&[flags]);
        }
        let settings = self.settings().map(|(entry, _)| *entry.change.id().as_bytes());
        hash.update(&settings.unwrap_or([0; 32]));
        hash.finish()
    }
}

/// Whether what a member did to itself is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Counts,
    Ignored,
}

/// An admin outranks a member without a right, and an admin of a larger rank.
fn outranks(rank: Rank, other: Option<Rank>) -> bool {
    other.is_none_or(|other| rank < other)
}

/// The most members that are given keys.
pub(super) const MAX_MEMBERS: usize = 1_024;
