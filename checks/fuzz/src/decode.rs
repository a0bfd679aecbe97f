//! What comes from outside, and what comes from the store: every decoder, and what is done with
//! what it gives.
//!
//! The formats of the wire are canonical, and so are public keys: what decodes encodes to the same
//! bytes. State at rest is not, since postcard takes numbers in more than their shortest form: what
//! decodes encodes to bytes that decode to the same.

use std::cell::RefCell;

use subrosa::protocol::{
    Bundle, IdentityKeyPair, Message, MessageKind, Prekeys, PublishedPrekeys, Session,
};
use subrosa::store::Memory;
use subrosa::{DeviceList, IdentityKey, SenderCertificate, ServerKey};

use crate::household::{BEGIN, HOUSEHOLD, contents, open};
use crate::network::{ASSOCIATED_DATA, Letter, NOW, Pair, Party, Seeded, Side};

/// Two parties before their first message, and two in the middle of a conversation, with what is on
/// the way.
pub(crate) struct Parties {
    pub(crate) new: Pair,
    pub(crate) talking: Pair,
    pub(crate) letters: Vec<Letter>,
}

impl Parties {
    fn meet() -> Self {
        let (mut new, mut talking) = (Pair::new(1), Pair::settled(1));
        let mut letters = vec![new.send(Side::Initiator), new.send(Side::Initiator)];
        for _ in 0..100 {
            talking.round_trip(Side::Initiator);
        }
        letters.extend(talking.send_many(Side::Initiator, 3));
        letters.extend(talking.send_many(Side::Responder, 3));
        // One that is behind the others, so that a skipped key is kept.
        talking.deliver(&letters[4]).expect("it is in order");
        Self { new, talking, letters }
    }
}

thread_local! {
    pub(crate) static PARTIES: Parties = Parties::meet();
    static BOBS: RefCell<Memory> = RefCell::new(HOUSEHOLD.with(|household| household.phone.clone()));
}

/// What decodes as a sender certificate has one form, and no key signed it that did not.
pub fn certificate(data: &[u8]) {
    let Ok(certificate) = SenderCertificate::decode(data) else { return };
    assert_eq!(certificate.encode(), data);
    let rng = &mut Seeded::new(1, "certificate");
    let server = IdentityKeyPair::generate(rng);
    for id in 0..=u8::MAX {
        let trusted = [ServerKey { id, key: server.public_key() }];
        assert!(certificate.verify(&trusted).is_err(), "nobody signed it");
    }
    let (user, account) = (certificate.user(), certificate.account());
    let issued = SenderCertificate::issue(&server, 1, user, account, BEGIN).expect("it has a name");
    assert_eq!(SenderCertificate::decode(&issued.encode()), Ok(issued));
}

/// What decodes as a message is opened by nobody, unless it is genuine.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    assert_eq!(message.as_bytes(), data);
    assert_eq!(message.clone().into_owned().encode(), data);
    let is_initial = message.kind() == MessageKind::Initial;
    assert_eq!(message.ephemeral_key().is_some(), is_initial);
    PARTIES.with(|parties| {
        if parties.letters.iter().any(|letter| letter.bytes == data) {
            return;
        }
        for pair in [&parties.new, &parties.talking] {
            let mut pair = pair.copy();
            for side in Side::BOTH {
                pair.deliver_forged(side, data, ASSOCIATED_DATA);
            }
        }
    });
}

/// What verifies as a bundle of somebody's is theirs.
pub fn bundle(data: &[u8]) {
    let Ok(bundle) = Bundle::decode(data) else { return };
    assert_eq!(bundle.encode(), data);
    PARTIES.with(|parties| {
        let (own, theirs) = (&parties.new.initiator.party, &parties.new.responder.party);
        let Ok(verified) = bundle.verify(&own.identity.public_key(), NOW) else { return };
        if verified.identity() == theirs.identity.public_key() {
            // All but the one-time prekey is signed.
            let mut published = theirs.prekeys.publish(&theirs.identity);
            let mut bundles = (0..4).filter_map(|_| published.pop_bundle());
            assert!(bundles.any(|genuine| genuine.encode()[..SIGNED] == data[..SIGNED]));
        }
        let rng = &mut Seeded::new(1, "bundle");
        if let Ok(mut session) = Session::initiate(&own.identity, &verified, rng) {
            drop(session.encrypt(b"text", b"", rng).expect("it is short"));
        }
    });
}

/// The part of a bundle before its one-time prekey.
const SIGNED: usize = 1786;

/// What decodes as public prekeys gives bundles until there are none, and merges with any other.
pub fn published(data: &[u8]) {
    let Ok(published) = PublishedPrekeys::decode(data) else { return };
    assert_eq!(published.encode(), data);
    let mut server = published.clone();
    for left in (0..published.one_time_count()).rev() {
        let Some(bundle) = server.pop_bundle() else { break };
        assert_eq!(server.one_time_count(), left);
        assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
    }
    let genuine = PARTIES.with(|parties| {
        let Party { identity, prekeys, .. } = &parties.new.responder.party;
        prekeys.publish(identity)
    });
    for (mut known, newer) in [(published.clone(), genuine.clone()), (genuine, published)] {
        for _ in 0..2 {
            known.merge(newer.clone());
            assert_eq!(PublishedPrekeys::decode(&known.encode()).as_ref(), Ok(&known));
        }
    }
}

