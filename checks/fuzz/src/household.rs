//! Accounts that the targets begin with: Alice with one device, Bob with two, both of which manage
//! the account.

use std::collections::VecDeque;

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, Item, NewDevice, Policy, Role, Text, UnixTime};

use crate::network::{NOW, Seeded};
use crate::post::Post;

/// [`NOW`], as the client takes it.
pub(crate) const BEGIN: UnixTime = UnixTime::MIN.after(NOW - UnixTime::MIN.as_secs());

/// Everyone has talked with everyone, and nothing is on the way.
pub(crate) struct Household {
    pub(crate) alice: Memory,
    pub(crate) phone: Memory,
    pub(crate) laptop: Memory,
    pub(crate) post: Post,
}

/// One row.
pub(crate) type Cell = (Table, Vec<u8>, Vec<u8>);

thread_local! {
    pub(crate) static HOUSEHOLD: Household = Household::new();
}

impl Household {
    fn new() -> Self {
        let rng = &mut Seeded::new(1, "household");
        let mut post = Post::default();
        let mut alice = create("alice", rng);
        let mut phone = create("bob", rng);
        let device = NewDevice::generate(rng);
        let grant = phone.link(&device.code(), Role::Manager, BEGIN, rng).expect("it is linked");
        let laptop = Client::join(Memory::new(), &device, &grant, BEGIN, rng).expect("it joins");
        let mut clients = [phone, open(laptop.into_store())];
        // In this order nobody asks for what is not there yet, and would ask again later.
        let [phone, laptop] = &mut clients;
        settle(&mut [laptop, phone, &mut alice], &mut post, rng);
        for _ in 0..2 {
            alice.write("bob", b"from alice", BEGIN, rng).expect("it is short");
            let [phone, laptop] = &mut clients;
            settle(&mut [&mut alice, phone, laptop], &mut post, rng);
            for at in 0..2 {
                clients[at].write("alice", b"from bob", BEGIN, rng).expect("it is short");
                let [phone, laptop] = &mut clients;
                settle(&mut [&mut alice, phone, laptop], &mut post, rng);
            }
        }
        let [phone, laptop] = &mut clients;
        for (client, count) in [(&mut alice, 4), (phone, 4), (laptop, 4)] {
            assert_eq!(texts(client).len(), count);
        }
        let [phone, laptop] = clients.map(Client::into_store);
        Self { alice: alice.into_store(), phone, laptop, post }
    }
}

/// A server's own copy of everything.
pub(crate) fn copy(post: &Post) -> Post {
    Post { users: post.users.clone(), mail: post.mail.clone(), ..Post::default() }
}

/// A new account, of few prekeys: to make a hundred takes longer than all the rest.
pub(crate) fn create(user: &str, rng: &mut Seeded) -> Client<Memory> {
    open(Client::create(Memory::new(), user, BEGIN, rng).expect("the store is empty").into_store())
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
    for &table in Table::ALL {
        let rows =
            store.transact(|tx| tx.scan(table, b"", usize::MAX)).expect("memory does not fail");
        all.extend(rows.into_iter().map(|(key, value)| (table, key, value.to_vec())));
    }
    all
}

/// A store of these rows.
pub(crate) fn store_of(rows: &[Cell]) -> Memory {
    let mut store = Memory::new();
    let write = store
        .transact(|tx| rows.iter().try_for_each(|(table, key, value)| tx.put(*table, key, value)));
    write.map_err(|error: Error| error).expect("memory does not fail");
    store
}

/// The app takes what is in the inbox. Returns the texts.
pub(crate) fn texts<S: Store>(client: &mut Client<S>) -> Vec<Text> {
    let mut texts = Vec::new();
    loop {
        let inbox = client.inbox(100).expect("the store is sound");
        if inbox.is_empty() {
            return texts;
        }
        for incoming in inbox {
            client.acknowledge(incoming.id).expect("the store is sound");
            if let Item::Text(text) | Item::Late(text) = incoming.item {
                texts.push(text);
            }
        }
    }
}

/// Until nobody has anything to say.
pub(crate) fn settle(clients: &mut [&mut Client<Memory>], post: &mut Post, rng: &mut Seeded) {
    for _ in 0..40 {
        let mut is_quiet = true;
        for client in clients.iter_mut() {
            post.settle(client, BEGIN, rng);
            is_quiet &= post.fetch(client, BEGIN, rng).is_empty();
            post.settle(client, BEGIN, rng);
        }
        if is_quiet && post.mail.values().all(VecDeque::is_empty) {
            return;
        }
    }
    panic!("they never stop talking");
}

/// Who is who.
pub(crate) fn address(user: &str, device: u32) -> Address {
    Address::new(user, device)
}
