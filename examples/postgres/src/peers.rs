//! The other side: peers in memory, each with a session with the account, and what they have
//! written.

use std::collections::BTreeMap;

use subrosa::directory::Directory;
use subrosa::group::GroupId;
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Address, Answer, Client, Error, Item, Outgoing, Policy, Received, SystemRng, Text,
    UnixTime,
};
use tokio_postgres::Transaction;

use crate::Result;
use crate::database::connect;
use crate::files::{self, Blobs};

/// The account that the workers share.
pub(crate) const ACCOUNT: &str = "desk";

/// Peers in a group.
const IN_A_GROUP: usize = 10;

/// What the account answers to a text.
pub(crate) fn answer_to(text: &[u8]) -> Vec<u8> {
    [b"Re: ", text].concat()
}

/// Everybody whom the account talks with, and a server between them.
pub(crate) struct Peers {
    clients: BTreeMap<String, Client<Memory>>,
    directories: BTreeMap<String, Directory>,
    /// The group of each peer, where they write to groups.
    groups: BTreeMap<String, GroupId>,
    /// The files of all texts.
    blobs: Blobs,
    /// What each was shown.
    shown: BTreeMap<String, Vec<Vec<u8>>>,
    texts: usize,
    now: UnixTime,
}

/// An envelope on its way.
struct Letter {
    from: String,
    to: String,
    envelope: Vec<u8>,
}

impl Peers {
    /// Makes the account and its peers, and puts the account's rows and the peers' texts into the
    /// database.
    pub(crate) async fn prepare(
        url: &str,
        peers: usize,
        texts: usize,
        in_groups: bool,
    ) -> Result<Self> {
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        let mut desk = Client::create(Memory::new(), ACCOUNT, now, rng)?;
        let mut all = Self {
            clients: BTreeMap::new(),
            directories: BTreeMap::new(),
            groups: BTreeMap::new(),
            blobs: Blobs::new(),
            shown: BTreeMap::new(),
            texts,
            now,
        };
        all.exchange(&mut desk)?;
        for number in 0..peers {
            let name = format!("peer {number}");
            let mut peer =
                Client::create(Memory::new(), &name, now, rng)?.with_policy(few_prekeys());
            peer.write(ACCOUNT, b"Hello", now, rng)?;
            all.clients.insert(name, peer);
        }
        all.exchange(&mut desk)?;
        for name in all.clients.keys() {
            desk.write(name, b"Welcome", now, rng)?;
        }
        all.exchange(&mut desk)?;
        if in_groups {
            all.found(&mut desk)?;
        }
        all.shown.clear();
        all.store(url, desk.into_store()).await?;
        Ok(all)
    }

    /// The account founds groups, everybody joins, and is welcome: the lists of all were fetched.
    fn found(&mut self, desk: &mut Client<Memory>) -> Result<()> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for members in names.chunks(IN_A_GROUP) {
            let users: Vec<&str> = members.iter().map(String::as_str).collect();
            let group = desk.create_group(&users, b"A desk", self.now, &mut SystemRng)?;
            self.groups.extend(members.iter().map(|name| (name.clone(), group)));
        }
        self.exchange(desk)?;
        for (name, peer) in &mut self.clients {
            let group = self.groups.get(name).ok_or("it is in none")?;
            peer.join_group(*group, self.now, &mut SystemRng)?;
        }
        self.exchange(desk)?;
        for group in desk.groups()? {
            desk.write_to_group(group, "Welcome", self.now, &mut SystemRng)?;
        }
        self.exchange(desk)
    }

    /// Everything reaches whom it is for, until nothing is left to do.
    fn exchange(&mut self, desk: &mut Client<Memory>) -> Result<()> {
        loop {
            let mut letters = settle(desk, &mut self.directories, self.now)?;
            for peer in self.clients.values_mut() {
                letters.extend(settle(peer, &mut self.directories, self.now)?);
            }
            if letters.is_empty() {
                return Ok(());
            }
            for letter in letters {
                let client = match self.clients.get_mut(&letter.to) {
                    Some(peer) => peer,
                    None => &mut *desk,
                };
                receive(client, &letter, self.now)?;
            }
        }
    }

    async fn store(&mut self, url: &str, mut rows: Memory) -> Result<()> {
        let mut connection = connect(url).await?;
        let tx = connection.transaction().await?;
        let insert = tx.prepare("insert into rows values ($1, $2, $3, $4)").await?;
        for &table in Table::ALL {
            for (key, value) in rows.transact::<_, Error>(|tx| tx.scan(table, &[], usize::MAX))? {
                tx.execute(&insert, &[&ACCOUNT, &table.name(), &key, &value.as_slice()]).await?;
            }
        }
        for text in 0..self.texts {
            for share in 0..self.clients.len() {
                self.write(&tx, share, text).await?;
            }
        }
        tx.commit().await?;
        Ok(connection.batch_execute("analyze; checkpoint").await?)
    }

    /// One peer writes: to the account, or to its group and with a file. Each is some worker's
    /// share, so that the workers meet in the groups.
    async fn write(&mut self, tx: &Transaction<'_>, share: usize, text: usize) -> Result<()> {
        let insert = "insert into mail (sender, share, envelope) values ($1, $2, $3)";
        let (name, peer) = self.clients.iter_mut().nth(share).ok_or("there is no such peer")?;
        let (name, words) = (name.clone(), format!("{name}, text {text}"));
        let share = i32::try_from(share)?;
        match self.groups.get(&name) {
            None => drop(peer.write(ACCOUNT, words.as_bytes(), self.now, &mut SystemRng)?),
            Some(group) => {
                let (file, blob) = files::put(tx.client(), words.as_bytes()).await?;
                self.blobs.insert(file.info().to_vec(), blob);
                let message = Outgoing::new(&words).files(std::slice::from_ref(&file));
                peer.write_to_group(*group, message, self.now, &mut SystemRng)?;
            }
        }
        let mut letters = settle(peer, &mut self.directories, self.now)?;
        while !letters.is_empty() {
            let mut answers = Vec::new();
            for letter in letters {
                if letter.to == ACCOUNT {
                    tx.execute(insert, &[&letter.from, &share, &letter.envelope]).await?;
                    continue;
                }
                let peer = self.clients.get_mut(&letter.to).ok_or("there is no such peer")?;
                let texts = receive(peer, &letter, self.now)?;
                answers.extend(settle(peer, &mut self.directories, self.now)?);
                self.show(letter.to, texts)?;
            }
            letters = answers;
        }
        Ok(())
    }

    fn show(&mut self, to: String, texts: Vec<Text>) -> Result<()> {
        let shown = self.shown.entry(to).or_default();
        for text in texts {
            if !self.groups.is_empty() {
                files::check(&text, &self.blobs)?;
            }
            shown.push(text.text.to_vec());
        }
        Ok(())
    }

    /// Whether each peer has an answer to each of its texts, and none twice; in a group, whatever
    /// the others wrote, and every answer.
    pub(crate) async fn check(&mut self, url: &str) -> Result<()> {
        let connection = connect(url).await?;
        self.blobs = files::all(&connection).await?;
        self.now = UnixTime::now()?;
        for row in connection.query("select receiver, envelope from sent order by id", &[]).await? {
            let letter =
                Letter { from: ACCOUNT.into(), to: row.try_get(0)?, envelope: row.try_get(1)? };
            let peer = self.clients.get_mut(&letter.to).ok_or("there is no such peer")?;
            let texts = receive(peer, &letter, self.now)?;
            self.show(letter.to, texts)?;
        }
        for name in self.clients.keys() {
            let mut expected = self.expected(name);
            let mut shown = self.shown.remove(name).unwrap_or_default();
            shown.sort_unstable();
            expected.sort_unstable();
            if shown != expected {
                let (shown, expected) = (shown.len(), expected.len());
                return Err(format!("{name} was shown {shown} texts of {expected}").into());
            }
        }
        Ok(())
    }

    fn expected(&self, name: &str) -> Vec<Vec<u8>> {
        let words = |of: &str, text: usize| format!("{of}, text {text}").into_bytes();
        let texts = |of| (0..self.texts).map(move |text| words(of, text));
        let Some(group) = self.groups.get(name) else {
            return texts(name).map(|text| answer_to(&text)).collect();
        };
        let members = self.groups.iter().filter(|(_, of)| *of == group).map(|(name, _)| name);
        let mut all = Vec::new();
        for member in members {
            all.extend(texts(member).map(|text| answer_to(&text)));
            if member != name {
                all.extend(texts(member));
            }
        }
        all
    }
}

