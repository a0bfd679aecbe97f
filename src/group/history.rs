//! The changes of a group that were accepted, with what is looked up in them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::bits::Bits;
use super::change::{Change, GroupRole, Op};
use super::id::{ChangeId, MemberId};
use crate::error::Error;
use crate::identity::IdentityKey;

/// Changes that were accepted. Each has a number, and so has each id that one of them gave.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    entries: Vec<Entry>,
    by_id: BTreeMap<ChangeId, usize>,
    /// By rank of the author, height and id.
    order: Vec<usize>,
    named: Vec<Named>,
    by_member: BTreeMap<MemberId, usize>,
    by_user: BTreeMap<Box<str>, Vec<usize>>,
    heads: BTreeSet<usize>,
    all: Bits,
}

/// A change, with what follows from its ancestors alone.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) change: Change,
    /// All changes that its author knew of.
    pub(super) ancestors: Bits,
    /// The number of the author in `named`.
    pub(super) author: usize,
    /// The most senior right that the author had then.
    pub(super) right: Option<Right>,
}

/// An id that was ever given, and all that was ever said about it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) id: MemberId,
    pub(super) user: Box<str>,
    pub(super) account: IdentityKey,
    /// The order of the adds.
    pub(super) added: Rank,
    pub(super) added_in: usize,
    pub(super) rights: Vec<Right>,
    pub(super) acts: Vec<Act>,
}

/// An add as an admin, or a promotion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub(super) rank: Rank,
    pub(super) given_in: usize,
}

/// A removal or a demotion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) kind: ActKind,
    pub(super) by: usize,
    /// The author's rank, where the author is somebody else than the member.
    pub(super) rank: Option<Rank>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActKind {
    Removal,
    Demotion,
}

/// Seniority: height, id and index of the op that gave the right. The smaller one is more senior.
pub(super) type Rank = (u32, ChangeId, u8);

impl History {
    /// Adds a change that is allowed.
    pub(super) fn keep(&mut self, entry: Entry) {
        let number = self.entries.len();
        let (id, height) = (entry.change.id(), entry.change.height());
        for (index, member, op) in entry.change.additions() {
            let Op::Add { user, account, role } = op else { continue };
            let added = (height, id, index);
            let right = Right { rank: added, given_in: number };
            let at = self.named.len();
            self.by_member.insert(member, at);
            self.by_user.entry(user.clone()).or_default().push(at);
            self.named.push(Named {
                id: member,
                user: user.clone(),
                account: *account,
                added,
                added_in: number,
                rights: (*role == GroupRole::Admin).then_some(right).into_iter().collect(),
                acts: Vec::new(),
            });
        }
        let rank = entry.right.map(|right| right.rank);
        for (index, op) in (0..=u8::MAX).zip(entry.change.ops()) {
            let Some(at) = op.member().and_then(|id| self.by_member.get(&id)).copied() else {
                continue;
            };
            let Some(named) = self.named.get_mut(at) else { continue };
            let others = if at == entry.author { None } else { rank };
            let act = |kind| Act { kind, by: number, rank: others };
            match op {
                Op::Remove(_) => named.acts.push(act(ActKind::Removal)),
                Op::Demote(_) => named.acts.push(act(ActKind::Demotion)),
                _ => named.rights.push(Right { rank: (height, id, index), given_in: number }),
            }
        }
        let key = |entry: &Entry| {
            let rank = entry.right.map(|right| right.rank);
            (rank.is_none(), rank, entry.change.height(), entry.change.id())
        };
        let before = self.order.partition_point(|at| key(self.entry(*at)) < key(&entry));
        self.order.insert(before, number);
        for parent in entry.change.parents() {
            if let Some(parent) = self.by_id.get(parent) {
                self.heads.remove(parent);
            }
        }
        self.heads.insert(number);
        self.by_id.insert(id, number);
        self.all.insert(number);
        self.entries.push(entry);
    }

    /// The changes that one with these parents is built on.
    pub(super) fn ancestors(&self, parents: &[usize], height: u32) -> Result<Bits, Error> {
        let mut ancestors = Bits::with_room(self.entries.len());
        let mut highest = 0;
        for parent in parents {
            let entry = self.entry(*parent);
            highest = highest.max(entry.change.height());
            ancestors.extend(&entry.ancestors);
        }
        let known_twice = parents.iter().any(|parent| ancestors.contains(*parent));
        if known_twice || height != highest.saturating_add(1) {
            return Err(Error::Malformed);
        }
        parents.iter().for_each(|parent| ancestors.insert(*parent));
        Ok(ancestors)
    }

    pub(super) fn entry(&self, at: usize) -> &Entry {
        self.entries.get(at).expect("a roster keeps what it numbers")
    }

    pub(super) fn named(&self, at: usize) -> &Named {
        self.named.get(at).expect("a roster keeps what it numbers")
    }

    pub(super) fn all_named(&self) -> impl Iterator<Item = &Named> {
        self.named.iter()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate()
    }

    /// The numbers of the changes, in the order in which it is decided what counts.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    pub(super) fn number_of(&self, id: MemberId) -> Option<usize> {
        self.by_member.get(&id).copied()
    }

    /// All numbers that this user was ever given.
    pub(super) fn numbers_of(&self, user: &str) -> &[usize] {
        self.by_user.get(user).map_or(&[], Vec::as_slice)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: &ChangeId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The changes that no other one is built on.
    pub(super) fn heads(&self) -> impl Iterator<Item = usize> {
        self.heads.iter().copied()
    }

    /// The set of all changes.
    pub(super) const fn all(&self) -> &Bits {
        &self.all
    }
}
