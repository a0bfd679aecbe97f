//! What comes from groups, as lines of the history: texts, and who came and went.
//!
//! ```text
//! 12:34 bob in &roses: a text of bob to the group
//! 12:34 ! bob/1 in &roses, not a member any more: late mail, or somebody who was removed
//! 12:34 ~ bob in &roses: a text of somebody who says that they are bob
//! 12:34 #7 .. -> &roses: a text of this device to the group
//! 12:34 (alice/2) -> &roses: a text of another device of this account
//! * bob has removed carol from &roses
//! ```

use subrosa::group::{GroupId, GroupRole};
use subrosa::{
    Client, Error, Event, FounderRole, GroupEvent, GroupText, Incoming, Item, Open, ProposedChange,
    Trust, UnixTime,
};

use crate::attached::Attached;
use crate::handles::{self, Handle, title};
use crate::rows::{Author, Line, Member, Standing};
use crate::screen::name;

/// The line of something that came from a group. None: it came from elsewhere.
pub(crate) fn line(
    client: &mut Client<Open<'_>>,
    me: &str,
    incoming: &Incoming,
) -> Result<Option<Line>, Error> {
    let at = incoming.received_at;
    match &incoming.item {
        Item::Group(text) => of_text(client, me, text, at).map(Some),
        Item::Event(event) => {
            let Some(group) = group_of(event) else { return Ok(None) };
            let handle = handles::of(client, group)?;
            let said = words(client, me, event, handle.as_str())?;
            Ok(Some(said_of(group, &handle, &said, at)))
        }
        _ => Ok(None),
    }
}

/// Something that this program says of a group.
pub(crate) fn said_of(group: GroupId, handle: &Handle, said: &str, at: UnixTime) -> Line {
    let author = match handle {
        Handle::New(_) => Author::Group(group),
        Handle::Known(_) => Author::Chat,
    };
    let (user, text, at) = (handle.as_str().into(), said.as_bytes().to_vec(), at.as_secs());
    Line { user, author, text, at, message: None, files: Vec::new() }
}

fn of_text(
    client: &mut Client<Open<'_>>,
    me: &str,
    written: &GroupText,
    at: UnixTime,
) -> Result<Line, Error> {
    let (text, from) = (&written.text, &written.text.from);
    let standing = match text.trust {
        _ if written.is_late => Standing::Gone,
        Trust::Unvouched => Standing::Unvouched,
        _ => Standing::In,
    };
    let author = if from.user == me && standing == Standing::In {
        Author::OtherDevice(from.device)
    } else {
        Author::Member(Member { user: name(&from.user).into(), device: from.device, standing })
    };
    Ok(Line {
        user: handles::of(client, written.group)?.as_str().into(),
        author,
        text: text.text.to_vec(),
        at: at.as_secs(),
        message: Some(text.message),
        files: text.files.iter().map(Attached::of).collect(),
    })
}

const fn group_of(event: &Event) -> Option<GroupId> {
    match event {
        Event::GroupInvited { group, .. }
        | Event::GroupJoined { group }
        | Event::GroupLeft { group }
        | Event::GroupChanged { group, .. }
        | Event::GroupSplit { group }
        | Event::GroupProposal { group, .. }
        | Event::GroupProposalExpired { group }
        | Event::GroupVoided { group, .. }
        | Event::GroupContinued { group, .. } => Some(*group),
        _ => None,
    }
}

fn words(
    client: &mut Client<Open<'_>>,
    me: &str,
    event: &Event,
    handle: &str,
) -> Result<String, Error> {
    Ok(match event {
        Event::GroupInvited { group, by } => {
            let called = called(client, *group)?;
            format!(
                "{} invites you to the group {called}, which is {handle} here: /join {handle}, or \
                 /decline {handle}",
                name(&by.user)
            )
        }
        Event::GroupJoined { group } => {
            let called = called(client, *group)?;
            format!("another device of yours is in the group {called}, which is {handle} here")
        }
        Event::GroupLeft { .. } => {
            format!("you are not in {handle} any more: nothing comes from there")
        }
        Event::GroupSplit { .. } => format!(
            "!! devices do not agree on who is in {handle}: compare what /members {handle} shows \
             with the others. If it stays so, begin another group"
        ),
        Event::GroupProposal { by, made: true, .. } => {
            format!("your device {} has left {handle}: signed here", by.device)
        }
        Event::GroupProposal { by, changes, .. } => {
            let wanted: Vec<String> =
                changes.iter().map(|change| command(change, handle)).collect();
            format!(
                "!! your device {} wants to change {handle}. If that was you: {}",
                by.device,
                wanted.join(", then ")
            )
        }
        Event::GroupProposalExpired { .. } => {
            format!("in a week nobody has signed what this device wanted of {handle}: ask again")
        }
        Event::GroupVoided { by, .. } => {
            let by = name(by);
            format!(
                "what {by} changed in {handle} meanwhile does not count: /restore {handle} {by} \
                 does it after all"
            )
        }
        Event::GroupContinued { of, founder, was, .. } => {
            let old = match was {
                FounderRole::Unknown => "a group that is not known here".into(),
                _ => handles::of(client, *of)?.as_str().to_owned(),
            };
            let was = match was {
                FounderRole::Admin => "an admin of it",
                FounderRole::Member => "a member of it",
                FounderRole::Former => "a member of it once",
                _ => "maybe nobody there",
            };
            let founder = name(founder);
            format!(
                "!! {founder} says that {handle} takes the place of {old}, and is {was}: ask the \
                 others before you join"
            )
        }
        Event::GroupChanged { group, by, what } => {
            let by = by.as_deref();
            match what {
                GroupEvent::Settings => {
                    let called = called(client, *group)?;
                    format!("{} has given {handle} another title: {called}", who(me, by))
                }
                what => changed(me, by, what, handle),
            }
        }
        _ => String::new(),
    })
}