/// Peers are written to by few who are new.
fn few_prekeys() -> Policy {
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (1, 1);
    policy
}

/// Does the tasks of a client. Returns what it sent.
fn settle(
    client: &mut Client<Memory>,
    directories: &mut BTreeMap<String, Directory>,
    now: UnixTime,
) -> Result<Vec<Letter>> {
    let (mut letters, own) = (Vec::new(), client.address().clone());
    loop {
        let tasks = client.tasks(100, now, &mut SystemRng)?;
        if tasks.is_empty() {
            return Ok(letters);
        }
        for task in tasks {
            let bytes;
            let answer = match task.action {
                Action::FetchSummary => {
                    let directory = directories.entry(own.user.clone()).or_default();
                    bytes = directory.summary(own.device).encode();
                    Answer::Summary(&bytes)
                }
                Action::Upload(upload) => {
                    let directory = directories.entry(own.user.clone()).or_default();
                    match directory.upload(own.device, &upload) {
                        Ok(_) => Answer::Done,
                        Err(refusal) => return Err(format!("{refusal:?}").into()),
                    }
                }
                Action::FetchDevices(user) => {
                    let list = directories.get(&user).and_then(Directory::list);
                    bytes = list.ok_or("nobody of this name is registered")?.encode();
                    Answer::Devices(&bytes)
                }
                Action::FetchBundle(of) => {
                    let directory = directories.entry(of.user).or_default();
                    let bundle = directory.bundle(of.device, &own.user, now.as_secs());
                    bytes = bundle.map_err(|error| format!("{error:?}"))?.encode();
                    Answer::Bundle(&bytes)
                }
                Action::Send { to, envelope, .. } => {
                    letters.push(Letter { from: own.user.clone(), to: to.user, envelope });
                    Answer::Done
                }
                _ => return Err("there is something new to do".into()),
            };
            client.complete(&task.id, answer, now, &mut SystemRng)?;
        }
    }
}

/// Receives a letter. Returns the texts in it; what else there is to see is seen.
fn receive(client: &mut Client<Memory>, letter: &Letter, now: UnixTime) -> Result<Vec<Text>> {
    let from = Address::new(&letter.from, 1);
    match client.receive(Some(&from), &letter.envelope, now, &mut SystemRng)? {
        Received::Incoming(_) | Received::Handled => {}
        received => return Err(format!("{received:?}").into()),
    }
    let mut texts = Vec::new();
    for incoming in client.inbox(usize::MAX)? {
        match incoming.item {
            Item::Text(text) => texts.push(text),
            Item::Group(text) => texts.push(text.text),
            _ => {}
        }
        client.acknowledge(incoming.id)?;
    }
    Ok(texts)
}
