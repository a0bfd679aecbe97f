//! Group messages: known answers, every fault, disorder, chains that follow each other, limits.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

use subrosa::group::{Distribution, Envelope, LabelKey, Sender, SenderKey, SenderKeyRecord, Taken};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Address, Error, IdentityKey, UnixTime};

#[path = "support/own_vectors.rs"]
mod own_vectors;
#[path = "support/replay.rs"]
mod replay;
#[path = "support/sender_keys.rs"]
mod sender_keys;

use replay::{Replay, array, bytes, hex, number, sha256, vectors};
use sender_keys::{Device, content, receiver, reference};

const DAY: u64 = 24 * 60 * 60;

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

/// A device that writes in a group, and what it writes with.
struct Writer {
    group: [u8; 32],
    member: [u8; 16],
    identity: IdentityKey,
    address: Address,
    key: SenderKey,
    rng: Replay,
}

impl Writer {
    fn new(name: &str) -> Self {
        let mut rng = Replay::stream(name, 0);
        let identity = IdentityKeyPair::generate(&mut rng).public_key();
        let label_key = LabelKey::random(&mut rng);
        let key = SenderKey::new(&[1; 32], label_key, now(), &mut rng);
        let address = Address::new(name, 1);
        Self { group: [1; 32], member: [2; 16], identity, address, key, rng }
    }

    fn sender(&self) -> Sender<'_> {
        Sender {
            group: &self.group,
            member: &self.member,
            identity: &self.identity,
            address: &self.address,
        }
    }

    fn write(&mut self, content: &[u8]) -> Result<Vec<u8>, Error> {
        let Self { group, member, identity, address, key, rng } = self;
        let sender = Sender { group, member, identity, address };
        key.seal(&sender, content, rng).map(|sealed| sealed.envelope)
    }

    fn give(&self) -> Distribution {
        let given = self.key.distribution(&self.group, &[3; 8], &[[4; 32]]).unwrap();
        Distribution::decode(&given).unwrap()
    }

    fn renew(&mut self) {
        let label_key = self.key.label_key().clone();
        self.key = self.key.renewed(&self.group, label_key, now(), &mut self.rng);
    }

    fn receive(&self, record: &mut SenderKeyRecord, envelope: &[u8]) -> Result<Vec<u8>, Error> {
        receive(record, &self.sender(), envelope)
    }
}

fn receive(
    record: &mut SenderKeyRecord,
    sender: &Sender<'_>,
    envelope: &[u8],
) -> Result<Vec<u8>, Error> {
    let envelope = Envelope::decode(envelope)?;
    let hint = record.label_keys().find_map(|key| envelope.hint(key)).unwrap();
    let opened = record.receive(&envelope, &hint, sender)?;
    record.commit(opened.step);
    Ok(opened.content)
}

/// A record that took a chain as it is now.
fn given(writer: &Writer) -> SenderKeyRecord {
    let mut record = SenderKeyRecord::new();
    assert_eq!(record.take(writer.give(), now()), Taken::New);
    record
}

#[test]
fn known_answers() {
    let file = vectors("group.json");
    for case in file["cases"].as_array().unwrap() {
        let (group, member): ([u8; 32], [u8; 16]) = (array(&case["group"]), array(&case["member"]));
        let identity = IdentityKey::decode(&bytes(&case["identity"])).unwrap();
        let address = Address::new(case["user"].as_str().unwrap(), number::<u32>(&case["device"]));
        let sender =
            Sender { group: &group, member: &member, identity: &identity, address: &address };
        let label_key = LabelKey::random(&mut Replay::new([bytes(&case["label_key"])]));
        assert_eq!(hex(label_key.label().as_bytes()), case["label"]);
        let mut draws = Replay::new([bytes(&case["chain_key"]), bytes(&case["seed"])]);
        let mut key = SenderKey::new(&group, label_key, now(), &mut draws);
        draws.finish();
        assert_eq!(hex(key.chain().as_bytes()), case["chain"]);

        let given = Distribution::decode(&bytes(&case["distribution"])).unwrap();
        let list: [u8; 8] = array(&case["list"]);
        assert_eq!((given.group, given.list, given.chain()), (group, list, key.chain()));
        let heads: Vec<[u8; 32]> = case["heads"].as_array().unwrap().iter().map(array).collect();
        assert_eq!(given.heads, heads);
        if case["previous"].is_null() {
            let made = key.distribution(&group, &list, &heads).unwrap();
            assert_eq!(hex(&made), case["distribution"]);
        }

        let mut record = SenderKeyRecord::new();
        record.take(given, now());
        for message in case["messages"].as_array().unwrap() {
            let content = content(number(&message["content_length"]));
            while key.number() < number(&message["number"]) {
                key.seal(&sender, b"", &mut Replay::counting()).unwrap();
            }
            let mut draws = Replay::new([bytes(&message["reference"])]);
            let sealed = key.seal(&sender, &content, &mut draws).unwrap();
            draws.finish();
            assert_eq!(hex(&sha256(&sealed.envelope)), message["envelope_sha256"]);
            assert_eq!(sealed.envelope.len(), number::<usize>(&message["envelope_length"]));
            assert!(message["envelope"].is_null() || message["envelope"] == hex(&sealed.envelope));
            assert_eq!(receive(&mut record, &sender, &sealed.envelope).unwrap(), content);
        }
    }
    assert_eq!(file["cases"].as_array().unwrap().len(), 2);
}

