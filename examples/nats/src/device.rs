//! A device of the load: it writes what the plan says, and notes what it shows.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use subrosa::file::{self, ChunkSize};
use subrosa::store::Memory;
use subrosa::{
    Address, Attachment, Client, Error, Event, GroupStanding, Item, NewDevice, Outgoing, Policy,
    Received, Role, SystemRng, Text, UnixTime,
};

use crate::Result;
use crate::plan::{Plan, To, user};
use crate::post::Post;

/// What a process has seen so far.
#[derive(Default)]
pub(crate) struct Notes {
    /// Devices that are registered, or in their group.
    pub(crate) ready: usize,
    /// Texts that were written.
    pub(crate) written: usize,
    /// What was shown, and where: the text's name, the device, milliseconds since it was written.
    pub(crate) shown: Vec<(String, Address, u64)>,
    /// What people should not have to see.
    pub(crate) wrong: Vec<String>,
    pub(crate) cuts: usize,
    /// 0: register. 1: groups. 2: write. 3: the end.
    pub(crate) stage: usize,
}

pub(crate) struct Device {
    plan: Rc<Plan>,
    servers: Rc<Vec<String>>,
    notes: Rc<RefCell<Notes>>,
    account: usize,
    client: Client<Memory>,
    /// The next text of the account.
    number: usize,
    next_at: UnixMillis,
    /// The stage that it is done with.
    done: usize,
}

type UnixMillis = u64;

impl Device {
    /// Both devices of an account.
    pub(crate) fn pair(
        plan: &Rc<Plan>,
        servers: &Rc<Vec<String>>,
        notes: &Rc<RefCell<Notes>>,
        account: usize,
    ) -> Result<[Self; 2]> {
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        // Few, since a user is one row here: see docs/server.md.
        let mut policy = Policy::default();
        (policy.prekeys_low, policy.prekeys_target) = (4, 10);
        let mut phone =
            Client::create(Memory::new(), &user(account), now, rng)?.with_policy(policy.clone());
        let new = NewDevice::generate(rng);
        let grant = phone.link(&new.code(), Role::Device, now, rng)?;
        let laptop = Client::join(Memory::new(), &new, &grant, now, rng)?.with_policy(policy);
        Ok([phone, laptop].map(|client| Self {
            plan: Rc::clone(plan),
            servers: Rc::clone(servers),
            notes: Rc::clone(notes),
            account,
            client,
            number: 0,
            next_at: 0,
            done: 0,
        }))
    }

