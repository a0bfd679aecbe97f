//! Groups that this user founds: new ones, and those that take the place of another one.

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::group_changes;
use super::group_intentions;
use super::group_rows::{self, GroupRow, GroupStanding};
use super::group_send;
use super::transaction::{Open, Tag};
use super::{Client, Scope};
use crate::error::Error;
use crate::group::{Change, GroupId, GroupMember, GroupRole, Op, Roster};
use crate::identity::IdentityKeyPair;
use crate::time::UnixTime;

/// What becomes of the admins of a group in the one that takes its place: see
/// [`Client::continue_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admins {
    /// They are admins there as well, in the same order, after the founder.
    Kept,
    /// The founder is the only admin.
    Founder,
}

impl<S: Scope> Client<S> {
    /// Founds a group of this user and others, with this user as its first admin.
    ///
    /// The others are told with the [`Client::tasks`], and are invited: each decides whether to
    /// [join](Client::join_group).
    ///
    /// ```
    /// # use subrosa::{Client, Error, Item, Loopback, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng, mut server) = (UnixTime::now()?, &mut SystemRng, Loopback::new());
    /// # let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    /// # let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
    /// # server.sync(&mut bob, now, rng)?;
    /// # bob.write("alice", "hello", now, rng)?;
    /// # for _ in 0..2 { for client in [&mut alice, &mut bob] { server.sync(client, now, rng)?; } }
    /// let group = alice.create_group(&["bob"], b"Roses", now, rng)?;
    /// # for client in [&mut alice, &mut bob] { server.sync(client, now, rng)?; }
    /// // Bob's app shows the invitation: an `Event::GroupInvited`.
    /// bob.join_group(group, now, rng)?;
    /// bob.write_to_group(group, "here I am", now, rng)?;
    /// # for _ in 0..3 { for client in [&mut bob, &mut alice] { server.sync(client, now, rng)?; } }
    /// let texts = alice.inbox(100)?.into_iter().filter_map(|incoming| match incoming.item {
    ///     Item::Group(text) => Some(text),
    ///     _ => None,
    /// });
    /// let text = texts.last().expect("Bob's");
    /// assert_eq!((text.group, &text.text.text[..]), (group, &b"here I am"[..]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DevicesNeeded`]: nothing is known of a user; [`Client::update_devices`].
    /// [`Error::IdentityChanged`]: somebody has to accept a user's new account key.
    /// [`Error::NotPermitted`]: this device does not hold the account key.
    /// [`Error::Malformed`]: a user is named twice, or the settings are longer than 4 KiB.
    /// [`Error::Unlinked`], [`Error::Store`].
    pub fn create_group(
        &mut self,
        members: &[&str],
        settings: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<GroupId, Error> {
        self.run(|open| open.whole(|open| create(open, members, settings, now, rng)))
    }

    /// Founds a group that is to take the place of another one, of its members and with its
    /// settings, but `without` some users: where the account key of the most senior admin was
    /// stolen, where no admin is left, or where the group has its 4,096 changes.
    ///
    /// This user is the most senior admin of the new group, and [`Admins`] says what the admins of
    /// the other one are. The members are invited as to any group, and
    /// [told](crate::Event::GroupContinued) which group it is to continue, who founded it, and
    /// what the founder was there; each decides whether to [join](Client::join_group). The other
    /// group stays as it is: leave it, or go on with both.
    ///
    /// Any member, and anybody who was one, can do this. A member of whom another account key is
    /// known here than the one in the other group is added under the known one, unless a person has
    /// to decide about that.
    ///
    /// ```
    /// # use subrosa::{Client, Error, Event, Item, Loopback, SystemRng, UnixTime, store::Memory};
    /// # use subrosa::{Admins, FounderRole};
    /// # let (now, rng, mut server) = (UnixTime::now()?, &mut SystemRng, Loopback::new());
    /// # let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    /// # let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
    /// # let mut carol = Client::create(Memory::new(), "carol", now, rng)?;
    /// # for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; }
    /// # for client in [&mut bob, &mut carol] { client.write("alice", "hello", now, rng)?; }
    /// # for _ in 0..3 { for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// let group = alice.create_group(&["bob", "carol"], b"Roses", now, rng)?;
    /// # for _ in 0..3 { for client in [&mut alice, &mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// // Alice's phone, with her account key, is stolen. Bob does not wait for her.
    /// bob.join_group(group, now, rng)?;
    /// let next = bob.continue_group(group, &["alice"], Admins::Founder, now, rng)?;
    /// # for _ in 0..3 { for client in [&mut bob, &mut carol] { server.sync(client, now, rng)?; } }
    /// let told = carol.inbox(100)?.into_iter().find_map(|incoming| match incoming.item {
    ///     Item::Event(Event::GroupContinued { group, of, founder, was }) => {
    ///         Some((group, of, founder, was))
    ///     }
    ///     _ => None,
    /// });
    /// assert_eq!(told, Some((next, group, "bob".into(), FounderRole::Member)));
    /// carol.join_group(next, now, rng)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::create_group`]; [`Error::UnknownGroup`]: this device does not know the group.
    /// [`Error::NotPermitted`] also where this user never was a member of it.
    pub fn continue_group(
        &mut self,
        group: GroupId,
        without: &[&str],
        admins: Admins,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<GroupId, Error> {
        self.run(|open| open.whole(|open| continue_group(open, group, (without, admins), now, rng)))
    }
}

fn create(
    open: &mut Open<'_>,
    members: &[&str],
    settings: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<GroupId, Error> {
    open.linked()?;
    open.account_key()?;
    let mut ops = Vec::from([Op::Settings(settings.to_vec())]);
    for name in members {
        ops.push(group_intentions::add(open, name, GroupRole::Member)?);
    }
    found(open, &ops, now, rng)
}

fn continue_group(
    open: &mut Open<'_>,
    group: GroupId,
    (without, admins): (&[&str], Admins),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<GroupId, Error> {
    let own = open.linked()?;
    open.account_key()?;
    let tag = open.group_tag(group.as_bytes());
    group_rows::get(open, tag)?.ok_or(Error::UnknownGroup)?;
    let roster = group_rows::roster(open, tag)?;
    if roster.ids_of(&own.user.name).is_empty() {
        return Err(Error::NotPermitted);
    }
    let mut ops = Vec::from([Op::Continues(group)]);
    ops.extend(roster.settings().map(|settings| Op::Settings(settings.to_vec())));
    let mut names: Vec<&str> = Vec::from([own.user.name.as_str()]);
    names.extend_from_slice(without);
    for member in roster.members() {
        // Two ids of a user are one person.
        if !names.contains(&&*member.user) {
            names.push(&member.user);
            ops.push(again(open, member, admins)?);
        }
    }
    found(open, &ops, now, rng)
}

/// Adds a member of another group.
fn again(open: &mut Open<'_>, member: &GroupMember, admins: Admins) -> Result<Op, Error> {
    let tag = open.tag(&member.user)?;
    // Where something has to be found out about the user, it is the key of the other group.
    let known = open.user(tag)?.filter(|user| !user.waits()).map(|user| user.list.account());
    let role = match admins {
        Admins::Kept => member.role,
        Admins::Founder => GroupRole::Member,
    };
    Ok(Op::Add { user: member.user.clone(), account: known.unwrap_or(member.account), role })
}

/// Founds a group by a first change, and others where there are more ops than one can have.
fn found(
    open: &mut Open<'_>,
    ops: &[Op],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<GroupId, Error> {
    let account = open.account_key()?;
    let name: String = open.account.user.clone();
    let (first, more) = ops.split_at(ops.len().min(Change::MAX_OPS.saturating_sub(1)));
    let (tag, mut roster) = first_roster(open, &name, first, &account, now)?;
    let by = roster.members().first().map(|member| member.id).ok_or(Error::Malformed)?;
    for ops in more.chunks(Change::MAX_OPS) {
        let change = roster.sign(by, ops, &account)?;
        roster.merge([change]);
    }
    let id = roster.group();
    let standing = GroupStanding::Joined;
    let mut row = GroupRow::new(id, standing, now);
    row.tell = true;
    let ids: Vec<_> = roster.changes().map(Change::id).collect();
    group_changes::keep(open, (tag, &mut row), None, &roster, &ids, now)?;
    group_rows::put(open, tag, &row)?;
    group_send::step(open, tag, now, rng)?;
    Ok(id)
}

/// The roster of a group that is not known here. Its id is not drawn: the operation may be run
/// again over rows that are read meanwhile (`store::Overlay`), and those of another group would be
/// missing each time.
fn first_roster(
    open: &mut Open<'_>,
    name: &str,
    ops: &[Op],
    account: &IdentityKeyPair,
    now: UnixTime,
) -> Result<(Tag, Roster), Error> {
    let mut attempt: u64 = 0;
    loop {
        let roster = Roster::found_as(open.founding(now, attempt), name, ops, account)?;
        let tag = open.group_tag(roster.group().as_bytes());
        if group_rows::get(open, tag)?.is_none() {
            return Ok((tag, roster));
        }
        attempt = attempt.saturating_add(1);
    }
}
