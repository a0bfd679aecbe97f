//! What comes, and how it is shown: each line has a head that no text can bring.
//!
//! ```text
//! 12:34 bob: a text of bob
//! 12:34 bob, file #7, 1.2 MB: its name, and what it is (/save 7)
//! 12:34 #7 .. -> bob: a text of this device that waits; with a tick when the relay has it
//! 12:34 (alice/2) -> bob: a text of another device of this account
//! 12:34 ! bob/2, removed: a text of a device that bob has removed
//! 12:34 ~ bob: a text of somebody who says that they are bob: nobody vouches for it yet
//! 12:34 ? bob: a text under a new key of bob that nobody has accepted (/held bob)
//! 12:34 bob in &roses: a text of bob to a group; group_news.rs has the others
//! * something that this program says
//! ```

use subrosa::{Error, Event, Incoming, Item, MessageId, Rows, Text, Trust};

use crate::attached::Attached;
use crate::failure::Failure;
use crate::handles::is_handle;
use crate::rows::{self, Author, Line, Mark, Member, Standing};
use crate::screen::name;
use crate::{Chat, Result, group_news, verifying, visible};

/// Lines on a page of the history.
const PAGE: usize = 20;

pub(crate) const REMOVED: &str = "this device was removed from the account";

impl Chat {
    /// Moves the inbox into the history, in one transaction, and shows it.
    pub(crate) fn take_inbox(&mut self) -> Result<()> {
        loop {
            let me = self.me.user.clone();
            let (mut is_removed, mut to_compare, mut left) = (false, Vec::new(), Vec::new());
            let taken = self.client.transact(|client| {
                let mut lines = Vec::new();
                for incoming in client.inbox(100)? {
                    is_removed |= incoming.item == Item::Event(Event::Unlinked);
                    if let Item::Event(Event::SasReady { user }) = &incoming.item {
                        to_compare.push(user.clone());
                    }
                    let about = match &incoming.item {
                        Item::Event(Event::NotReadable { message: Some(message), .. })
                        | Item::Event(Event::Undelivered { message, .. }) => {
                            about(&mut client.rows(), *message)?
                        }
                        _ => None,
                    };
                    let line = match group_news::line(client, &me, &incoming)? {
                        Some(line) => line,
                        None => line(&me, &incoming, about.as_ref()),
                    };
                    if let Item::Event(Event::GroupLeft { .. }) = &incoming.item {
                        left.push(line.user.clone());
                    }
                    lines.push((rows::add(&mut client.rows(), &line)?, line));
                    client.acknowledge(incoming.id)?;
                }
                Ok::<_, Error>(lines)
            })?;
            for (number, line) in &taken {
                self.show_or_count(*number, line);
            }
            for user in to_compare {
                self.show_emoji(&user)?;
            }
            left.iter().for_each(|handle| self.is_left(handle));
            if is_removed {
                return Err(Failure::Refused(REMOVED.into()));
            }
            if taken.is_empty() {
                return Ok(());
            }
        }
    }

    /// While lines are for one user or group, those of others are counted.
    fn show_or_count(&mut self, number: u64, line: &Line) {
        match &self.to {
            Some(to) if is_theirs(line) && *to != line.user => {
                let count = self.unread.entry(line.user.clone()).or_default();
                *count = count.saturating_add(1);
                let place = match &line.author {
                    Author::Member(_) => format!(" in {}", line.user),
                    _ => String::new(),
                };
                self.screen.say(&format!(
                    "* {} has written{place}, {count} unread: /to {}",
                    line.sender(),
                    line.user
                ));
            }
            _ => self.show_line(number, line),
        }
    }

    /// Shows what came from a user while lines were for another.
    pub(crate) fn show_unread(&mut self, user: &str) -> Result<()> {
        let Some(count) = self.unread.remove(user) else { return Ok(()) };
        let rows = self.history(Some(user))?.into_iter().filter(|(_, line)| is_theirs(line));
        let unread: Vec<_> = rows.take(count).collect();
        for (number, line) in unread.iter().rev() {
            self.show_line(*number, line);
        }
        Ok(())
    }

