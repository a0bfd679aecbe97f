//! Two users, one of them with two devices, in stores.

use subrosa::store::Store;
use subrosa::{
    Client, Delivery, Error, Item, NewDevice, Policy, Received, Role, SasStage, Scanned, UnixTime,
    Zeroizing,
};

use crate::post::Post;
use crate::{Drawn, NOW};

/// So many texts each way between each of these: a device is linked, a user forgotten, a session
/// reset, a device removed, a new account key accepted. Clients are closed and opened again.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell<S: Store>(stores: [S; 3], texts: usize, rng: &mut Drawn) -> Result<usize, Error> {
    let mut now = UnixTime::from_secs(NOW)?;
    let post = &mut Post::default();
    let [first, second, third] = stores;
    let mut clients =
        vec![Client::create(first, "alice", now, rng)?, Client::create(second, "bob", now, rng)?];
    settle(&mut clients, post, &mut now, rng)?;
    talk(&mut clients, post, texts, &mut now, rng)?;
    compare(&mut clients, post, now, rng)?;

    let new = NewDevice::generate(rng);
    let grant = {
        let code = new.code();
        let mistyped = Zeroizing::new(format!("{}!", &code[..code.len() - 1]));
        let linked = clients[0].link(&mistyped, Role::Manager, now, rng);
        assert_eq!(linked, Err(Error::BadLinkCode));
        clients[0].link(&code, Role::Manager, now, rng)?
    };
    clients.push(Client::join(third, &new, &grant, now, rng)?);
    drop(new);
    talk(&mut clients, post, texts, &mut now, rng)?;

    clients[1].forget("alice")?;
    // Bob writes first: of somebody whom he forgot he takes nothing but a first message.
    clients[1].write("alice", &Zeroizing::new(rng.text(50)), now, rng)?;
    settle(&mut clients, post, &mut now, rng)?;
    talk(&mut clients, post, texts, &mut now, rng)?;

    // Weeks later the prekeys are made anew; and Bob's device loses what it wrote of it.
    now = now.after(30 * 24 * 60 * 60);
    let bob = clients.remove(1);
    clients.insert(1, Client::open(bob.into_store())?);
    talk(&mut clients, post, texts, &mut now, rng)?;
    clients[1].reset(&subrosa::Address::new("alice", 1))?;
    talk(&mut clients, post, texts, &mut now, rng)?;

    // A device that could manage the others leaves: there is a new account key.
    let last = clients.pop().expect("there are three");
    clients[0].remove_device(last.address().device, now, rng)?;
    drop(last);
    settle(&mut clients, post, &mut now, rng)?;
    let list = post.users["alice"].encode_user().expect("Alice has uploaded");
    clients[1].update_devices("alice", &list, now, rng)?;
    clients[0].write("bob", &Zeroizing::new(rng.text(50)), now, rng)?;
    settle(&mut clients, post, &mut now, rng)?;
    // The device that is left is in both lists, so that what it writes is not held.
    assert_eq!(clients[1].held("alice", 10)?.len(), 0);
    let new = clients[1].trust("alice")?.and_then(|trust| trust.new_account);
    clients[1].accept_new_key("alice", &new.expect("the key changed"), now, rng)?;
    talk(&mut clients, post, texts, &mut now, rng)
}

