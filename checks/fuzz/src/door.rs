//! Devices that went bad, and what they write: anything at all inside of genuine messages.
//!
//! Two of the formats of `docs/client.md` (2 and 3) are written here by hand, since a client writes
//! only what is right.

use subrosa::protocol::{IdentityKeyPair, Message, Session, SessionId};
use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, DeviceList, Error, Event, Item, Received, UnixTime};

use crate::household::{BEGIN, HOUSEHOLD, Household, address, copy, create, open, settle, texts};
use crate::network::{NOW, Seeded};
use crate::post::{Mail, Post};

/// Bob's phone, what is on the way to it, and devices that went bad.
pub(crate) struct Door {
    pub(crate) phone: Memory,
    pub(crate) post: Post,
    pub(crate) mail: Vec<(Address, Vec<u8>)>,
    pub(crate) bad: Vec<Bad>,
    /// Device lists, older and newer ones than the phone has.
    pub(crate) lists: Vec<Vec<u8>>,
    /// A friend whom nobody bad has to do with.
    pub(crate) erin: Memory,
}

/// A device that went bad: a session with the phone, as it is stored, and the device's list.
pub(crate) struct Bad {
    pub(crate) address: Address,
    session: Vec<u8>,
    list: DeviceList,
}

/// A device that writes what it wants.
pub(crate) struct Liar<'a> {
    bad: &'a Bad,
    session: Session,
}

thread_local! {
    pub(crate) static DOOR: Door = HOUSEHOLD.with(Door::new);
}

impl Door {
    fn new(household: &Household) -> Self {
        let rng = &mut Seeded::new(1, "door");
        let mut post = copy(&household.post);
        let mut lists: Vec<Vec<u8>> =
            post.users.values().filter_map(|user| user.encode_user()).collect();
        let (mut phone, mut laptop) =
            (open(household.phone.clone()), open(household.laptop.clone()));
        let (mut carol, mut erin) = (create("carol", rng), create("erin", rng));
        erin.write("bob", b"of another friend", BEGIN, rng).expect("it is short");
        phone.write("erin", b"of bob", BEGIN, rng).expect("it is short");
        settle(&mut [&mut carol, &mut erin, &mut phone, &mut laptop], &mut post, rng);

        let (carol, stored_laptop) = (carol.into_store(), laptop.into_store());
        let devices = [
            (address("alice", 1), &household.alice),
            (address("bob", 2), &stored_laptop),
            (address("carol", 1), &carol),
        ];
        let bad = devices.map(|(address, store)| turn(&mut phone, &mut post, address, store, rng));
        for client in [&mut phone, &mut erin] {
            texts(client);
        }
        let phone = phone.into_store();
        lists.extend(bad.iter().map(|bad| bad.list.encode()));
        // The phone removes the laptop, and the laptop the phone: by new account keys.
        for (store, device) in [(&phone, 2), (&stored_laptop, 1)] {
            let mut client = open(store.clone());
            client.remove_device(device, BEGIN, rng).expect("it may");
            let list = client.devices("bob").expect("the store is sound");
            lists.push(list.expect("it is its own").encode());
        }
        let mail = letters(household, stored_laptop, &mut post, rng);
        Self { phone, post, mail, bad: bad.into(), lists, erin: erin.into_store() }
    }

    pub(crate) fn liars(&self) -> Vec<Liar<'_>> {
        self.bad.iter().map(Liar::new).collect()
    }
}

/// The device of this store goes bad: it begins a session of its own with the phone, which the
/// phone answers in.
fn turn(
    phone: &mut Client<Memory>,
    post: &mut Post,
    address: Address,
    store: &Memory,
    rng: &mut Seeded,
) -> Bad {
    let key = store
        .clone()
        .transact(|tx| tx.get(Table::Account, b"identity"))
        .expect("memory does not fail");
    let key =
        key.map(|key| IdentityKeyPair::decode(&key)).expect("there is one").expect("it decodes");
    let bob = post.users.get_mut("bob").expect("bob has uploaded");
    let bundle = bob.bundle(1, "somebody", NOW).expect("there are prekeys");
    let bundle = bundle.verify(&key.public_key(), NOW).expect("it verifies");
    let list = post.users[&address.user].list().expect("they have uploaded").clone();
    let session = Session::initiate(&key, &bundle, rng).expect("a session");
    let bad = Bad { address, session: session.encode().to_vec(), list };

    let mut liar = Liar::new(&bad);
    let (rank, list) = ((NOW + 1_000_000).to_be_bytes(), bad.list.encode());
    let hello = content(4, &bad.list, &[(RANK, &rank), (DEVICES, &list)], &[]);
    let received =
        phone.receive(Some(&bad.address), &liar.envelope([1; 16], &hello, rng), BEGIN, rng);
    assert_eq!(received, Ok(Received::Handled));
    assert!(is_written_in(phone, &bad.address, liar.session.id()));
    phone.write(&bad.address.user, b"an answer", BEGIN, rng).expect("it is short");
    post.settle(phone, BEGIN, rng);
    for mail in post.take(&bad.address) {
        let (head, message) = mail.envelope.split_at(18);
        let message = Message::decode(message).expect("it is genuine");
        let _: Result<_, _> = liar.session.decrypt(&message, &bound_to(head, &mail.from, &mail.to));
    }
    assert!(liar.session.is_answered());
    let session = liar.session.encode().to_vec();
    Bad { session, ..bad }
}

