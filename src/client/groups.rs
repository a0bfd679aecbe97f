//! Groups: what people do with them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;

use super::events::FounderRole;
use super::group_changes;
use super::group_events::{self, VoidedChange};
use super::group_intentions::{self, Draft, GroupIntention};
use super::group_members;
use super::group_proposals::{self, Proposal};
use super::group_rows::{self, GroupStanding};
use super::group_send;
use super::outgoing::Outgoing;
use super::transaction::{Open, Tag};
use super::{Client, Scope};
use crate::content::{MessageId, ProposedChange, attachment};
use crate::error::Error;
use crate::group::{GroupId, GroupRole, MemberId, Roster};
use crate::identity::IdentityKey;
use crate::sesame::Trust;
use crate::time::UnixTime;

/// What became of a change: see [`Client::change_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupChange {
    /// It was made: the members are told with the next tasks.
    Made,
    /// This device does not hold the account key. The account's managers are asked to sign the
    /// change, and [`GroupInfo::proposed`] has it until it is made.
    Proposed,
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
    /// What users did who were removed or demoted, and what does not count, since they were by
    /// somebody who did not know of it. An admin can [restore](GroupIntention::Restore) it.
    pub voided: Vec<VoidedChange>,
    /// What this device proposed to the account's managers, and what is not made yet.
    pub proposed: Vec<Proposal>,
    /// The group whose place this one is to take, by the word of its founder, and what is known of
    /// that.
    pub continues: Option<Continued>,
}

/// By whose word a group takes the place of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Continued {
    /// The other group.
    pub group: GroupId,
    /// The user who founded this one.
    pub founder: String,
    /// What the founder is, or was, in the other one.
    pub was: FounderRole,
}

/// Shows how long the settings are.
impl fmt::Debug for GroupInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, standing, settings, members, voided, proposed, continues } = self;
        let settings = settings.len();
        write!(f, "GroupInfo({id:?}, {standing:?}, {settings} bytes of settings, {members:?}, ")?;
        write!(f, "voided: {voided:?}, proposed: {proposed:?}, continues: {continues:?})")
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
    /// Changes a group: one signed change with all of these intentions. What it would do,
    /// [`Client::preview_change`] says.
    ///
    /// Where the account key was renewed since somebody added this user, nobody can sign for the
    /// membership any more. To leave is then possible on each device for itself, and the others are
    /// not told.
    ///
    /// A device without the account key asks the account's managers. One of them signs it when it
    /// hears of it, if it is to leave a group in which the user is no admin, and asks its person
    /// otherwise ([`Event::GroupProposal`](super::Event::GroupProposal)). Until then
    /// [`GroupInfo::proposed`] has it, for 7 days.
    ///
    /// # Errors
    /// As [`Client::create_group`]; [`Error::UnknownGroup`]: there is no such group, or this user
    /// is not in it. [`Error::NotPermitted`]: this user may not do that, or somebody is in already,
    /// or nobody of that name is. [`Error::RateLimited`]: 16 proposals of this device for the group
    /// wait. [`Error::Exhausted`]: the group has 4,096 changes; [`Client::continue_group`].
    pub fn change_group(
        &mut self,
        group: GroupId,
        intentions: &[GroupIntention<'_>],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<GroupChange, Error> {
        self.run(|open| open.whole(|open| change(open, group, intentions, now, rng)))
    }

    /// Joins a group that somebody added this user to. Before that, this device gives it no keys. A
    /// device that declined can still join, as long as no manager of the account had it leave.
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
                let mut row = group_rows::get(open, tag)?.ok_or(Error::UnknownGroup)?;
                if row.standing == GroupStanding::Out {
                    let roster = group_rows::roster(open, tag)?;
                    group_members::own_member(open, &roster)?.ok_or(Error::UnknownGroup)?;
                }
                if row.standing != GroupStanding::Joined {
                    row.standing = GroupStanding::Joined;
                    group_rows::put(open, tag, &row)?;
                }
                group_send::step(open, tag, now, rng)
            })
        })
    }

    /// Declines an invitation. The others are told that this user left, by this device if it holds
    /// the account key, and by a manager of the account otherwise.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]: there is no such invitation; a group that was joined is left by
    /// [`Client::change_group`]. [`Error::Store`].
    pub fn decline_group(
        &mut self,
        group: GroupId,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| decline(open, group, now, rng)))
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
            let (voided, proposed) =
                (group_events::voided(&roster), group_proposals::all(open, tag)?);
            let continues = continued(open, &roster)?;
            let standing = row.standing;
            Ok(GroupInfo { id: group, standing, settings, members, voided, proposed, continues })
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
    /// joined. [`Error::NotPermitted`]: the membership of this user is suspended, or is under the
    /// account key before this one. [`Error::TooLong`], [`Error::Unlinked`], [`Error::Store`].
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
                if group_rows::known(open, tag)?.standing != GroupStanding::Joined {
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
                let mut row = group_rows::known(open, tag)?;
                row.renew = true;
                group_rows::put(open, tag, &row)
            })
        })
    }
}

/// Makes a change, or has the account's managers asked to.
fn change(
    open: &mut Open<'_>,
    group: GroupId,
    intentions: &[GroupIntention<'_>],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<GroupChange, Error> {
    match open.account_key() {
        Ok(_) => {
            group_intentions::change(open, group, intentions, now, rng)?;
            Ok(GroupChange::Made)
        }
        Err(Error::NotPermitted) => {
            let draft = group_intentions::draft(open, group, intentions)?;
            if group_intentions::leave_here(open, &draft, intentions)? {
                return Ok(GroupChange::Made);
            }
            let Draft { tag, roster, by, ops, .. } = draft;
            roster.preview(by, &ops)?;
            let changes = group_intentions::proposed(intentions);
            group_proposals::propose(open, (tag, group), by, changes, now, rng)?;
            Ok(GroupChange::Proposed)
        }
        Err(error) => Err(error),
    }
}

fn decline(
    open: &mut Open<'_>,
    group: GroupId,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.group_tag(group.as_bytes());
    if group_rows::known(open, tag)?.standing != GroupStanding::Invited {
        return Err(Error::UnknownGroup);
    }
    match open.account_key() {
        Ok(_) => group_intentions::change(open, group, &[GroupIntention::Leave], now, rng),
        Err(Error::NotPermitted) => {
            group_members::out(open, tag)?;
            decline_by_manager(open, (tag, group), now, rng)
        }
        Err(error) => Err(error),
    }
}

/// Has a manager of the account leave, if there is one.
fn decline_by_manager(
    open: &mut Open<'_>,
    (tag, group): (Tag, GroupId),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let ids = group_rows::roster(open, tag)?.ids_in(&open.account.user);
    let Some(by) = ids.first().copied() else { return Ok(()) };
    let leave = Vec::from([ProposedChange::Leave]);
    match group_proposals::propose(open, (tag, group), by, leave, now, rng) {
        Err(Error::NotPermitted | Error::RateLimited) => Ok(()),
        proposed => proposed,
    }
}

fn continued(open: &mut Open<'_>, roster: &Roster) -> Result<Option<Continued>, Error> {
    let Some(group) = roster.continues() else { return Ok(None) };
    let was = group_changes::founder_role(open, roster, group)?;
    Ok(Some(Continued { group, founder: roster.founder().0.into(), was }))
}