/// What a person types to do what another device wants.
fn command(change: &ProposedChange, handle: &str) -> String {
    let of = |word: &str, user: &str| format!("{word} {handle} {}", name(user));
    match change {
        ProposedChange::Add(user) => of("/invite", user),
        ProposedChange::Remove(user) => of("/remove", user),
        ProposedChange::Promote(user) => of("/promote", user),
        ProposedChange::Demote(user) => of("/demote", user),
        ProposedChange::Restore(user) => of("/restore", user),
        ProposedChange::Set(settings) => format!("/title {handle} {}", title(settings)),
        ProposedChange::Leave => format!("/leave {handle}"),
        _ => "update this program".into(),
    }
}

/// The title that a group has now.
fn called(client: &mut Client<Open<'_>>, group: GroupId) -> Result<String, Error> {
    match client.group(group) {
        Ok(info) => Ok(title(&info.settings)),
        Err(Error::UnknownGroup) => Ok(title(b"")),
        Err(error) => Err(error),
    }
}

/// Who did something. Nobody did what follows from changes that do not count any more.
fn who<'a>(me: &str, by: Option<&'a str>) -> &'a str {
    match by {
        Some(by) if by == me => "another device of yours",
        Some(by) => name(by),
        None => "nobody",
    }
}

/// What became different, and who did it.
fn changed(me: &str, by: Option<&str>, what: &GroupEvent, handle: &str) -> String {
    let whom = |user| if user == me { "you" } else { name(user) };
    let is = |user| if user == me { "you are".into() } else { format!("{} is", name(user)) };
    let is_own = |user: &str| by == Some(user);
    let does = who(me, by);
    let through = by.map(|_| format!(" ({does} did that)")).unwrap_or_default();
    match what {
        GroupEvent::Added { user } if by.is_some() => {
            format!("{does} has invited {} to {handle}", whom(user))
        }
        GroupEvent::Added { user } => format!("{} in {handle} after all", is(user)),
        GroupEvent::Removed { user } if is_own(user) && user == me => {
            format!("you have left {handle}, on another device")
        }
        GroupEvent::Removed { user } if is_own(user) => format!("{} has left {handle}", whom(user)),
        GroupEvent::Removed { user } if by.is_some() => {
            format!("{does} has removed {} from {handle}", whom(user))
        }
        GroupEvent::Removed { user } => format!("{} not in {handle} after all", is(user)),
        GroupEvent::Role { user, role: GroupRole::Admin } => {
            format!("{} an admin of {handle} now{through}", is(user))
        }
        GroupEvent::Role { user, .. } if is_own(user) => {
            format!("{} no admin of {handle} any more, by choice", is(user))
        }
        GroupEvent::Role { user, .. } => {
            format!("{} no admin of {handle} any more{through}", is(user))
        }
        GroupEvent::Suspended { user, suspended: true } if by.is_some() => format!(
            "!! {does} has tried to remove {} from {handle}, who has been an admin for longer. \
             Nothing is sent to {} there until an admin who is more senior than {does} changes \
             anything, say the title: talk to each other, and see /members {handle}",
            whom(user),
            whom(user)
        ),
        GroupEvent::Suspended { user, suspended: true } => {
            format!("{} suspended in {handle}, which is too large", is(user))
        }
        GroupEvent::Suspended { user, .. } => {
            format!("{} not suspended in {handle} any more", is(user))
        }
        _ => format!("something changed in {handle} that this version does not know"),
    }
}