    /// Until the end: over one connection after another.
    pub(crate) async fn live(mut self, seed: u64) {
        let mut times = seed;
        loop {
            times = times
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let most = self.plan.cut.saturating_mul(1_000);
            let cut = most.saturating_add((times >> 33).checked_rem(most).unwrap_or(0));
            let cut = is_cut(Rc::clone(&self.notes), Duration::from_millis(cut));
            tokio::select! {
                done = self.connected() => match done {
                    Ok(()) => return,
                    Err(error) => {
                        // What the servers do is no fault; what the client says is one.
                        if let Some(error) = error.downcast_ref::<Error>() {
                            self.note_wrong(error);
                        }
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
                // Wherever it is then, between two steps or in the middle of a request.
                () = cut => {}
            }
        }
    }

    async fn connected(&mut self) -> Result {
        let mut post = Post::connect(&self.servers, self.client.address()).await?;
        self.client.connected()?;
        loop {
            self.write(&post).await?;
            let due = post.settle(&mut self.client).await?;
            self.show(&post).await?;
            self.be_ready(&post).await?;
            if self.notes.borrow().stage == 3 {
                return Ok(());
            }
            let due =
                due.as_secs().saturating_sub(UnixTime::now()?.as_secs()).saturating_mul(1_000);
            let wait = self.next_at.saturating_sub(millis()).clamp(1, 200).min(due.max(1));
            let mut mail = post.next(Duration::from_millis(wait)).await;
            for _ in 0..100 {
                let Some(next) = mail else { break };
                let subject = next.subject.clone();
                match post.take(&mut self.client, next).await? {
                    // It comes again.
                    Received::Refused(Error::RateLimited) => {}
                    Received::Refused(error) => self.note_wrong(&(subject, error)),
                    _ => {}
                }
                mail = post.next(Duration::ZERO).await;
            }
        }
    }

    fn note_wrong(&self, what: &impl Debug) {
        let wrong = format!("{}: {what:?}", self.client.address());
        self.notes.borrow_mut().wrong.push(wrong);
    }

    /// Writes what is due.
    async fn write(&mut self, post: &Post) -> Result {
        let own = self.client.address().clone();
        if self.notes.borrow().stage != 2
            || self.number >= self.plan.texts
            || millis() < self.next_at
        {
            return Ok(());
        }
        let (account, number) = (self.account, self.number);
        if self.plan.device(account, number) == own.device {
            let name = format!("{account}/{number}");
            let mut files = Vec::new();
            if self.plan.has_file(account, number) {
                let (descriptor, blob) =
                    file::seal(&content(&name), ChunkSize::DEFAULT, &mut SystemRng)?;
                // Any name that is used once: the time is of this try.
                let blob_name = format!("{account}-{number}-{}", millis());
                post.store(&blob_name, &blob).await?;
                files.push(Attachment::new(descriptor, blob_name.as_bytes())?);
            }
            let text = format!("{name} {} and what else there is to say", millis());
            let (now, rng) = (UnixTime::now()?, &mut SystemRng);
            match self.plan.to(account, number) {
                To::Account(to) => {
                    let text = Outgoing::new(&text).files(&files);
                    self.client.write(&user(to), text, now, rng)?;
                }
                To::Group => {
                    let group = self.client.groups()?.first().copied().ok_or("no group")?;
                    self.client.write_to_group(group, &text, now, rng)?;
                }
            }
            let mut notes = self.notes.borrow_mut();
            notes.written = notes.written.saturating_add(1);
        }
        self.number = number.saturating_add(1);
        self.next_at =
            self.next_at.max(millis().saturating_sub(1_000)).saturating_add(self.plan.pause);
        Ok(())
    }

    async fn show(&mut self, post: &Post) -> Result {
        for incoming in self.client.inbox(100)? {
            let text = match &incoming.item {
                Item::Text(text) => Some(text),
                Item::Group(text) if !text.is_late => Some(&text.text),
                Item::Event(Event::GroupInvited { group, .. }) => {
                    let joined = self.client.join_group(*group, UnixTime::now()?, &mut SystemRng);
                    match joined {
                        // The account's other device was faster.
                        Ok(()) | Err(Error::UnknownGroup) => {}
                        Err(error) => return Err(error.into()),
                    }
                    None
                }
                Item::Event(Event::Lost { .. } | Event::Undelivered { .. })
                | Item::Late(_)
                | Item::Group(_) => {
                    self.note_wrong(&incoming.item);
                    None
                }
                _ => None,
            };
            if let Some(text) = text {
                let shown = self.read(post, text).await?;
                self.notes.borrow_mut().shown.push(shown);
            }
            // Nothing is awaited between the note and this.
            self.client.acknowledge(incoming.id)?;
        }
        Ok(())
    }

    async fn read(&self, post: &Post, text: &Text) -> Result<(String, Address, u64)> {
        let words = String::from_utf8_lossy(&text.text);
        let mut words = words.split(' ');
        let (name, at) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        for file in &text.files {
            let (descriptor, blob_name) = (file.descriptor(), std::str::from_utf8(file.info())?);
            let blob = post.fetch(blob_name, descriptor.blob_length()).await?;
            if file::open(descriptor, &blob)? != content(name) {
                self.notes.borrow_mut().wrong.push(format!("the file of {name}"));
            }
        }
        let delay = millis().saturating_sub(at.parse().unwrap_or(0));
        Ok((name.to_owned(), self.client.address().clone(), delay))
    }

    /// Sees whether it is done with the stage that all are in, and says so once.
    async fn be_ready(&mut self, post: &Post) -> Result {
        let stage = self.notes.borrow().stage;
        let is_ready = match stage {
            0 => true,
            1 => self.is_in_group(post).await?,
            _ => return Ok(()),
        };
        if is_ready && self.done == stage {
            self.done = stage.saturating_add(1);
            let mut notes = self.notes.borrow_mut();
            notes.ready = notes.ready.saturating_add(1);
        }
        Ok(())
    }

    /// The phones have their groups; the first member's founds it.
    async fn is_in_group(&mut self, post: &Post) -> Result<bool> {
        let (account, own) = (self.account, self.client.address().device);
        if !self.plan.has_group(account) || own != 1 {
            return Ok(true);
        }
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        let founder = self.plan.founder(account);
        match self.client.groups()?.first() {
            Some(group) => Ok(self.client.group(*group)?.standing == GroupStanding::Joined),
            None if founder != account => Ok(false),
            None => {
                let others =
                    self.plan.members(founder).into_iter().filter(|member| *member != account);
                let others = others.map(user).collect::<Vec<_>>();
                let names = others.iter().map(String::as_str).collect::<Vec<_>>();
                match self.client.create_group(&names, b"a load", now, rng) {
                    Ok(_) => Ok(true),
                    Err(Error::DevicesNeeded(_)) => {
                        for name in names {
                            let list = post.devices(name).await?.ok_or("nobody of that name")?;
                            self.client.update_devices(name, &list, now, rng)?;
                        }
                        Ok(false)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// The connection is cut after this, once all write; never, after no time.
async fn is_cut(notes: Rc<RefCell<Notes>>, after: Duration) {
    while notes.borrow().stage < 2 || after.is_zero() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(after).await;
    let mut notes = notes.borrow_mut();
    notes.cuts = notes.cuts.saturating_add(1);
}

/// The file of a text.
fn content(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(50_000).collect()
}

pub(crate) fn millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