/// Two users whose server does not learn who writes: tickets and passes go back and forth for twelve
/// weeks, in which all of the keys of tickets are made anew.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell_sealed<S: Store>(
    stores: [S; 2],
    texts: usize,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut now = UnixTime::from_secs(NOW)?;
    let post = &mut Post::default();
    let mut policy = Policy::default();
    policy.delivery = Delivery::Sealed;
    policy.requires_pass = true;
    let [first, second] = stores;
    let mut clients = Vec::with_capacity(2);
    for (store, user) in [(first, "alice"), (second, "bob")] {
        clients.push(Client::create(store, user, now, rng)?.with_policy(policy.clone()));
    }
    settle(&mut clients, post, &mut now, rng)?;
    // Nobody has the other's pass at first.
    for delivery in [Delivery::Open, Delivery::Sealed] {
        for (at, to) in [(0, "bob"), (1, "alice")] {
            clients[at].deliver(to, delivery, now, rng)?;
            clients[at].write(to, &Zeroizing::new(rng.text(50)), now, rng)?;
            settle(&mut clients, post, &mut now, rng)?;
        }
    }
    let mut read = 0;
    for week in 0..12 {
        for number in 0..texts {
            let from = rng.below(2);
            let text = Zeroizing::new(rng.text(40 + number));
            clients[from].write(["bob", "alice"][from], &text, now, rng)?;
            read += settle(&mut clients, post, &mut now, rng)?;
        }
        if week % 4 == 3 {
            clients[0].block(&format!("mallory{week}"), now, rng)?;
        }
        now = now.after(7 * 24 * 60 * 60);
    }
    assert!(read > 0);
    Ok(read)
}

/// People compare keys: one scans a code, and both look at emoji.
fn compare<S: Store>(
    clients: &mut [Client<S>],
    post: &mut Post,
    now: UnixTime,
    rng: &mut Drawn,
) -> Result<(), Error> {
    let mut deliver = |clients: &mut [Client<S>], rng: &mut Drawn| {
        for _ in 0..3 {
            for client in &mut *clients {
                post.settle(client, now, rng);
                drop(post.fetch(client, now, rng));
            }
        }
    };
    let code = clients[0].show_code("bob", now, rng)?;
    assert_eq!(clients[1].scan("alice", &code, now, rng)?, Scanned::Match);
    drop(code);
    clients[0].start_sas("bob", now, rng)?;
    deliver(clients, rng);
    clients[0].confirm_scan("bob", now, rng)?;
    clients[1].accept_sas("alice", now, rng)?;
    deliver(clients, rng);
    let value = match (clients[0].sas("bob", now)?, clients[1].sas("alice", now)?) {
        (Some(SasStage::Compare(one)), Some(SasStage::Compare(other))) if one == other => one,
        other => panic!("{other:?}"),
    };
    clients[0].confirm_sas("bob", &value, now, rng)?;
    clients[1].confirm_sas("alice", &value, now, rng)
}

/// How many texts were read.
fn talk<S: Store>(
    clients: &mut Vec<Client<S>>,
    post: &mut Post,
    texts: usize,
    now: &mut UnixTime,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut read = 0;
    for number in 0..texts {
        let from = rng.below(clients.len());
        let to = if from == 1 { "alice" } else { "bob" };
        let text = Zeroizing::new(rng.text(40 + number));
        clients[from].write(to, &text, *now, rng)?;
        if number % 4 == 3 || number + 1 == texts {
            read += settle(clients, post, now, rng)?;
        }
        if number % 8 == 7 {
            let opened = clients.drain(..).map(|client| Client::open(client.into_store()));
            let opened = opened.collect::<Result<Vec<_>, _>>()?;
            clients.extend(opened);
        }
    }
    assert!(read > 0);
    Ok(read)
}

/// Everyone does what is due, and reads. How many texts were read.
pub(crate) fn settle<S: Store>(
    clients: &mut [Client<S>],
    post: &mut Post,
    now: &mut UnixTime,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut read = 0;
    for _ in 0..3 {
        // What failed is due again.
        *now = now.after(60 * 60);
        for client in &mut *clients {
            post.settle(client, *now, rng);
            let all = post.fetch(client, *now, rng);
            assert!(!all.iter().any(|one| matches!(one, Received::Refused(_))), "{all:?}");
            for incoming in client.inbox(1_000)? {
                read += usize::from(matches!(incoming.item, Item::Text(_) | Item::Group(_)));
                client.acknowledge(incoming.id)?;
            }
        }
    }
    Ok(read)
}
