//! The rule of docs/groups.md, section 1, as it stands there, with no thought of cost: every
//! assignment of "counts" to changes and ops is tried, and exactly one must satisfy the rule.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::group::change::{Change, GroupRole, Op};
use crate::group::id::{ChangeId, MemberId};

type Rank = (u32, ChangeId, u8);

/// Changes, parents first, all of them allowed.
pub(super) struct Oracle {
    changes: Vec<Known>,
}

struct Known {
    change: Change,
    ancestors: BTreeSet<usize>,
    a: Option<Rank>,
}

/// Which changes count, and which removals and demotions of others, as (change, index of the op).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    changes: BTreeSet<usize>,
    acts: BTreeSet<(usize, usize)>,
}

/// A member: id, user, role, suspended.
pub(super) type Member = (MemberId, String, GroupRole, bool);

impl Oracle {
    pub(super) fn new(first: Change) -> Self {
        let a = Some((1, first.id(), 0));
        Self { changes: Vec::from([Known { change: first, ancestors: BTreeSet::new(), a }]) }
    }

    /// Adds a change if it is allowed.
    pub(super) fn add(&mut self, change: Change) -> bool {
        let number = |id: &ChangeId| self.changes.iter().position(|known| known.change.id() == *id);
        let parents: Vec<usize> = change.parents().iter().map(|id| number(id).unwrap()).collect();
        let mut ancestors: BTreeSet<usize> = parents.iter().copied().collect();
        for parent in parents {
            ancestors.extend(&self.changes[parent].ancestors);
        }
        let outcome = self.only_outcome(&ancestors);
        if !self.allows(&ancestors, &outcome, &change) {
            return false;
        }
        let a = self.standing(&ancestors, &outcome, change.author()).min();
        self.changes.push(Known { change, ancestors, a });
        true
    }

    /// Which changes count, of all.
    pub(super) fn counting(&self) -> BTreeSet<ChangeId> {
        let outcome = self.only_outcome(&self.all());
        outcome.changes.iter().map(|at| self.changes[*at].change.id()).collect()
    }

    /// Who is in by all changes.
    pub(super) fn members(&self) -> Vec<Member> {
        let (all, outcome) = (self.all(), self.only_outcome(&self.all()));
        let mut members = Vec::new();
        let mut ids: Vec<(Rank, MemberId, String)> = Vec::new();
        for known in &self.changes {
            for (index, id, op) in known.change.additions() {
                let Op::Add { user, .. } = op else { continue };
                ids.push((
                    (known.change.height(), known.change.id(), index),
                    id,
                    String::from(&**user),
                ));
            }
        }
        ids.sort();
        for (_, id, user) in ids {
            if !self.is_member(&all, &outcome, id) {
                continue;
            }
            let admin = self.standing(&all, &outcome, id).next().is_some();
            let role = if admin { GroupRole::Admin } else { GroupRole::Member };
            members.push((id, user, role, self.is_suspended(&outcome, id)));
        }
        members
    }

    fn all(&self) -> BTreeSet<usize> {
        (0..self.changes.len()).collect()
    }

    fn only_outcome(&self, set: &BTreeSet<usize>) -> Outcome {
        let changes: Vec<usize> = set.iter().copied().filter(|at| *at != 0).collect();
        let acts: Vec<(usize, usize)> = self.acts(set, None).collect();
        let bits = changes.len() + acts.len();
        assert!(bits < 20, "too large for this oracle");
        let mut found = Vec::new();
        for guess in 0_u32..1 << bits {
            let taken = |bit: usize| guess >> bit & 1 == 1;
            let mut outcome = Outcome::default();
            outcome.changes.extend(set.contains(&0).then_some(0));
            outcome.changes.extend(
                changes.iter().enumerate().filter(|(bit, _)| taken(*bit)).map(|(_, at)| *at),
            );
            let of_acts = acts.iter().enumerate();
            outcome
                .acts
                .extend(of_acts.filter(|(bit, _)| taken(changes.len() + bit)).map(|(_, act)| *act));
            let holds = changes
                .iter()
                .all(|at| outcome.changes.contains(at) == self.must_count(set, &outcome, *at))
                && acts.iter().all(|(at, index)| {
                    outcome.acts.contains(&(*at, *index))
                        == self.act_must_count(set, &outcome, *at, *index)
                });
            if holds {
                found.push(outcome);
            }
        }
        assert_eq!(found.len(), 1, "one outcome, not {found:?}");
        found.pop().unwrap()
    }

    /// Removals and demotions of others, or of one other.
    fn acts(
        &self,
        set: &BTreeSet<usize>,
        of: Option<MemberId>,
    ) -> impl Iterator<Item = (usize, usize)> {
        let acts = set.iter().flat_map(move |at| {
            let change = &self.changes[*at].change;
            change.ops().iter().enumerate().filter_map(move |(index, op)| match op {
                Op::Remove(id) | Op::Demote(id)
                    if *id != change.author() && of.is_none_or(|of| of == *id) =>
                {
                    Some((*at, index))
                }
                _ => None,
            })
        });
        acts.collect::<Vec<_>>().into_iter()
    }

    fn must_count(&self, set: &BTreeSet<usize>, outcome: &Outcome, at: usize) -> bool {
        let Known { change, a, .. } = &self.changes[at];
        let author = change.author();
        let added = outcome.changes.contains(&self.added_in(author));
        let given = a.is_none_or(|(_, id, _)| {
            let by = self.changes.iter().position(|known| known.change.id() == id).unwrap();
            outcome.changes.contains(&by)
        });
        let voided = self.acts(set, Some(author)).any(|(by, index)| {
            let by_known = &self.changes[by];
            outcome.acts.contains(&(by, index))
                && smaller(by_known.a, *a)
                && !by_known.ancestors.contains(&at)
        });
        added && given && !voided
    }

