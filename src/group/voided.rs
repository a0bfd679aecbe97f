//! What does not count, and could be made again by somebody else.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::change::{GroupRole, Op};
use super::history::{ActKind, Entry, Named};
use super::id::{ChangeId, MemberId};
use super::roster::Roster;
use super::state::State;

/// An op of a change that does not count: somebody more senior removed or demoted its author, and
/// did not know of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Voided {
    /// The user who made the change.
    pub by: Box<str>,
    /// What an admin does to bring it about after all: an add, a promotion, or the settings.
    pub op: Op,
}

impl Roster {
    /// What changes would have brought about that do not count, and what nobody has decided
    /// otherwise since: adds of users who are not in, promotions, and settings that nobody set
    /// later.
    ///
    /// Removals and demotions are not among these. Who is named by one is suspended until somebody
    /// more senior takes notice (docs/groups.md, 1).
    ///
    /// ```
    /// use subrosa::group::{GroupRole, Op, Roster};
    /// use subrosa::protocol::IdentityKeyPair;
    /// use subrosa::SystemRng;
    ///
    /// let [alice, bob, carol] = [(); 3].map(|()| IdentityKeyPair::generate(&mut SystemRng));
    /// let add = |user: &str, account: &IdentityKeyPair, role| Op::Add {
    ///     user: user.into(),
    ///     account: account.public_key(),
    ///     role,
    /// };
    /// let bobs = add("bob", &bob, GroupRole::Admin);
    /// let mut roster = Roster::found("alice", &[bobs], &alice, &mut SystemRng)?;
    /// let [alices, bobs] = [0, 1].map(|at| roster.members()[at].id);
    /// // Alice removes Bob, who adds Carol at the same time.
    /// let removal = roster.sign(alices, &[Op::Remove(bobs)], &alice)?;
    /// let addition = add("carol", &carol, GroupRole::Member);
    /// let added = roster.sign(bobs, &[addition.clone()], &bob)?;
    /// roster.merge([removal, added]);
    /// assert_eq!(roster.members().len(), 1);
    /// // Carol is not in. Alice sees that, and adds her.
    /// let voided = roster.voided();
    /// assert_eq!((&*voided[0].by, &voided[0].op), ("bob", &addition));
    /// let restored = roster.sign(alices, &[voided[0].op.clone()], &alice)?;
    /// roster.merge([restored]);
    /// assert_eq!(&*roster.members()[1].user, "carol");
    /// assert_eq!(roster.voided(), []);
    /// # Ok::<(), subrosa::Error>(())
    /// ```
    #[must_use]
    pub fn voided(&self) -> Vec<Voided> {
        let entries = self.history.entries();
        let mut void: Vec<&Entry> =
            entries.filter(|(at, _)| !self.counts.contains(*at)).map(|(_, entry)| entry).collect();
        if void.is_empty() {
            return Vec::new();
        }
        // Of two that say the same, the later one is made again.
        void.sort_unstable_by_key(|entry| core::cmp::Reverse(order(entry)));
        let state = State::decide(&self.history, self.history.all().clone());
        let mut all: Vec<Voided> = Vec::new();
        for entry in void {
            let by = &self.history.named(entry.author).user;
            for op in entry.change.ops() {
                if let Some(op) = lacking(&state, self, entry, op)
                    && !all.iter().any(|known| known.op.excludes(&op))
                {
                    all.push(Voided { by: by.clone(), op });
                }
            }
        }
        all.reverse();
        all
    }
}

/// What an id would be, by all that was said of it.
fn role_of(named: &Named) -> GroupRole {
    let is_demoted = named.acts.iter().any(|act| act.kind == ActKind::Demotion);
    if named.rights.is_empty() || is_demoted { GroupRole::Member } else { GroupRole::Admin }
}

fn order(entry: &Entry) -> (u32, ChangeId) {
    (entry.change.height(), entry.change.id())
}

/// What an op would have brought about, if nobody has decided otherwise since.
fn lacking(state: &State<'_>, roster: &Roster, entry: &Entry, op: &Op) -> Option<Op> {
    let history = &roster.history;
    match op {
        Op::Add { user, account, .. } => {
            let is_decided = history.numbers_of(user).iter().any(|at| {
                let named = history.named(*at);
                state.is_member(named) || was_removed_since(roster, named, entry)
            });
            let added = entry.change.additions().find(|(.., added)| *added == op)?.1;
            let role = role_of(history.named(history.number_of(added)?));
            (!is_decided).then(|| Op::Add { user: user.clone(), account: *account, role })
        }
        Op::Promote(id) => may_rise(state, roster, *id).then(|| op.clone()),
        Op::Settings(_) => {
            let later = state.settings().is_some_and(|(set, _)| order(set) > order(entry));
            (!later).then(|| op.clone())
        }
        _ => None,
    }
}

/// Whether a counting change, no older than this one, removed an id that was in.
fn was_removed_since(roster: &Roster, named: &Named, entry: &Entry) -> bool {
    let mut removals = named.acts.iter().filter(|act| act.kind == ActKind::Removal);
    roster.counts.contains(named.added_in)
        && removals.any(|act| {
            let by = roster.history.entry(act.by);
            roster.counts.contains(act.by) && by.change.height() >= entry.change.height()
        })
}

