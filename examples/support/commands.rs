//! What a person types.

use std::ops::ControlFlow;

use subrosa::file::ChunkSize;
use subrosa::{Action, Client, Delivery, Error, Open, SystemRng, UnixTime};

use crate::handles::{MARK, is_handle};
use crate::members::Deed;
use crate::names::is_name;
use crate::rows::{Author, Line, Mark};
use crate::{Chat, Result, news, rows, visible};

const HELP: &str = "\
bob: hello                say hello to bob
/to bob                   what follows is for bob; /to alone ends that
/history [bob] [2]        what was said, and page 2 of it
/withdraw 7               take back message #7, as far as it has not left
/file rose.jpg            send a file to the one whom lines are for
/voice note.ogg           the same, of a voice note: it can be heard while it comes
/save 12 [FOLDER]         fetch the file in #12, and save it
/devices [bob]            your devices, or bob's, and whether bob is verified
/verify bob               compare keys, so that nobody is in between: a number, or a code to scan
/verify bob emoji         the same with emoji, in a call or face to face
/scan bob CODE            what you scanned from bob's screen
/accept bob               decide about a new key of bob
/held bob                 what was written under that key
/reset bob                begin new sessions with bob's devices

/group Roses: bob carol   make a group with a title; here it is &roses
/groups                   your groups, and those that you are invited to
/join &roses              answer an invitation; or /decline &roses
&roses: hello             say hello to the group; /to &roses, /history &roses: as with bob
/members &roses           who is in
/leave &roses             leave
/invite &roses dave       for admins, as what follows: invite somebody
/remove &roses dave       remove somebody
/promote &roses dave      make an admin of somebody; /demote &roses dave: no admin any more
/title &roses Thorns      give it another title
/restore &roses dave      do what dave changed while he was removed: it did not count
/continue &roses [dave]   for anybody: make a group in its place, without dave

/link CODE                add the device that shows this code: chat NAME --link --store FILE
/link CODE manager        the same, and let it link and remove devices as well
/remove 2                 remove a device of yours
/export FILE              back up your account and history; on a new device:
                          chat NAME --restore FILE
/quit";

/// The longest line, in bytes.
const MAX_LINE: usize = 32 * 1024;

impl Chat {
    pub(crate) fn command(&mut self, line: &str) -> Result<ControlFlow<()>> {
        if let Some(question) = self.question.take() {
            let ended = self.answer(question, line);
            self.set_prompt();
            return ended.map(ControlFlow::Continue);
        }
        let (word, rest) =
            line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
        if word == "/quit" {
            return Ok(ControlFlow::Break(()));
        }
        let ended = if word.starts_with('/') { self.slash(word, rest) } else { self.say(line) };
        self.set_prompt();
        ended.map(ControlFlow::Continue)
    }

    fn slash(&mut self, word: &str, rest: &str) -> Result<()> {
        let name = rest.to_ascii_lowercase();
        if let ("/verify" | "/scan", Some((name, what))) = (word, name.split_once(' ')) {
            return match word {
                _ if !is_name(name) => self.of_whom(),
                "/scan" => self.scan(name, what),
                _ => self.verify_command(name, what.trim()),
            };
        }
        if let Some(ended) = self.group_command(word, rest) {
            return ended;
        }
        match (word, rest) {
            ("/to", "") => self.to = None,
            ("/history", _) => return self.history_command(&name),
            ("/devices", "") => return self.show_devices(&self.me.user.clone()),
            ("/withdraw", _) => return self.withdraw(rest),
            ("/file", path) if !path.is_empty() => {
                return self.send_file(path, ChunkSize::DEFAULT);
            }
            ("/voice", path) if !path.is_empty() => return self.send_file(path, ChunkSize::VOICE),
            ("/save", _) => return self.save(rest),
            ("/link", code) if !code.is_empty() => return self.link(code),
            ("/export", path) if !path.is_empty() => return self.export(path),
            ("/remove", device) if !device.is_empty() => return self.remove(device),
            (
                "/to" | "/devices" | "/verify" | "/accept" | "/held" | "/reset" | "/open" | "/seal"
                | "/block" | "/unblock",
                _,
            ) if !is_name(&name) => {
                return self.of_whom();
            }
            ("/to", _) if self.client.devices(&name)?.is_none() && self.has_group(&name)? => {
                self.screen
                    .say(&format!("* nobody is known as {name}, and a group is: /to {MARK}{name}"));
            }
            ("/to", _) => {
                self.to = Some(name.clone());
                return self.show_unread(&name);
            }
            ("/devices", _) => return self.show_devices(&name),
            ("/verify", _) => return self.verify_command(&name, ""),
            ("/accept", _) => return self.ask_accept(&name),
            ("/held", _) => return self.show_held(&name),
            ("/reset", _) => return self.reset(&name),
            ("/open", _) => return self.deliver(&name, Delivery::Open),
            ("/seal", _) => return self.deliver(&name, Delivery::Sealed),
            ("/block", _) => return self.block(&name, true),
            ("/unblock", _) => return self.block(&name, false),
            _ => self.screen.say(HELP),
        }
        Ok(())
    }

