//! The vectors of an independent implementation, through the public API: byte for byte.
//!
//! Where they come from and what is in them: tests/vectors/README.md. The values on the way are
//! checked by the unit tests of each room.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/replay.rs"]
mod replay;
#[path = "support/sender_keys.rs"]
mod sender_keys;
#[path = "../examples/vectors.rs"]
mod written;

use std::collections::BTreeMap;
use std::path::Path;

use replay::{Replay, array, bytes, hex, number, sha256, stream, vectors};
use serde_json::{Value, json};
use subrosa::file::Descriptor;
use subrosa::group::Distribution;
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, PublishedPrekeys, Session};
use subrosa::{Error, IdentityKey};

fn identity(seed: &Value) -> IdentityKeyPair {
    IdentityKeyPair::generate(&mut Replay::new([bytes(seed)]))
}

/// Prekeys as a vector has them, in the order of their ids.
fn prekeys<'a>(keys: impl IntoIterator<Item = &'a Value>) -> Prekeys {
    let mut prekeys = Prekeys::new();
    for key in keys {
        let (created, rng) = (number(&key["created"]), &mut Replay::new([bytes(&key["secret"])]));
        let id = match number::<u8>(&key["kind"]) {
            0 => prekeys.add_one_time(created, rng),
            1 => prekeys.add_signed(created, rng),
            2 => prekeys.add_one_time_kem(created, rng),
            _ => prekeys.add_last_resort(created, rng),
        };
        assert_eq!(id, Ok(number(&key["id"])));
    }
    prekeys
}

/// The name of a result, as the vectors have it.
fn name<T>(result: &Result<T, Error>) -> String {
    result.as_ref().map_or_else(|error| format!("{error:?}"), |_| "ok".into())
}

/// A copy of a session, by way of its stored form.
fn copy(session: &Session) -> Session {
    Session::decode(&session.encode()).unwrap()
}

/// Both parties of a vector.
struct Parties {
    alice: Session,
    bob: Option<Session>,
    bobs_identity: IdentityKeyPair,
    bobs_prekeys: Prekeys,
}

impl Parties {
    fn new(vector: &Value) -> Self {
        let (setup, handshake) = (&vector["setup"], &vector["handshake"]);
        let bob = &setup["B"];
        let bobs_identity = identity(&bob["identity_seed"]);
        let keys = ["spk", "kem", "opk"].map(|name| &bob[name]);
        let bobs_prekeys = prekeys(keys.into_iter().filter(|key| !key.is_null()));
        let bundle = bobs_prekeys.publish(&bobs_identity).pop_bundle().unwrap();
        assert_eq!(bundle.encode(), bytes(&setup["bundle"]));

        let alice = identity(&setup["A"]["identity_seed"]);
        let bundle = Bundle::decode(&bytes(&setup["bundle"])).unwrap();
        let bundle = bundle.verify(&alice.public_key(), number(&setup["now"])).unwrap();
        let mut rng = Replay::of(&handshake["draws"]);
        let alice = Session::initiate(&alice, &bundle, &mut rng).unwrap();
        rng.finish();
        assert_eq!(hex(alice.id().as_bytes()), handshake["T"]);
        assert_eq!(alice.peer(), bobs_identity.public_key());
        Self { alice, bob: None, bobs_identity, bobs_prekeys }
    }

    fn session(&mut self, party: &str) -> &mut Session {
        if party == "A" { &mut self.alice } else { self.bob.as_mut().unwrap() }
    }

    /// Accepts or receives. What is refused changes nothing.
    fn receive(
        &mut self,
        op: &str,
        party: &str,
        message: &[u8],
        app_ad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let message = Message::decode(message)?;
        if op == "accept" {
            let before = self.bobs_prekeys.encode();
            let result =
                Session::respond(&self.bobs_identity, &mut self.bobs_prekeys, &message, app_ad);
            if result.is_err() {
                assert_eq!(self.bobs_prekeys.encode(), before);
            }
            let (session, plaintext) = result?;
            assert!(session.matches(&message));
            self.bob = Some(session);
            return Ok(plaintext);
        }
        let session = self.session(party);
        let before = session.encode();
        let result = session.decrypt(&message, app_ad);
        if result.is_err() {
            assert_eq!(session.encode(), before);
        }
        result
    }

    fn send(&mut self, party: &str, plaintext: &[u8], app_ad: &[u8], draws: &Value) -> Vec<u8> {
        let mut rng = Replay::of(draws);
        let message = self.session(party).encrypt(plaintext, app_ad, &mut rng).unwrap();
        rng.finish();
        message.encode()
    }
}

