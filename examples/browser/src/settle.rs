//! What a device does whenever something happened: it takes mail in, and does its tasks, over a
//! store and a server that answer later.

use subrosa::{Action, Answer, Completed, Error, Item, Received, SystemRng, Task, Text};

use crate::failure::Result;
use crate::history::{self, Line};
use crate::server::Mail;
use crate::{Device, now};

impl Device {
    pub(crate) async fn do_what_is_due(&self) -> Result<bool> {
        let mut news = false;
        loop {
            let mail = self.server.mail(&self.me).await?;
            let mut any = false;
            for piece in &mail {
                any |= self.receive(piece).await?;
            }
            news |= self.take_inbox().await?;
            if !any {
                break;
            }
        }
        loop {
            let tasks = self.rows.act(|client| client.tasks(100, now()?, &mut SystemRng)).await?;
            if tasks.is_empty() {
                break;
            }
            for task in &tasks {
                self.do_task(task).await?;
                news |= matches!(task.action, Action::Send { .. });
            }
        }
        // What became of tasks may be news for a person.
        news |= self.take_inbox().await?;
        Ok(news)
    }

    /// A piece of mail is acknowledged once what was in it is in the store. Says whether it is.
    async fn receive(&self, mail: &Mail) -> Result<bool> {
        let received = self
            .rows
            .act(|client| client.receive(Some(&mail.from), &mail.envelope, now()?, &mut SystemRng));
        // One of very many: the server keeps it for later.
        if received.await? == Received::Refused(Error::RateLimited) {
            return Ok(false);
        }
        self.server.acknowledge(mail).await?;
        Ok(true)
    }

    /// The network's part. What fails in between is due again a minute later.
    async fn do_task(&self, task: &Task) -> Result<Completed> {
        let bytes;
        let answer = match &task.action {
            Action::FetchSummary => {
                bytes = self.server.summary(&self.me).await?;
                Answer::Summary(&bytes)
            }
            Action::Upload(upload) => match self.server.upload(&self.me, upload).await? {
                true => Answer::Done,
                false => Answer::Failed,
            },
            Action::FetchDevices(user) => match self.server.devices(user).await? {
                Some(list) => {
                    bytes = list;
                    Answer::Devices(&bytes)
                }
                None => Answer::Missing,
            },
            Action::FetchBundle(of) => match self.server.bundle(of, &self.me.user, now()?).await? {
                Some(bundle) => {
                    bytes = bundle;
                    Answer::Bundle(&bytes)
                }
                None => Answer::Missing,
            },
            Action::Send { to, envelope, .. } => {
                match self.server.send(&self.me, to, envelope).await? {
                    true => Answer::Done,
                    false => Answer::Missing,
                }
            }
            // Of a later version of the crate.
            _ => Answer::Failed,
        };
        self.rows.act(|client| client.complete(&task.id, answer, now()?, &mut SystemRng)).await
    }

    /// From the inbox into the history, in one transaction: in whatever tab, each item once.
    async fn take_inbox(&self) -> Result<bool> {
        let taken = self.rows.act(|client| {
            let inbox = client.inbox(100)?;
            for incoming in &inbox {
                let at = incoming.received_at;
                let (with, line) = match &incoming.item {
                    Item::Text(text) => (conversation(text), Line::text(text, at)),
                    Item::Late(text) => {
                        (conversation(text), Line { late: true, ..Line::text(text, at) })
                    }
                    Item::Event(event) => (history::about(event), Line::notice(event, at)),
                    // Of a later version of the crate.
                    _ => continue,
                };
                history::add_line(&mut client.rows(), with, &line)?;
                client.acknowledge(incoming.id)?;
            }
            Ok(!inbox.is_empty())
        });
        taken.await
    }
}

fn conversation(text: &Text) -> &str {
    text.copy_to.as_ref().unwrap_or(&text.from.user)
}
