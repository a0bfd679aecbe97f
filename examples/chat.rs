//! A chat in a terminal, through `relay`: several people, each with several devices, and nothing is lost when any of them goes away.
//!
//! ```text
//! cargo run --release --example chat -- NAME [--link] [--relay ADDRESS] [--store FILE] [--passphrase TEXT]
//! ```
//!
//! Everything it knows is in one encrypted file (NAME.redb). The passphrase is asked for, or in SUBROSA_PASSPHRASE.
//!
//! What an app would take from here: [`Chat::settle`] and what it calls. It runs after each event, does all that is due, and may stop
//! anywhere and begin again: what is done is committed, what is not is still due. In `support/` are the connection, the app's own
//! rows, and what a person can type.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use subrosa::store::{Lock, Redb, Vault};
use subrosa::{Address, Client, Error, Needed, Received, SystemRng, Trust};

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/commands.rs"]
mod commands;
#[path = "support/connection.rs"]
mod connection;
#[path = "support/failure.rs"]
mod failure;
#[path = "support/linking.rs"]
mod linking;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/wire.rs"]
mod wire;

use arguments::Arguments;
use commands::Question;
use connection::{Connection, Event};
use failure::{Failure, Result, is_fatal, taken};
use rows::{Draft, Grant, Key, Kind, Line};
use wire::{Mail, Request, Response};