type Sent = BTreeMap<u64, (Vec<u8>, Vec<u8>, Vec<u8>)>;

/// Plays the events of handshake.json, conversation.json and the beginning of reject.json.
fn play(parties: &mut Parties, events: &Value) -> Sent {
    let mut sent = Sent::new();
    for event in events.as_array().unwrap() {
        let (id, party) = (number::<u64>(&event["id"]), event["party"].as_str().unwrap());
        if event["op"] == "send" {
            let (plaintext, app_ad) = (bytes(&event["plaintext"]), bytes(&event["app_ad"]));
            let message = parties.send(party, &plaintext, &app_ad, &event["draws"]);
            assert_eq!(hex(&message), event["message"]);
            sent.insert(id, (message, plaintext, app_ad));
        } else {
            let (message, plaintext, app_ad) = &sent[&id];
            let result = parties.receive(event["op"].as_str().unwrap(), party, message, app_ad);
            assert_eq!(name(&result), event["result"], "message {id}");
            assert!(result.is_err() || result.as_ref() == Ok(plaintext));
        }
        // Each event finds the session as it is read back from its stored form.
        let stored = parties.session(if parties.bob.is_some() { party } else { "A" });
        *stored = copy(stored);
    }
    sent
}

/// Plays the short events of `chains` and `too_old`.
fn play_short(vector: &Value) {
    let mut parties = Parties::new(vector);
    let mut sent = BTreeMap::new();
    for event in vector["events"].as_array().unwrap() {
        let (op, party) = (event[0].as_str().unwrap(), event[1].as_str().unwrap());
        let id = number::<u64>(&event[2]);
        if op == "send" {
            let message = parties.send(party, &bytes(&event[3]), b"", &event[4]);
            assert_eq!(hex(&sha256(&message)), event[5], "message {id}");
            sent.insert(id, (message, bytes(&event[3])));
        } else {
            let (message, plaintext) = &sent[&id];
            let result = parties.receive(op, party, message, b"");
            assert_eq!(name(&result), event[3], "message {id}");
            assert!(result.is_err() || result.as_ref() == Ok(plaintext));
        }
    }
}

#[test]
fn identities() {
    let file = vectors("identity.json");
    for case in file["keys"].as_array().unwrap() {
        let key = identity(&case["seed"]);
        assert_eq!(hex(&key.public_key().encode()), case["public"]);
    }
    for case in file["decode"].as_array().unwrap() {
        assert_eq!(
            name(&IdentityKey::decode(&bytes(&case["encoding"]))),
            case["result"],
            "{}",
            case["name"]
        );
    }
}

#[test]
fn bundles_to_take() {
    let file = vectors("prekeys.json");
    let own = IdentityKeyPair::generate(&mut Replay::stream("own", 0)).public_key();
    for case in file["bundles"].as_array().unwrap() {
        let encoding = bytes(&case["encoding"]);
        let bundle = Bundle::decode(&encoding).unwrap();
        assert_eq!(bundle.encode(), encoding);
        let verified = bundle.verify(&own, number(&file["now"])).unwrap();
        assert_eq!(hex(&verified.identity().encode()), file["identity"]);
    }
}

fn play_handshakes(file: &Value) {
    for case in file["cases"].as_array().unwrap() {
        let mut parties = Parties::new(case);
        let sent = play(&mut parties, &case["events"]);
        assert_eq!(parties.bob.as_ref().unwrap().id(), parties.alice.id());
        let (message, _, app_ad) = &sent[&0];
        let again = parties.receive("accept", "B", message, app_ad);
        assert_eq!(name(&again), case["accept_again_without_session"], "{}", case["name"]);
    }
}

#[test]
fn handshakes() {
    play_handshakes(&vectors("handshake.json"));
}

#[test]
fn a_conversation() {
    let vector = vectors("conversation.json");
    play(&mut Parties::new(&vector), &vector["events"]);
}

/// So that another implementation has as much to check itself against as it wants.
#[test]
fn what_the_example_writes_can_be_played() {
    for seed in [0, 1, 2, u64::MAX] {
        let text = written::vectors(seed).unwrap().to_string();
        let file: Value = serde_json::from_str(&text).unwrap();
        play_handshakes(&file["handshake"]);
        let conversation = &file["conversation"];
        let sent = play(&mut Parties::new(conversation), &conversation["events"]).len();

        let results = |result: &str| {
            let events = conversation["events"].as_array().unwrap();
            events.iter().filter(|event| event["result"] == result).count()
        };
        let (opened, twice) = (results("ok"), results("Duplicate"));
        assert!(sent > 300 && opened > 250 && twice > 10, "seed {seed}: {sent}, {opened}, {twice}");
        // The draws are those of the streams it names.
        let alice = &conversation["setup"]["A"];
        assert_eq!(alice["identity_seed"], hex(&stream(alice["stream"].as_str().unwrap(), 0, 32)));
    }
}