fn may_rise(state: &State<'_>, roster: &Roster, id: MemberId) -> bool {
    let named = roster.history.number_of(id).map(|at| roster.history.named(at));
    named.is_some_and(|named| state.may_rise(named))
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::error::Error;
    use crate::group::id::GroupId;
    use crate::identity::IdentityKeyPair;
    use crate::testing::Replay;

    fn add(user: &str, key: &IdentityKeyPair, role: GroupRole) -> Op {
        Op::Add { user: user.into(), account: key.public_key(), role }
    }

    /// All have one key: it is not the signatures that are tried here.
    fn group() -> (Roster, IdentityKeyPair, [MemberId; 3]) {
        let key = IdentityKeyPair::generate(&mut Replay::counting());
        let others = [add("bob", &key, GroupRole::Admin), add("dave", &key, GroupRole::Member)];
        let roster = Roster::found("alice", &others, &key, &mut Replay::counting()).unwrap();
        let ids = [0, 1, 2].map(|at| roster.members()[at].id);
        (roster, key, ids)
    }

    fn users(roster: &Roster) -> Vec<(String, GroupRole)> {
        roster.members().iter().map(|one| (String::from(&*one.user), one.role)).collect()
    }

    #[test]
    fn what_somebody_removed_did_meanwhile_is_listed_and_made_again_whole() {
        let (mut roster, key, [alice, bob, dave]) = group();
        let removal = roster.sign(alice, &[Op::Remove(bob)], &key).unwrap();
        let mut bobs = roster.clone();
        let ops = [
            add("carol", &key, GroupRole::Member),
            Op::Promote(dave),
            Op::Settings(b"thorns".to_vec()),
        ];
        let meanwhile = bobs.sign(bob, &ops, &key).unwrap();
        bobs.merge([meanwhile.clone()]);
        let carol = bobs.members().last().unwrap().id;
        let promotion = bobs.sign(bob, &[Op::Promote(carol)], &key).unwrap();
        roster.merge([promotion, removal, meanwhile]);
        assert_eq!(users(&roster).len(), 2);
        let voided = roster.voided();
        assert!(voided.iter().all(|one| &*one.by == "bob"));
        // Carol was made an admin in a change of its own.
        let expected = [add("carol", &key, GroupRole::Admin), Op::Promote(dave), ops[2].clone()];
        let listed: Vec<Op> = voided.into_iter().map(|one| one.op).collect();
        assert!(expected.iter().all(|op| listed.contains(op)), "{listed:?}");
        assert_eq!(listed.len(), 3);
        let restored = roster.sign(alice, &listed, &key).unwrap();
        roster.merge([restored]);
        let all = [("alice", true), ("dave", true), ("carol", true)];
        let all = all.map(|(user, _)| (String::from(user), GroupRole::Admin));
        assert_eq!(users(&roster), all);
        assert_eq!((roster.settings(), roster.voided()), (Some(&b"thorns"[..]), Vec::new()));
    }

    #[test]
    fn what_somebody_decided_otherwise_since_is_not_listed() {
        let (mut roster, key, [alice, bob, dave]) = group();
        let removal = roster.sign(alice, &[Op::Remove(bob)], &key).unwrap();
        let ops = [
            add("carol", &key, GroupRole::Member),
            Op::Promote(dave),
            Op::Settings(b"thorns".to_vec()),
            Op::Demote(alice),
        ];
        assert_eq!(roster.sign(bob, &ops, &key), Err(Error::NotPermitted), "alice is more senior");
        let meanwhile = roster.sign(bob, &ops[..3], &key).unwrap();
        roster.merge([removal, meanwhile]);
        assert_eq!(roster.voided().len(), 3);
        let mut by_alice = |ops: &[Op]| {
            let change = roster.sign(alice, ops, &key).unwrap();
            assert_eq!(roster.merge([change]).accepted.len(), 1);
            (roster.voided(), roster.members().last().unwrap().id)
        };
        by_alice(&[Op::Settings(b"roses".to_vec())]);
        by_alice(&[Op::Remove(dave)]);
        let (voided, carol) = by_alice(&[add("carol", &key, GroupRole::Member)]);
        assert_eq!(voided, []);
        assert_eq!(by_alice(&[Op::Remove(carol)]).0, []);
    }

    #[test]
    fn a_change_beyond_sixteen_heads_is_shown_as_void_before_a_removal_is_made() {
        let (mut roster, key, [alice, bob, _]) = group();
        let all: Vec<_> = (0..18)
            .map(|at| {
                let op = add(&format!("user {at}"), &key, GroupRole::Member);
                roster.sign(bob, &[op], &key).unwrap()
            })
            .collect();
        roster.merge(all);
        assert_eq!((roster.heads().len(), roster.voided()), (18, Vec::new()));
        let before = roster.encode();
        let preview = roster.preview(alice, &[Op::Remove(bob)]).unwrap();
        assert_eq!(preview.voided().len(), 2);
        assert_eq!(roster.encode(), before, "nothing is made");
        let removal = roster.sign(alice, &[Op::Remove(bob)], &key).unwrap();
        roster.merge([removal]);
        assert_eq!((roster.members(), roster.voided()), (preview.members(), preview.voided()));
        // In one change: what would be void is made by the one who removes.
        assert_eq!(roster.preview(bob, &[]).err(), Some(Error::NotPermitted), "who is out");
    }

    #[test]
    fn only_a_first_change_continues_a_group() {
        let (roster, key, [alice, ..]) = group();
        let continues = Op::Continues(roster.group());
        let later = roster.sign(alice, core::slice::from_ref(&continues), &key);
        assert_eq!(later, Err(Error::Malformed));
        let twice = [continues.clone(), Op::Continues(GroupId::from([9; 32]))];
        assert_eq!(
            Roster::found("dave", &twice, &key, &mut Replay::counting()).err(),
            Some(Error::Malformed)
        );
        let next = Roster::found("dave", &[continues], &key, &mut Replay::counting()).unwrap();
        let read = Roster::from_changes(next.changes().cloned()).unwrap();
        assert_eq!(read.continues(), Some(roster.group()));
        assert_eq!((roster.continues(), read.founder().0), (None, "dave"));
    }
}