#[test]
fn the_vectors_are_what_the_formulas_make() {
    own_vectors::check(
        "group.json",
        &sender_keys::answers(),
        &sender_keys::faults(),
        &["group-envelope", "group-dist"],
    );
}

/// `cargo test --test sender_keys -- --ignored` writes them anew.
#[test]
#[ignore = "writes tests/vectors"]
fn write_the_vectors() {
    own_vectors::write("group.json", &sender_keys::answers(), &sender_keys::faults());
}

#[test]
fn every_fault_is_refused_and_the_genuine_message_opens_after_it() {
    let device = sender_keys::rejected();
    let genuine = device.draft(6, reference(6), b"rejected").envelope();
    for (name, case) in sender_keys::faults() {
        if case["what"] == "group distribution" {
            let decoded = Distribution::decode(&bytes(&case["bytes"]));
            assert_eq!(format!("{:?}", decoded.unwrap_err()), case["error"], "{name}");
            continue;
        }
        let refused = sender_keys::receive(&case);
        assert_eq!(format!("{:?}", refused.unwrap_err()), case["error"], "{name}");
        let (mut record, group, member, identity, address) = receiver(&case);
        let sender =
            Sender { group: &group, member: &member, identity: &identity, address: &address };
        assert_eq!(receive(&mut record, &sender, &genuine).unwrap(), b"rejected");
        assert_eq!(receive(&mut record, &sender, &genuine).unwrap_err(), Error::Duplicate);
    }
}

#[test]
fn the_sizes_are_those_of_the_text() {
    let mut writer = Writer::new("sizes");
    for (length, size) in [(0, 146), (64, 218), (1 << 16, 67_658), (1 << 20, 1_081_418)] {
        let envelope = writer.write(&vec![7; length]).unwrap();
        assert_eq!(envelope.len(), size, "{length}");
        Envelope::decode(&envelope).unwrap();
        if length == 1 << 20 {
            let longer = [&envelope[..], &[0]].concat();
            assert_eq!(Envelope::decode(&longer).unwrap_err(), Error::Malformed);
        }
    }
    let given = writer.key.distribution(&writer.group, &[3; 8], &[[4; 32]]).unwrap();
    assert_eq!(given.len(), 185);
}

#[test]
fn what_is_refused_draws_nothing_and_moves_nothing() {
    let mut writer = Writer::new("refused");
    writer.rng = Replay::new([]);
    let before = writer.key.encode();
    assert_eq!(writer.write(&vec![0; (1 << 20) + 1]).unwrap_err(), Error::TooLong);
    assert_eq!(before, writer.key.encode());
    writer.rng = Replay::counting();
    for number in 0..SenderKey::MAX_MESSAGES {
        assert!(!writer.key.is_worn(1_000, 7 * DAY, now()), "{number}");
        writer.write(b"").unwrap();
    }
    writer.rng = Replay::new([]);
    assert!(writer.key.is_worn(1_000, 7 * DAY, now()));
    assert_eq!(writer.write(b"").unwrap_err(), Error::Exhausted);
    let heads = [[4; 32]];
    let given = writer.key.distribution(&writer.group, &[3; 8], &heads);
    assert_eq!(given.unwrap_err(), Error::Exhausted);
    let writer = Writer::new("refused");
    assert!(writer.key.is_worn(1_000, 7 * DAY, now().after(7 * DAY)));
    // Its clock was ahead, and is right again.
    let before = |seconds| UnixTime::from_secs(now().as_secs() - seconds).unwrap();
    assert!(writer.key.is_worn(1_000, 7 * DAY, before(7 * DAY)));
    assert!(!writer.key.is_worn(1_000, 7 * DAY, before(DAY)));
    for heads in [vec![], vec![[1; 32]; 2], vec![[2; 32], [1; 32]], vec![[0; 32]; 17]] {
        let given = writer.key.distribution(&writer.group, &[3; 8], &heads);
        assert_eq!(given.unwrap_err(), Error::Malformed);
    }
}

