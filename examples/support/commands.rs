//! What a person types, and what they see.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use subrosa::{Address, Error, IdentityKey, SystemRng, Trust};

use crate::failure::Failure;
use crate::rows::{Draft, Kind, Line};
use crate::wire::MAX_ENVELOPE;
use crate::{Chat, Result, now, rows};

const HELP: &str = "\
bob: hello       say hello to bob
/to bob          what follows is for bob; /to alone ends that
/history [bob]   what was said
/verify bob      compare keys, so that nobody is in between
/accept bob      take bob's new key for bob's
/reset bob       begin new sessions with bob's devices
/devices [bob]   your devices, or bob's
/link CODE       add the device that shows this code: chat NAME --link --store FILE
/remove N        remove a device of yours
/quit
Ctrl-R shows again what you were typing when something came in between.";

/// What the next line answers.
pub(crate) enum Question {
    Verify(String, IdentityKey),
    Accept(String, IdentityKey),
}

impl Chat {
    pub(crate) fn command(&mut self, line: &str) -> Result<ControlFlow<()>> {
        if let Some(question) = self.question.take() {
            self.answer(question, line == "yes")?;
            return Ok(ControlFlow::Continue(()));
        }
        let (word, rest) = line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
        match (word, rest) {
            ("/quit", _) => return Ok(ControlFlow::Break(())),
            ("/to", "") => self.to = None,
            ("/to", user) => self.to = Some(user.into()),
            ("/history", "") => self.show_history(None, 50)?,
            ("/history", user) => self.show_history(Some(user), 50)?,
            ("/devices", "") => self.show_devices(&self.me.user.clone())?,
            ("/devices", user) => self.show_devices(user)?,
            ("/verify", user) if !user.is_empty() => self.ask_verify(user)?,
            ("/accept", user) if !user.is_empty() => self.ask_accept(user)?,
            ("/reset", user) if !user.is_empty() => self.reset(user)?,
            ("/link", code) if !code.is_empty() => self.link(code)?,
            ("/remove", device) if !device.is_empty() => self.remove(device)?,
            _ if line.is_empty() => {}
            _ if word.starts_with('/') => self.show(HELP),
            _ => self.say(line)?,
        }
        self.prompt();
        Ok(ControlFlow::Continue(()))
    }

    /// It is a draft until it is encrypted, which may take the relay.
    fn say(&mut self, line: &str) -> Result<()> {
        let (to, text) = match (&self.to, line.split_once(':')) {
            (Some(to), _) => (to.clone(), line.to_owned()),
            (None, Some((to, text))) => (to.trim().to_owned(), text.trim().to_owned()),
            (None, None) => {
                self.show("* for whom? Type \"bob: hello\", or \"/to bob\" first");
                return Ok(());
            }
        };
        if text.len() > MAX_ENVELOPE / 2 {
            self.show("* that is too long for a line");
            return Ok(());
        }
        Ok(self
            .client
            .transact(|actions| rows::add(&mut actions.rows(), Kind::Draft, &Draft { to, text }))?)
    }

    fn ask_verify(&mut self, user: &str) -> Result<()> {
        self.refresh(user)?;
        let own = self.me.user.clone();
        let Some(mine) = self.client.safety(&own)? else { return Ok(()) };
        match self.client.safety(user)? {
            None => self.show(&format!("* nothing is known of {user}")),
            Some(safety) if safety.trust == Trust::Changed => self.warn_changed(user),
            Some(safety) => {
                self.show(&format!(
                    "* {user} should see the same two keys; compare them face to face, or in a call:\n  \
                     {own}: {}\n  {user}: {}\n* Are they the same? (yes/no)",
                    spaced(&mine.account),
                    spaced(&safety.account)
                ));
                self.question = Some(Question::Verify(user.into(), safety.account));
            }
        }
        Ok(())
    }

    /// Without a relay, what is known has to do.
    fn refresh(&mut self, user: &str) -> Result<()> {
        match self.fetch_devices(user) {
            Err(Failure::Offline) => Ok(()),
            fetched => fetched.map(drop),
        }
    }

