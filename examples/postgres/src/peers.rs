//! The other side: peers in memory, each with a session with the account, and what they have
//! written.

use std::collections::BTreeMap;

use subrosa::directory::Directory;
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Address, Answer, Client, Error, Item, Policy, Received, SystemRng, UnixTime,
};

use crate::Result;
use crate::database::connect;

/// The account that the workers share.
pub(crate) const ACCOUNT: &str = "desk";

/// What the account answers to a text.
pub(crate) fn answer_to(text: &[u8]) -> Vec<u8> {
    [b"Re: ", text].concat()
}

/// Everybody whom the account talks with.
pub(crate) struct Peers {
    clients: BTreeMap<String, Client<Memory>>,
    texts: usize,
}

type Letters = Vec<(String, Vec<u8>)>;

impl Peers {
    /// Makes the account and its peers, and puts the account's rows and the peers' texts into the
    /// database.
    pub(crate) async fn prepare(url: &str, peers: usize, texts: usize) -> Result<Self> {
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        let (mut desk, mut directory) =
            (Client::create(Memory::new(), ACCOUNT, now, rng)?, Directory::new());
        settle(&mut desk, &mut directory, None, now)?;
        let mut clients = BTreeMap::new();
        for number in 0..peers {
            let name = format!("peer {number}");
            let mut peer =
                Client::create(Memory::new(), &name, now, rng)?.with_policy(few_prekeys());
            peer.write(ACCOUNT, b"Hello", now, rng)?;
            let letters = settle(&mut peer, &mut Directory::new(), Some(&mut directory), now)?;
            receive(&mut desk, &name, letters, now)?;
            desk.write(&name, b"Welcome", now, rng)?;
            let letters = settle(&mut desk, &mut directory, None, now)?;
            receive(&mut peer, ACCOUNT, letters, now)?;
            clients.insert(name, peer);
        }
        let mut all = Self { clients, texts };
        all.store(url, desk.into_store(), now).await?;
        Ok(all)
    }

    async fn store(&mut self, url: &str, mut rows: Memory, now: UnixTime) -> Result<()> {
        let mut connection = connect(url).await?;
        let tx = connection.transaction().await?;
        let insert = tx.prepare("insert into rows values ($1, $2, $3, $4)").await?;
        for &table in Table::ALL {
            for (key, value) in rows.transact::<_, Error>(|tx| tx.scan(table, &[], usize::MAX))? {
                tx.execute(&insert, &[&ACCOUNT, &table.name(), &key, &value.as_slice()]).await?;
            }
        }
        let insert =
            tx.prepare("insert into mail (sender, share, envelope) values ($1, $2, $3)").await?;
        for text in 0..self.texts {
            for (share, (name, peer)) in (0_i32..).zip(&mut self.clients) {
                peer.write(
                    ACCOUNT,
                    format!("{name}, text {text}").as_bytes(),
                    now,
                    &mut SystemRng,
                )?;
                for (_, envelope) in settle(peer, &mut Directory::new(), None, now)? {
                    tx.execute(&insert, &[name, &share, &envelope]).await?;
                }
            }
        }
        tx.commit().await?;
        Ok(connection.batch_execute("analyze; checkpoint").await?)
    }

    /// Whether each peer has an answer to each of its texts, and none twice.
    pub(crate) async fn check(&mut self, url: &str) -> Result<()> {
        let (connection, now) = (connect(url).await?, UnixTime::now()?);
        let mut answers = BTreeMap::<String, Letters>::new();
        for row in connection.query("select receiver, envelope from sent order by id", &[]).await? {
            let receiver: String = row.try_get(0)?;
            answers.entry(receiver.clone()).or_default().push((receiver, row.try_get(1)?));
        }
        for (name, peer) in &mut self.clients {
            let mut texts = receive(peer, ACCOUNT, answers.remove(name).unwrap_or_default(), now)?;
            let answer = |text: usize| answer_to(format!("{name}, text {text}").as_bytes());
            let mut expected: Vec<Vec<u8>> = (0..self.texts).map(answer).collect();
            texts.sort_unstable();
            expected.sort_unstable();
            if texts != expected {
                return Err(
                    format!("{name} has {} answers to {}", texts.len(), expected.len()).into()
                );
            }
        }
        Ok(())
    }
}

/// Peers are written to by nobody new.
fn few_prekeys() -> Policy {
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (1, 1);
    policy
}

/// Does the tasks of a client, with its own directory and the one of the account. Returns what it
/// sent.
fn settle(
    client: &mut Client<Memory>,
    own: &mut Directory,
    mut account: Option<&mut Directory>,
    now: UnixTime,
) -> Result<Letters> {
    let (mut letters, device) = (Letters::new(), client.address().device);
    loop {
        let tasks = client.tasks(100, now, &mut SystemRng)?;
        if tasks.is_empty() {
            return Ok(letters);
        }
        for task in tasks {
            let bytes;
            let answer = match task.action {
                Action::FetchSummary => {
                    bytes = own.summary(device).encode();
                    Answer::Summary(&bytes)
                }
                Action::Upload(upload) => match own.upload(device, &upload) {
                    Ok(_) => Answer::Done,
                    Err(refusal) => return Err(format!("{refusal:?}").into()),
                },
                Action::FetchDevices(_) => {
                    let list =
                        account.as_deref().and_then(Directory::list).ok_or("nobody asks for it")?;
                    bytes = list.encode();
                    Answer::Devices(&bytes)
                }
                Action::FetchBundle(of) => {
                    let account = account.as_deref_mut().ok_or("nobody asks for it")?;
                    let bundle = account.bundle(of.device, &client.address().user, now.as_secs());
                    bytes = bundle.map_err(|error| format!("{error:?}"))?.encode();
                    Answer::Bundle(&bytes)
                }
                Action::Send { to, envelope, .. } => {
                    letters.push((to.user, envelope));
                    Answer::Done
                }
                _ => return Err("there is something new to do".into()),
            };
            client.complete(&task.id, answer, now, &mut SystemRng)?;
        }
    }
}

/// Receives letters. Returns the texts in them.
fn receive(
    client: &mut Client<Memory>,
    from: &str,
    letters: Letters,
    now: UnixTime,
) -> Result<Vec<Vec<u8>>> {
    let (from, mut texts) = (Address::new(from, 1), Vec::new());
    for (_, envelope) in letters {
        let received = client.receive(Some(&from), &envelope, now, &mut SystemRng)?;
        let Received::Incoming(incoming) = received else {
            return Err(format!("{received:?}").into());
        };
        if let Item::Text(text) = incoming.item {
            texts.push(text.text.to_vec());
        }
        client.acknowledge(incoming.id)?;
    }
    Ok(texts)
}