#[test]
fn messages_open_in_any_order_and_each_once() {
    let mut writer = Writer::new("order");
    let start = given(&writer);
    let stored = start.encode();
    let envelopes: Vec<Vec<u8>> =
        (0..200_u32).map(|number| writer.write(&number.to_be_bytes()).unwrap()).collect();
    for stride in [1, 199, 7, 77] {
        let mut record = SenderKeyRecord::decode(&stored).unwrap();
        for n in 0..200 {
            let at = n * stride % 200;
            let content = writer.receive(&mut record, &envelopes[at]).unwrap();
            assert_eq!(content, u32::try_from(at).unwrap().to_be_bytes());
            let again = writer.receive(&mut record, &envelopes[at]);
            assert_eq!(again.unwrap_err(), Error::Duplicate);
            record = SenderKeyRecord::decode(&record.encode()).unwrap();
        }
        assert_eq!(record.kept(), 0);
    }
}

#[test]
fn a_sender_goes_on_from_its_stored_form() {
    let mut writer = Writer::new("stored");
    let mut record = given(&writer);
    for number in 0..5_u8 {
        writer.key = SenderKey::decode(&writer.key.encode()).unwrap();
        let envelope = writer.write(&[number]).unwrap();
        assert_eq!(writer.receive(&mut record, &envelope).unwrap(), [number]);
    }
    writer.renew();
    let stored = writer.key.encode();
    assert!(stored.len() <= 200);
    let given = |key: &SenderKey| key.distribution(&[1; 32], &[3; 8], &[[4; 32]]).unwrap();
    assert_eq!(given(&SenderKey::decode(&stored).unwrap()), given(&writer.key));
    for cut in 0..stored.len() {
        assert_eq!(SenderKey::decode(&stored[..cut]).unwrap_err(), Error::BadState);
    }
}

#[test]
fn a_sender_that_was_restored_uses_a_number_twice_and_no_key() {
    let mut writer = Writer::new("restored");
    let mut record = given(&writer);
    let stored = writer.key.encode();
    let one = writer.write(b"the same content").unwrap();
    writer.key = SenderKey::decode(&stored).unwrap();
    let other = writer.write(b"the same content").unwrap();
    // Under one key and nonce both would seal the content alike.
    assert_ne!(one[58..74], other[58..74]);
    assert!(writer.receive(&mut record, &one).is_ok());
    assert_eq!(writer.receive(&mut record, &other).unwrap_err(), Error::Duplicate);
}

#[test]
fn a_chain_ends_where_the_next_one_says() {
    let mut writer = Writer::new("ends");
    let mut record = given(&writer);
    let old: Vec<_> = (0..10).map(|number| writer.write(&[number]).unwrap()).collect();
    let stolen = writer.key.encode();
    writer.receive(&mut record, &old[2]).unwrap();
    writer.renew();
    assert_eq!(record.take(writer.give(), now()), Taken::New);
    assert_eq!(record.take(writer.give(), now()), Taken::Known);
    // Late ones open, in any order; what a thief of the old chain writes does not.
    assert_eq!(writer.receive(&mut record, &old[9]).unwrap(), [9]);
    assert_eq!(writer.receive(&mut record, &old[0]).unwrap(), [0]);
    let new = writer.write(b"new").unwrap();
    assert_eq!(writer.receive(&mut record, &new).unwrap(), b"new");
    writer.key = SenderKey::decode(&stolen).unwrap();
    let forged = writer.write(b"forged").unwrap();
    assert_eq!(writer.receive(&mut record, &forged).unwrap_err(), Error::TooFarAhead);
    // The chain that is given again does not become the current one again.
    assert_eq!(record.take(writer.give(), now()), Taken::Known);
    assert_eq!(writer.receive(&mut record, &forged).unwrap_err(), Error::TooFarAhead);
}

