//! Groups: what people do with them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;

use super::group_changes;
use super::group_members;
use super::group_rows::{self, GroupRow, GroupStanding};
use super::group_send;
use super::outgoing::Outgoing;
use super::transaction::{Open, Tag};
use super::{Client, Scope};
use crate::content::{MessageId, attachment};
use crate::error::Error;
use crate::group::{Change, GroupId, GroupRole, MemberId, Op, Roster};
use crate::identity::IdentityKey;
use crate::sesame::Trust;
use crate::time::UnixTime;

/// What a person wants to change in a group: see [`Client::change_group`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupIntention<'a> {
    /// Add this user, whose account key is the one that is known here.
    Add(&'a str),
    /// Remove this user, and every member that stands for the user.
    Remove(&'a str),
    /// Make this user an admin.
    Promote(&'a str),
    /// Take the rights of this admin. They can only be given back with another `Remove` and `Add`.
    Demote(&'a str),
    /// Set the title, the picture and whatever else the app keeps for the group: at most 4 KiB,
    /// which this crate does not read.
    Set(&'a [u8]),
    /// Leave.
    Leave,
}

/// A group, as this device knows it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The group.
    pub id: GroupId,
    /// How this account stands to it.
    pub standing: GroupStanding,
    /// What the app keeps for it.
    pub settings: Vec<u8>,
    /// Who is in, in the order in which they were added.
    pub members: Vec<MemberInfo>,
}

/// Shows how long the settings are.
impl fmt::Debug for GroupIntention<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(user) => write!(f, "Add({user:?})"),
            Self::Remove(user) => write!(f, "Remove({user:?})"),
            Self::Promote(user) => write!(f, "Promote({user:?})"),
            Self::Demote(user) => write!(f, "Demote({user:?})"),
            Self::Set(bytes) => write!(f, "Set({} bytes)", bytes.len()),
            Self::Leave => f.write_str("Leave"),
        }
    }
}

/// Shows how long the settings are.
impl fmt::Debug for GroupInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, standing, settings, members } = self;
        let settings = settings.len();
        write!(f, "GroupInfo({id:?}, {standing:?}, {settings} bytes of settings, {members:?})")
    }
}

/// A member of a group, and what is known of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The member's name in the group.
    pub id: MemberId,
    /// The user.
    pub user: String,
    /// The account key that the group has for the user.
    pub account: IdentityKey,
    /// What the member may do to the roster.
    pub role: GroupRole,
    /// Somebody tried to remove the member, and it does not count; or the group is too large.
    pub suspended: bool,
    /// What is known of the account key. None where nothing is known of the user yet, or where
    /// the group has another account key than the one that is known here: then the member's devices
    /// are given no keys.
    pub trust: Option<Trust>,
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

    /// Changes a group: one signed change with all of these intentions.
    ///
    /// # Errors
    /// As [`Client::create_group`]; [`Error::UnknownGroup`]: there is no such group, or this user
    /// is not in it. [`Error::NotPermitted`]: this user may not do that, or somebody is in already,
    /// or nobody of that name is.
    pub fn change_group(
        &mut self,
        group: GroupId,
        intentions: &[GroupIntention<'_>],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| change(open, group, intentions, now, rng)))
    }

    /// Joins a group that somebody added this user to. Before that, this device gives it no keys.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]: there is no such invitation. [`Error::Store`].
    pub fn join_group(
        &mut self,
        group: GroupId,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.group_tag(group.as_bytes());
                let mut row = known(open, tag)?;
                if row.standing == GroupStanding::Invited {
                    row.standing = GroupStanding::Joined;
                    group_rows::put(open, tag, &row)?;
                }
                group_send::step(open, tag, now, rng)
            })
        })
    }

    /// Declines an invitation. Where this device holds the account key, the others are told that
    /// this user left.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]: there is no such invitation. [`Error::Store`].
    pub fn decline_group(
        &mut self,
        group: GroupId,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.group_tag(group.as_bytes());
                known(open, tag)?;
                match open.account_key() {
                    Ok(_) => change(open, group, &[GroupIntention::Leave], now, rng),
                    Err(Error::NotPermitted) => out(open, tag),
                    Err(error) => Err(error),
                }
            })
        })
    }

    /// The groups that this account is in or invited to.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn groups(&mut self) -> Result<Vec<GroupId>, Error> {
        self.run(|open| {
            let all = group_rows::all(open)?.into_iter();
            let inside = all.filter(|(_, row)| row.standing != GroupStanding::Out);
            Ok(inside.map(|(_, row)| row.id).collect())
        })
    }

    /// What is known of a group.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]; [`Error::Store`], [`Error::BadState`]
    pub fn group(&mut self, group: GroupId) -> Result<GroupInfo, Error> {
        self.run(|open| {
            let tag = open.group_tag(group.as_bytes());
            let row = group_rows::get(open, tag)?.ok_or(Error::UnknownGroup)?;
            let roster = group_rows::roster(open, tag)?;
            let settings = roster.settings().unwrap_or_default().to_vec();
            let mut members = Vec::new();
            for member in roster.members() {
                let of = open.tag(&member.user)?;
                let known = open.user(of)?.filter(|user| user.list.account() == member.account);
                members.push(MemberInfo {
                    id: member.id,
                    user: (*member.user).into(),
                    account: member.account,
                    role: member.role,
                    suspended: member.suspended,
                    trust: known.map(|user| user.trust()),
                });
            }
            Ok(GroupInfo { id: group, standing: row.standing, settings, members })
        })
    }

    /// Writes to a group, a text or an [`Outgoing`]: it is encrypted once, for all devices of all
    /// members.
    ///
    /// A device that cannot be reached yet holds nobody up: it gets the text once there is a
    /// session with it. The text is in the inbox of each device as
    /// [`Item::Group`](super::Item::Group), those of this account among them.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]: there is no such group, or this user is not in it, or has not
    /// joined. [`Error::NotPermitted`]: the membership of this user is suspended.
    /// [`Error::TooLong`], [`Error::Unlinked`], [`Error::Store`].
    pub fn write_to_group<'m>(
        &mut self,
        group: GroupId,
        message: impl Into<Outgoing<'m>>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<MessageId, Error> {
        let message = message.into();
        self.run(|open| {
            open.whole(|open| {
                let files = attachment::encode(message.files)?;
                if message.text.len().saturating_add(files.len()) > Self::MAX_TEXT {
                    return Err(Error::TooLong);
                }
                open.linked()?;
                let tag = open.group_tag(group.as_bytes());
                if known(open, tag)?.standing != GroupStanding::Joined {
                    return Err(Error::UnknownGroup);
                }
                let roster = group_rows::roster(open, tag)?;
                if group_members::own_member(open, &roster)?.is_none() {
                    return Err(Error::NotPermitted);
                }
                group_send::write(open, tag, message, now, rng)
            })
        })
    }

    /// The next text is encrypted under a new key, which every device of the group is given anew.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]; [`Error::Store`].
    pub fn refresh_group(&mut self, group: GroupId) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.group_tag(group.as_bytes());
                let mut row = known(open, tag)?;
                row.renew = true;
                group_rows::put(open, tag, &row)
            })
        })
    }
}

