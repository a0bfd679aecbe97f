//! What a device does whenever something happened: as `examples/chat.rs` does it, over a store and a server that answer later.

use subrosa::{Address, Error, Needed, Received, SystemRng};

use crate::failure::{Failure, Result, is_fatal, taken};
use crate::history::{self, Draft, Line};
use crate::server::Mail;
use crate::{Device, now, now_in_seconds};

/// Prekeys are looked after when the page is opened, and once a day.
const DAY: u64 = 24 * 60 * 60;

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
        self.upload().await?;
        news |= self.write_drafts().await?;
        self.fetch_needed().await?;
        news |= self.send_outbox().await?;
        Ok(news)
    }

    /// A piece of mail is acknowledged when what was in it is in the store, or when there is nothing in it. Says whether it is.
    async fn receive(&self, mail: &Mail) -> Result<bool> {
        let mut received = self.open_envelope(mail).await?;
        if let Received::Refused(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = received {
            self.fetch_devices(&mail.from.user).await?;
            received = self.open_envelope(mail).await?;
        }
        // One of very many: the server keeps it for later.
        if received == Received::Refused(Error::RateLimited) {
            return Ok(false);
        }
        self.server.acknowledge(mail).await?;
        Ok(true)
    }

    async fn open_envelope(&self, mail: &Mail) -> Result<Received> {
        self.rows.act(|actions| actions.receive(&mail.from, &mail.envelope, now(), &mut SystemRng)).await
    }

    /// From the inbox into the history, in one transaction: in whatever tab, each message once.
    async fn take_inbox(&self) -> Result<bool> {
        let taken = self.rows.act(|actions| {
            let inbox = actions.inbox(100)?;
            for incoming in &inbox {
                let with = incoming.copy_to.as_ref().unwrap_or(&incoming.from.user);
                let text = String::from_utf8_lossy(&incoming.text).into_owned();
                let line =
                    Line { mine: incoming.copy_to.is_some(), text, at: now_in_seconds(), waiting: false };
                history::add_line(&mut actions.rows(), with, &line)?;
                actions.done(incoming.id)?;
            }
            Ok(!inbox.is_empty())
        });
        taken.await
    }

    async fn upload(&self) -> Result<()> {
        if now() < self.upload_at.get() {
            return Ok(());
        }
        // Another device may have changed the list, or removed this one.
        self.fetch_devices(&self.me.user).await?;
        let on_server = self.server.count(&self.me).await?;
        let upload = self.rows.act(|actions| actions.upload(on_server, now(), &mut SystemRng));
        if let Some(upload) = upload.await? {
            self.server.upload(&self.me, &upload).await?;
            self.rows.act(|actions| actions.uploaded(&upload)).await?;
        }
        self.upload_at.set(now().saturating_add(DAY));
        Ok(())
    }

    async fn write_drafts(&self) -> Result<bool> {
        let mut news = false;
        for (key, draft) in self.rows.act(|actions| history::drafts(&mut actions.rows())).await? {
            match self.write_draft(&key, &draft).await {
                Ok(()) => news = true,
                // It waits: until the user has a device, or until the person accepts the new key.
                Err(Failure::Client(error)) if !is_fatal(&error) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(news)
    }

    /// Encrypts a draft, fetching what it takes.
    async fn write_draft(&self, key: &[u8], draft: &Draft) -> Result<()> {
        let mut to_all = true;
        for _ in 0..5 {
            match self.encrypt(key, draft, to_all).await {
                Err(Failure::Client(Error::DevicesNeeded(user))) if self.fetch_devices(&user).await? => {}
                Err(Failure::Client(Error::BundlesNeeded(devices))) if to_all => {
                    // A device that has uploaded nothing yet does not keep the others from getting it.
                    for device in devices {
                        to_all &= self.fetch_bundle(&device).await?;
                    }
                }
                written => return written,
            }
        }
        self.encrypt(key, draft, false).await
    }

    /// The draft goes, the envelopes and a line of the history come, in one transaction.
    async fn encrypt(&self, key: &[u8], draft: &Draft, to_all: bool) -> Result<()> {
        let Draft { to, line } = draft;
        let encrypted = self.rows.act(|actions| {
            if actions.rows().get(key)?.is_none() {
                return Ok(()); // By another tab.
            }
            if to_all {
                actions.encrypt(to, line.text.as_bytes(), now(), &mut SystemRng)?;
            } else {
                actions.encrypt_to_reachable(to, line.text.as_bytes(), now(), &mut SystemRng)?;
            }
            actions.rows().delete(key)?;
            history::add_line(&mut actions.rows(), to, &Line { waiting: false, ..line.clone() })
        });
        encrypted.await
    }

    async fn fetch_needed(&self) -> Result<()> {
        for needed in self.rows.act(|actions| actions.needed(100)).await? {
            let found = match &needed {
                Needed::Devices(user) => self.server.devices(user).await?,
                Needed::Bundle(of) => self.server.bundle(of).await?,
                _ => None,
            };
            let supply =
                self.rows.act(|actions| actions.supply(&needed, found.as_deref(), now(), &mut SystemRng));
            if !taken(supply.await)? {
                self.rows.act(|actions| actions.give_up(&needed)).await?;
            }
        }
        Ok(())
    }

    /// Whether the server had a list that is good.
    async fn fetch_devices(&self, user: &str) -> Result<bool> {
        match self.server.devices(user).await? {
            Some(list) => taken(self.rows.act(|actions| actions.take_devices(user, &list)).await),
            None => Ok(false),
        }
    }

    /// Whether there is a session now.
    async fn fetch_bundle(&self, of: &Address) -> Result<bool> {
        let Some(bundle) = self.server.bundle(of).await? else { return Ok(false) };
        taken(self.rows.act(|actions| actions.take_bundle(of, &bundle, now(), &mut SystemRng)).await)
    }

    async fn send_outbox(&self) -> Result<bool> {
        let mut news = false;
        loop {
            let outbox = self.rows.act(|actions| actions.outbox(100)).await?;
            if outbox.is_empty() {
                return Ok(news);
            }
            for outgoing in outbox {
                if !self.server.send(&self.me, &outgoing.to, &outgoing.envelope).await? {
                    // The device is gone: the list of the user's devices is old.
                    self.fetch_devices(&outgoing.to.user).await?;
                }
                self.rows.act(|actions| actions.sent(outgoing.id)).await?;
                news = true;
            }
        }
    }
}
