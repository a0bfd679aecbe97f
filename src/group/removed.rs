//! Why a member is not in, for a device that does not know it.

use alloc::vec::Vec;

use super::bits::Bits;
use super::change::Change;
use super::history::{ActKind, Entry, Named};
use super::id::{ChangeId, MemberId};
use super::roster::Roster;

impl Roster {
    /// Why this member is not in, for somebody who knows some changes: those that remove it and
    /// count. Where what added it does not count, those that removed or demoted who did. With what
    /// they are built on, and without what is known.
    ///
    /// Somebody who knows all of that and believes to be in lacks what makes it count: those are
    /// told then.
    pub(crate) fn removal_of(
        &self,
        member: MemberId,
        known: &[ChangeId],
    ) -> impl Iterator<Item = &Change> {
        let held = self.held_by(known);
        let mut reasons = Reasons::new(self);
        if let Some(number) = self.history.number_of(member) {
            reasons.of_member(self.history.named(number));
            if !reasons.told.iter().any(|at| !held.contains(*at)) {
                reasons.of_all();
            }
        }
        let mut lacking = Bits::with_room(self.history.len());
        for at in reasons.told {
            lacking.extend(&self.history.entry(at).ancestors);
            lacking.insert(at);
        }
        let entries = self.history.entries();
        entries
            .filter(move |(at, _)| lacking.contains(*at) && !held.contains(*at))
            .map(|(_, entry)| &entry.change)
    }
}

/// Changes that count, and bring something about.
struct Reasons<'r> {
    roster: &'r Roster,
    told: Vec<usize>,
    /// Changes of which it has to be said why they count, or why not.
    open: Vec<usize>,
    explained: Bits,
}

impl<'r> Reasons<'r> {
    fn new(roster: &'r Roster) -> Self {
        let explained = Bits::with_room(roster.history.len());
        Self { roster, told: Vec::new(), open: Vec::new(), explained }
    }

    fn counts(&self, change: usize) -> bool {
        self.roster.counts.contains(change)
    }

    fn entry(&self, change: usize) -> &'r Entry {
        self.roster.history.entry(change)
    }

    fn author(&self, change: usize) -> &'r Named {
        self.roster.history.named(self.entry(change).author)
    }

    fn tell(&mut self, change: usize) {
        self.told.push(change);
        self.open.push(change);
    }

    /// What removed a member; or what keeps from counting what added it.
    fn of_member(&mut self, member: &Named) {
        for act in member.acts.iter().filter(|act| act.kind == ActKind::Removal) {
            // A removal of oneself always counts.
            if act.rank.is_none() || self.counts(act.by) {
                self.tell(act.by);
            }
        }
        // Each was added by somebody who was there before.
        let mut added_in = member.added_in;
        while !self.counts(added_in) {
            self.open.push(added_in);
            let (author, counts) = (self.author(added_in), &self.roster.counts);
            self.told
                .extend(author.acts.iter().map(|act| act.by).filter(|by| counts.contains(*by)));
            added_in = author.added_in;
        }
    }

    /// Why each of these changes counts, since what is against its author does not; or does not
    /// count, since something is against its author.
    fn of_all(&mut self) {
        while let Some(change) = self.open.pop() {
            if self.explained.contains(change) {
                continue;
            }
            self.explained.insert(change);
            let (author, counts) = (self.author(change), self.counts(change));
            for act in &author.acts {
                match (counts, self.counts(act.by)) {
                    (true, false) => self.open.push(act.by),
                    (false, true) => self.tell(act.by),
                    (true, true) | (false, false) => {}
                }
            }
            if !self.counts(author.added_in) {
                self.open.push(author.added_in);
            }
        }
    }
}
