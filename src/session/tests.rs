//! The vectors, with every value on the way. What can be seen from outside is checked in
//! tests/vectors.rs too.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::{Message, Session};
use crate::crypto::kdf;
use crate::error::Error;
use crate::identity::IdentityKeyPair;
use crate::prekey::{Bundle, Prekeys};
use crate::ratchet::triple::SealedHeader;
use crate::testing::{Replay, array, bytes, hex, number, stream, vectors};

/// Both parties of a vector.
struct Parties {
    alice: Session,
    bob: Option<Session>,
    bobs_identity: IdentityKeyPair,
    bobs_prekeys: Prekeys,
}

fn identity(seed: &Value) -> IdentityKeyPair {
    IdentityKeyPair::generate(&mut Replay::new([bytes(seed)]))
}

/// Prekeys as the vector has them, by id.
fn prekeys(keys: &[&Value]) -> Prekeys {
    let mut prekeys = Prekeys::new();
    for key in keys {
        let (now, rng) = (number(&key["created"]), &mut Replay::new([bytes(&key["secret"])]));
        let id = match number::<u8>(&key["kind"]) {
            0 => prekeys.add_one_time(now, rng),
            1 => prekeys.add_signed(now, rng),
            2 => prekeys.add_one_time_kem(now, rng),
            _ => prekeys.add_last_resort(now, rng),
        };
        assert_eq!(id, Ok(number(&key["id"])));
    }
    prekeys
}

impl Parties {
    /// From `setup` and `handshake`, whose values are checked.
    fn new(vector: &Value) -> Self {
        let (setup, handshake) = (&vector["setup"], &vector["handshake"]);
        let bob = &setup["B"];
        let keys: Vec<&Value> = ["spk", "kem", "opk"].map(|name| &bob[name]).into_iter().collect();
        let keys: Vec<&Value> = keys.into_iter().filter(|key| !key.is_null()).collect();
        let bobs_prekeys = prekeys(&keys);
        let bobs_identity = identity(&bob["identity_seed"]);
        let bundle = bobs_prekeys.publish(&bobs_identity).pop_bundle().unwrap();
        assert_eq!(bundle.encode(), bytes(&setup["bundle"]));

        let alice = identity(&setup["A"]["identity_seed"]);
        let bundle = Bundle::decode(&bytes(&setup["bundle"])).unwrap();
        let bundle = bundle.verify(&alice.public_key(), number(&setup["now"])).unwrap();
        let mut rng = Replay::of(&handshake["draws"]);
        let alice = Session::initiate(&alice, &bundle, &mut rng).unwrap();
        rng.finish();
        assert_eq!(alice.id().as_bytes(), &array(&handshake["T"]));
        assert_eq!(hex(alice.state.ephemeral_key.as_bytes()), handshake["EK"]);
        let repeated = &alice.state.unanswered.as_ref().unwrap().0;
        assert_eq!(hex(&**repeated), handshake["handshake"]);
        if !handshake["state_A"].is_null() {
            assert_eq!(state(&alice), handshake["state_A"]);
        }
        Self { alice, bob: None, bobs_identity, bobs_prekeys }
    }

    fn session(&mut self, party: &Value) -> &mut Session {
        match party.as_str().unwrap() {
            "A" => &mut self.alice,
            _ => self.bob.as_mut().unwrap(),
        }
    }

    fn send(&mut self, event: &Value) -> Vec<u8> {
        let session = self.session(&event["party"]);
        if !event["mk"].is_null() {
            let draws = &mut Replay::of(&event["draws"]);
            copy(session).state.ratchet.check_send(event, draws);
        }
        let mut rng = Replay::of(&event["draws"]);
        let message = session
            .encrypt(&bytes(&event["plaintext"]), &bytes(&event["app_ad"]), &mut rng)
            .unwrap();
        rng.finish();
        assert_eq!(hex(message.as_bytes()), event["message"]);
        if !event["state"].is_null() {
            assert_eq!(state(session), event["state"]);
        }
        message.encode()
    }

