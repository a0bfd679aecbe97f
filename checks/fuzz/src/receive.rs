//! Envelopes of every kind at a client's door: noise, genuine ones that were changed on the way, and anything at all inside of messages
//! that are genuine, by known devices, one's own and a stranger's that went bad.

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Bundle, Client, Error, IdentityKeyPair, Message, Received, Session};

use crate::household::{HOUSEHOLD, address, contents, create, open};
use crate::input::{Input, changed};
use crate::network::{NOW, Seeded};
use crate::server::{Server, connect, flush, write};

/// Bob's phone, what is on the way to it, and devices that went bad: their sessions with it.
pub(crate) struct Door {
    phone: Memory,
    mail: Vec<(Address, Vec<u8>)>,
    bad: Vec<(Address, Vec<u8>)>,
    /// Device lists, older and newer ones than the phone has.
    pub(crate) lists: Vec<Vec<u8>>,
}

thread_local! {
    pub(crate) static DOOR: Door = HOUSEHOLD.with(|household| {
        let rng = &mut Seeded::new(1, "door");
        let mut server = crate::household::copy(&household.server);
        let mut phone = open(household.phone.clone());
        let mut stranger = create("carol", rng);
        connect(&mut stranger, &mut server, NOW, rng).expect("it uploads");
        let stranger = stranger.into_store();
        let devices = [
            (address("alice", 1), &household.alice),
            (address("bob", 2), &household.laptop),
            (address("carol", 1), &stranger),
        ];
        let bad: Vec<_> = devices
            .into_iter()
            .map(|(address, store)| {
                let session = turn(&mut phone, &mut server, (&address, store), rng);
                (address, session.encode().to_vec())
            })
            .collect();
        let mut lists: Vec<Vec<u8>> =
            server.past_devices.values().flatten().map(subrosa::DeviceList::encode).collect();
        let mut laptop = open(household.laptop.clone());
        laptop.remove_device(1, NOW, rng).expect("it may");
        lists.push(laptop.devices("bob").expect("the store is sound").expect("it is one's own").encode());
        let mail = letters(household, &mut server, rng);
        Door { phone: phone.into_store(), mail, bad, lists }
    });
}

/// The device of this store goes bad: a session of its own with the phone, which the phone has answered in.
fn turn(
    phone: &mut Client<Memory>,
    server: &mut Server,
    (of, store): (&Address, &Memory),
    rng: &mut Seeded,
) -> Session {
    let key = store.clone().transact(|tx| tx.get(Table::Account, b"identity")).expect("memory does not fail");
    let key = key.map(|key| IdentityKeyPair::decode(&key)).expect("there is one").expect("it decodes");
    let bundle = server.prekeys.get_mut(phone.address()).and_then(|prekeys| prekeys.take_bundle());
    let bundle: Bundle = bundle.expect("there are prekeys");
    let bundle = bundle.verify(&key.public_key(), NOW).expect("it verifies");
    let mut session = Session::initiate(&key, &bundle, rng).expect("a session");
    let list = server.devices[&of.user].encode();
    let hello = content(4, &[(2, &list)], &[]);
    let hello = envelope((&mut session, of), [1; 16], &hello, rng);
    let received = phone.receive(of, &hello, NOW, rng);
    assert_eq!(received, Ok(Received::Handled));
    phone.encrypt_to_reachable(&of.user, b"an answer", NOW, rng).expect("there is a session");
    for outgoing in phone.outbox(100).expect("the store is sound") {
        let (head, message) = outgoing.envelope.split_at(18);
        let message = Message::decode(message).expect("it is genuine");
        if outgoing.to == *of && session.decrypt(&message, &bound_to(head, phone.address(), of)).is_ok() {
            phone.sent(outgoing.id).expect("the store is sound");
        }
    }
    assert!(session.is_answered());
    session
}

/// What is on the way to the phone: of a session that there is, of a new one, and of one's own device.
fn letters(
    household: &crate::household::Household,
    server: &mut Server,
    rng: &mut Seeded,
) -> Vec<(Address, Vec<u8>)> {
    let (mut alice, mut laptop) = (open(household.alice.clone()), open(household.laptop.clone()));
    let mut dave = create("dave", rng);
    connect(&mut dave, server, NOW, rng).expect("it uploads");
    write(&mut laptop, server, ("alice", b"a copy for the phone"), NOW, rng).expect("it is written");
    write(&mut dave, server, ("bob", b"of a stranger"), NOW, rng).expect("it is written");
    for _ in 0..2 {
        write(&mut alice, server, ("bob", b"of a friend"), NOW, rng).expect("it is written");
    }
    for client in [&mut laptop, &mut dave, &mut alice] {
        flush(client, server).expect("the store is sound");
    }
    server.mail.remove(&address("bob", 1)).into_iter().flatten().collect()
}

