//! Which group is meant, and what has to hold before anything is done with it. Where it does not, a
//! person is told what to do instead.

use subrosa::group::{GroupId, GroupRole};
use subrosa::{Address, Error, GroupInfo, GroupStanding, Role};

use crate::handles::{MARK, is_handle, title};
use crate::names::is_name;
use crate::{Chat, Result, news, rows, visible};

/// Bytes of a title that is given here.
const MAX_TITLE: usize = 200;

/// People in one line.
const MOST_NAMES: usize = 50;

/// A group that this device knows.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) handle: String,
    pub(crate) info: GroupInfo,
}

impl Chat {
    /// The group that is called so here. With nothing said, the one that lines are for.
    pub(crate) fn find_group(&mut self, word: &str, usage: &str) -> Result<Option<Group>> {
        let word = match (word, &self.to) {
            ("", Some(to)) if is_handle(to) => to.clone(),
            ("", _) => {
                self.screen.say(&format!("* of which group? {usage}; /groups lists yours"));
                return Ok(None);
            }
            (word, _) => word.to_ascii_lowercase(),
        };
        let handle = if is_handle(&word) { word } else { format!("{MARK}{word}") };
        let found = self.client.transact(|client| {
            let Some(id) = rows::group(&mut client.rows(), &handle)? else { return Ok(None) };
            match client.group(id) {
                Ok(info) => Ok(Some((id, info))),
                Err(Error::UnknownGroup) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        if found.is_none() {
            let handle = visible(handle.as_bytes());
            self.screen.text("* there is no such group here, see /groups: ", &handle);
        }
        Ok(found.map(|(id, info)| Group { id, handle, info }))
    }

    /// Whether a group is called so here, but for the mark.
    pub(crate) fn has_group(&mut self, word: &str) -> Result<bool> {
        let handle = format!("{MARK}{word}");
        let group = self.client.transact(|client| rows::group(&mut client.rows(), &handle))?;
        Ok(group.is_some())
    }

    /// As [`Chat::find_group`], of a group that this user is in.
    pub(crate) fn find_joined(&mut self, word: &str, usage: &str) -> Result<Option<Group>> {
        let Some(group) = self.find_group(word, usage)? else { return Ok(None) };
        let handle = &group.handle;
        match group.info.standing {
            GroupStanding::Joined => return Ok(Some(group)),
            GroupStanding::Invited => self
                .screen
                .say(&format!("* you are invited to {handle}, and not in yet: /join {handle}")),
            _ => self.is_out(&group),
        }
        Ok(None)
    }

    pub(crate) fn is_out(&self, group: &Group) {
        self.screen.say(&format!(
            "* you are not in {} any more: one of its admins can invite you again",
            group.handle
        ));
    }

    /// The names in a line, behind spaces or commas.
    pub(crate) fn names(&self, words: &str) -> Option<Vec<String>> {
        let mut names: Vec<_> = words
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        names.sort();
        names.dedup();
        if let Some(bad) = names.iter().find(|name| !is_name(name)) {
            let bad = visible(bad.as_bytes());
            self.screen.text("* that is no name, and nothing was done: ", &bad);
            return None;
        }
        if names.len() > MOST_NAMES {
            self.screen.say(&format!("* at most {MOST_NAMES} people in one line"));
            return None;
        }
        Some(names)
    }

    pub(crate) fn new_title(&self, called: &str) -> Option<String> {
        let called = called.trim();
        if called.is_empty() || called.len() > MAX_TITLE {
            self.screen.say(&format!("* a title has 1 to {MAX_TITLE} bytes"));
            return None;
        }
        Some(called.into())
    }

    /// Whether people can be added: the relay knows them, and no new key of theirs waits.
    pub(crate) fn are_known(&mut self, people: &[String]) -> Result<bool> {
        for user in people {
            if !self.refresh(user)? {
                self.screen.say(&format!(
                    "* nobody is registered as {user}, so nothing was done: {user} has to start \
                     the chat once before you add them"
                ));
                return Ok(false);
            }
            if self.client.trust(user)?.is_some_and(|trust| trust.new_account.is_some()) {
                self.screen.text("* nothing was done. ", &news::changed(user));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first manager of this account, which may be this device.
    pub(crate) fn manager(&mut self) -> Result<Address> {
        let list = self.client.devices(&self.me.user)?;
        let devices = list.iter().flat_map(|list| list.devices());
        let managers = devices.filter(|listed| listed.role == Role::Manager);
        let mut numbers = managers.map(|listed| listed.device);
        let device = match numbers.clone().any(|device| device == self.me.device) {
            true => self.me.device,
            false => numbers.next().unwrap_or_default(),
        };
        Ok(Address::new(&self.me.user, device))
    }

    /// Whether this device can found groups; says who can where it cannot.
    pub(crate) fn holds_account_key(&mut self) -> Result<bool> {
        let manager = self.manager()?;
        if manager != self.me {
            self.screen.say(&format!(
                "* this device founds no groups: do it on {manager}, which is a manager of your \
                 account"
            ));
        }
        Ok(manager == self.me)
    }
}

impl Group {
    pub(crate) fn role_of(&self, user: &str) -> Option<GroupRole> {
        self.info.members.iter().find(|member| member.user == user).map(|member| member.role)
    }

    pub(crate) fn admins(&self) -> impl Iterator<Item = &str> {
        let members = self.info.members.iter();
        members.filter(|member| member.role == GroupRole::Admin).map(|member| &*member.user)
    }

    /// `"Roses", 3 members, you are an admin`
    pub(crate) fn summary(&self, me: &str) -> String {
        let count = self.info.members.len();
        let role = match (self.info.standing, self.role_of(me)) {
            (GroupStanding::Invited, _) => format!("you are invited: /join {}", self.handle),
            (_, Some(GroupRole::Admin)) => "you are an admin".into(),
            _ => "you are in".into(),
        };
        let members = if count == 1 { "member" } else { "members" };
        format!("{}, {count} {members}, {role}", title(&self.info.settings))
    }
}
