//! Groups: made, joined, left, and written to. What its admins do is in `members.rs`.

use subrosa::group::GroupRole;
use subrosa::{
    Admins, Client, Error, GroupChange, GroupIntention, GroupStanding, Open, Progress, SystemRng,
    UnixTime,
};

use crate::group_lookup::Group;
use crate::handles::{self, is_handle, title};
use crate::people::Question;
use crate::rows::{Author, Line, Mark};
use crate::screen::name;
use crate::{Chat, Result, group_news, rows};

impl Chat {
    /// `/group Roses: bob carol`
    pub(crate) fn make_group(&mut self, rest: &str) -> Result<()> {
        // A title may have a colon, and names have none.
        let Some((called, people)) = rest.rsplit_once(':').filter(|(_, people)| is_some(people))
        else {
            self.screen.say("* a group takes a title and people: /group Red roses: bob carol");
            return Ok(());
        };
        let Some(called) = self.new_title(called) else { return Ok(()) };
        let Some(people) = self.names(people) else { return Ok(()) };
        if people.contains(&self.me.user) {
            self.screen.say("* you are in it in any case: name the others");
            return Ok(());
        }
        if !self.holds_account_key()? || !self.are_known(&people)? {
            return Ok(());
        }
        let now = UnixTime::now()?;
        let (line, number) = self.client.transact(|client| {
            let names: Vec<&str> = people.iter().map(String::as_str).collect();
            let group = client.create_group(&names, called.as_bytes(), now, &mut SystemRng)?;
            let handle = handles::of(client, group)?;
            let said = format!(
                "the group {} is {} here. {} invited: /to {1} writes to it",
                title(called.as_bytes()),
                handle.as_str(),
                listed(&people, "is", "are")
            );
            let line = group_news::said_of(group, &handle, &said, now);
            Ok::<_, Error>((line.clone(), rows::add(&mut client.rows(), &line)?))
        })?;
        self.show_line(number, &line);
        Ok(())
    }

    /// `/groups`
    pub(crate) fn show_groups(&mut self) -> Result<()> {
        let groups = self.client.groups()?;
        if groups.is_empty() {
            self.screen.say("* you are in no group: /group Red roses: bob carol makes one");
        }
        let mut lines = Vec::new();
        for id in groups {
            let handle = self.client.transact(|client| {
                handles::of(client, id).map(|handle| handle.as_str().to_owned())
            })?;
            let group = Group { id, handle, info: self.client.group(id)? };
            lines.push((group.handle.clone(), group.summary(&self.me.user)));
        }
        lines.sort();
        for (handle, summary) in lines {
            self.screen.text(&format!("* {handle}: "), &summary);
        }
        Ok(())
    }

    /// Says that invitations wait, when the chat begins.
    pub(crate) fn show_invitations(&mut self) -> Result<()> {
        let mut waiting = 0_usize;
        for id in self.client.groups()? {
            let is_invited = self.client.group(id)?.standing == GroupStanding::Invited;
            waiting = waiting.saturating_add(usize::from(is_invited));
        }
        if waiting > 0 {
            self.screen.say(&format!("* groups that you are invited to: {waiting}; see /groups"));
        }
        Ok(())
    }

    pub(crate) fn join_group(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_group(rest, "/join &roses")? else { return Ok(()) };
        let Group { id, handle, info } = &group;
        match info.standing {
            GroupStanding::Joined => {
                self.screen.say(&format!("* you are in {handle} already: /to {handle}"));
            }
            GroupStanding::Invited => {
                let now = UnixTime::now()?;
                self.note(&group, "you have joined", |client| {
                    client.join_group(*id, now, &mut SystemRng).map(|()| GroupChange::Made)
                })?;
            }
            _ => self.is_out(&group),
        }
        Ok(())
    }

    pub(crate) fn decline_group(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_group(rest, "/decline &roses")? else { return Ok(()) };
        let Group { id, handle, info } = &group;
        match info.standing {
            GroupStanding::Joined => {
                self.screen.say(&format!("* you are in {handle}: /leave {handle} ends that"));
            }
            GroupStanding::Invited => {
                let now = UnixTime::now()?;
                self.note(&group, "you have declined", |client| {
                    client.decline_group(*id, now, &mut SystemRng).map(|()| GroupChange::Made)
                })?;
            }
            _ => self.is_out(&group),
        }
        Ok(())
    }

    /// Asks, since nobody comes back by themselves.
    pub(crate) fn ask_leave(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_joined(rest, "/leave &roses")? else { return Ok(()) };
        let handle = &group.handle;
        let mut others = group.admins().filter(|admin| *admin != self.me.user);
        let is_last = others.next().is_none() && group.info.members.len() > 1;
        let last = match group.role_of(&self.me.user) {
            Some(GroupRole::Admin) if is_last => format!(
                "\n* You are its only admin: after that nobody can invite or remove anybody. \
                 /promote {handle} NAME makes another one"
            ),
            _ => String::new(),
        };
        self.screen.say(&format!(
            "* Leave {handle}? Only an admin can invite you again.{last}\n* Leave? (yes/no)"
        ));
        self.question = Some(Question::Leave(handle.clone()));
        Ok(())
    }

    pub(crate) fn leave_group(&mut self, handle: &str) -> Result<()> {
        let Some(group) = self.find_joined(handle, "/leave &roses")? else { return Ok(()) };
        let now = UnixTime::now()?;
        let done = self.note(&group, "you have left", |client| {
            client.change_group(group.id, &[GroupIntention::Leave], now, &mut SystemRng)
        })?;
        if done == GroupChange::Made {
            self.is_left(handle);
        }
        Ok(())
    }

