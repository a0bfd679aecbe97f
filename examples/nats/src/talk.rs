//! Two people talk, and one sends the other a file.

use std::time::Duration;

use subrosa::file::{self, ChunkSize};
use subrosa::store::Memory;
use subrosa::{Address, Attachment, Client, Item, Outgoing, Received, SystemRng, UnixTime};

use crate::cluster::Cluster;
use crate::post::Post;
use crate::{Result, desk, servers_are_up};

pub(crate) async fn talk() -> Result {
    let people = ["alice", "bob"].map(|name| Address::new(name, 1));
    let cluster = Cluster::start(3, &people)?;
    let servers = cluster.addresses();
    servers_are_up(&servers, 3).await?;
    let at_desk = servers.clone();
    tokio::spawn(async move { desk::Desk::serve(&at_desk, 0, 1).await });

    let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    let [mut alice, mut bob] = [
        Client::create(Memory::new(), "alice", now, rng)?,
        Client::create(Memory::new(), "bob", now, rng)?,
    ];
    let [mut at_alices, mut at_bobs] = [
        Post::connect(&servers, alice.address()).await?,
        Post::connect(&servers, bob.address()).await?,
    ];
    settle(&at_bobs, &mut bob).await?;

    let (descriptor, blob) = file::seal(&[7; 100_000], ChunkSize::DEFAULT, rng)?;
    at_alices.store("a-name-that-nobody-guesses", &blob).await?;
    let rose = Attachment::new(descriptor, b"a-name-that-nobody-guesses")?;
    let text = Outgoing::new("meet me under the rose").files(std::slice::from_ref(&rose));
    alice.write("bob", text, now, rng)?;
    settle(&at_alices, &mut alice).await?;
    turn(&mut at_bobs, &mut bob).await?;
    bob.write("alice", "is nine too early?", UnixTime::now()?, rng)?;
    settle(&at_bobs, &mut bob).await?;
    turn(&mut at_alices, &mut alice).await
}

/// Does what is to do. Where the servers cannot be had, as while no desk listens, it begins again.
async fn settle(post: &Post, client: &mut Client<Memory>) -> Result {
    let mut tries = 0_u32;
    while let Err(error) = post.settle(client).await {
        tries = tries.saturating_add(1);
        if tries == 100 {
            return Err(error);
        }
        client.connected()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Takes one envelope, and shows what was in it.
async fn turn(post: &mut Post, client: &mut Client<Memory>) -> Result {
    let mut mail = None;
    for _ in 0..100 {
        mail = match mail {
            None => post.next(Duration::from_millis(100)).await,
            some => some,
        };
    }
    if let Received::Refused(error) = post.take(client, mail.ok_or("no mail")?).await? {
        return Err(error.into());
    }
    settle(post, client).await?;
    for incoming in client.inbox(100)? {
        if let Item::Text(text) = &incoming.item {
            let shown = String::from_utf8_lossy(&text.text);
            println!("{} reads, from {}: {shown:?}", client.address(), text.from);
            for file in &text.files {
                let blob = post
                    .fetch(std::str::from_utf8(file.info())?, file.descriptor().blob_length())
                    .await?;
                println!("  and a file of {} bytes", file::open(file.descriptor(), &blob)?.len());
            }
        }
        client.acknowledge(incoming.id)?;
    }
    Ok(())
}
