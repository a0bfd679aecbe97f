//! Comparing keys: the number and the code on the screen, codes that were scanned, emoji.
//!
//! What another person's device brings about is answered by a command, and never by the next "yes":
//! that one may be meant for something else.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use subrosa::{Error, Event, SasEnd, SasStage, Scanned, SystemRng, UnixTime};

use crate::failure::Failure;
use crate::people::Question;
use crate::{Chat, Result, news};

impl Chat {
    /// `/verify bob`, `/verify bob emoji`, and what follows from those.
    pub(crate) fn verify_command(&mut self, user: &str, what: &str) -> Result<()> {
        if user == self.me.user {
            self.screen.say("* that is you");
            return Ok(());
        }
        self.refresh(user)?;
        match self.client.trust(user)? {
            None => {
                self.screen.say(&format!("* nothing is known of {user}"));
                return Ok(());
            }
            Some(trust) if trust.new_account.is_some() => {
                self.screen.text("* ", &news::changed(user));
                return Ok(());
            }
            Some(_) => {}
        }
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        match what {
            "" => return self.show_number(user),
            "emoji" => match self.client.sas(user, now)? {
                None | Some(SasStage::Asked | SasStage::Confirmed) => {
                    self.client.start_sas(user, now, rng)?;
                    self.screen.say(&format!("* waiting for {user}"));
                }
                Some(_) => return self.show_emoji(user),
            },
            "same" => {
                let Some(SasStage::Compare(value)) = self.client.sas(user, now)? else {
                    self.screen.say(&format!("* there is nothing to compare with {user}"));
                    return Ok(());
                };
                self.client.confirm_sas(user, &value, now, rng)?;
                self.screen.say(&format!("* {user} is verified"));
            }
            "differ" => {
                self.client.reject_sas(user, now, rng)?;
                self.screen.say(&format!(
                    "* {user} is not verified. Somebody may be in between: compare again, and if they \
                     differ again, write nothing secret"
                ));
            }
            "seen" => match self.client.confirm_scan(user, now, rng) {
                Ok(()) => self.screen.say(&format!("* {user} is verified")),
                Err(Error::OutOfTurn) => {
                    self.screen.say(&format!("* {user} has not scanned the code, or too long ago"));
                }
                Err(error) => return Err(error.into()),
            },
            "stop" => {
                self.client.cancel_sas(user, now, rng)?;
                self.client.hide_code(user)?;
                self.screen.say("* stopped");
            }
            _ => self.screen.say("* /verify bob, or /verify bob emoji"),
        }
        Ok(())
    }

    /// Shows the number that both see, and a code that the other one can scan instead.
    fn show_number(&mut self, user: &str) -> Result<()> {
        let number = self.client.safety_number(user)?;
        let code = self.client.show_code(user, UnixTime::now()?, &mut SystemRng)?;
        let lines: Vec<_> = number.to_string().lines().map(|line| format!("    {line}")).collect();
        self.screen.say(&format!(
            "* {user} can scan this, with /scan {} and the letters in it:\n{}\n* {}\n\
             * Or compare this number, face to face or in a call; {user} should see the same:\n{}\n\
             * Is it the same? (yes/no)",
            self.me.user,
            drawn(&code)?,
            *code,
            lines.join("\n")
        ));
        self.question = Some(Question::Verify(user.into(), number.account()));
        Ok(())
    }

    /// `/scan bob SUBROSA1:..`
    pub(crate) fn scan(&mut self, user: &str, text: &str) -> Result<()> {
        self.refresh(user)?;
        match self.client.scan(user, text, UnixTime::now()?, &mut SystemRng) {
            Ok(Scanned::Match) => {
                self.screen.say(&format!("* this is {user}: {user} is verified. Show them this line"));
            }
            Ok(Scanned::OtherPerson) => {
                self.screen.say(&format!("* this code is not {user}'s, or not for you"));
            }
            Ok(Scanned::Mismatch) => self.screen.say(&format!(
                "* !! {user}'s device knows other keys than this one. Somebody may be in between: try \
                 once more when both are connected, and if it stays so, write nothing secret"
            )),
            Ok(_) => {
                self.screen.say("* this code is of another version: one of you has to update");
            }
            Err(Error::BadScan) => self.screen.say("* these letters are no such code"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Shows what is to be compared.
    pub(crate) fn show_emoji(&mut self, user: &str) -> Result<()> {
        match self.client.sas(user, UnixTime::now()?)? {
            Some(SasStage::Compare(value)) => {
                let emoji = value.emoji().map(|emoji| emoji.to_string()).join(", ");
                let numbers = value.numbers().map(|number| number.to_string()).join(" ");
                self.screen.say(&format!(
                    "* {user} should see the same, in a call or face to face:\n    {emoji}\n    {numbers}\n\
                     * /verify {user} same, or /verify {user} differ"
                ));
            }
            _ => self.screen.say(&format!("* waiting for {user}")),
        }
        Ok(())
    }
}

/// What an event of a verification is in plain words. None: it is another event.
pub(crate) fn words(event: &Event) -> Option<(&str, String)> {
    Some(match event {
        Event::CodeScanned { user } => (
            user,
            format!(
                "somebody has scanned the code for {user}. Does {user}'s screen say that this is you? \
                 Then /verify {user} seen; else /verify {user} stop"
            ),
        ),
        Event::SasAsked { user } => (
            user,
            format!("{user} wants to compare emoji. Are you talking? Then /verify {user} emoji"),
        ),
        Event::SasReady { user } => (user, format!("there is something to compare with {user}")),
        Event::SasEnded { user, why } => {
            let why = match why {
                SasEnd::Cancelled => "they stopped",
                SasEnd::Mismatch => {
                    "!! they say that it differs, and somebody may be in between; compare once more"
                }
                SasEnd::Taken => "another device does it",
                SasEnd::Busy => "they do that with another device of yours",
                SasEnd::Expired => "ten minutes are over",
                SasEnd::KeyChanged => "a key has changed",
                SasEnd::Forged => {
                    "!! their device did not keep to the rules, which none of ours does"
                }
                _ => "it was interrupted",
            };
            (user, format!("comparing with {user} is over: {why}"))
        }
        _ => return None,
    })
}

/// A QR code of half blocks: dark on light, whatever the colours of the terminal.
fn drawn(text: &str) -> Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M);
    let code = code.map_err(|error| Failure::Refused(error.to_string()))?;
    let (dark, light) = (Dense1x2::Light, Dense1x2::Dark);
    Ok(code.render::<Dense1x2>().dark_color(dark).light_color(light).build())
}