    /// Shows a page of the history, with somebody or with all. Page 1 has the newest lines.
    pub(crate) fn show_history(&mut self, user: Option<&str>, page: usize) -> Result<()> {
        let skipped = page.saturating_sub(1).saturating_mul(PAGE);
        let rows = self.history(user)?;
        let lines: Vec<_> = rows.iter().skip(skipped).take(PAGE).collect();
        for (number, line) in lines.iter().rev() {
            self.show_line(*number, line);
        }
        if rows.len() > skipped.saturating_add(PAGE) {
            let of = user.map(|user| format!("{user} ")).unwrap_or_default();
            self.screen.say(&format!("* older lines: /history {of}{}", page.saturating_add(1)));
        }
        Ok(())
    }

    pub(crate) fn history(&mut self, user: Option<&str>) -> Result<Vec<(u64, Line)>> {
        let mut rows = self.client.transact(|client| rows::history(&mut client.rows(), 10_000))?;
        rows.retain(|(_, line)| user.is_none_or(|user| line.user == user));
        Ok(rows)
    }

    pub(crate) fn show_line(&self, number: u64, line: &Line) {
        let Line { user, author, text, at, files, .. } = line;
        let (time, text) = (clock(*at), visible(text));
        let head = match author {
            Author::Here(mark) => {
                let mark = match mark {
                    Mark::Waiting => "..",
                    Mark::Sent => "✓",
                    Mark::Withdrawn => "(withdrawn)",
                };
                format!("{time} #{number} {mark} -> {user}")
            }
            Author::OtherDevice(device) => {
                format!("{time} ({}/{device}) -> {user}", self.me.user)
            }
            Author::User => format!("{time} {user}"),
            Author::Unvouched => format!("{time} ~ {user}"),
            Author::RemovedDevice(device) => format!("{time} ! {user}/{device}, removed"),
            Author::Member(Member { user: by, device, standing }) => match standing {
                Standing::In => format!("{time} {by} in {user}"),
                Standing::Unvouched => format!("{time} ~ {by} in {user}"),
                Standing::Gone => {
                    format!("{time} ! {by}/{device} in {user}, not a member any more")
                }
            },
            Author::Chat | Author::Group(_) => return self.screen.text("* ", &text),
        };
        let is_here = matches!(author, Author::Here(_));
        let show = |head: &str, text: &str| match is_here {
            true => self.screen.message(number, head, text),
            false => self.screen.text(head, text),
        };
        if !text.is_empty() || files.is_empty() {
            show(&format!("{head}: "), &text);
        }
        for file in files {
            show(&format!("{head}, file #{number}, {}: ", file.size()), &file.title());
        }
    }

    /// Shows what is held under a key that nobody has accepted.
    pub(crate) fn show_held(&mut self, user: &str) -> Result<()> {
        let held = self.client.held(user, 100)?;
        if held.is_empty() {
            self.screen.say(&format!("* nothing of {user} is held"));
            return Ok(());
        }
        self.screen.say(&format!("* under a new key, which may be somebody else's than {user}'s:"));
        for incoming in held {
            if let Item::Text(text) | Item::Late(text) = &incoming.item {
                let head = format!("{} ? {user}", clock(incoming.received_at.as_secs()));
                self.screen.text(&format!("{head}: "), &visible(&text.text));
                for file in attached(text) {
                    self.screen.text(&format!("{head}, file, {}: ", file.size()), &file.title());
                }
            }
        }
        Ok(())
    }
}

/// Whether somebody else wrote it.
const fn is_theirs(line: &Line) -> bool {
    matches!(
        line.author,
        Author::User | Author::Unvouched | Author::RemovedDevice(_) | Author::Member(_)
    )
}

fn attached(text: &Text) -> Vec<Attached> {
    text.files.iter().map(Attached::of).collect()
}

/// The time of day, in UTC.
fn clock(at: u64) -> String {
    format!("{:02}:{:02}", at / 3_600 % 24, at / 60 % 60)
}

/// A text that was written here, and that something happened to.
struct About {
    number: u64,
    /// Whom it was for, or the handle of the group.
    to: String,
}

fn about(rows: &mut Rows<'_>, message: MessageId) -> Result<Option<About>, Error> {
    let Some(number) = rows::number(rows, message)? else { return Ok(None) };
    Ok(rows::line(rows, number)?.map(|line| About { number, to: line.user }))
}