/// What decodes as a session goes on, whatever it is: it encrypts, decrypts and is stored, and an
/// error changes nothing.
pub fn session(data: &[u8]) {
    let Ok(mut session) = Session::decode(data) else { return };
    let rng = &mut Seeded::new(1, "session");
    let check = |session: &Session| {
        let stored = session.encode();
        let again = Session::decode(&stored).expect("what was stored loads");
        assert!(again.encode() == stored);
        assert_eq!((again.id(), again.peer()), (session.id(), session.peer()));
        stored
    };
    let mut before = check(&session);
    PARTIES.with(|parties| {
        for (at, letter) in parties.letters.iter().enumerate() {
            if at % 2 == 0 {
                let sent = session.encrypt(b"text", ASSOCIATED_DATA, rng);
                let after = check(&session);
                assert_eq!(sent.is_err(), after == before);
                before = after;
            }
            let message = Message::decode(&letter.bytes).expect("it is genuine");
            let read = session.decrypt(&message, ASSOCIATED_DATA);
            let after = check(&session);
            match read {
                Ok(plaintext) => assert_eq!(plaintext, letter.plaintext),
                Err(_) => assert!(before == after, "an error changed the session"),
            }
            before = after;
        }
    });
}

/// What decodes as prekeys can be published, rotated and refilled, answers and is stored.
pub fn prekeys(data: &[u8]) {
    let Ok(mut prekeys) = Prekeys::decode(data) else { return };
    let rng = &mut Seeded::new(1, "prekeys");
    let check = |prekeys: &Prekeys| {
        let stored = prekeys.encode();
        let again = Prekeys::decode(&stored).expect("what was stored loads");
        assert!(again.encode() == stored);
        stored
    };
    check(&prekeys);
    PARTIES.with(|parties| {
        let identity = &parties.new.responder.party.identity;
        let published = prekeys.publish(identity);
        assert_eq!(PublishedPrekeys::decode(&published.encode()).as_ref(), Ok(&published));
        for letter in &parties.letters[..2] {
            let message = Message::decode(&letter.bytes).expect("it is genuine");
            let before = prekeys.encode();
            match Session::respond(identity, &mut prekeys, &message, ASSOCIATED_DATA) {
                Ok((session, plaintext)) => {
                    assert_eq!(plaintext, letter.plaintext);
                    assert!(session.matches(&message));
                }
                Err(_) => assert!(prekeys.encode() == before, "an error changed the prekeys"),
            }
            check(&prekeys);
        }
        for now in [NOW, 0, u64::MAX] {
            let before = prekeys.last_id();
            let rotated = prekeys.rotate_if_due(now, rng);
            assert_eq!(rotated == Ok(true), prekeys.last_id() != before);
            check(&prekeys);
        }
        let (count, before) = (prekeys.one_time_count(), check(&prekeys));
        match prekeys.refill(count, count + 1, NOW, rng) {
            Ok(made) => assert_eq!(made, 1),
            Err(_) => assert!(prekeys.encode() == before, "an error changed the prekeys"),
        }
        check(&prekeys);
    });
}

/// What decodes as an identity key pair is stored and loads.
pub fn identity(data: &[u8]) {
    let Ok(pair) = IdentityKeyPair::decode(data) else { return };
    let again = IdentityKeyPair::decode(&pair.encode()).expect("what was stored loads");
    assert_eq!((again.encode(), again.public_key()), (pair.encode(), pair.public_key()));
    let public = pair.public_key();
    assert_eq!(IdentityKey::decode(&public.encode()), Ok(public));
}

/// An identity key has one form.
pub fn identity_key(data: &[u8]) {
    let Ok(key) = IdentityKey::decode(data) else { return };
    assert_eq!(key.encode().as_slice(), data);
}

/// A device list has one form; a client takes it, or changes nothing.
pub fn devices(data: &[u8]) {
    let list = DeviceList::decode(data);
    if let Ok(list) = &list {
        assert_eq!(list.encode(), data);
    }
    let before = BOBS.with_borrow_mut(contents);
    for user in ["alice", "bob", "somebody new"] {
        let mut client = open(BOBS.with_borrow(Memory::clone));
        match client.update_devices(user, data, BEGIN, &mut Seeded::new(1, "devices")) {
            Ok(()) => {
                let list = list.as_ref().expect("only a list is taken");
                let known =
                    client.devices(user).expect("the store is sound").expect("there is one");
                let trust = client.trust(user).expect("the store is sound").expect("there is one");
                let is_pending = trust.new_account == Some(list.account());
                assert!(is_pending || known.account() == list.account());
                assert!(is_pending || known.version() >= list.version());
            }
            Err(_) => {
                assert!(contents(&mut client.into_store()) == before, "an error changed the store")
            }
        }
    }
}