    /// None: it is about something else than a group.
    fn group_command(&mut self, word: &str, rest: &str) -> Option<Result<()>> {
        Some(match word {
            "/group" => self.make_group(rest),
            "/groups" => self.show_groups(),
            "/join" => self.join_group(rest),
            "/decline" => self.decline_group(rest),
            "/leave" => self.ask_leave(rest),
            "/members" => self.show_members(rest),
            "/invite" => self.invite(rest),
            "/promote" => self.act_on(Deed::Promote, rest),
            "/demote" => self.act_on(Deed::Demote, rest),
            "/title" => self.set_title(rest),
            "/restore" => self.restore(rest),
            "/continue" => self.continue_group(rest),
            "/remove" if is_handle(rest) => self.act_on(Deed::Remove, rest),
            "/reset" if is_handle(rest) => self.refresh_group(rest),
            "/to" if is_handle(rest) => self.turn_to_group(rest),
            _ => return None,
        })
    }

    fn turn_to_group(&mut self, rest: &str) -> Result<()> {
        let Some(group) = self.find_joined(rest, "/to &roses")? else { return Ok(()) };
        self.to = Some(group.handle.clone());
        self.show_unread(&group.handle)
    }

    fn of_whom(&self) -> Result<()> {
        self.screen.say("* of whom? A name is letters, digits, dots, hyphens and underscores");
        Ok(())
    }

    /// Shows whom the next line is for, or that it answers a question.
    pub(crate) fn set_prompt(&self) {
        match &self.question {
            Some(_) => self.screen.set_prompt("yes or no"),
            None => self.screen.set_prompt(self.to.as_deref().unwrap_or_default()),
        }
    }

    fn history_command(&mut self, rest: &str) -> Result<()> {
        let (user, page) = match rest.split_once(' ') {
            Some((user, page)) => (Some(user), page),
            None if rest.parse::<usize>().is_ok() => (None, rest),
            None => (Some(rest).filter(|rest| !rest.is_empty()), "1"),
        };
        // Also of a group that this user is out of.
        if let Some(handle) = user.filter(|user| is_handle(user))
            && self.find_group(handle, "/history &roses")?.is_none()
        {
            return Ok(());
        }
        match page.parse() {
            Ok(page) => self.show_history(user, page),
            Err(_) => {
                self.screen.say("* which page? /history bob 2");
                Ok(())
            }
        }
    }

