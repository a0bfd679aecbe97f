//! Accounts that the targets begin with: Alice with one device, Bob with two, both of whom hold his account key.

use std::collections::VecDeque;

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, NewDevice, Policy};

use crate::network::{NOW, Seeded};
use crate::server::{Server, connect, flush, sync, take, write};

/// Everyone has talked with everyone, and nothing is on the way.
pub(crate) struct Household {
    pub(crate) alice: Memory,
    pub(crate) phone: Memory,
    pub(crate) laptop: Memory,
    pub(crate) server: Server,
}

/// One row.
pub(crate) type Cell = (Table, Vec<u8>, Vec<u8>);

thread_local! {
    pub(crate) static HOUSEHOLD: Household = Household::new();
}

impl Household {
    fn new() -> Self {
        let rng = &mut Seeded::new(1, "household");
        let mut server = Server::default();
        let mut alice = create("alice", rng);
        let mut phone = create("bob", rng);
        let device = NewDevice::generate(rng);
        let grant = phone.link(&device.code(), true, NOW, rng).expect("it is linked");
        let laptop = Client::join(Memory::new(), &device, &grant, NOW, rng).expect("it joins");
        let mut laptop = open(laptop.into_store());
        for client in [&mut alice, &mut phone, &mut laptop] {
            connect(client, &mut server, NOW, rng).expect("it uploads");
        }
        for _ in 0..2 {
            write(&mut alice, &mut server, ("bob", b"from alice"), NOW, rng).expect("it is written");
            settle(&mut [&mut alice, &mut phone, &mut laptop], &mut server, NOW, rng);
            write(&mut phone, &mut server, ("alice", b"from the phone"), NOW, rng).expect("it is written");
            settle(&mut [&mut alice, &mut phone, &mut laptop], &mut server, NOW, rng);
            write(&mut laptop, &mut server, ("alice", b"from the laptop"), NOW, rng).expect("it is written");
            settle(&mut [&mut alice, &mut phone, &mut laptop], &mut server, NOW, rng);
        }
        for client in [&mut alice, &mut phone, &mut laptop] {
            assert!(!take(client).expect("the store is sound").is_empty());
        }
        let [alice, phone, laptop] = [alice, phone, laptop].map(Client::into_store);
        Self { alice, phone, laptop, server }
    }
}

/// The server's own copy of everything.
pub(crate) fn copy(server: &Server) -> Server {
    Server {
        devices: server.devices.clone(),
        past_devices: server.past_devices.clone(),
        prekeys: server.prekeys.clone(),
        mail: server.mail.clone(),
        wire: Vec::new(),
    }
}

/// A new account, of few prekeys: making a hundred takes longer than all the rest.
pub(crate) fn create(user: &str, rng: &mut Seeded) -> Client<Memory> {
    open(Client::create(Memory::new(), user, NOW, rng).expect("the store is empty").into_store())
}

/// The client in a store that is sound.
pub(crate) fn open<S: Store>(store: S) -> Client<S> {
    try_open(store).expect("there is an account")
}

pub(crate) fn try_open<S: Store>(store: S) -> Result<Client<S>, Error> {
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (2, 4);
    Ok(Client::open(store)?.with_policy(policy))
}

/// Every row.
pub(crate) fn contents(store: &mut Memory) -> Vec<Cell> {
    let mut all = Vec::new();
    for table in Table::ALL {
        let rows = store.transact(|tx| tx.scan(table, b"", usize::MAX)).expect("memory does not fail");
        all.extend(rows.into_iter().map(|(key, value)| (table, key, value.to_vec())));
    }
    all
}

/// A store of these rows.
pub(crate) fn store_of(rows: &[Cell]) -> Memory {
    let mut store = Memory::new();
    let write =
        store.transact(|tx| rows.iter().try_for_each(|(table, key, value)| tx.put(*table, key, value)));
    write.map_err(|error: Error| error).expect("memory does not fail");
    store
}

/// Until nobody has anything to say.
pub(crate) fn settle(
    clients: &mut [&mut Client<Memory>],
    server: &mut Server,
    mut now: u64,
    rng: &mut Seeded,
) -> u64 {
    for _ in 0..40 {
        now += 600;
        let mut quiet = true;
        for client in clients.iter_mut() {
            connect(client, server, now, rng).expect("it uploads");
            flush(client, server).expect("the store is sound");
            quiet &= sync(client, server, now, rng).expect("the store is sound").is_empty();
        }
        if quiet && server.mail.values().all(VecDeque::is_empty) {
            return now;
        }
    }
    panic!("they never stop talking");
}

/// Who is who.
pub(crate) fn address(user: &str, device: u32) -> Address {
    Address::new(user, device)
}
