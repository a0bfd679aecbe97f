//! A chat in a terminal, through `relay`: several people, each with several devices. Nothing is
//! lost when any of the processes goes away.
//!
//! ```text
//! cargo run --release --example chat -- NAME [--link | --restore FILE] [--relay ADDRESS]
//!     [--store FILE] [--open | --pass]
//! ```
//!
//! Mail is sealed: the relay delivers it without learning who writes. With `--open` it learns that;
//! with `--pass` it takes sealed mail from those alone who were written to.
//!
//! Everything it knows is in one encrypted file (NAME.redb). It asks for the passphrase, or takes
//! it from --passphrase or SUBROSA_PASSPHRASE, or has a key in the system's keychain (--keychain).
//! examples/README.md says what a person can type.
//!
//! What an app would take from here: [`Chat::settle`], which runs after each event, does all that
//! is due, and may stop anywhere and begin again; [`Chat::receive`]; and `support/network.rs`,
//! which does the client's tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use subrosa::store::{Redb, Vault};
use subrosa::{Address, Client, Error, MessageId, Policy, Received, SystemRng, Task, UnixTime};

#[path = "support/archives.rs"]
mod archives;
#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/attached.rs"]
mod attached;
#[path = "support/commands.rs"]
mod commands;
#[path = "support/connection.rs"]
mod connection;
#[path = "support/failure.rs"]
mod failure;
#[path = "support/fetching.rs"]
mod fetching;
#[path = "support/file_names.rs"]
mod file_names;
#[path = "support/group_lookup.rs"]
mod group_lookup;
#[path = "support/group_news.rs"]
mod group_news;
#[path = "support/groups.rs"]
mod groups;
#[path = "support/handles.rs"]
mod handles;
#[path = "support/keychain.rs"]
mod keychain;
#[path = "support/linking.rs"]
mod linking;
#[path = "support/members.rs"]
mod members;
#[path = "support/names.rs"]
mod names;
#[path = "support/network.rs"]
mod network;
#[path = "support/news.rs"]
mod news;
#[path = "support/passphrase.rs"]
mod passphrase;
#[path = "support/people.rs"]
mod people;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/screen.rs"]
mod screen;
#[path = "support/sealing.rs"]
mod sealing;
#[path = "support/sending.rs"]
mod sending;
#[path = "support/unnamed.rs"]
mod unnamed;
#[path = "support/verifying.rs"]
mod verifying;
#[path = "support/wire.rs"]
mod wire;

use arguments::Arguments;
use connection::{Connection, Event};
use failure::{Failure, Result, is_fatal};
use fetching::Fetching;
use keychain::Keychain;
use names::is_name;
use people::Question;
use screen::{Screen, Typed, visible};
use sending::Sending;
use unnamed::Unnamed;
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
    // The file first: where another process has it, nobody types a passphrase in vain.
    let store = Redb::open(&arguments.store)?;
    let program = arguments.keychain.as_deref();
    let keychain = program.map(|program| Keychain::new(program, &arguments.store));
    let mut store = passphrase::unlock(store, arguments.passphrase.as_ref(), keychain.as_ref())?;
    let client = match (Client::open(&mut store).map(drop), &arguments.restore) {
        (Err(Error::NoAccount | Error::UnfinishedRestoration), Some(path)) => {
            archives::restore(store, path, &arguments.relay, &arguments.name)?
        }
        (Err(Error::NoAccount), None) if arguments.link => linking::join(store, &arguments.relay)?,
        (Err(Error::NoAccount), None) => {
            Client::create(store, &arguments.name, UnixTime::now()?, &mut SystemRng)?
        }
        _ => Client::open(store)?,
    };
    let me = client.address().clone();
    if me.user != arguments.name {
        let other = visible(me.user.as_bytes());
        return Err(Failure::Refused(format!(
            "{} has the account of {other}",
            arguments.store.display()
        )));
    }
    let screen = Screen::open();
    let policy = sealing::policy(arguments);
    let ended = Chat::new(client, policy, arguments.relay.clone(), screen.clone()).run();
    screen.close();
    ended
}

struct Chat {
    client: Client<Vault<Redb>>,
    policy: Policy,
    me: Address,
    connection: Connection,
    /// For what the relay is not to know that it is this device's.
    unnamed: Unnamed,
    screen: Screen,
    /// The tasks that were handed out, in their order. One that the relay did not answer stays.
    todo: VecDeque<Task>,
    /// The user whom lines are for, or the handle of the group.
    to: Option<String>,
    /// Texts to groups that have not left for everybody.
    to_groups: BTreeSet<MessageId>,
    /// The question that the next line answers.
    question: Option<Question>,
    /// Users whom the relay does not know.
    unregistered: BTreeSet<String>,
    /// Lines of other users and groups that came while lines are for one.
    unread: BTreeMap<String, usize>,
    /// The files that are on their way, and whether there may be more to do for some.
    sending: Option<Sending>,
    fetching: Option<Fetching>,
    /// When there is more to do, if nothing happens before.
    due: Option<Instant>,
}

