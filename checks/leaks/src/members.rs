//! Users who write in a group, in stores.

use subrosa::group::GroupId;
use subrosa::store::Store;
use subrosa::{Client, Error, GroupIntention, UnixTime, Zeroizing};

use crate::clients::settle;
use crate::post::Post;
use crate::{Drawn, NOW};

/// Three users found a group, invite a fourth, and write so many texts before and after each step:
/// the group is given new settings and new keys, an admin is made, one member leaves and one is
/// removed. Clients are closed and opened again.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell<S: Store>(stores: [S; 4], texts: usize, rng: &mut Drawn) -> Result<usize, Error> {
    let mut now = UnixTime::from_secs(NOW)?;
    let post = &mut Post::default();
    let users = ["alice", "bob", "cyd", "dora"];
    let mut clients = Vec::with_capacity(users.len());
    for (store, user) in stores.into_iter().zip(users) {
        clients.push(Client::create(store, user, now, rng)?);
    }
    settle(&mut clients, post, &mut now, rng)?;
    // A member is somebody whom one has written with.
    for (at, client) in clients.iter_mut().enumerate() {
        for to in &users[at + 1..] {
            client.write(to, &Zeroizing::new(rng.text(50)), now, rng)?;
        }
    }
    settle(&mut clients, post, &mut now, rng)?;

    let group = clients[0].create_group(&users[1..3], b"Roses", now, rng)?;
    settle(&mut clients, post, &mut now, rng)?;
    clients[1].join_group(group, now, rng)?;
    clients[2].join_group(group, now, rng)?;
    let mut read = talk(&mut clients, &[0, 1, 2], group, texts, post, &mut now, rng)?;

    let changes = [
        GroupIntention::Add("dora"),
        GroupIntention::Promote("bob"),
        GroupIntention::Set(b"Roses, and thorns"),
    ];
    clients[0].change_group(group, &changes, now, rng)?;
    settle(&mut clients, post, &mut now, rng)?;
    clients[3].join_group(group, now, rng)?;
    read += talk(&mut clients, &[0, 1, 2, 3], group, texts, post, &mut now, rng)?;

    clients[1].change_group(group, &[GroupIntention::Remove("cyd")], now, rng)?;
    read += talk(&mut clients, &[0, 1, 3], group, texts, post, &mut now, rng)?;
    clients[3].change_group(group, &[GroupIntention::Leave], now, rng)?;
    clients[0].refresh_group(group)?;
    now = now.after(40 * 24 * 60 * 60);
    read += talk(&mut clients, &[0, 1], group, texts, post, &mut now, rng)?;
    assert_eq!(clients[0].group(group)?.members.len(), 2);
    assert!(read > texts);
    Ok(read)
}

/// These write. How many texts were read.
fn talk<S: Store>(
    clients: &mut Vec<Client<S>>,
    members: &[usize],
    group: GroupId,
    texts: usize,
    post: &mut Post,
    now: &mut UnixTime,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut read = settle(clients, post, now, rng)?;
    for number in 0..texts {
        let text = Zeroizing::new(rng.text(40 + number));
        let from = members[rng.below(members.len())];
        clients[from].write_to_group(group, &text, *now, rng)?;
        if number % 3 == 2 || number + 1 == texts {
            read += settle(clients, post, now, rng)?;
        }
    }
    let opened = clients.drain(..).map(|client| Client::open(client.into_store()));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    clients.extend(opened);
    Ok(read + settle(clients, post, now, rng)?)
}
