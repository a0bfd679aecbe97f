//! Who is in a group, and what its admins do about that.

use subrosa::group::GroupRole;
use subrosa::{GroupIntention, MemberInfo, SystemRng, Trust, UnixTime};

use crate::group_lookup::Group;
use crate::handles::{MARK, is_handle, title};
use crate::people::Question;
use crate::screen::name;
use crate::{Chat, Result};

/// What is done about one member.
#[derive(Clone, Copy)]
pub(crate) enum Deed {
    Remove,
    Promote,
    Demote,
}

impl Chat {
    /// `/members &roses`
    pub(crate) fn show_members(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_group(rest, "/members &roses")? else { return Ok(()) };
        self.screen.text(&format!("* {}: ", group.handle), &title(&group.info.settings));
        for member in &group.info.members {
            let what = self.described(&group, member)?;
            self.screen.say(&format!("*   {}: {what}", name(&member.user)));
        }
        Ok(())
    }

    fn described(&mut self, group: &Group, member: &MemberInfo) -> Result<String> {
        let role = if member.role == GroupRole::Admin { "admin" } else { "member" };
        let user = name(&member.user);
        let known = match member.trust {
            _ if member.user == self.me.user => "you".to_owned(),
            Some(Trust::Verified) => "verified".into(),
            Some(Trust::Unvouched) => "!! nobody vouches for that name yet".into(),
            Some(Trust::Unaccepted) => format!(
                "!! has a new key that nobody has accepted, and gets nothing until then: \
                 /accept {user}"
            ),
            Some(_) => "not verified".into(),
            None if self.client.devices(&member.user)?.is_some() => format!(
                "!! has another key here than in the group, and gets nothing from you: \
                 /verify {user}, then an admin removes {user} and invites {user} again ({})",
                group.handle
            ),
            None => "not known here yet; asked for".into(),
        };
        let suspended = if member.suspended { ", !! suspended: gets nothing" } else { "" };
        Ok(format!("{role}, {known}{suspended}"))
    }

    /// `/invite &roses bob carol`
    pub(crate) fn invite(&mut self, rest: &str) -> Result<()> {
        let Some((group, people)) = self.group_and(rest, "/invite &roses bob")? else {
            return Ok(());
        };
        let Some(people) = self.names(people) else { return Ok(()) };
        if people.is_empty() {
            self.screen.say(&format!("* whom? /invite {} bob", group.handle));
            return Ok(());
        }
        if !self.may_change(&group)? || !self.are_known(&people)? {
            return Ok(());
        }
        if let Some(user) = people.iter().find(|user| group.role_of(user).is_some()) {
            self.screen.say(&format!("* {user} is in {} already, or invited", group.handle));
            return Ok(());
        }
        let adds: Vec<_> = people.iter().map(|user| GroupIntention::Add(user)).collect();
        let did = format!("you have invited {} to", people.join(", "));
        self.change(&group, &did, &adds)
    }

    /// `/remove &roses bob`, `/promote &roses bob`, `/demote &roses bob`
    pub(crate) fn act_on(&mut self, deed: Deed, rest: &str) -> Result<()> {
        let Some((group, user)) = self.group_and(rest, deed.usage())? else { return Ok(()) };
        let Some(people) = self.names(user) else { return Ok(()) };
        let [user] = &people[..] else {
            self.screen.say(&format!("* one name, please: {}", deed.usage()));
            return Ok(());
        };
        let handle = &group.handle;
        let is_self = *user == self.me.user;
        if !self.may_change(&group)? {
            return Ok(());
        }
        let Some(role) = group.role_of(user) else {
            self.screen
                .say(&format!("* {user} is not in {handle}: /members {handle} shows who is"));
            return Ok(());
        };
        match (deed, role) {
            (Deed::Remove, _) if is_self => {
                self.screen.say(&format!("* that is you: /leave {handle}"));
            }
            (Deed::Promote, GroupRole::Admin) => {
                self.screen.say(&format!("* {user} is an admin of {handle} already"));
            }
            (Deed::Demote, GroupRole::Member) => {
                self.screen.say(&format!("* {user} is no admin of {handle}"));
            }
            (Deed::Demote, _) if is_self => {
                self.screen.say(&format!(
                    "* Only by being removed and invited again can you become an admin of {handle} \
                     once more. Step down? (yes/no)"
                ));
                self.question = Some(Question::StepDown(handle.clone()));
            }
            _ => return self.act_on_member(deed, &group, user),
        }
        Ok(())
    }