fn main() -> ExitCode {
    match Arguments::read().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let why = match failure {
                Failure::Offline => "the relay is away".into(),
                Failure::Client(error) => error.to_string(),
                Failure::Refused(why) => why,
            };
            eprintln!("chat: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let rng = &mut SystemRng;
    let mut store = Vault::open(Redb::open(&arguments.store)?, Lock::Passphrase(&arguments.passphrase), rng)?;
    let client = match Client::open(&mut store).map(drop) {
        Err(Error::NoAccount) if arguments.link => linking::join(store, &arguments.relay)?,
        Err(Error::NoAccount) => Client::create(store, &arguments.name, now(), rng)?,
        _ => Client::open(store)?,
    };
    let me = client.address().clone();
    if me.user != arguments.name {
        return Err(Failure::Refused(format!("{} has the account of {me}", arguments.store.display())));
    }
    let connection = Connection::new(arguments.relay.clone());
    connection.read_lines();
    let mut chat =
        Chat { client, me, connection, to: None, question: None, blocked: BTreeSet::new(), upload_due: true };
    chat.show(&format!("* this is {}; /help says what there is", chat.me));
    chat.show_history(None, 10)?;
    loop {
        let event = chat.connection.next();
        let handled = chat.handle(event);
        let flow = chat.bear(handled)?;
        let settled = chat.settle();
        chat.bear(settled)?;
        if flow.is_some_and(|flow| flow.is_break()) {
            return Ok(());
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Chat {
    client: Client<Vault<Redb>>,
    me: Address,
    connection: Connection,
    /// Whom lines are for.
    to: Option<String>,
    question: Option<Question>,
    /// Whose new key has to be accepted before what is written to them can be sent.
    blocked: BTreeSet<String>,
    upload_due: bool,
}

impl Chat {
    /// Shows what a person can help, and goes on; ends where nothing helps.
    fn bear<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(Failure::Client(error)) if !is_fatal(&error) => self.show(&format!("* {error}")),
            Err(Failure::Offline) => {}
            other => return other.map(Some),
        }
        Ok(None)
    }

    fn handle(&mut self, event: Event) -> Result<ControlFlow<()>> {
        match event {
            Event::Line(line) => return self.command(line.trim()),
            Event::End => return Ok(ControlFlow::Break(())),
            Event::Mail(mail) => self.receive(&mail)?,
            Event::Connected => {
                self.connection.ask(&Request::Hello(self.me.clone()))?;
                self.show("* connected");
                self.upload_due = true;
            }
            Event::Idle => self.upload_due = true,
            Event::Lost => self.show("* the relay is away: what you write is sent when it is back"),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Does what is due.
    fn settle(&mut self) -> Result<()> {
        self.take_inbox()?;
        if self.connection.is_up() {
            self.upload()?;
            self.leave_grants()?;
            self.write_drafts()?;
            self.fetch_needed()?;
            self.send_outbox()?;
        }
        Ok(())
    }

    /// A piece of mail is acknowledged when what was in it is in the store, or when there is nothing in it.
    fn receive(&mut self, mail: &Mail) -> Result<()> {
        let Mail { number, from, envelope } = mail;
        let mut received = self.client.receive(from, envelope, now(), &mut SystemRng);
        if let Ok(Received::Refused(Error::UnknownDevice(_) | Error::DevicesNeeded(_))) = received {
            self.fetch_devices(&from.user)?;
            received = self.client.receive(from, envelope, now(), &mut SystemRng);
        }
        match received {
            // One of very many: the relay keeps it for later.
            Ok(Received::Refused(Error::RateLimited)) => return Ok(()),
            Ok(Received::Refused(error)) => self.show(&format!("* from {from}, refused: {error}")),
            Err(error) if is_fatal(&error) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        self.connection.ask(&Request::Acknowledge(*number))?;
        Ok(())
    }

    /// From the inbox into the history, in one transaction.
    fn take_inbox(&mut self) -> Result<()> {
        loop {
            let taken = self.client.transact(|actions| {
                let mut lines = Vec::new();
                for incoming in actions.inbox(100)? {
                    let (user, author) = match &incoming.copy_to {
                        None => (incoming.from.user.clone(), incoming.from.user.clone()),
                        Some(to) => (to.clone(), format!("you ({}) to {to}", incoming.from)),
                    };
                    let text = String::from_utf8_lossy(&incoming.text).into_owned();
                    let line = Line { user, author, text, at: incoming.received_at };
                    rows::add(&mut actions.rows(), Kind::History, &line)?;
                    actions.done(incoming.id)?;
                    lines.push((line, incoming.trust));
                }
                Ok::<_, Error>(lines)
            })?;
            if taken.is_empty() {
                return Ok(());
            }
            for (line, trust) in taken {
                if trust == Trust::Changed {
                    self.warn_changed(&line.user);
                }
                self.show(&line.to_string());
            }
        }
    }

    fn upload(&mut self) -> Result<()> {
        if !self.upload_due {
            return Ok(());
        }
        // Another device may have changed the list, or removed this one.
        let user = self.me.user.clone();
        self.fetch_devices(&user)?;
        let Response::Count(on_server) = self.connection.ask(&Request::Count)? else { return Ok(()) };
        if let Some(upload) = self.client.upload(on_server, now(), &mut SystemRng)? {
            let (devices, prekeys) = (upload.devices.encode(), upload.prekeys.encode());
            if let Response::Refused(why) = self.connection.ask(&Request::Upload { devices, prekeys })? {
                return Err(Failure::Refused(why));
            }
            self.client.uploaded(&upload)?;
        }
        self.upload_due = false;
        Ok(())
    }

    fn leave_grants(&mut self) -> Result<()> {
        for (key, Grant { id, grant }) in
            self.client.transact(|actions| rows::first(&mut actions.rows(), Kind::Grant, 10))?
        {
            self.connection.ask(&Request::LeaveGrant { id, grant })?;
            self.client.transact(|actions| rows::remove(&mut actions.rows(), &key))?;
        }
        Ok(())
    }

    fn write_drafts(&mut self) -> Result<()> {
        for (key, draft) in self.drafts()? {
            if self.blocked.contains(&draft.to) {
                continue;
            }
            match self.write(&key, &draft) {
                Err(Failure::Client(Error::IdentityChanged(user))) => {
                    self.warn_changed(&user);
                    self.blocked.insert(draft.to);
                }
                Err(Failure::Client(error)) if !is_fatal(&error) => {
                    let why = match error {
                        Error::DevicesNeeded(_) => "the relay knows nobody of this name".into(),
                        error => error.to_string(),
                    };
                    self.show(&format!("* not sent to {}: {why}", draft.to));
                    self.client.transact(|actions| rows::remove(&mut actions.rows(), &key))?;
                }
                written => written?,
            }
        }
        Ok(())
    }

    fn drafts(&mut self) -> Result<Vec<(Key, Draft)>, Error> {
        self.client.transact(|actions| rows::first(&mut actions.rows(), Kind::Draft, 1_000))
    }

    /// Encrypts a draft, fetching what it takes.
    fn write(&mut self, key: &Key, draft: &Draft) -> Result<()> {
        let mut to_all = true;
        for _ in 0..5 {
            match self.encrypt(key, draft, to_all) {
                Err(Error::DevicesNeeded(user)) if self.fetch_devices(&user)? => {}
                Err(Error::BundlesNeeded(devices)) if to_all => {
                    // A device that has uploaded nothing yet does not keep the others from getting it.
                    for device in devices {
                        to_all &= self.fetch_bundle(&device)?;
                    }
                }
                written => return Ok(written?),
            }
        }
        Ok(self.encrypt(key, draft, false)?)
    }

    /// The draft goes, the envelopes and a line of the history come, in one transaction.
    fn encrypt(&mut self, key: &Key, draft: &Draft, to_all: bool) -> Result<(), Error> {
        let (to, text, rng) = (draft.to.as_str(), draft.text.as_bytes(), &mut SystemRng);
        self.client.transact(|actions| {
            match to_all {
                true => actions.encrypt(to, text, now(), rng).map(drop)?,
                false => actions.encrypt_to_reachable(to, text, now(), rng).map(drop)?,
            }
            rows::remove(&mut actions.rows(), key)?;
            let (user, author, text) = (to.to_owned(), format!("you to {to}"), draft.text.clone());
            rows::add(&mut actions.rows(), Kind::History, &Line { user, author, text, at: now() })
        })
    }

    fn fetch_needed(&mut self) -> Result<()> {
        for needed in self.client.needed(1_000)? {
            let found = match &needed {
                Needed::Devices(user) => self.fetch_devices(user)?,
                Needed::Bundle(of) => self.fetch_bundle(of)?,
                _ => false,
            };
            if !found {
                self.client.give_up(&needed)?;
            }
        }
        Ok(())
    }

    /// Whether the relay had a list that is good.
    fn fetch_devices(&mut self, user: &str) -> Result<bool> {
        match self.connection.ask(&Request::Devices(user.into()))? {
            Response::Found(Some(list)) => taken(self.client.take_devices(user, &list)),
            _ => Ok(false),
        }
    }

    /// Whether there is a session now.
    fn fetch_bundle(&mut self, of: &Address) -> Result<bool> {
        let Response::Found(Some(bundle)) = self.connection.ask(&Request::Bundle(of.clone()))? else {
            return Ok(false);
        };
        let mut result = self.client.take_bundle(of, &bundle, now(), &mut SystemRng);
        if let Err(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = result {
            self.fetch_devices(&of.user)?;
            result = self.client.take_bundle(of, &bundle, now(), &mut SystemRng);
        }
        taken(result)
    }

    fn send_outbox(&mut self) -> Result<()> {
        loop {
            let outbox = self.client.outbox(100)?;
            if outbox.is_empty() {
                return Ok(());
            }
            for outgoing in outbox {
                let (to, envelope) = (outgoing.to.clone(), outgoing.envelope);
                let response = self.connection.ask(&Request::Send { to, envelope })?;
                self.client.sent(outgoing.id)?;
                if let Response::Refused(why) = response {
                    self.show(&format!("* {} did not get something: {why}", outgoing.to));
                    // The list of one's own devices may be old, or the other's.
                    self.fetch_devices(&outgoing.to.user)?;
                    self.upload_due = true;
                    self.upload()?;
                }
            }
        }
    }
}