/// What is in a message: a kind, a list or a reference by the flag that says it is there, a body.
pub(crate) fn content(kind: u8, parts: &[(u8, &[u8])], body: &[u8]) -> Vec<u8> {
    let flags = parts.iter().fold(0, |flags, part| flags | part.0);
    let mut content = vec![kind, flags];
    content.extend_from_slice(&[1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat());
    for (flag, part) in parts {
        if *flag == 2 {
            content.extend_from_slice(&u16::try_from(part.len()).expect("it is short").to_be_bytes());
        }
        content.extend_from_slice(part);
    }
    content.extend_from_slice(body);
    content
}

/// `docs/client.md`, 2.
fn envelope(
    (session, from): (&mut Session, &Address),
    reference: [u8; 16],
    content: &[u8],
    rng: &mut Seeded,
) -> Vec<u8> {
    let head = [&[1, 1][..], &reference].concat();
    let message = session
        .encrypt(content, &bound_to(&head, from, &address("bob", 1)), rng)
        .expect("it is short")
        .encode();
    [head, message].concat()
}

/// What a message is bound to: what is before it, who sends it, and whom it is for.
fn bound_to(head: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let length = u8::try_from(from.user.len()).expect("names are short");
    let from = [&from.device.to_be_bytes(), &[length][..], from.user.as_bytes()].concat();
    [head, &from, &to.device.to_be_bytes(), to.user.as_bytes()].concat()
}

/// A client takes any envelope, and anything in a genuine message: it answers `Ok`, stays sound, and still opens what the last friend writes.
pub fn receive(data: &[u8]) {
    DOOR.with(|door| {
        let rng = &mut Seeded::new(2, "receive");
        let mut input = Input::new(data);
        let mut phone = open(door.phone.clone());
        let (mut now, mut turned) = (NOW, [false; 3]);
        let mut bad: Vec<_> =
            door.bad.iter().map(|(_, session)| Session::decode(session).expect("it loads")).collect();
        let mut reference = [2_u8; 16];
        for _ in 0..40 {
            let Some(choice) = input.byte() else { break };
            let which = usize::from(choice / 8);
            let (from, bytes) = match choice % 8 {
                0 => (door.bad[which % 3].0.clone(), input.run().to_vec()),
                1 => {
                    let (from, bytes) = &door.mail[which % door.mail.len()];
                    (from.clone(), changed(bytes, &mut input))
                }
                2 => {
                    now += input.number() as u64;
                    continue;
                }
                choice => {
                    // The name of an envelope is a new one, unless it is said to be that of the last.
                    reference[15] = reference[15].wrapping_add(u8::from(choice != 3));
                    turned[which % 3] = true;
                    let from = &door.bad[which % 3].0;
                    let bytes = envelope((&mut bad[which % 3], from), reference, input.run(), rng);
                    (from.clone(), bytes)
                }
            };
            let received = phone.receive(&from, &bytes, now, rng);
            assert!(received.is_ok(), "{received:?}");
        }
        is_sound(&mut phone, now, rng);
        for (from, bytes) in &door.mail {
            let received = phone.receive(from, bytes, now, rng).expect("the store is sound");
            // One whose key somebody bad has may be spoken for by them; a forged handshake was looked at instead of this one.
            let spoken_for = door.bad.iter().zip(turned).any(|(bad, turned)| turned && bad.0 == *from);
            let opened = matches!(received, Received::Message(_));
            assert!(
                opened || spoken_for || received == Received::Refused(Error::RateLimited),
                "{from}: {received:?}"
            );
        }
        is_sound(&mut phone, now, rng);
    });
}

/// Everything in the store can be read, and what fails changes nothing.
fn is_sound(phone: &mut Client<Memory>, now: u64, rng: &mut Seeded) {
    let inbox = phone.inbox(100).expect("the store is sound");
    for incoming in inbox {
        phone.done(incoming.id).expect("the store is sound");
    }
    phone.outbox(1_000).expect("the store is sound");
    phone.needed(1_000).expect("the store is sound");
    for user in ["alice", "bob", "carol", "dave"] {
        phone.safety(user).expect("the store is sound");
        phone.sessions(user, now).expect("the store is sound");
        let before = phone.generation().expect("the store is sound");
        if let Err(error) = phone.encrypt(user, b"well?", now, rng) {
            assert!(!matches!(error, Error::BadState | Error::Store(_)), "{user}: {error:?}");
            assert_eq!(phone.generation(), Ok(before));
        }
    }
    let store =
        std::mem::replace(phone, open(HOUSEHOLD.with(|household| household.phone.clone()))).into_store();
    *phone = open(store);
}

/// For the rows: the phone with something of everything.
pub(crate) fn phone_in_use() -> (Memory, Vec<(Address, Vec<u8>)>) {
    DOOR.with(|door| {
        let rng = &mut Seeded::new(3, "in use");
        let mut phone = open(door.phone.clone());
        let (from, bytes) = &door.mail[0];
        phone.receive(from, bytes, NOW, rng).expect("the store is sound");
        for (from, bytes) in &door.mail[1..] {
            let mut forged = bytes.clone();
            if let Some(last) = forged.last_mut() {
                *last ^= 1;
            }
            phone.receive(from, &forged, NOW, rng).expect("the store is sound");
        }
        phone.encrypt("alice", b"on its way", NOW, rng).expect("there is a session");
        let mut store = phone.into_store();
        let write = store.transact(|tx| tx.put(Table::App, b"draft", b"the app's own"));
        write.map_err(|error: Error| error).expect("memory does not fail");
        assert!(contents(&mut store.clone()).len() > 20);
        (store, door.mail[1..].to_vec())
    })
}