    fn act_on_member(&mut self, deed: Deed, group: &Group, user: &str) -> Result<()> {
        let handle = &group.handle;
        let (did, intention) = match deed {
            Deed::Remove => (format!("you have removed {user} from"), GroupIntention::Remove(user)),
            Deed::Promote => {
                (format!("you have made {user} an admin of"), GroupIntention::Promote(user))
            }
            Deed::Demote => {
                (format!("you have made {user} a plain member of"), GroupIntention::Demote(user))
            }
        };
        match self.change(group, &did, &[intention]) {
            Err(crate::Failure::Client(subrosa::Error::NotPermitted)) => {
                let why = match deed {
                    Deed::Promote => format!(
                        "{user} was an admin of {handle} before: /remove {handle} {user}, \
                         /invite {handle} {user}, and then /promote {handle} {user}"
                    ),
                    _ => format!(
                        "{user} has been an admin of {handle} for longer than you: only somebody \
                         more senior can do that, or {user}"
                    ),
                };
                self.screen.say(&format!("* {why}"));
                Ok(())
            }
            ended => ended,
        }
    }

    pub(crate) fn step_down(&mut self, handle: &str) -> Result<()> {
        let Some(group) = self.find_joined(handle, "/demote &roses bob")? else { return Ok(()) };
        let me = self.me.user.clone();
        self.change(&group, "you are a plain member now of", &[GroupIntention::Demote(&me)])
    }

    /// `/title &roses Roses and thorns`
    pub(crate) fn set_title(&mut self, rest: &str) -> Result<()> {
        let Some((group, called)) = self.group_and(rest, "/title &roses Thorns")? else {
            return Ok(());
        };
        let Some(called) = self.new_title(called) else { return Ok(()) };
        if !self.may_change(&group)? {
            return Ok(());
        }
        let did = format!("the title is {} now; here it stays", title(called.as_bytes()));
        self.change(&group, &did, &[GroupIntention::Set(called.as_bytes())])
    }

    /// `/restore &roses bob`
    pub(crate) fn restore(&mut self, rest: &str) -> Result<()> {
        let usage = "/restore &roses bob";
        let Some((group, user)) = self.group_and(rest, usage)? else { return Ok(()) };
        let Some(people) = self.names(user) else { return Ok(()) };
        let [user] = &people[..] else {
            self.screen.say(&format!("* one name, please: {usage}"));
            return Ok(());
        };
        if !group.info.voided.iter().any(|voided| voided.by == *user) {
            self.screen.say(&format!("* nothing that {user} did in {} is void", group.handle));
            return Ok(());
        }
        if !self.may_change(&group)? {
            return Ok(());
        }
        let did = format!("what {user} did counts, by your word, in");
        self.change(&group, &did, &[GroupIntention::Restore(user)])
    }

    /// Keys of a group that others have, and do not need any more.
    pub(crate) fn refresh_group(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_joined(rest, "/reset &roses")? else { return Ok(()) };
        self.client.refresh_group(group.id)?;
        self.screen.say(&format!("* what you write to {} next is under a new key", group.handle));
        Ok(())
    }

    fn change(&mut self, group: &Group, did: &str, what: &[GroupIntention<'_>]) -> Result<()> {
        let (id, now) = (group.id, UnixTime::now()?);
        self.note(group, did, |client| client.change_group(id, what, now, &mut SystemRng))?;
        Ok(())
    }

    /// A group that this user is in, and what follows. With no group named, the one that lines are
    /// for.
    fn group_and<'r>(&mut self, rest: &'r str, usage: &str) -> Result<Option<(Group, &'r str)>> {
        let (word, rest) = match rest.strip_prefix(MARK) {
            Some(_) => rest.split_once(' ').unwrap_or((rest, "")),
            None if self.to.as_deref().is_some_and(is_handle) => ("", rest),
            None => {
                self.screen.say(&format!("* of which group? {usage}; /groups lists yours"));
                return Ok(None);
            }
        };
        Ok(self.find_joined(word, usage)?.map(|group| (group, rest.trim())))
    }

    /// Whether this user is an admin; says who is where not.
    fn may_change(&mut self, group: &Group) -> Result<bool> {
        let handle = &group.handle;
        let mut me = group.info.members.iter().filter(|member| member.user == self.me.user);
        if me.any(|member| member.suspended) {
            self.screen.say(&format!(
                "* somebody has tried to remove you from {handle}: until an admin who is more \
                 senior changes anything, you cannot. /members {handle}"
            ));
            return Ok(false);
        }
        if group.role_of(&self.me.user) == Some(GroupRole::Admin) {
            return Ok(true);
        }
        let admins: Vec<&str> = group.admins().map(name).collect();
        self.screen.say(&match &admins[..] {
            [] => format!("* {handle} has no admin any more: begin another one with /group"),
            admins => {
                format!("* you are no admin of {handle}: ask {} to do that", admins.join(" or "))
            }
        });
        Ok(false)
    }
}

impl Deed {
    const fn usage(self) -> &'static str {
        match self {
            Self::Remove => "/remove &roses bob",
            Self::Promote => "/promote &roses bob",
            Self::Demote => "/demote &roses bob",
        }
    }
}