    /// Lines are not for a group any more that this user is out of.
    pub(crate) fn is_left(&mut self, handle: &str) {
        if self.to.take_if(|to| to == handle).is_some() {
            self.set_prompt();
        }
    }

    /// `/continue &roses`, or `/continue &roses bob` without Bob
    pub(crate) fn continue_group(&mut self, rest: &str) -> Result<()> {
        let usage = "/continue &roses, or /continue &roses bob without Bob";
        let (word, people) = rest.split_once(' ').unwrap_or((rest, ""));
        let Some(group) = self.find_group(word, usage)? else { return Ok(()) };
        let Some(without) = self.names(people) else { return Ok(()) };
        if let Some(user) = without.iter().find(|user| group.role_of(user).is_none()) {
            self.screen.say(&format!("* {user} is not in {}", group.handle));
            return Ok(());
        }
        if !self.holds_account_key()? {
            return Ok(());
        }
        let now = UnixTime::now()?;
        let (line, number) = self.client.transact(|client| {
            let without: Vec<&str> = without.iter().map(String::as_str).collect();
            let next =
                client.continue_group(group.id, &without, Admins::Kept, now, &mut SystemRng)?;
            let handle = handles::of(client, next)?;
            let said = format!(
                "a group that is to take the place of {} is {} here. The others are invited; leave \
                 the old one when they have come",
                group.handle,
                handle.as_str()
            );
            let line = group_news::said_of(next, &handle, &said, now);
            Ok::<_, Error>((line.clone(), rows::add(&mut client.rows(), &line)?))
        })?;
        self.show_line(number, &line);
        Ok(())
    }

    /// Does something in a group, and notes in the history that this user did it, or that another
    /// device of this user is asked to sign it.
    pub(crate) fn note(
        &mut self,
        group: &Group,
        did: &str,
        mut act: impl FnMut(&mut Client<Open<'_>>) -> Result<GroupChange, Error>,
    ) -> Result<GroupChange> {
        let (handle, now) = (handles::Handle::Known(group.handle.clone()), UnixTime::now()?);
        let manager = self.manager()?;
        let (done, number, line) = self.client.transact(|client| {
            let done = act(client)?;
            let said = match done {
                GroupChange::Proposed => {
                    format!("{manager} is asked to sign this: {did} {}", group.handle)
                }
                _ => format!("{did} {}", group.handle),
            };
            let line = group_news::said_of(group.id, &handle, &said, now);
            Ok::<_, Error>((done, rows::add(&mut client.rows(), &line)?, line))
        })?;
        self.show_line(number, &line);
        Ok(done)
    }

    /// Writes to a group.
    pub(crate) fn say_to_group(&mut self, handle: &str, text: &str) -> Result<()> {
        let Some(group) = self.find_joined(handle, "&roses: hello")? else { return Ok(()) };
        let now = UnixTime::now()?;
        let (number, line) = self.client.transact(|client| {
            let message = client.write_to_group(group.id, text.as_bytes(), now, &mut SystemRng)?;
            let (user, author) = (group.handle.clone(), Author::Here(Mark::Waiting));
            let (text, at) = (text.as_bytes().to_vec(), now.as_secs());
            let line = Line { user, author, text, at, message: Some(message), files: Vec::new() };
            Ok::<_, Error>((rows::add(&mut client.rows(), &line)?, line))
        })?;
        self.to_groups.extend(line.message);
        self.show_line(number, &line);
        Ok(())
    }

    /// Texts to groups that had not left for everybody when this chat ended.
    pub(crate) fn recall_texts(&mut self) -> Result<()> {
        let waits =
            |line: &Line| is_handle(&line.user) && line.author == Author::Here(Mark::Waiting);
        let lines = self.history(None)?.into_iter().map(|(_, line)| line);
        self.to_groups = lines.filter(waits).filter_map(|line| line.message).collect();
        Ok(())
    }

    /// Marks what has left for everybody. Of a text that nobody is left to get, no task tells.
    pub(crate) fn mark_left(&mut self) -> Result<()> {
        if self.to_groups.is_empty() {
            return Ok(());
        }
        let to_groups = self.to_groups.clone();
        let (left, marked) = self.client.transact(|client| {
            let (mut left, mut marked) = (Vec::new(), Vec::new());
            for message in &to_groups {
                if client.progress(*message)? != Progress::Sent {
                    continue;
                }
                left.push(*message);
                let Some(number) = rows::number(&mut client.rows(), *message)? else { continue };
                let line = rows::line(&mut client.rows(), number)?;
                if line.is_some_and(|line| line.author == Author::Here(Mark::Waiting)) {
                    marked.extend(rows::mark(&mut client.rows(), *message, Mark::Sent)?);
                }
            }
            Ok::<_, Error>((left, marked))
        })?;
        self.to_groups.retain(|message| !left.contains(message));
        for (number, line) in marked {
            self.show_line(number, &line);
        }
        Ok(())
    }
}

fn is_some(people: &str) -> bool {
    people.split([' ', ',']).any(|word| !word.is_empty())
}

/// `bob, carol are`
pub(crate) fn listed(people: &[String], one: &str, many: &str) -> String {
    let names: Vec<&str> = people.iter().map(|user| name(user)).collect();
    format!("{} {}", names.join(", "), if people.len() == 1 { one } else { many })
}
