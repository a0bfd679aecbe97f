//! Two users, one of them with two devices, in stores.

use subrosa::store::Store;
use subrosa::{Client, Error, NewDevice, Received, Zeroizing};

use crate::server::{Server, connect, fetch_devices, flush, sync, take, write};
use crate::{Drawn, NOW};

/// So many texts each way between each of these: a device is linked, a session lost, a backup restored, a device removed. Clients are closed and opened again.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell<S: Store>(stores: [S; 3], texts: usize, rng: &mut Drawn) -> Result<usize, Error> {
    let server = &mut Server::default();
    let [first, second, third] = stores;
    let mut clients =
        vec![Client::create(first, "alice", NOW, rng)?, Client::create(second, "bob", NOW, rng)?];
    for client in &mut clients {
        connect(client, server, NOW, rng)?;
    }
    talk(&mut clients, server, texts, NOW, rng)?;

    let new = NewDevice::generate(rng);
    let grant = {
        let code = new.code();
        let mistyped = Zeroizing::new(format!("{}!", &code[..code.len() - 1]));
        assert_eq!(clients[0].link(&mistyped, true, NOW, rng), Err(Error::BadLinkCode));
        clients[0].link(&code, true, NOW, rng)?
    };
    clients.push(Client::join(third, &new, &grant, NOW, rng)?);
    drop(new);
    for client in &mut clients {
        connect(client, server, NOW, rng)?;
    }
    fetch_devices(&mut clients[1], server, "alice")?;
    talk(&mut clients, server, texts, NOW, rng)?;

    clients[1].forget("alice")?;
    talk(&mut clients, server, texts, NOW, rng)?;

    // As if from a backup, weeks later: sessions and prekeys are made anew.
    let later = NOW + 30 * 24 * 60 * 60;
    let generation = clients[1].generation()? + 1;
    let (bob, restored) = Client::open_after(clients.remove(1).into_store(), generation, later, rng)?;
    assert!(restored);
    clients.insert(1, bob);
    for client in &mut clients {
        connect(client, server, later, rng)?;
    }
    talk(&mut clients, server, texts, later, rng)?;

    // A device that could manage the others leaves: there is a new account key.
    let last = clients.pop().expect("there are three");
    clients[0].remove_device(last.address().device, later, rng)?;
    drop(last);
    connect(&mut clients[0], server, later, rng)?;
    fetch_devices(&mut clients[1], server, "alice")?;
    let changed = clients[1].safety("alice")?.and_then(|safety| safety.changed_to);
    clients[1].accept("alice", &changed.expect("the key changed"))?;
    talk(&mut clients, server, texts, later, rng)
}

/// How many texts were read.
fn talk<S: Store>(
    clients: &mut Vec<Client<S>>,
    server: &mut Server,
    texts: usize,
    now: u64,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut read = 0;
    for number in 0..texts {
        let from = rng.below(clients.len());
        let to = if from == 1 { "alice" } else { "bob" };
        let text = Zeroizing::new(rng.text(40 + number));
        write(&mut clients[from], server, (to, &text), now, rng)?;
        flush(&mut clients[from], server)?;
        if number % 4 == 3 || number + 1 == texts {
            for _ in 0..3 {
                for client in &mut *clients {
                    let all = sync(client, server, now, rng)?;
                    assert!(!all.iter().any(|one| matches!(one, Received::Refused(_))), "{all:?}");
                    read += take(client)?.len();
                }
            }
        }
        if number % 8 == 7 {
            let opened = clients.drain(..).map(|client| Client::open(client.into_store()));
            let opened = opened.collect::<Result<Vec<_>, _>>()?;
            clients.extend(opened);
        }
    }
    Ok(read)
}