fn line(me: &str, incoming: &Incoming, about: Option<&About>) -> Line {
    let at = incoming.received_at.as_secs();
    let (user, author, written) = match &incoming.item {
        Item::Text(text) => {
            let (from, copy_to) = (&text.from, &text.copy_to);
            let (user, author) = match copy_to {
                Some(to) => (name(to), Author::OtherDevice(from.device)),
                None if from.user == me => (me, Author::OtherDevice(from.device)),
                None if text.trust == Trust::Unvouched => (name(&from.user), Author::Unvouched),
                None => (name(&from.user), Author::User),
            };
            (user, author, text)
        }
        Item::Late(text) => (name(&text.from.user), Author::RemovedDevice(text.from.device), text),
        other => {
            let (user, said) = match other {
                Item::Event(event) => words(me, event, about),
                _ => (me, "something came that this version does not know".into()),
            };
            // A name that is none could end the sentence in its own way.
            let said = said.replace(user, name(user));
            let of_group = about.map(|about| &*about.to).filter(|to| is_handle(to));
            let user = of_group.unwrap_or_else(|| name(user));
            let (author, text) = (Author::Chat, said.into_bytes());
            return Line { user: user.into(), author, text, at, message: None, files: Vec::new() };
        }
    };
    let (text, message) = (written.text.to_vec(), Some(written.message));
    Line { user: user.into(), author, text, at, message, files: attached(written) }
}

fn named(about: Option<&About>) -> String {
    match about {
        Some(About { number, to }) if is_handle(to) => format!("your message #{number} in {to}"),
        Some(About { number, .. }) => format!("your message #{number}"),
        None => "a message of yours".into(),
    }
}

/// Whom an event is about, and what it is in plain words.
fn words<'a>(me: &'a str, event: &'a Event, about: Option<&About>) -> (&'a str, String) {
    let message = named(about);
    match event {
        Event::DeviceAdded { user, device } if user == me => (
            user,
            format!(
                "!! your account has a new device, {device}. Did you not link it? Then /remove {device}"
            ),
        ),
        Event::DeviceAdded { user, device } => {
            (user, format!("{user} has a new device, {user}/{device}"))
        }
        Event::KeyChanged { user, .. } if user == me => {
            (user, format!("!! another device has changed your account key: /accept {user}"))
        }
        Event::KeyChanged { user, .. } => (user, changed(user)),
        Event::VerifiedElsewhere { user, verified: true } => {
            (user, format!("{user} is verified: you compared the keys on another device"))
        }
        Event::VerifiedElsewhere { user, verified: false } => {
            (user, format!("{user} is not verified any more: another device of yours said so"))
        }
        Event::Held { user } => (
            user,
            format!(
                "!! somebody writes as {user} under the new key: /held {user} shows it, /accept {user}"
            ),
        ),
        Event::HeldGone { user, texts } => {
            (user, format!("{texts} held under a key that {user} has replaced are gone"))
        }
        Event::Lost { by, .. } => {
            (&by.user, format!("a message of {by} is lost: ask {} to write it again", by.user))
        }
        Event::NotReadable { by, .. } => (
            &by.user,
            format!("{by} could not read {message}, and it is too late to send it again"),
        ),
        Event::Undelivered { to, device: Some(device), .. } => (
            to,
            format!("{message} did not reach {to}/{device}: if {to} misses it, write it again"),
        ),
        Event::Undelivered { to, .. } => {
            (to, format!("{message} is given up: nobody is registered as {to}"))
        }
        Event::Unsupported { from } => {
            (&from.user, format!("{from} wrote something that takes a later version of this chat"))
        }
        Event::Restored => (
            me,
            "this store was restored from a copy: lines after that copy may be missing here".into(),
        ),
        Event::Unlinked => (me, format!("!! {REMOVED}")),
        Event::SealedRefused { to } => (
            to,
            format!(
                "the relay takes no sealed mail for {to} from you: it waits until {to} writes to you. \
                 /open {to} sends it openly, and the relay learns that it is from you"
            ),
        ),
        Event::NotTheirs { user, .. } => (
            user,
            format!(
                "!! what came as {user}'s, marked with ~, is not {user}'s: somebody made it up"
            ),
        ),
        Event::UnknownContact { envelopes } => (
            me,
            format!(
                "{envelopes} sealed envelopes came for contacts that this store does not know: write \
                 to the people you know, and they get through again"
            ),
        ),
        _ => verifying::words(event)
            .unwrap_or_else(|| (me, "something happened that this version does not know".into())),
    }
}

/// A user has another account key.
pub(crate) fn changed(user: &str) -> String {
    format!(
        "!! {user} has another key than before: somebody else, or a new phone. Ask {user} in another \
         way; then /accept {user}. Nothing is sent to {user} until then"
    )
}