    fn ask_accept(&mut self, user: &str) -> Result<()> {
        let changed = self.client.safety(user)?.and_then(|safety| safety.changed_to);
        let Some(key) = changed else {
            self.show(&format!("* {user} has no new key"));
            return Ok(());
        };
        self.show(&format!(
            "* {user} now has the key\n  {}\n* Whoever holds it reads what you write. Is it {user}'s? (yes/no)",
            spaced(&key)
        ));
        self.question = Some(Question::Accept(user.into(), key));
        Ok(())
    }

    fn answer(&mut self, question: Question, yes: bool) -> Result<()> {
        match question {
            Question::Verify(user, key) if yes => {
                self.client.verify(&user, &key)?;
                self.show(&format!("* {user} is verified"));
            }
            Question::Accept(user, key) if yes => {
                self.client.accept(&user, &key)?;
                self.blocked.remove(&user);
                self.show(&format!("* {user}'s new key is accepted; /verify {user} compares it"));
            }
            _ => self.show("* nothing changed"),
        }
        Ok(())
    }

    fn reset(&mut self, user: &str) -> Result<()> {
        let Some(list) = self.client.devices(user)? else {
            self.show(&format!("* nothing is known of {user}"));
            return Ok(());
        };
        for listed in list.devices() {
            self.client.reset(&Address::new(user, listed.device))?;
        }
        self.show(&format!("* the next message to {user} begins new sessions"));
        Ok(())
    }

    fn remove(&mut self, device: &str) -> Result<()> {
        let Ok(device) = device.parse() else {
            self.show("* which device? /devices shows their numbers");
            return Ok(());
        };
        self.client.remove_device(device, now(), &mut SystemRng)?;
        self.upload_due = true;
        self.show("* removed");
        Ok(())
    }

    fn show_devices(&mut self, user: &str) -> Result<()> {
        self.refresh(user)?;
        let Some(list) = self.client.devices(user)? else {
            self.show(&format!("* nothing is known of {user}"));
            return Ok(());
        };
        let sessions = self.client.sessions(user, now())?;
        for listed in list.devices() {
            let address = Address::new(user, listed.device);
            let session = sessions.iter().find(|session| session.active && session.with == address);
            let state = match session {
                _ if address == self.me => "this one",
                None => "no session",
                Some(session) if session.answered => "in touch",
                Some(_) => "not answered yet",
            };
            self.show(&format!("* {address}: {} ({state})", spaced(&listed.identity)));
        }
        Ok(())
    }

    /// The last lines, with somebody or with all.
    pub(crate) fn show_history(&mut self, user: Option<&str>, most: usize) -> Result<(), Error> {
        let rows = self
            .client
            .transact(|actions| rows::first::<Line>(&mut actions.rows(), Kind::History, 10_000))?;
        let with = |line: &&Line| user.is_none_or(|user| line.user == user);
        let lines: Vec<_> = rows.iter().map(|row| &row.1).filter(with).take(most).collect();
        for line in lines.into_iter().rev() {
            let minutes = now().saturating_sub(line.at) / 60;
            self.show(&format!("[{minutes} min ago] {line}"));
        }
        Ok(())
    }

    pub(crate) fn warn_changed(&self, user: &str) {
        self.show(&format!(
            "* !! {user} has another key than before: somebody else, or a new phone.\n\
             * !! Ask {user} in another way; then /accept {user}. Nothing is sent to {user} until then."
        ));
    }

    /// What others wrote cannot move the cursor or colour the screen.
    pub(crate) fn show(&self, text: &str) {
        let is_shown = |letter: char| letter == '\n' || !letter.is_control();
        let text: String = text.chars().map(|letter| if is_shown(letter) { letter } else { '?' }).collect();
        let mut out = io::stdout().lock();
        let begin = if out.is_terminal() { "\r\x1b[K" } else { "" };
        writeln!(out, "{begin}{text}").ok();
        drop(out);
        self.prompt();
    }

    fn prompt(&self) {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            write!(out, "\r\x1b[K{}> ", self.to.as_deref().unwrap_or_default()).ok();
            out.flush().ok();
        }
    }
}

/// A key, in groups of eight digits.
fn spaced(key: &IdentityKey) -> String {
    let digits = key.to_string();
    let groups: Vec<_> = digits.as_bytes().chunks(8).map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
