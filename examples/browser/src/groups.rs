//! Groups: rooms beside the conversations with one person. A room is called `&` and the 64 digits
//! of its group, where a conversation is called by the name of a user.

use std::collections::BTreeSet;

use subrosa::group::{GroupId, GroupRole};
use subrosa::{
    Admins, Client, Error, Event, FounderRole, GroupEvent, GroupInfo, GroupIntention,
    GroupStanding, Open, Rows, SystemRng,
};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::failure::{Failure, Result};
use crate::history::{self, Line};
use crate::{Device, now};

/// A group, as the page shows it.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct Room {
    /// What [`Device::write`] and [`Device::history`] take.
    pub id: String,
    /// Its title: any text at all.
    pub title: String,
    /// `Invited`, `Joined` or `Out`.
    pub standing: String,
    /// Who is in, in the order in which they were added.
    pub members: Vec<Member>,
    /// Whether this user is an admin.
    pub admin: bool,
    /// Whose changes do not count, since they were removed or demoted.
    pub voided: Vec<String>,
}

/// A member of a group.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct Member {
    /// The user's name: any text at all.
    pub user: String,
    /// Whether the member is an admin.
    pub admin: bool,
    /// What is known of the member's key, as in [`Known`](crate::Known). None where it is another
    /// one than the one known here, or none is known: then nothing goes there.
    pub trust: Option<String>,
    /// Whether nothing goes there since somebody tried to remove the member.
    pub suspended: bool,
}

const ROOM: &[u8] = b"room";

#[wasm_bindgen]
impl Device {
    /// Makes a group, and returns its room. The others are invited.
    ///
    /// # Errors
    /// As [`Device::open`]: somebody is not registered, or the title is too long.
    #[wasm_bindgen(js_name = createGroup)]
    pub async fn create_group(&self, title: &str, people: Vec<String>) -> Result<String, JsValue> {
        Ok(self.found(title, &people).await?)
    }