#[test]
fn a_chain_waits_until_its_end_is_known() {
    let mut writer = Writer::new("waits");
    let mut record = given(&writer);
    let first = writer.key.chain();
    let old: Vec<_> = (0..3).map(|number| writer.write(&[number]).unwrap()).collect();
    let stolen = writer.key.encode();
    writer.renew();
    let (second, between) = (writer.give(), writer.write(b"between").unwrap());
    writer.renew();
    assert_eq!(record.take(writer.give(), now()), Taken::New);
    // The second distribution was held back, and with it where the first chain ends.
    assert!(!record.has(first));
    assert_eq!(writer.receive(&mut record, &old[1]).unwrap_err(), Error::UnknownHeader);
    assert_eq!(writer.receive(&mut record, &between).unwrap_err(), Error::UnknownHeader);
    let mut record = SenderKeyRecord::decode(&record.encode()).unwrap();
    assert_eq!(record.take(second, now()), Taken::New);
    assert_eq!(writer.receive(&mut record, &old[1]).unwrap(), [1]);
    assert_eq!(writer.receive(&mut record, &between).unwrap(), b"between");
    let newest = writer.write(b"newest").unwrap();
    assert_eq!(writer.receive(&mut record, &newest).unwrap(), b"newest");
    writer.key = SenderKey::decode(&stolen).unwrap();
    let forged = writer.write(b"forged").unwrap();
    assert_eq!(writer.receive(&mut record, &forged).unwrap_err(), Error::TooFarAhead);
}

#[test]
fn superseded_chains_and_label_keys_go_after_seven_days() {
    let mut writer = Writer::new("expiry");
    let mut record = given(&writer);
    assert_eq!(record.next_expiry(), None);
    let late = writer.write(b"late").unwrap();
    let label_key = LabelKey::random(&mut writer.rng);
    writer.key = writer.key.renewed(&[1; 32], label_key, now(), &mut writer.rng);
    record.take(writer.give(), now());
    assert_eq!(record.label_keys().count(), 2);
    assert_eq!(record.label_keys().next_back(), Some(writer.key.label_key()));
    assert_eq!(record.next_expiry(), Some(now().after(7 * DAY)));
    record.expire(now().after(7 * DAY - 1));
    let mut kept = SenderKeyRecord::decode(&record.encode()).unwrap();
    assert_eq!(writer.receive(&mut kept, &late).unwrap(), b"late");
    record.expire(now().after(7 * DAY));
    assert_eq!((record.label_keys().count(), record.next_expiry()), (1, None));
    let late = Envelope::decode(&late).unwrap();
    assert!(record.label_keys().all(|key| late.hint(key).is_none()));
    let new = writer.write(b"new").unwrap();
    assert_eq!(writer.receive(&mut record, &new).unwrap(), b"new");
}

#[test]
fn a_device_that_floods_gets_a_bounded_record() {
    let mut writer = Writer::new("flood");
    let mut record = given(&writer);
    for _ in 0..40 {
        let envelope = (0..90).map(|_| writer.write(b"").unwrap()).last().unwrap();
        writer.receive(&mut record, &envelope).unwrap();
        let label_key = LabelKey::random(&mut writer.rng);
        writer.key = writer.key.renewed(&[1; 32], label_key, now(), &mut writer.rng);
        record.take(writer.give(), now());
        assert!(record.kept() <= 1_000);
        assert!(record.label_keys().count() <= 3);
        assert!(record.encode().len() <= 17 * 150 + 3 * 50 + 36_000 + 16);
        SenderKeyRecord::decode(&record.encode()).unwrap();
    }
    assert_eq!(record.kept(), 1_000);
    record.keep(10);
    assert_eq!(record.kept(), 10);
}