    /// Writes to the user before the colon, or else to the one whom lines are for.
    fn say(&mut self, line: &str) -> Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        let (to, text) = match (self.addressed(line)?, &self.to) {
            (Addressed::To(to, text), _) => (to, text),
            (Addressed::Slip(why), _) => {
                self.screen.text("* nothing was sent: ", &visible(why.as_bytes()));
                return Ok(());
            }
            (Addressed::No, Some(to)) => (to.clone(), line),
            (Addressed::No, None) => {
                self.screen.say(
                    "* for whom? Type \"bob: hello\", or \"/to bob\" first; \"&roses: hello\" is \
                     for a group",
                );
                return Ok(());
            }
        };
        if text.len() > MAX_LINE {
            self.screen.say("* that is too long for a line");
            return Ok(());
        }
        if is_handle(&to) {
            return self.say_to_group(&to, text);
        }
        let now = UnixTime::now()?;
        let (number, line) = self.client.transact(|client| write(client, &to, text, now))?;
        self.show_line(number, &line);
        if self.client.trust(&to)?.is_some_and(|trust| trust.new_account.is_some()) {
            self.screen.text("* ", &news::changed(&to));
        }
        Ok(())
    }

    /// `user: text` or `&group: text`. While lines are for somebody, only a user who is known is
    /// meant by that: in `note: milk` it would be nobody.
    fn addressed<'l>(&mut self, line: &'l str) -> Result<Addressed<'l>> {
        if is_handle(line) {
            return self.addressed_to_group(line);
        }
        let Some((user, text)) = line.split_once(": ") else { return Ok(Addressed::No) };
        let user = user.to_ascii_lowercase();
        let is_known = is_name(&user) && self.client.devices(&user)?.is_some();
        if is_name(&user) && !is_known && self.has_group(&user)? {
            let why = format!("nobody is known as {user}, and a group is: {MARK}{user}: {text}");
            return Ok(Addressed::Slip(why));
        }
        let is_meant = is_known || is_name(&user) && self.to.is_none();
        Ok(if is_meant { Addressed::To(user, text.trim()) } else { Addressed::No })
    }

    /// What is meant for a group goes to nobody else, however it is typed.
    fn addressed_to_group<'l>(&mut self, line: &'l str) -> Result<Addressed<'l>> {
        let end = line.find([':', ' ']).unwrap_or(line.len());
        let (word, rest) = line.split_at_checked(end).unwrap_or((line, ""));
        let handle = word.to_ascii_lowercase();
        let Some(name) = handle.strip_prefix(MARK).filter(|name| is_name(name)) else {
            return Ok(Addressed::No);
        };
        match rest.strip_prefix(':').map(str::trim) {
            Some(text) if !text.is_empty() => Ok(Addressed::To(handle, text)),
            _ if self.has_group(name)? => {
                Ok(Addressed::Slip(format!("\"{handle}: hello\" says hello to the group")))
            }
            _ => Ok(Addressed::No),
        }
    }

    /// Takes back a message as far as it has not left.
    fn withdraw(&mut self, number: &str) -> Result<()> {
        let Ok(number) = number.trim_start_matches('#').parse() else {
            self.screen.say("* which message? /withdraw 7 takes back #7");
            return Ok(());
        };
        if let Some(line) = self.withdraw_upload(number)? {
            self.show_line(number, &line);
            return Ok(());
        }
        let withdrawn = self.client.transact(|client| {
            let Some(line) = rows::line(&mut client.rows(), number)? else { return Ok(None) };
            match (line.author, line.message) {
                (Author::Here(Mark::Waiting), Some(message)) if client.withdraw(message)? => {
                    rows::mark(&mut client.rows(), message, Mark::Withdrawn)
                }
                _ => Ok::<_, Error>(None),
            }
        })?;
        match withdrawn {
            Some((number, line)) => {
                self.todo.retain(|task| match &task.action {
                    Action::Send { message, .. } | Action::SendSealed { message, .. } => {
                        *message != line.message
                    }
                    _ => true,
                });
                self.show_line(number, &line);
            }
            None => {
                self.screen.say(&format!("* #{number} has left, or is no message of this device"))
            }
        }
        Ok(())
    }
}

/// Whom a line names at its beginning.
enum Addressed<'l> {
    No,
    To(String, &'l str),
    /// It is to go to nobody, for this reason.
    Slip(String),
}

/// Writes a message, and its line in the history.
fn write(
    client: &mut Client<Open<'_>>,
    to: &str,
    text: &str,
    now: UnixTime,
) -> Result<(u64, Line), Error> {
    let message = client.write(to, text.as_bytes(), now, &mut SystemRng)?;
    let (user, author) = (to.to_owned(), Author::Here(Mark::Waiting));
    let text = text.as_bytes().to_vec();
    let (at, message, files) = (now.as_secs(), Some(message), Vec::new());
    let line = Line { user, author, text, at, message, files };
    Ok((rows::add(&mut client.rows(), &line)?, line))
}
