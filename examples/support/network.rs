//! The client's tasks, done with the relay.

use subrosa::{Action, Answer, Completed, SystemRng, Task, UnixTime};

use crate::failure::Failure;
use crate::names::is_name;
use crate::rows::Mark;
use crate::wire::{Refused, Request, Response};
use crate::{Chat, Result, is_fatal, rows};

/// Tasks that are handed out at a time.
const MOST_TASKS: usize = 32;

/// Users that are waited for on connections without a name.
const MOST_AWAITED: usize = 16;

impl Chat {
    /// Does every task there is. Where the relay goes away in between, the rest is done first when
    /// it is back, so that messages leave in the order in which they were written.
    pub(crate) fn do_tasks(&mut self) -> Result<()> {
        loop {
            while let Some(task) = self.todo.front().cloned() {
                self.do_task(&task)?;
                self.todo.pop_front();
            }
            self.todo = self.client.tasks(MOST_TASKS, UnixTime::now()?, &mut SystemRng)?.into();
            if self.todo.is_empty() {
                return Ok(());
            }
        }
    }

    fn do_task(&mut self, task: &Task) -> Result<()> {
        let (about, request) = match &task.action {
            Action::FetchSummary => (None, Request::Summary),
            Action::Upload(upload) => (None, Request::Upload(upload.clone())),
            Action::FetchDevices(user) => (Some(user), Request::Devices(user.clone())),
            Action::FetchBundle(of) => (Some(&of.user), Request::Bundle(of.clone())),
            Action::Send { to, envelope, .. } => {
                (None, Request::Send { to: to.clone(), envelope: envelope.clone() })
            }
            Action::SendSealed { to, envelope, pass, .. } => {
                let pass = pass.as_ref().map(|pass| *pass.as_bytes());
                let (user, to, envelope) = (&to.user, to.clone(), envelope.clone());
                (Some(user), Request::SendSealed { to, envelope, pass })
            }
            Action::FetchCertificate => (None, Request::Certificate),
            Action::SetPass(pass) => {
                (None, Request::SetPass { number: pass.number(), pass: *pass.as_bytes() })
            }
            _ => (None, Request::Ping),
        };
        let response = match about {
            Some(user) => self.ask_about(user, &request)?,
            None => self.connection.ask(&request)?,
        };
        let answer = match (&task.action, &response) {
            (Action::FetchSummary, Response::Found(Some(bytes))) => Answer::Summary(bytes),
            (Action::FetchDevices(_), Response::Found(Some(bytes))) => Answer::Devices(bytes),
            (Action::FetchBundle(_), Response::Found(Some(bytes))) => Answer::Bundle(bytes),
            (Action::FetchCertificate, Response::Found(Some(bytes))) => Answer::Certificate(bytes),
            (
                Action::Upload(_)
                | Action::Send { .. }
                | Action::SendSealed { .. }
                | Action::SetPass(_),
                Response::Done,
            ) => Answer::Done,
            (Action::SendSealed { .. }, Response::Refused(Refused::BadPass)) => Answer::Refused,
            (_, Response::Found(None)) => Answer::Missing,
            (_, Response::Refused(refused)) => {
                self.refused(refused)?;
                Answer::Failed
            }
            _ => Answer::Failed,
        };
        self.complete(task, answer)?;
        if let (Action::FetchDevices(user), Answer::Missing) = (&task.action, answer) {
            self.is_unregistered(user);
        }
        Ok(())
    }

    /// One transaction: a message is marked as sent if and only if it counts as sent.
    fn complete(&mut self, task: &Task, answer: Answer<'_>) -> Result<()> {
        let now = UnixTime::now()?;
        let (completed, sent) = self.client.transact(|client| {
            let completed = client.complete(&task.id, answer, now, &mut SystemRng)?;
            let sent = match completed {
                Completed::Sent(message) => rows::mark(&mut client.rows(), message, Mark::Sent)?,
                _ => None,
            };
            Ok::<_, subrosa::Error>((completed, sent))
        })?;
        if let Completed::Rejected(error) = completed {
            self.screen.say(&format!("* the relay's answer is not taken: {error}"));
        }
        if let Some((number, line)) = sent {
            self.show_line(number, &line);
        }
        Ok(())
    }

    fn refused(&mut self, refused: &Refused) -> Result<()> {
        match refused {
            Refused::NameTaken => Err(Failure::Refused(format!(
                "the name {} belongs to another account: choose another one, with another store",
                self.me.user
            ))),
            Refused::BadName => Err(Failure::Refused("the relay does not take this name".into())),
            // Another device may have changed the list, or removed this one.
            Refused::Outdated => self.refresh(&self.me.user.clone()).map(drop),
            // The task comes again later.
            Refused::Busy | Refused::BadPass => Ok(()),
            Refused::Because(why) => {
                self.screen.text("* the relay refuses: ", &crate::visible(why.as_bytes()));
                Ok(())
            }
        }
    }

    /// Fetches a user's device list at once. Whether the user is registered, as far as is known.
    pub(crate) fn refresh(&mut self, user: &str) -> Result<bool> {
        // Without a relay, what is known will do.
        if is_name(user)
            && let Ok(Response::Found(Some(list))) =
                self.ask_about(user, &Request::Devices(user.into()))
        {
            match self.client.update_devices(user, &list, UnixTime::now()?, &mut SystemRng) {
                Err(error) if is_fatal(&error) => return Err(error.into()),
                // A list that is of no use has changed nothing.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(self.client.devices(user)?.is_some())
    }

    /// The relay has a new device list: of a user whom it did not know, or of this account.
    pub(crate) fn fetch_new_devices(&mut self, user: &str) -> Result<()> {
        if self.refresh(user)? && self.unregistered.remove(user) {
            self.screen.say(&format!("* {user} has registered"));
        }
        Ok(())
    }

    fn is_unregistered(&mut self, user: &str) {
        // Somebody may have written under a name that nobody can have.
        if is_name(user) && self.unregistered.insert(user.into()) {
            self.screen.say(&format!(
                "* nobody is registered as {user} yet: what you write is kept, and sent when somebody is"
            ));
            // Else the relay notes it by itself, where it was asked by name.
            if self.is_sealed() && self.unregistered.len() <= MOST_AWAITED {
                self.connection.await_devices(user);
            }
        }
    }
}