    /// Accepts or receives. What is refused changes nothing.
    fn receive(
        &mut self,
        op: &str,
        party: &Value,
        message: &[u8],
        app_ad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let message = Message::decode(message)?;
        if op == "accept" {
            let before = self.bobs_prekeys.encode();
            let result = respond(&self.bobs_identity, &mut self.bobs_prekeys, &message, app_ad);
            return match result {
                Ok((session, plaintext)) => {
                    assert!(session.matches(&message));
                    self.bob = Some(session);
                    Ok(plaintext)
                }
                Err(error) => {
                    assert_eq!(self.bobs_prekeys.encode(), before);
                    Err(error)
                }
            };
        }
        let session = self.session(party);
        let before = session.encode();
        let result = session.decrypt(&message, app_ad);
        if result.is_err() {
            assert_eq!(session.encode(), before);
        }
        result
    }
}

/// Responds twice, with all prekeys and with the rows that the message needs: that comes to the
/// same.
fn respond(
    identity: &IdentityKeyPair,
    prekeys: &mut Prekeys,
    message: &Message<'_>,
    app_ad: &[u8],
) -> Result<(Session, Vec<u8>), Error> {
    let Some(keys) = message.prekey_rows() else {
        return Session::respond(identity, prekeys, message, app_ad);
    };
    let mut rows: BTreeMap<_, _> = prekeys.rows().collect();
    let needed: Vec<_> = rows.iter().filter(|(key, _)| keys.contains(key)).collect();
    let needed: Vec<_> =
        needed.into_iter().map(|(key, row)| (key.encode(), row.to_vec())).collect();
    let mut few = Prekeys::from_rows(prekeys.last_id(), needed.clone()).unwrap();
    let from_few = Session::respond(identity, &mut few, message, app_ad);
    let from_all = Session::respond(identity, prekeys, message, app_ad);
    match (&from_few, &from_all) {
        (Ok((one, one_text)), Ok((other, other_text))) => {
            assert_eq!((one.encode(), one_text), (other.encode(), other_text));
        }
        _ => assert_eq!(from_few.map(drop), from_all.as_ref().map(drop).map_err(Clone::clone)),
    }
    let changes = few.changes(needed).unwrap();
    let unchanged = changes.deleted.is_empty() && changes.put.is_empty();
    assert_eq!(unchanged, from_all.is_err());
    rows.retain(|key, _| !changes.deleted.contains(key));
    rows.extend(changes.put);
    assert!(rows == prekeys.rows().collect());
    from_all
}

/// A copy of a session, by way of its stored form.
fn copy(session: &Session) -> Session {
    Session::decode(&session.encode()).unwrap()
}

/// The state in the form of the vectors.
fn state(session: &Session) -> Value {
    let mut state = session.state.ratchet.vector_state();
    state["initial"] = json!(!session.is_answered());
    state
}

/// The name of a result, as the vectors have it.
fn name<T>(result: Result<T, Error>) -> String {
    result.map_or_else(|error| alloc::format!("{error:?}"), |_| "ok".into())
}

type Sent = BTreeMap<u64, (Vec<u8>, Vec<u8>, Vec<u8>)>;

/// Plays the events of a vector; gives the messages sent by id, with plaintext and associated data.
fn play(parties: &mut Parties, events: &Value) -> Sent {
    let mut sent = Sent::new();
    for event in events.as_array().unwrap() {
        let id = number::<u64>(&event["id"]);
        if event["op"] == "send" {
            let message = parties.send(event);
            sent.insert(id, (message, bytes(&event["plaintext"]), bytes(&event["app_ad"])));
            continue;
        }
        let (message, plaintext, app_ad) = &sent[&id];
        if !event["mk"].is_null() && event["op"] == "receive" {
            let session = copy(parties.session(&event["party"]));
            let message = Message::decode(message).unwrap();
            let parts = message.parts().unwrap();
            let header = SealedHeader { nonce: *parts.nonce, bytes: *parts.header };
            session.state.ratchet.check_receive(event, &header, parts.header_data);
        }
        let op = event["op"].as_str().unwrap();
        let result = parties.receive(op, &event["party"], message, app_ad);
        assert_eq!(name(result.clone()), event["result"], "message {id}");
        if let Ok(decrypted) = result {
            assert_eq!(decrypted, *plaintext);
            if !event["state"].is_null() {
                assert_eq!(state(parties.session(&event["party"])), event["state"], "message {id}");
            }
        }
        let session = parties.session(&event["party"]);
        assert!(session.state.ratchet.is_sound());
        *session = copy(session);
    }
    sent
}

#[test]
fn handshakes() {
    for case in vectors("handshake.json")["cases"].as_array().unwrap() {
        let mut parties = Parties::new(case);
        let sent = play(&mut parties, &case["events"]);
        let (message, _, app_ad) = &sent[&0];
        let again = parties.receive("accept", &json!("B"), message, app_ad);
        assert_eq!(name(again), case["accept_again_without_session"], "{}", case["name"]);
    }
}