fn is_written_in(client: &mut Client<Memory>, with: &Address, id: SessionId) -> bool {
    let sessions = client.sessions(&with.user).expect("the store is sound");
    sessions.iter().any(|session| session.with == *with && session.id == id && session.is_writing)
}

/// What is on the way to the phone: in a session that there is, in a new one, and of the account's
/// other device.
fn letters(
    household: &Household,
    laptop: Memory,
    post: &mut Post,
    rng: &mut Seeded,
) -> Vec<(Address, Vec<u8>)> {
    let (mut alice, mut laptop) = (open(household.alice.clone()), open(laptop));
    let mut dave = create("dave", rng);
    laptop.write("alice", b"a copy for the phone", BEGIN, rng).expect("it is short");
    dave.write("bob", b"of a stranger", BEGIN, rng).expect("it is short");
    for _ in 0..2 {
        alice.write("bob", b"of a friend", BEGIN, rng).expect("it is short");
    }
    for client in [&mut laptop, &mut dave, &mut alice] {
        post.settle(client, BEGIN, rng);
    }
    let mail = post.take(&address("bob", 1)).into_iter();
    post.mail.clear();
    mail.map(|mail| (mail.from, mail.envelope)).collect()
}

impl Bad {
    pub(crate) const fn list(&self) -> &DeviceList {
        &self.list
    }
}

impl<'a> Liar<'a> {
    fn new(bad: &'a Bad) -> Self {
        Self { bad, session: Session::decode(&bad.session).expect("it loads") }
    }

    pub(crate) fn address(&self) -> &'a Address {
        &self.bad.address
    }

    /// What the phone wrote to this device in its session.
    pub(crate) fn hear(&mut self, mail: &Mail) -> Option<Vec<u8>> {
        let (head, message) = mail.envelope.split_at_checked(18)?;
        let message = Message::decode(message).ok()?;
        self.session.decrypt(&message, &bound_to(head, &mail.from, &mail.to)).ok()
    }

    /// An envelope for the phone (`docs/client.md`, 2).
    pub(crate) fn envelope(
        &mut self,
        reference: [u8; 16],
        content: &[u8],
        rng: &mut Seeded,
    ) -> Vec<u8> {
        let head = [&[1, 1][..], &reference].concat();
        let bound = bound_to(&head, &self.bad.address, &address("bob", 1));
        let message = self.session.encrypt(content, &bound, rng).expect("it is short");
        [head, message.encode()].concat()
    }
}

pub(crate) const RANK: u8 = 1;
pub(crate) const ASKS: u8 = 2;
pub(crate) const RESENT: u8 = 3;
pub(crate) const DEVICES: u8 = 4;
pub(crate) const FILES: u8 = 5;

/// What is in a message (`docs/client.md`, 3): a kind, the sender's list, fields, a body.
pub(crate) fn content(kind: u8, list: &DeviceList, fields: &[(u8, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut content = vec![kind];
    content.extend_from_slice(&list.version().to_be_bytes());
    content.extend_from_slice(&list.digest());
    // The receiver's list is not known.
    content.extend_from_slice(&[0; 16]);
    for (tag, value) in fields {
        content.push(*tag);
        content.extend_from_slice(&u16::try_from(value.len()).expect("it is short").to_be_bytes());
        content.extend_from_slice(value);
    }
    content.push(0);
    content.extend_from_slice(body);
    content
}

/// What a message is bound to: what is before it, who sends it, and whom it is for.
fn bound_to(head: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let length = u8::try_from(from.user.len()).expect("names are short");
    let from = [&from.device.to_be_bytes(), &[length][..], from.user.as_bytes()].concat();
    [head, &from, &to.device.to_be_bytes(), to.user.as_bytes()].concat()
}

/// Everything in the store can be read, and what fails changes nothing. What is due is done.
pub(crate) fn is_sound(
    mut phone: Client<Memory>,
    post: &mut Post,
    now: UnixTime,
    rng: &mut Seeded,
) -> Client<Memory> {
    for incoming in phone.inbox(1_000).expect("the store is sound") {
        phone.acknowledge(incoming.id).expect("the store is sound");
        let Item::Event(event) = incoming.item else { continue };
        assert!(!matches!(event, Event::Restored), "nothing was restored");
    }
    post.settle(&mut phone, now, rng);
    for user in ["alice", "bob", "carol", "dave", "erin"] {
        phone.trust(user).expect("the store is sound");
        phone.sessions(user).expect("the store is sound");
        phone.held(user, 100).expect("the store is sound");
        if let Err(error) = phone.encrypt(user, b"well?", now, rng) {
            let is_damaged = matches!(error, Error::BadState | Error::Store(_));
            assert!(!is_damaged, "{user}: {error:?}");
        }
    }
    open(phone.into_store())
}
