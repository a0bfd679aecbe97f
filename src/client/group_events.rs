//! What is different between two states of a roster, as people are told it.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::events::GroupEvent;
use crate::group::{Change, ChangeId, GroupRole, MemberId, Op, Roster};

/// What a user did to a group and what does not count, since somebody who did not know of it had
/// removed or demoted the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VoidedChange {
    /// The user who did it.
    pub by: String,
    /// What [`GroupIntention::Restore`](crate::GroupIntention::Restore) brings about.
    pub what: GroupEvent,
}

/// What became different, and who of the authors of these changes did it.
pub(super) fn differences(
    before: &Roster,
    after: &Roster,
    accepted: &[ChangeId],
) -> Vec<(Option<String>, GroupEvent)> {
    let by = |does: &dyn Fn(&Change) -> bool| {
        let changes = accepted.iter().filter_map(|id| after.get(id));
        let change = changes.rev().find(|change| does(change));
        change.and_then(|change| after.was_given_for(change.author())).map(|(user, _)| user.into())
    };
    let mut events: Vec<(Option<String>, GroupEvent)> = Vec::new();
    // Whoever is removed and added again is in.
    for member in before.members().iter().filter(|member| after.member(member.id).is_none()) {
        let (id, user) = (member.id, String::from(&*member.user));
        events.push((by(&|change| names(change, id)), GroupEvent::Removed { user }));
    }
    for member in after.members() {
        let (id, user) = (member.id, String::from(&*member.user));
        match before.member(id) {
            None => {
                let adds = |change: &Change| change.adds(id);
                events.push((by(&adds), GroupEvent::Added { user }));
            }
            Some(known) if known.role != member.role => {
                let role = member.role;
                events.push((by(&|change| names(change, id)), GroupEvent::Role { user, role }));
            }
            Some(known) if known.suspended != member.suspended => {
                let suspended = member.suspended;
                let event = GroupEvent::Suspended { user, suspended };
                events.push((by(&|change| names(change, id)), event));
            }
            Some(_) => {}
        }
    }
    if before.settings() != after.settings() {
        let sets = |change: &Change| change.ops().iter().any(|op| matches!(op, Op::Settings(_)));
        events.push((by(&sets), GroupEvent::Settings));
    }
    events
}

fn names(change: &Change, id: MemberId) -> bool {
    change
        .ops()
        .iter()
        .any(|op| matches!(op, Op::Remove(of) | Op::Promote(of) | Op::Demote(of) if *of == id))
}

/// What does not count in a roster.
pub(super) fn voided(roster: &Roster) -> Vec<VoidedChange> {
    let voided = roster.voided().into_iter();
    let all = voided.filter_map(|one| {
        let what = match one.op {
            Op::Add { user, .. } => GroupEvent::Added { user: user.into() },
            Op::Promote(id) => {
                let user = roster.was_given_for(id)?.0.into();
                GroupEvent::Role { user, role: GroupRole::Admin }
            }
            Op::Settings(_) => GroupEvent::Settings,
            _ => return None,
        };
        Some(VoidedChange { by: one.by.into(), what })
    });
    all.collect()
}

/// The users of whom something does not count now that was not there before, or counted.
pub(super) fn newly_voided(before: &Roster, after: &Roster) -> BTreeSet<String> {
    let known = before.voided();
    let new = after.voided().into_iter().filter(|one| !known.contains(one));
    new.map(|one| one.by.into()).collect()
}