#[test]
fn initial_messages_are_answered_or_refused_from_the_rows_they_name() {
    let file = &vectors("reject.json")["accepts"];
    let bob = identity(&file["identity_seed"]);
    let keys: Vec<&Value> = file["prekeys"].as_array().unwrap().iter().collect();
    let mut prekeys = prekeys(&keys);
    for case in file["cases"].as_array().unwrap() {
        let (message, app_ad) = (bytes(&case["message"]), bytes(&case["app_ad"]));
        let result = Message::decode(&message)
            .and_then(|message| respond(&bob, &mut prekeys, &message, &app_ad));
        assert_eq!(name(result), case["error"], "{}", case["name"]);
    }
}

#[test]
fn a_conversation_with_every_value() {
    let vector = vectors("conversation.json");
    play(&mut Parties::new(&vector), &vector["events"]);
}

#[test]
fn the_state_after_each_limit() {
    let vector = &vectors("reject.json")["messages"];
    let mut parties = Parties::new(vector);
    play(&mut parties, &vector["events"]);
    for group in vector["skip_limits"].as_array().unwrap() {
        let bob = parties.bob.as_ref().map(copy);
        let kept = core::mem::replace(&mut parties.bob, bob);
        for case in group["cases"].as_array().unwrap() {
            let (message, app_ad) = (bytes(&case["message"]), bytes(&case["app_ad"]));
            let result = parties.receive("receive", &json!("B"), &message, &app_ad);
            assert_eq!(name(result), case["result"], "{}: {}", group["name"], case["name"]);
        }
        assert_eq!(state(parties.bob.as_ref().unwrap()), group["state"], "{}", group["name"]);
        parties.bob = kept;
    }
}

#[test]
fn a_long_conversation_over_a_bad_link() {
    let vector = vectors("long.json");
    let mut parties = Parties::new(&vector);
    let names = ["A", "B"].map(|party| vector["setup"][party]["stream"].as_str().unwrap());
    let opk = !vector["setup"]["B"]["opk"].is_null();
    let mut rngs = [Replay::stream(names[0], 3), Replay::stream(names[1], if opk { 4 } else { 3 })];
    let mut sent: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut digested: [Vec<u8>; 3] = Default::default();
    let mut digests = vector["digests"].as_array().unwrap().iter().peekable();
    for (at, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
        let (op, party) = step[0].as_str().unwrap().split_at(1);
        let (rng, party) = (&mut rngs[usize::from(party == "B")], json!(party));
        if op == "s" {
            let number = |at: usize| number::<usize>(&step[at]);
            let plaintext = stream(&alloc::format!("p{}", sent.len()), 0, number(1));
            let app_ad = if number(2) == 2 { b"ad".to_vec() } else { stream("ad", 0, number(2)) };
            let session = parties.session(&party);
            let key = copy(session).state.ratchet.send(&[], &mut rng.clone()).unwrap().0.key;
            let message = session.encrypt(&plaintext, &app_ad, rng).unwrap().encode();
            digested[0].extend_from_slice(&message);
            digested[1].extend_from_slice(key.expose());
            sent.push((message, plaintext, app_ad));
        } else {
            let (message, plaintext, app_ad) = &sent[number::<usize>(&step[1])];
            let op = if party == "B" && parties.bob.is_none() { "accept" } else { "receive" };
            let result = parties.receive(op, &party, message, app_ad);
            assert_eq!(name(result.clone()), step[2].as_str().unwrap_or("ok"), "step {at}");
            digested[2].extend_from_slice(&number::<u32>(&step[1]).to_be_bytes());
            digested[2].extend_from_slice(name(result.clone()).as_bytes());
            assert!(result.is_err() || result.as_ref() == Ok(plaintext));
        }
        if let Some(known) = digests.next_if(|known| known[0] == at + 1) {
            for (bytes, known) in digested.iter().zip(&known.as_array().unwrap()[1..]) {
                assert_eq!(hex(&kdf::hash(&[bytes])), *known, "step {at}");
            }
        }
    }
    assert!(digests.next().is_none());
    assert_eq!(state(&parties.alice), vector["end"]["A"]);
    assert_eq!(state(parties.bob.as_ref().unwrap()), vector["end"]["B"]);
}