#[test]
fn a_long_conversation_over_a_bad_link() {
    let vector = vectors("long.json");
    let mut parties = Parties::new(&vector);
    let setup = &vector["setup"];
    let mut rngs = ["A", "B"].map(|party| {
        let from = if party == "B" && !setup["B"]["opk"].is_null() { 4 } else { 3 };
        Replay::stream(setup[party]["stream"].as_str().unwrap(), from)
    });
    let mut sent: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = Vec::new();
    let (mut messages, mut results) = (Vec::new(), Vec::new());
    let mut digests = vector["digests"].as_array().unwrap().iter().peekable();
    for (at, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
        let (op, party) = step[0].as_str().unwrap().split_at(1);
        if op == "s" {
            let (length, app_ad) = (number(&step[1]), number::<usize>(&step[2]));
            let plaintext = stream(&format!("p{}", sent.len()), 0, length);
            let app_ad = if app_ad == 2 { b"ad".to_vec() } else { stream("ad", 0, app_ad) };
            let rng = &mut rngs[usize::from(party == "B")];
            let message =
                parties.session(party).encrypt(&plaintext, &app_ad, rng).unwrap().encode();
            messages.extend_from_slice(&message);
            sent.push((message, plaintext, app_ad));
        } else {
            let (message, plaintext, app_ad) = &sent[number::<usize>(&step[1])];
            let op = if party == "B" && parties.bob.is_none() { "accept" } else { "receive" };
            let result = parties.receive(op, party, message, app_ad);
            assert_eq!(name(&result), step[2].as_str().unwrap_or("ok"), "step {at}");
            assert!(result.is_err() || result.as_ref() == Ok(plaintext));
            results.extend_from_slice(&number::<u32>(&step[1]).to_be_bytes());
            results.extend_from_slice(name(&result).as_bytes());
        }
        if let Some(known) = digests.next_if(|known| known[0] == at + 1) {
            let ours = json!([at + 1, hex(&sha256(&messages)), known[2], hex(&sha256(&results))]);
            assert_eq!(ours, *known);
        }
    }
    assert!(digests.next().is_none());
}

#[test]
fn bundles_to_refuse() {
    let file = &vectors("reject.json")["bundles"];
    let alice = identity(&file["identity_seed"]);
    for case in file["cases"].as_array().unwrap() {
        let mut rng = Replay::of(&file["draws"]);
        let result = Bundle::decode(&bytes(&case["bundle"]))
            .and_then(|bundle| bundle.verify(&alice.public_key(), number(&case["now"])))
            .and_then(|bundle| Session::initiate(&alice, &bundle, &mut rng));
        assert_eq!(name(&result), case["error"], "{}", case["name"]);
        if result.is_ok() {
            rng.finish();
        }
    }
}

#[test]
fn initial_messages_to_refuse() {
    let file = &vectors("reject.json")["accepts"];
    let bob = identity(&file["identity_seed"]);
    let mut prekeys = prekeys(file["prekeys"].as_array().unwrap());
    for case in file["cases"].as_array().unwrap() {
        let (message, app_ad) = (bytes(&case["message"]), bytes(&case["app_ad"]));
        let before = prekeys.encode();
        let result = Message::decode(&message)
            .and_then(|message| Session::respond(&bob, &mut prekeys, &message, &app_ad));
        assert_eq!(name(&result), case["error"], "{}", case["name"]);
        if result.is_err() {
            assert_eq!(prekeys.encode(), before, "{}", case["name"]);
        }
    }
}

#[test]
fn messages_to_refuse() {
    let file = &vectors("reject.json")["messages"];
    let mut parties = Parties::new(file);
    play(&mut parties, &file["events"]);
    let receive = |parties: &mut Parties, case: &Value| {
        parties.receive("receive", "B", &bytes(&case["message"]), &bytes(&case["app_ad"]))
    };
    for case in file["cases"].as_array().unwrap() {
        assert_eq!(name(&receive(&mut parties, case)), case["error"], "{}", case["name"]);
    }
    for group in file["skip_limits"].as_array().unwrap() {
        let stored = copy(parties.bob.as_ref().unwrap());
        for case in group["cases"].as_array().unwrap() {
            let result = receive(&mut parties, case);
            assert_eq!(name(&result), case["result"], "{}: {}", group["name"], case["name"]);
        }
        parties.bob = Some(stored);
    }
    for case in file["then_genuine"].as_array().unwrap() {
        assert_eq!(receive(&mut parties, case), Ok(bytes(&case["plaintext"])));
    }
    for case in file["then_cases"].as_array().unwrap() {
        assert_eq!(name(&receive(&mut parties, case)), case["error"], "{}", case["name"]);
    }
}