#[test]
fn chains_that_name_each_other_in_a_circle_leave_a_record_that_can_be_read() {
    let writers = ["one", "two", "three"].map(|name| Device {
        seed: Device::new(name, "alice", 1).seed,
        ..Device::new("a liar", "alice", 1)
    });
    let chains = writers.each_ref().map(Device::chain);
    let before = |lie: usize| chains.get(lie).map_or(([0; 8], 0), |chain| (*chain, 3));
    // What each of the three says came before it: one of the three, itself too, or nothing.
    for lies in 0..64_usize {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut record = SenderKeyRecord::new();
            for at in order {
                let previous = before((lies >> (2 * at)) & 3);
                let bytes = Device { previous, ..writers[at].clone() }.distribution(0);
                let _ = record.take(Distribution::decode(&bytes).unwrap(), now());
                let stored = record.encode();
                record = SenderKeyRecord::decode(&stored)
                    .unwrap_or_else(|error| panic!("{lies:06b} {order:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_key_that_is_used_up_opens_nothing() {
    let mut writer = Writer::new("used up");
    let mut record = given(&writer);
    let envelopes: Vec<_> = (0..4).map(|number| writer.write(&[number]).unwrap()).collect();
    for number in [2, 0] {
        record.use_up(writer.key.chain(), number);
        let at = usize::try_from(number).unwrap();
        let opened = writer.receive(&mut record, &envelopes[at]);
        assert_eq!(opened.unwrap_err(), Error::Duplicate);
    }
    record.use_up(writer.key.chain(), 1_000);
    assert_eq!(writer.receive(&mut record, &envelopes[1]).unwrap(), [1]);
    assert_eq!(writer.receive(&mut record, &envelopes[3]).unwrap(), [3]);
}

#[test]
fn nobody_elses_envelope_opens_in_a_record() {
    let (mut alice, mut eve) = (Writer::new("alice"), Writer::new("eve"));
    let mut record = given(&alice);
    // Eve has Alice's label key and chain, as every member has, and says to be Alice.
    let envelope = alice.write(b"genuine").unwrap();
    let hint = Envelope::decode(&envelope).unwrap().hint(alice.key.label_key()).unwrap();
    let forged = eve.write(b"forged").unwrap();
    assert!(Envelope::decode(&forged).unwrap().hint(alice.key.label_key()).is_none());
    let forged = Envelope::decode(&forged).unwrap();
    assert_eq!(
        record.receive(&forged, &hint, &alice.sender()).map(drop).unwrap_err(),
        Error::Decrypt
    );
    for sender in [
        Sender { group: &[9; 32], ..alice.sender() },
        Sender { identity: &eve.identity, ..alice.sender() },
        Sender { address: &Address::new("alice", 2), ..alice.sender() },
        Sender { address: &eve.address, ..alice.sender() },
    ] {
        assert_eq!(receive(&mut record, &sender, &envelope).unwrap_err(), Error::Decrypt);
    }
    for (member, error) in [
        ([9; 16], Error::Decrypt),
        // Whose id begins alike.
        (u128::from_be_bytes([2; 16]).wrapping_add(1).to_be_bytes(), Error::BadSignature),
    ] {
        let sender = Sender { member: &member, ..alice.sender() };
        assert_eq!(receive(&mut record, &sender, &envelope).unwrap_err(), error);
    }
    assert_eq!(alice.receive(&mut record, &envelope).unwrap(), b"genuine");
}

#[test]
fn a_stored_record_that_is_no_record_is_refused() {
    let mut writer = Writer::new("sound");
    let mut record = given(&writer);
    let envelope = (0..4).map(|_| writer.write(b"").unwrap()).last().unwrap();
    writer.receive(&mut record, &envelope).unwrap();
    writer.renew();
    record.take(writer.give(), now());
    let stored = record.encode();
    for cut in 0..stored.len() {
        assert_eq!(SenderKeyRecord::decode(&stored[..cut]).unwrap_err(), Error::BadState);
    }
    // Whatever is changed, it is refused or goes on.
    for at in 0..stored.len() {
        let mut changed = stored.to_vec();
        changed[at] ^= 0x41;
        if let Ok(mut record) = SenderKeyRecord::decode(&changed) {
            record.expire(now());
            let opened = Envelope::decode(&envelope).unwrap();
            let hint = record.label_keys().find_map(|key| opened.hint(key));
            if let Some(hint) = hint {
                drop(record.receive(&opened, &hint, &writer.sender()));
            }
            drop(record.encode());
        }
    }
}