impl Chat {
    fn new(client: Client<Vault<Redb>>, policy: Policy, relay: String, screen: Screen) -> Self {
        let me = client.address().clone();
        Self {
            client: client.with_policy(policy.clone()),
            policy,
            me,
            connection: Connection::new(relay.clone()),
            unnamed: Unnamed::new(relay),
            screen,
            todo: VecDeque::new(),
            to: None,
            to_groups: BTreeSet::new(),
            question: None,
            unregistered: BTreeSet::new(),
            unread: BTreeMap::new(),
            sending: None,
            fetching: None,
            due: None,
        }
    }

    fn run(&mut self) -> Result<()> {
        self.screen.say(&format!("* this is {}; /help says what there is", self.me));
        self.show_history(None, 1)?;
        self.show_invitations()?;
        self.recall_texts()?;
        self.check_listed()?;
        self.recall_issuer()?;
        self.connection.read_from(self.screen.clone());
        self.set_prompt();
        loop {
            let event = self.connection.next(self.due);
            let handled = self.handle(event);
            let flow = self.bear(handled)?;
            let settled = self.settle();
            if matches!(settled, Err(Failure::Offline)) {
                self.due = Instant::now().checked_add(Duration::from_secs(1));
            }
            self.bear(settled)?;
            if flow.is_some_and(|flow| flow.is_break()) {
                return Ok(());
            }
        }
    }

    /// A device that was removed has nothing to do but to show its history.
    fn check_listed(&mut self) -> Result<()> {
        let here = self.client.identity_key();
        let devices = self.client.devices(&self.me.user)?;
        if devices.is_some_and(|list| list.devices().iter().any(|listed| listed.identity == here)) {
            return Ok(());
        }
        Err(Failure::Refused(news::REMOVED.into()))
    }

    /// Shows errors that people can do something about, and goes on; ends at others.
    fn bear<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(Failure::Client(error)) if !is_fatal(&error) => {
                self.screen.say(&format!("* {error}"))
            }
            Err(Failure::Offline) => {}
            other => return other.map(Some),
        }
        Ok(None)
    }

    fn handle(&mut self, event: Event) -> Result<ControlFlow<()>> {
        match event {
            Event::Typed(Typed::Line(line)) => return self.command(line.trim()),
            Event::Typed(Typed::End) => return Ok(ControlFlow::Break(())),
            Event::Mail(mail) => self.receive(&mail)?,
            Event::NewDevices(user) => self.fetch_new_devices(&user)?,
            Event::Connected => self.greet()?,
            Event::Due => {}
            Event::Idle => drop(self.connection.ask(&Request::Ping)?),
            Event::Lost => {
                self.screen.say("* the relay is away: what you write is sent when it is back")
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn greet(&mut self) -> Result<()> {
        if let Response::Refused(_) = self.connection.ask(&Request::Hello(self.me.clone()))? {
            return Err(Failure::Refused("the relay does not take this name".into()));
        }
        self.ask_issuer()?;
        self.client.connected()?;
        self.screen.say("* connected");
        Ok(())
    }

    /// Does what is due.
    fn settle(&mut self) -> Result<()> {
        // Where something fails, the next look is a while later.
        self.due = None;
        self.take_inbox()?;
        let mut is_busy = false;
        if self.connection.is_up() {
            self.do_tasks()?;
            self.leave_grants()?;
            // A part of a file each; what is typed and what comes is looked at in between.
            is_busy = self.go_on_sending()? | self.go_on_fetching()?;
        }
        self.unnamed.hang_up();
        self.take_inbox()?;
        self.mark_left()?;
        let now = UnixTime::now()?;
        let sleep = if is_busy { 0 } else { self.client.next_due(now)?.since(now) };
        self.due = Instant::now().checked_add(Duration::from_secs(sleep));
        Ok(())
    }

    /// Gives an envelope to the client, and says so to the relay when it can be deleted there.
    fn receive(&mut self, mail: &Mail) -> Result<()> {
        let Mail { number, from, envelope } = mail;
        // Of sealed mail the relay does not know it.
        let of = from.as_ref().map_or_else(|| "somebody".into(), Address::to_string);
        if from.as_ref().is_none_or(|from| is_name(&from.user)) {
            let from = from.as_ref();
            match self.client.receive(from, envelope, UnixTime::now()?, &mut SystemRng) {
                // One of very many: the relay keeps it for later.
                Ok(Received::Refused(Error::RateLimited)) => return Ok(()),
                Ok(Received::Refused(error)) => {
                    self.screen.say(&format!("* something from {of} is refused: {error}"));
                }
                Ok(Received::AskedAgain(_)) => {
                    self.screen
                        .say(&format!("* a message of {of} does not open: it is asked for again"));
                }
                Ok(_) => {}
                Err(error) if is_fatal(&error) => return Err(error.into()),
                Err(error) => {
                    self.screen.say(&format!("* something from {of} is refused: {error}"))
                }
            }
        }
        self.connection.ask(&Request::Acknowledge(*number))?;
        Ok(())
    }
}