/// A group that this account is in or invited to.
fn known(open: &mut Open<'_>, tag: Tag) -> Result<GroupRow, Error> {
    let row = group_rows::get(open, tag)?;
    row.filter(|row| row.standing != GroupStanding::Out).ok_or(Error::UnknownGroup)
}

/// This account is out of a group.
fn out(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    let Some(mut row) = group_rows::get(open, tag)? else { return Ok(()) };
    group_members::leave(open, tag, &mut row)?;
    group_rows::put(open, tag, &row)
}

fn add(open: &mut Open<'_>, name: &str) -> Result<Op, Error> {
    let (_, user) = open.known_user(name)?;
    if user.waits() {
        return Err(Error::IdentityChanged(name.into()));
    }
    Ok(Op::Add { user: name.into(), account: user.list.account(), role: GroupRole::Member })
}

fn create(
    open: &mut Open<'_>,
    members: &[&str],
    settings: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<GroupId, Error> {
    let own = open.linked()?;
    let account = open.account_key()?;
    let mut adds = Vec::from([Op::Settings(settings.to_vec())]);
    for name in members {
        adds.push(add(open, name)?);
    }
    let (first, more) = adds.split_at(adds.len().min(Change::MAX_OPS.saturating_sub(1)));
    let mut roster = Roster::found(&own.user.name, first, &account)?;
    let by = roster.members().first().map(|member| member.id).ok_or(Error::Malformed)?;
    for ops in more.chunks(Change::MAX_OPS) {
        let change = roster.sign(by, ops, &account)?;
        roster.merge([change]);
    }
    let id = roster.group();
    let tag = open.group_tag(id.as_bytes());
    let standing = GroupStanding::Joined;
    let mut row = GroupRow::new(id, standing, now);
    row.tell = true;
    let ids: Vec<_> = roster.changes().map(Change::id).collect();
    group_changes::keep(open, (tag, &mut row), None, &roster, &ids, now)?;
    group_rows::put(open, tag, &row)?;
    group_send::step(open, tag, now, rng)?;
    Ok(id)
}

fn change(
    open: &mut Open<'_>,
    group: GroupId,
    intentions: &[GroupIntention<'_>],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let own = open.linked()?;
    let tag = open.group_tag(group.as_bytes());
    let mut row = known(open, tag)?;
    let mut roster = group_rows::roster(open, tag)?;
    let own_ids = roster.ids_in(&own.user.name);
    let by = own_ids.first().copied().ok_or(Error::UnknownGroup)?;
    let account = open.account_key()?;
    let mut ops = Vec::new();
    for intention in intentions {
        match *intention {
            GroupIntention::Add(name) => ops.push(add(open, name)?),
            GroupIntention::Set(bytes) => ops.push(Op::Settings(bytes.to_vec())),
            GroupIntention::Leave => ops.extend(own_ids.iter().copied().map(Op::Remove)),
            GroupIntention::Remove(name) => ops.extend(some_of(&roster, name)?.map(Op::Remove)),
            GroupIntention::Promote(name) => ops.extend(some_of(&roster, name)?.map(Op::Promote)),
            GroupIntention::Demote(name) => ops.extend(some_of(&roster, name)?.map(Op::Demote)),
        }
    }
    let before = roster.clone();
    let change = roster.sign(by, &ops, &account)?;
    let accepted = roster.merge([change]).accepted;
    group_changes::keep(open, (tag, &mut row), Some(&before), &roster, &accepted, now)?;
    row.tell = true;
    let is_out = roster.ids_in(&own.user.name).is_empty();
    group_rows::put(open, tag, &row)?;
    if is_out {
        out(open, tag)?;
    }
    group_send::step(open, tag, now, rng)
}

fn some_of(roster: &Roster, user: &str) -> Result<impl Iterator<Item = MemberId>, Error> {
    let ids = roster.ids_in(user);
    if ids.is_empty() { Err(Error::NotPermitted) } else { Ok(ids.into_iter()) }
}
