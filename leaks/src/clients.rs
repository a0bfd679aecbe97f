//! Two users, one of them with two devices, in stores.

use subrosa::store::Store;
use subrosa::{Client, Error, NewDevice, Received, Zeroizing};

use crate::server::{Server, connect, fetch_devices, flush, sync, take, write};
use crate::{Drawn, NOW};

/// So many texts each way in any order, a device that is linked half way, a session that is lost and heals, and every client closed and opened again.
///
/// `wrap` says what the clients keep their stores in, over and over.
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
    talk(&mut clients, server, texts, rng)?;

    let new = NewDevice::generate(rng);
    let grant = {
        let code = new.code();
        clients[0].link(&code, true, NOW, rng)?
    };
    clients.push(Client::join(third, &new, &grant, NOW, rng)?);
    drop(new);
    for client in &mut clients {
        connect(client, server, NOW, rng)?;
    }
    fetch_devices(&mut clients[1], server, "alice")?;
    talk(&mut clients, server, texts, rng)?;

    let lost = clients[1].sessions("alice", NOW)?;
    clients[1].forget("alice")?;
    assert!(!lost.is_empty());
    talk(&mut clients, server, texts, rng)
}

/// How many texts were read.
fn talk<S: Store>(
    clients: &mut Vec<Client<S>>,
    server: &mut Server,
    texts: usize,
    rng: &mut Drawn,
) -> Result<usize, Error> {
    let mut read = 0;
    for number in 0..texts {
        let from = rng.below(clients.len());
        let to = if from == 1 { "alice" } else { "bob" };
        let text = Zeroizing::new(rng.text(40 + number));
        write(&mut clients[from], server, (to, &text), NOW, rng)?;
        flush(&mut clients[from], server)?;
        if number % 4 == 3 || number + 1 == texts {
            for _ in 0..3 {
                for client in &mut *clients {
                    let all = sync(client, server, NOW, rng)?;
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