    /// The groups that this device knows, also those that this user is out of.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn rooms(&self) -> Result<Vec<Room>, JsValue> {
        let me = self.me.user.clone();
        let rooms = self.rows.act(|client| {
            let mut rooms = Vec::new();
            for id in known(&mut client.rows())? {
                match client.group(id) {
                    Ok(info) => rooms.push(room(&me, &info)),
                    Err(Error::UnknownGroup) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(rooms)
        });
        Ok(rooms.await?)
    }

    /// Answers an invitation.
    ///
    /// # Errors
    /// As [`Device::open`]: there is none.
    #[wasm_bindgen(js_name = joinGroup)]
    pub async fn join_group(&self, room: &str) -> Result<(), JsValue> {
        let joined = self.act_in(room, "you have joined", |client, group| {
            client.join_group(group, now()?, &mut SystemRng)
        });
        Ok(joined.await?)
    }

    /// The same, with no.
    ///
    /// # Errors
    /// As [`Device::open`]: there is none.
    #[wasm_bindgen(js_name = declineGroup)]
    pub async fn decline_group(&self, room: &str) -> Result<(), JsValue> {
        let declined = self.act_in(room, "you have declined", |client, group| {
            client.decline_group(group, now()?, &mut SystemRng)
        });
        Ok(declined.await?)
    }

    /// Invites somebody, as an admin does.
    ///
    /// # Errors
    /// As [`Device::open`]: nobody of that name is registered, or is in already.
    pub async fn invite(&self, room: &str, user: &str) -> Result<(), JsValue> {
        self.meet(user).await?;
        let did = format!("you have invited {user}");
        Ok(self.change(room, &did, GroupIntention::Add(user)).await?)
    }

    /// Removes somebody, as an admin does.
    ///
    /// # Errors
    /// As [`Device::open`]: the other one has been an admin for longer.
    #[wasm_bindgen(js_name = removeMember)]
    pub async fn remove_member(&self, room: &str, user: &str) -> Result<(), JsValue> {
        let did = format!("you have removed {user}");
        Ok(self.change(room, &did, GroupIntention::Remove(user)).await?)
    }

    /// Makes an admin of somebody.
    ///
    /// # Errors
    /// As [`Device::open`]: the other one was an admin before.
    pub async fn promote(&self, room: &str, user: &str) -> Result<(), JsValue> {
        let did = format!("you have made {user} an admin");
        Ok(self.change(room, &did, GroupIntention::Promote(user)).await?)
    }

    /// Takes the rights of an admin.
    ///
    /// # Errors
    /// As [`Device::open`]: the other one has been an admin for longer.
    pub async fn demote(&self, room: &str, user: &str) -> Result<(), JsValue> {
        let did = format!("{user} is no admin any more, by you");
        Ok(self.change(room, &did, GroupIntention::Demote(user)).await?)
    }

    /// Does after all what somebody did who was removed or demoted.
    ///
    /// # Errors
    /// As [`Device::open`]: there is nothing of the kind.
    pub async fn restore(&self, room: &str, user: &str) -> Result<(), JsValue> {
        let did = format!("you have done what {user} had changed");
        Ok(self.change(room, &did, GroupIntention::Restore(user)).await?)
    }

    /// Founds a group that is to take the place of this one, without somebody who cannot be
    /// removed from it. Returns its room; the others are invited, and this user leaves nothing.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = continueGroup)]
    pub async fn continue_group(
        &self,
        room: &str,
        without: Vec<String>,
    ) -> Result<String, JsValue> {
        Ok(self.go_on(room, &without).await?)
    }

    /// Gives a group another title, as an admin does.
    ///
    /// # Errors
    /// As [`Device::open`]: it is too long.
    pub async fn rename(&self, room: &str, title: &str) -> Result<(), JsValue> {
        check_title(title)?;
        let did = format!("the title is \u{201c}{title}\u{201d} now");
        Ok(self.change(room, &did, GroupIntention::Set(title.as_bytes())).await?)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`Device::open`]: this user is not in it.
    pub async fn leave(&self, room: &str) -> Result<(), JsValue> {
        Ok(self.change(room, "you have left", GroupIntention::Leave).await?)
    }

    async fn found(&self, title: &str, people: &[String]) -> Result<String> {
        check_title(title)?;
        for user in people {
            self.meet(user).await?;
        }
        let founded = self.rows.act(|client| {
            let names: Vec<&str> = people.iter().map(String::as_str).collect();
            let now = now()?;
            let group = client.create_group(&names, title.as_bytes(), now, &mut SystemRng)?;
            let said = format!("you have made this group, with {}", people.join(", "));
            note(&mut client.rows(), group, &Line::said(said, now))?;
            Ok(room_of(group))
        });
        founded.await
    }

    async fn go_on(&self, room: &str, without: &[String]) -> Result<String> {
        let group = group_of(room).ok_or(Error::UnknownGroup)?;
        let founded = self.rows.act(|client| {
            let names: Vec<&str> = without.iter().map(String::as_str).collect();
            let now = now()?;
            let next =
                client.continue_group(group, &names, Admins::Founder, now, &mut SystemRng)?;
            let said = format!("you go on here without {}", without.join(", "));
            note(&mut client.rows(), next, &Line::said(said, now))?;
            Ok(room_of(next))
        });
        founded.await
    }

    /// Somebody whose key is not known yet is added with the one that the server has.
    pub(crate) async fn meet(&self, user: &str) -> Result<()> {
        if self.rows.act(|client| client.devices(user)).await?.is_some() {
            return Ok(());
        }
        let Some(list) = self.server.devices(user).await? else {
            return Err(Failure::Person(format!(
                "nobody is registered as {user}: have them open their tab once, then try again"
            )));
        };
        let met =
            self.rows.act(|client| client.update_devices(user, &list, now()?, &mut SystemRng));
        met.await
    }

    async fn change(&self, room: &str, did: &str, what: GroupIntention<'_>) -> Result<()> {
        let changed = self.act_in(room, did, |client, group| {
            client.change_group(group, &[what], now()?, &mut SystemRng).map(drop)
        });
        match changed.await {
            Err(Failure::Client(Error::NotPermitted)) => Err(Failure::Person(
                "only an admin can do that, to somebody who is in and has not been an admin for \
                 longer"
                    .into(),
            )),
            ended => ended,
        }
    }

    /// Does something in a group, and notes that this user did.
    async fn act_in(
        &self,
        room: &str,
        did: &str,
        mut act: impl FnMut(&mut Client<Open<'_>>, GroupId) -> Result<(), Error>,
    ) -> Result<()> {
        let group = group_of(room).ok_or(Error::UnknownGroup)?;
        let acted = self.rows.act(|client| {
            act(client, group)?;
            note(&mut client.rows(), group, &Line::said(did.into(), now()?))
        });
        acted.await
    }
}

/// The group that a room is of. None: it is a conversation with a user.
pub(crate) fn group_of(room: &str) -> Option<GroupId> {
    let digits = room.strip_prefix('&').filter(|digits| digits.len() == 64)?;
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(GroupId::from(id))
}

pub(crate) fn room_of(group: GroupId) -> String {
    let digits: String = group.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("&{digits}")
}

/// Adds a line to a room.
pub(crate) fn note(rows: &mut Rows<'_>, group: GroupId, line: &Line) -> Result<(), Error> {
    rows.put(&[ROOM, group.as_bytes()].concat(), b"")?;
    history::add_line(rows, &room_of(group), line)
}

/// Which group an event is about.
pub(crate) const fn about(event: &Event) -> Option<GroupId> {
    match event {
        Event::GroupInvited { group, .. }
        | Event::GroupJoined { group }
        | Event::GroupLeft { group }
        | Event::GroupChanged { group, .. }
        | Event::GroupVoided { group, .. }
        | Event::GroupContinued { group, .. }
        | Event::GroupSplit { group } => Some(*group),
        _ => None,
    }
}

/// An event of a group, in plain words.
pub(crate) fn words(event: &Event) -> String {
    match event {
        Event::GroupInvited { by, .. } => format!("{} invites you", by.user),
        Event::GroupJoined { .. } => "you have joined on another device".into(),
        Event::GroupLeft { .. } => "you are not in this group any more".into(),
        Event::GroupSplit { .. } => {
            "devices do not agree on who is in: compare the members that each of you sees".into()
        }
        Event::GroupChanged { by, what, .. } => changed(by.as_deref(), what),
        Event::GroupVoided { by, .. } => {
            format!("what {by} changed meanwhile does not count: an admin can do it after all")
        }
        Event::GroupContinued { founder, was, .. } => {
            let was = match was {
                FounderRole::Admin => "an admin of it",
                FounderRole::Member => "a member of it",
                FounderRole::Former => "a member of it once",
                _ => "maybe nobody there",
            };
            format!(
                "{founder} says that this group takes the place of another one, and is {was}: ask \
                 the others before you join"
            )
        }
        _ => String::new(),
    }
}

fn changed(by: Option<&str>, what: &GroupEvent) -> String {
    let by = by.unwrap_or("nobody");
    match what {
        GroupEvent::Added { user } => format!("{by} has invited {user}"),
        GroupEvent::Removed { user } if user == by => format!("{user} has left"),
        GroupEvent::Removed { user } => format!("{by} has removed {user}"),
        GroupEvent::Role { user, role: GroupRole::Admin } => {
            format!("{by} has made {user} an admin")
        }
        GroupEvent::Role { user, .. } => format!("{user} is no admin any more"),
        GroupEvent::Suspended { user, suspended: true } => {
            format!("{by} has tried to remove {user}: a more senior admin decides")
        }
        GroupEvent::Suspended { user, .. } => format!("{user} is not suspended any more"),
        GroupEvent::Settings => format!("{by} has changed the title"),
        _ => "something changed that a newer page can show".into(),
    }
}

fn check_title(title: &str) -> Result<()> {
    if title.is_empty() || title.len() > 200 {
        return Err(Failure::Person("a title has 1 to 200 bytes".into()));
    }
    Ok(())
}

fn known(rows: &mut Rows<'_>) -> Result<Vec<GroupId>, Error> {
    let found = rows.scan(ROOM, usize::MAX)?.into_iter();
    let id = |key: &[u8]| <[u8; 32]>::try_from(key.get(ROOM.len()..)?).ok();
    found.map(|(key, _)| id(&key).map(GroupId::from).ok_or(Error::BadState)).collect()
}

fn room(me: &str, info: &GroupInfo) -> Room {
    let members: Vec<_> = info
        .members
        .iter()
        .map(|member| Member {
            user: member.user.clone(),
            admin: member.role == GroupRole::Admin,
            trust: member.trust.map(|trust| format!("{trust:?}")),
            suspended: member.suspended,
        })
        .collect();
    Room {
        id: room_of(info.id),
        title: String::from_utf8_lossy(&info.settings).into_owned(),
        standing: format!("{:?}", info.standing),
        voided: info
            .voided
            .iter()
            .map(|change| change.by.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        admin: info.standing == GroupStanding::Joined
            && members.iter().any(|member| member.user == me && member.admin),
        members,
    }
}