#[test]
fn late_messages_of_many_chains_and_of_old_epochs() {
    let file = vectors("reject.json");
    play_short(&file["chains"]);
    play_short(&file["too_old"]);
}

#[test]
fn sizes() {
    let file = &vectors("reject.json")["sizes"];
    let mut parties = Parties::new(file);
    let mut sent: BTreeMap<u64, (Vec<u8>, usize)> = BTreeMap::new();
    let of_a = |length: &Value| vec![b'a'; number(length)];
    for case in file["cases"].as_array().unwrap() {
        let (party, app_ad) = (case["party"].as_str().unwrap(), of_a(&case["app_ad"]));
        if case["op"] == "encrypt" {
            let mut rng = Replay::of(&case["draws"]);
            let before = parties.session(party).encode();
            let result =
                parties.session(party).encrypt(&of_a(&case["plaintext"]), &app_ad, &mut rng);
            rng.finish();
            assert_eq!(name(&result), case["result"], "{case}");
            match result {
                Err(_) => assert_eq!(parties.session(party).encode(), before),
                Ok(message) => {
                    let message = message.encode();
                    assert_eq!(message.len(), number::<usize>(&case["length"]));
                    assert_eq!(hex(&sha256(&message)), case["sha256"]);
                    sent.insert(number(&case["id"]), (message, number(&case["plaintext"])));
                }
            }
        } else {
            let message = &case["message"];
            let (mut bytes, length) = match message["id"].as_u64() {
                Some(id) => sent[&id].clone(),
                None => (bytes(&message["head"]), 0),
            };
            bytes.resize(bytes.len() + number::<usize>(&message["zeros"]), 0);
            let result = parties.receive(case["op"].as_str().unwrap(), party, &bytes, &app_ad);
            assert_eq!(name(&result), case["result"], "{case}");
            assert!(result.is_err() || result == Ok(vec![b'a'; length]));
        }
    }
}

/// One file for each fault in what is stored or handed out, found by walking the folder. Those of
/// messages between two sessions are in reject.json, where each comes with the conversation before
/// it.
#[test]
fn every_fault_in_the_folder_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/reject");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().file_name();
        let case = vectors(&format!("reject/{}", file.to_str().unwrap()));
        let bytes = bytes(&case["bytes"]);
        let result = match case["what"].as_str().unwrap() {
            "identity key pair" => IdentityKeyPair::decode(&bytes).map(drop),
            "prekeys" => Prekeys::decode(&bytes).map(drop),
            "published prekeys" => PublishedPrekeys::decode(&bytes).map(drop),
            "bundle" => Bundle::decode(&bytes).map(drop),
            "message" => Message::decode(&bytes).map(drop),
            "session" => Session::decode(&bytes).map(drop),
            "file descriptor" => Descriptor::decode(&bytes).map(drop),
            "file" => Descriptor::decode(&self::bytes(&case["descriptor"]))
                .and_then(|descriptor| subrosa::file::open(&descriptor, &bytes))
                .map(drop),
            // tests/archives.rs and tests/rosters.rs have these.
            "archive" | "group change" => continue,
            "group distribution" => Distribution::decode(&bytes).map(drop),
            "group envelope" => sender_keys::receive(&case),
            what => panic!("{what}"),
        };
        assert_eq!(name(&result), case["error"], "{file:?}");
        count += 1;
    }
    assert!(count >= 124, "{count} files");
}

#[test]
fn a_generator_that_gives_other_draws_gives_other_messages() {
    // Guards the tests above: a replay that was not read would not be noticed otherwise.
    let vector = vectors("conversation.json");
    let mut parties = Parties::new(&vector);
    let event = &vector["events"][0];
    let mut rng = Replay::stream("other", 0);
    let message = parties.alice.encrypt(&bytes(&event["plaintext"]), b"", &mut rng).unwrap();
    assert_ne!(hex(message.as_bytes()), event["message"]);
    assert_eq!(array::<32>(&vector["handshake"]["T"]), *parties.alice.id().as_bytes());
}
