//! Two people write to each other in one process: what an app does around a [`Client`], without a
//! network.
//!
//! ```text
//! cargo run --release --example letters
//! ```
//!
//! The server is a [`Directory`] of each user, and a list of envelopes that wait. Each person has a
//! store in a file, and Bob's device begins again after he has written.

use std::collections::BTreeMap;
use std::error::Error;

use subrosa::directory::Directory;
use subrosa::store::Redb;
use subrosa::{Action, Address, Answer, Client, Item, SystemRng, UnixTime};

type Result = std::result::Result<(), Box<dyn Error>>;

fn main() -> Result {
    let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    let folder = std::env::temp_dir().join(format!("letters-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut alice = Client::create(Redb::open(folder.join("alice.redb"))?, "alice", now, rng)?;
    let mut bob = Client::create(Redb::open(folder.join("bob.redb"))?, "bob", now, rng)?;

    alice.write("bob", b"meet me under the rose", now, rng)?;
    bob.write("alice", b"is nine too early?", now, rng)?;
    // Neither text has left yet. Both are in the stores, so this loses nothing.
    drop(bob);
    println!("bob begins again");
    let mut bob = Client::open(Redb::open(folder.join("bob.redb"))?)?;

    // When Alice comes first, the server does not know Bob, whose keys she needs.
    let mut server = Server::default();
    for _ in 0..2 {
        server.connect(&mut alice)?;
        server.connect(&mut bob)?;
    }
    drop((alice, bob));
    Ok(std::fs::remove_dir_all(folder)?)
}

#[derive(Default)]
struct Server {
    users: BTreeMap<String, Directory>,
    /// Receiver, sender, envelope.
    mail: Vec<(Address, Address, Vec<u8>)>,
}

impl Server {
    /// A device comes: it does its tasks, takes its mail, and shows its inbox.
    fn connect(&mut self, client: &mut Client<Redb>) -> Result {
        let (now, rng) = (UnixTime::now()?, &mut SystemRng);
        let own = client.address().clone();
        client.connected()?;
        while let Some(task) = client.tasks(1, now, rng)?.pop() {
            println!("{own}: {:?}", task.action);
            let bytes;
            let answer = match task.action {
                Action::FetchSummary => {
                    bytes = self.user(&own.user).summary(own.device).encode();
                    Answer::Summary(&bytes)
                }
                Action::Upload(upload) => match self.user(&own.user).upload(own.device, &upload) {
                    Ok(_nobody_was_removed) => Answer::Done,
                    Err(_) => Answer::Failed,
                },
                Action::FetchDevices(user) => match self.user(&user).list() {
                    Some(list) => {
                        bytes = list.encode();
                        Answer::Devices(&bytes)
                    }
                    None => Answer::Missing,
                },
                Action::FetchBundle(of) => {
                    match self.user(&of.user).bundle(of.device, &own.user, now.as_secs()) {
                        Ok(bundle) => {
                            bytes = bundle.encode();
                            Answer::Bundle(&bytes)
                        }
                        Err(_) => Answer::Missing,
                    }
                }
                Action::Send { to, envelope, .. } => {
                    self.mail.push((to, own.clone(), envelope));
                    Answer::Done
                }
                _ => Answer::Failed,
            };
            client.complete(&task.id, answer, now, rng)?;
        }
        for (_, from, envelope) in self.mail.extract_if(.., |mail| mail.0 == own) {
            let _received = client.receive(Some(&from), &envelope, now, rng)?;
        }
        for incoming in client.inbox(100)? {
            if let Item::Text(text) = &incoming.item {
                println!(
                    "{own} reads, from {}: {:?}",
                    text.from,
                    String::from_utf8_lossy(&text.text)
                );
            }
            client.acknowledge(incoming.id)?;
        }
        Ok(())
    }

    fn user(&mut self, name: &str) -> &mut Directory {
        self.users.entry(name.into()).or_default()
    }
}
