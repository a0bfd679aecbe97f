//! What a change of a group would do, before it is made.

use alloc::vec::Vec;

use super::events::GroupEvent;
use super::group_events::{self, VoidedChange};
use super::group_intentions::{self, Draft, GroupIntention};
use super::{Client, Scope};
use crate::error::Error;
use crate::group::{ChangeId, GroupId, Roster};

/// What a change would do: see [`Client::preview_change`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupPreview {
    /// What people would be told.
    pub changes: Vec<GroupEvent>,
    /// What would not count any more, of those whom the change removes or demotes.
    /// [`GroupIntention::Restore`] in the same change does it after all.
    pub voided: Vec<VoidedChange>,
}

impl<S: Scope> Client<S> {
    /// What [`Client::change_group`] would do with these intentions. Nothing is changed, and the
    /// account key is not needed.
    ///
    /// A removal takes nothing back that this device knows of: it is made on all of that. But
    /// somebody who is removed can have changed the group meanwhile, and that does not count once
    /// both are known: the people that were added are out. [`Event::GroupVoided`] says so when it
    /// turns out, and here it is shown where it is known before. An admin who removes somebody
    /// can ask for all of it to be done again, then or in the same call:
    ///
    /// ```
    /// # use subrosa::{Client, Error, GroupEvent, Loopback, SystemRng, UnixTime, store::Memory};
    /// use subrosa::GroupIntention::{Promote, Remove, Restore};
    ///
    /// # let (now, rng, mut server) = (UnixTime::now()?, &mut SystemRng, Loopback::new());
    /// # let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    /// # let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
    /// # let mut carol = Client::create(Memory::new(), "carol", now, rng)?;
    /// # for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; }
    /// # carol.write("alice", "hello", now, rng)?;
    /// # carol.write("bob", "hello", now, rng)?;
    /// # bob.write("alice", "hello", now, rng)?;
    /// # for _ in 0..3 { for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// let group = alice.create_group(&["bob"], b"Roses", now, rng)?;
    /// alice.change_group(group, &[Promote("bob")], now, rng)?;
    /// # for _ in 0..3 { for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// bob.join_group(group, now, rng)?;
    /// # for _ in 0..3 { for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// let preview = alice.preview_change(group, &[Remove("bob")])?;
    /// assert_eq!(preview.changes, [GroupEvent::Removed { user: "bob".into() }]);
    /// // Alice's app shows that, and asks; Bob adds Carol meanwhile.
    /// alice.change_group(group, &[Remove("bob")], now, rng)?;
    /// bob.change_group(group, &[subrosa::GroupIntention::Add("carol")], now, rng)?;
    /// # for _ in 0..3 { for client in [&mut bob, &mut alice, &mut carol] { server.sync(client, now, rng)?; } }
    /// let info = alice.group(group)?;
    /// assert_eq!((info.members.len(), &info.voided[0].by[..]), (1, "bob"));
    /// // Alice's app shows that as well, and offers to add Carol.
    /// alice.change_group(group, &[Restore("bob")], now, rng)?;
    /// assert_eq!(alice.group(group)?.members[1].user, "carol");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::change_group`].
    ///
    /// [`Event::GroupVoided`]: crate::Event::GroupVoided
    pub fn preview_change(
        &mut self,
        group: GroupId,
        intentions: &[GroupIntention<'_>],
    ) -> Result<GroupPreview, Error> {
        self.run(|open| {
            let Draft { roster, by, ops, .. } = group_intentions::draft(open, group, intentions)?;
            Ok(preview(&roster, &roster.preview(by, &ops)?))
        })
    }
}

fn preview(before: &Roster, after: &Roster) -> GroupPreview {
    let made: Vec<ChangeId> = after.heads();
    let changes = group_events::differences(before, after, &made);
    let known = group_events::voided(before);
    let voided = group_events::voided(after).into_iter().filter(|one| !known.contains(one));
    GroupPreview {
        changes: changes.into_iter().map(|(_, what)| what).collect(),
        voided: voided.collect(),
    }
}
