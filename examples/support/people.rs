//! Who somebody is: devices, keys that people compare, keys that changed.

use subrosa::{Address, IdentityKey, Role, SystemRng, Trust, UnixTime};

use crate::{Chat, Result};

/// What the next line answers.
pub(crate) enum Question {
    Verify(String, IdentityKey),
    Accept(String, IdentityKey),
    /// This group, by its handle.
    Leave(String),
    StepDown(String),
}

impl Chat {
    pub(crate) fn answer(&mut self, question: Question, line: &str) -> Result<()> {
        let yes = matches!(line.to_ascii_lowercase().as_str(), "y" | "yes");
        match question {
            Question::Verify(user, key) if yes => {
                self.client.verify(&user, &key, UnixTime::now()?, &mut SystemRng)?;
                self.screen.say(&format!("* {user} is verified"));
            }
            Question::Accept(user, key) if yes => {
                self.client.accept_new_key(&user, &key, UnixTime::now()?, &mut SystemRng)?;
                self.screen
                    .say(&format!("* {user}'s new key is accepted; /verify {user} compares it"));
            }
            Question::Leave(handle) if yes => self.leave_group(&handle)?,
            Question::StepDown(handle) if yes => self.step_down(&handle)?,
            _ => self.screen.say("* nothing changed"),
        }
        Ok(())
    }

    /// Shows both keys of a user whose key changed, and asks.
    pub(crate) fn ask_accept(&mut self, user: &str) -> Result<()> {
        let trust = self.client.trust(user)?;
        let Some((trust, new)) = trust.and_then(|trust| Some((trust, trust.new_account?))) else {
            self.screen.say(&format!("* {user} has no new key"));
            return Ok(());
        };
        let known = if trust.trust == Trust::Verified { "verified" } else { "first seen" };
        self.screen.say(&format!(
            "* {user} had this key ({known}):\n  {}\n* and now has this one:\n  {}\n\
             * Whoever holds the new one reads what you write. Is it {user}'s? (yes/no)",
            spaced(&trust.account),
            spaced(&new)
        ));
        self.question = Some(Question::Accept(user.into(), new));
        Ok(())
    }

    pub(crate) fn reset(&mut self, user: &str) -> Result<()> {
        let Some(list) = self.client.devices(user)? else {
            self.unknown(user);
            return Ok(());
        };
        let here = self.client.identity_key();
        for listed in list.devices().iter().filter(|listed| listed.identity != here) {
            self.client.reset(&Address::new(user, listed.device))?;
        }
        self.screen.say(&format!("* the next message to {user} begins new sessions"));
        Ok(())
    }

    /// Shows a user's devices, with their roles, and what is known of the user.
    pub(crate) fn show_devices(&mut self, user: &str) -> Result<()> {
        self.refresh(user)?;
        let (Some(list), Some(trust)) = (self.client.devices(user)?, self.client.trust(user)?)
        else {
            self.unknown(user);
            return Ok(());
        };
        let known = match trust.trust {
            _ if user == self.me.user => "you",
            _ if trust.new_account.is_some() => "!! has a new key that nobody has accepted",
            Trust::Verified => "verified",
            Trust::Unvouched => "!! nobody vouches for that name yet; the relay is asked",
            _ => "not verified; /verify compares keys",
        };
        self.screen.say(&format!("* {user}: {known}"));
        let sessions = self.client.sessions(user)?;
        for listed in list.devices() {
            let address = Address::new(user, listed.device);
            let has_session =
                sessions.iter().any(|session| session.is_writing && session.with == address);
            let state = match has_session {
                _ if address == self.me => "this one",
                true => "in touch",
                false => "no session",
            };
            let role = if listed.role == Role::Manager { "manager" } else { "device" };
            self.screen
                .say(&format!("* {address}: {role}, {} ({state})", spaced(&listed.identity)));
        }
        Ok(())
    }

    fn unknown(&self, user: &str) {
        self.screen.say(&format!("* nothing is known of {user}"));
    }
}

/// A key, in groups of eight digits.
fn spaced(key: &IdentityKey) -> String {
    let digits = key.to_string();
    let groups: Vec<_> = digits.as_bytes().chunks(8).map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
