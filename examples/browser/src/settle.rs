//! What a device does whenever something happened: it takes mail in, and does its tasks, over a
//! store and a server that answer later. Any number of tabs take mail in; one at a time does tasks.

use subrosa::{
    Action, Answer, Client, Completed, Error, Event, Item, MessageId, Open, Outgoing, Received,
    SystemRng, Task, Text, UnixTime,
};

use crate::failure::Result;
use crate::history::{self, Line};
use crate::server::Mail;
use crate::{Device, groups, now, verification};

impl Device {
    pub(crate) async fn take_mail_in(&self) -> Result<bool> {
        let mut news = false;
        loop {
            let mail = self.server.mail(&self.me).await?;
            // Where the server knows the device no more, the client asks what it holds instead.
            if self.is_known.replace(mail.is_some()) && mail.is_none() {
                self.rows.act(|client| client.connected()).await?;
            }
            let mail = mail.unwrap_or_default();
            let mut any = false;
            for piece in &mail {
                any |= self.take_in(piece).await?;
            }
            news |= self.take_inbox().await?;
            if !any {
                return Ok(news);
            }
        }
    }

    pub(crate) async fn do_tasks(&self) -> Result<bool> {
        let mut news = false;
        let mut is_first = true;
        loop {
            let tasks = self.rows.act(|client| tasks(client, is_first)).await?;
            is_first = false;
            if tasks.is_empty() {
                break;
            }
            for task in &tasks {
                self.do_task(task).await?;
                news |= matches!(task.action, Action::Send { .. });
            }
        }
        // What became of tasks may be news for a person.
        Ok(news | self.take_inbox().await?)
    }

    /// A piece of mail is acknowledged once what was in it is in the store. Says whether it is.
    async fn take_in(&self, mail: &Mail) -> Result<bool> {
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
        let me = self.me.user.clone();
        let taken = self.rows.act(|client| {
            let inbox = client.inbox(100)?;
            for incoming in &inbox {
                let at = incoming.received_at;
                let group = match &incoming.item {
                    Item::Group(text) => Some((text.group, Line::group_text(text, &me, at))),
                    Item::Event(event) => groups::about(event)
                        .map(|group| (group, Line::said(groups::words(event), at))),
                    _ => None,
                };
                if let Some((group, line)) = group {
                    groups::note(&mut client.rows(), group, &line)?;
                    client.acknowledge(incoming.id)?;
                    continue;
                }
                if let Item::Event(Event::CodeScanned { user }) = &incoming.item {
                    verification::was_scanned(&mut client.rows(), user)?;
                }
                let (with, line) = match &incoming.item {
                    Item::Text(text) => (conversation(text), Line::text(text, at)),
                    Item::Late(text) => {
                        (conversation(text), Line { late: true, ..Line::text(text, at) })
                    }
                    Item::Event(event) => (history::about(event, &me), Line::notice(event, at)),
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

/// Here while a tab does tasks.
const BUSY: &[u8] = b"busy";

/// The next tasks. Where the tab before this one was closed in the midst of its own, those come
/// first.
fn tasks(client: &mut Client<Open<'_>>, is_first: bool) -> Result<Vec<Task>, Error> {
    let was_busy = client.rows().get(BUSY)?.is_some();
    if is_first && was_busy {
        client.connected()?;
    }
    let tasks = client.tasks(100, now()?, &mut SystemRng)?;
    match tasks.is_empty() {
        true if was_busy => client.rows().delete(BUSY)?,
        false if !was_busy => client.rows().put(BUSY, b"1")?,
        _ => {}
    }
    Ok(tasks)
}

/// Writes to a user, or to a group.
pub(crate) fn write<'m>(
    client: &mut Client<Open<'_>>,
    to: &str,
    message: impl Into<Outgoing<'m>>,
    now: UnixTime,
) -> Result<MessageId, Error> {
    match groups::group_of(to) {
        Some(group) => client.write_to_group(group, message, now, &mut SystemRng),
        None => client.write(to, message, now, &mut SystemRng),
    }
}

fn conversation(text: &Text) -> &str {
    text.copy_to.as_ref().unwrap_or(&text.from.user)
}