    fn act_must_count(
        &self,
        set: &BTreeSet<usize>,
        outcome: &Outcome,
        at: usize,
        index: usize,
    ) -> bool {
        let Known { change, a, .. } = &self.changes[at];
        let target = change.ops()[index].member().unwrap();
        let protected = self.standing(set, outcome, target).any(|right| smaller(Some(right), *a));
        outcome.changes.contains(&at) && !protected
    }

    /// The rights of an id that count and that no demotion takes away.
    fn standing(
        &self,
        set: &BTreeSet<usize>,
        outcome: &Outcome,
        id: MemberId,
    ) -> impl Iterator<Item = Rank> {
        self.not_taken(set, outcome, id, true)
    }

    fn not_taken(
        &self,
        set: &BTreeSet<usize>,
        outcome: &Outcome,
        id: MemberId,
        own: bool,
    ) -> impl Iterator<Item = Rank> {
        let mut rights = Vec::new();
        for at in outcome.changes.intersection(set) {
            let change = &self.changes[*at].change;
            for (index, op) in (0..=u8::MAX).zip(change.ops()) {
                let given = match op {
                    Op::Promote(target) => *target == id,
                    Op::Add { role: GroupRole::Admin, .. } => {
                        MemberId::added_by(change.id(), index) == id
                    }
                    _ => false,
                };
                if given {
                    rights.push((change.height(), change.id(), index));
                }
            }
        }
        rights.retain(|right| {
            let by_itself = own && self.did_to_itself(set, &Op::Demote(id), id);
            let by_others = self.acts(set, Some(id)).any(|(by, index)| {
                let known = &self.changes[by];
                matches!(known.change.ops()[index], Op::Demote(_))
                    && outcome.acts.contains(&(by, index))
                    && smaller(known.a, Some(*right))
            });
            !by_itself && !by_others
        });
        rights.into_iter()
    }

    fn did_to_itself(&self, set: &BTreeSet<usize>, op: &Op, id: MemberId) -> bool {
        set.iter().any(|at| {
            let change = &self.changes[*at].change;
            change.author() == id && change.ops().contains(op)
        })
    }

    fn removed_by_others(
        &self,
        set: &BTreeSet<usize>,
        outcome: &Outcome,
        id: MemberId,
    ) -> impl Iterator<Item = usize> {
        let acts = self.acts(set, Some(id)).filter(|(by, index)| {
            matches!(self.changes[*by].change.ops()[*index], Op::Remove(_))
                && outcome.acts.contains(&(*by, *index))
        });
        acts.map(|(by, _)| by)
    }

    fn is_member(&self, set: &BTreeSet<usize>, outcome: &Outcome, id: MemberId) -> bool {
        outcome.changes.contains(&self.added_in(id))
            && !self.did_to_itself(set, &Op::Remove(id), id)
            && self.removed_by_others(set, outcome, id).next().is_none()
    }

    fn is_suspended(&self, outcome: &Outcome, id: MemberId) -> bool {
        let all = self.all();
        let mut open = self.acts(&all, Some(id)).filter(|(by, index)| {
            matches!(self.changes[*by].change.ops()[*index], Op::Remove(_))
                && !outcome.acts.contains(&(*by, *index))
        });
        open.any(|(by, _)| {
            !outcome.changes.iter().any(|at| {
                let known = &self.changes[*at];
                known.change.author() != id
                    && smaller(known.a, self.changes[by].a)
                    && known.ancestors.contains(&by)
            })
        })
    }

    fn added_in(&self, id: MemberId) -> usize {
        let adds = |known: &Known| known.change.additions().any(|(_, added, _)| added == id);
        self.changes.iter().position(adds).unwrap_or(usize::MAX)
    }

    fn allows(&self, set: &BTreeSet<usize>, outcome: &Outcome, change: &Change) -> bool {
        let author = change.author();
        let a = self.standing(set, outcome, author).min();
        self.is_member(set, outcome, author)
            && change.ops().iter().all(|op| match op {
                Op::Continues(_) => false,
                Op::Remove(id) | Op::Demote(id) if *id == author => true,
                _ if a.is_none() => false,
                Op::Settings(_) => true,
                Op::Add { user, .. } => !self.changes.iter().any(|known| {
                    known.change.additions().any(|(_, id, op)| {
                        matches!(op, Op::Add { user: other, .. } if other == user)
                            && self.is_member(set, outcome, id)
                            && !change.ops().contains(&Op::Remove(id))
                    })
                }),
                Op::Promote(id) => {
                    let demoted = self.acts(set, Some(*id)).any(|(by, index)| {
                        matches!(self.changes[by].change.ops()[index], Op::Demote(_))
                            && outcome.acts.contains(&(by, index))
                    });
                    self.is_member(set, outcome, *id)
                        && self.standing(set, outcome, *id).next().is_none()
                        && !demoted
                        && !self.did_to_itself(set, &Op::Demote(*id), *id)
                }
                Op::Remove(id) | Op::Demote(id) => {
                    if self.is_member(set, outcome, *id) {
                        let rank = self.standing(set, outcome, *id).min();
                        return smaller(a, rank);
                    }
                    let former = self.not_taken(set, outcome, *id, false).min();
                    outcome.changes.contains(&self.added_in(*id))
                        && smaller(a, former)
                        && !self
                            .removed_by_others(set, outcome, *id)
                            .any(|by| smaller(self.changes[by].a, former))
                }
            })
    }
}

/// Whether one rank is more senior; no right at all is the least.
fn smaller(one: Option<Rank>, other: Option<Rank>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (one, other) => one.is_some() && other.is_none(),
    }
}
