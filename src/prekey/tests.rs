//! Prekeys over their life.

use super::*;
use crate::identity::IdentityKey;
use crate::testing::{Replay, array, bytes, hex, number, vectors};
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

fn stranger() -> IdentityKey {
    IdentityKeyPair::generate(&mut Replay::stream("stranger", 0)).public_key()
}

fn pair() -> (IdentityKeyPair, Prekeys) {
    let mut rng = Replay::stream("prekeys", 0);
    (IdentityKeyPair::generate(&mut rng), Prekeys::generate(2, NOW, &mut rng).unwrap())
}

#[test]
fn known_prekeys_and_what_is_signed_of_them() {
    let file = vectors("prekeys.json");
    let identity = IdentityKeyPair::generate(&mut Replay::new([bytes(&file["identity_seed"])]));
    assert_eq!(hex(&identity.public_key().encode()), file["identity"]);
    let mut prekeys = Prekeys::new();
    for case in file["prekeys"].as_array().unwrap() {
        let created = if case["created"].is_null() { 0 } else { number(&case["created"]) };
        let rng = &mut Replay::new([bytes(&case["secret"])]);
        let (kind, id, public) = match number::<u8>(&case["kind"]) {
            0 => {
                let id = prekeys.add_one_time(created, rng).unwrap();
                assert_eq!(
                    prekeys.keys.one_time[&id].secret.public.as_bytes(),
                    &array(&case["public"])
                );
                assert_eq!(id, number::<u32>(&case["id"]));
                continue;
            }
            1 => {
                let id = prekeys.add_signed(created, rng).unwrap();
                (Kind::Signed, id, prekeys.keys.signed[&id].secret.public.as_bytes().to_vec())
            }
            2 => {
                let id = prekeys.add_one_time_kem(created, rng).unwrap();
                (Kind::OneTimeKem, id, prekeys.keys.one_time_kem[&id].secret.public_key().to_vec())
            }
            _ => {
                let id = prekeys.add_last_resort(created, rng).unwrap();
                (
                    Kind::LastResort,
                    id,
                    prekeys.keys.last_resort[&id].secret.secret.public_key().to_vec(),
                )
            }
        };
        assert_eq!(id, number::<u32>(&case["id"]));
        assert_eq!(hex(&public), case["public"]);
        let signed = kind.signed_bytes(id, created, &public);
        assert_eq!(hex(&signed), case["signed"]);
        assert_eq!(hex(&identity.sign(&signed)), case["signature"]);
    }
    bundles(&file, &identity, &prekeys);
}

/// The bundles, put together from the prekeys they name.
fn bundles(file: &Value, identity: &IdentityKeyPair, prekeys: &Prekeys) {
    let id = |name: &Value| {
        let named = file["prekeys"].as_array().unwrap().iter().find(|case| case["name"] == *name);
        named.map(|case| number::<u32>(&case["id"]))
    };
    for case in file["bundles"].as_array().unwrap() {
        let (signed, kem, one_time) = (id(&case["spk"]), id(&case["kem"]), id(&case["opk"]));
        let only = |wanted: Option<u32>| {
            let mut keys: Keys = postcard::from_bytes(&prekeys.encode()[1..]).unwrap();
            keys.signed.retain(|id, _| Some(*id) == signed);
            keys.one_time.retain(|id, _| Some(*id) == one_time);
            keys.one_time_kem.retain(|id, _| Some(*id) == wanted);
            keys.last_resort.retain(|id, _| Some(*id) == wanted);
            keys
        };
        let bundle = PublishedPrekeys::new(&only(kem), (0, 0), identity).pop_bundle().unwrap();
        assert_eq!(bundle.encode(), bytes(&case["encoding"]));
        assert_eq!(bundle.encode().len(), number::<usize>(&case["length"]));
        assert_eq!(Bundle::decode(&bundle.encode()).as_ref(), Ok(&bundle));
        let own = stranger();
        assert_eq!(
            bundle.verify(&own, number(&file["now"])).unwrap().identity(),
            identity.public_key()
        );
    }
}

#[test]
fn rotation_keeps_the_previous_keys_for_their_grace_period() {
    let (_, mut prekeys) = pair();
    let rng = &mut Replay::stream("rotation", 0);
    assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::ROTATION - 1, rng), Ok(false));
    assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::ROTATION, rng), Ok(true));
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
    prekeys.keys.expire(NOW + Prekeys::GRACE);
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
    prekeys.keys.expire(NOW + Prekeys::GRACE + 1);
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
    // The current ones are kept whatever their age, and through the rotation that replaces them.
    prekeys.keys.expire(u64::MAX);
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
    assert_eq!(prekeys.rotate_if_due(NOW + 3 * Prekeys::GRACE, rng), Ok(true));
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
    assert_eq!(prekeys.rotate_if_due(NOW + 3 * Prekeys::GRACE, rng), Ok(false));
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
}

#[test]
fn a_clock_that_was_ahead_is_mended_by_a_rotation() {
    let (_, mut prekeys) = pair();
    let rng = &mut Replay::stream("rotation", 0);
    assert!(!prekeys.rotation_due(NOW - DAY));
    assert_eq!(prekeys.rotate_if_due(NOW - DAY - 1, rng), Ok(true));
    assert!(!prekeys.rotation_due(NOW - DAY - 1));
}

#[test]
fn refilling_counts_what_the_server_holds() {
    let (identity, mut prekeys) = pair();
    let mut server = prekeys.publish(&identity);
    assert!(server.pop_bundle().is_some());
    let (known, rng) = (prekeys.last_id(), &mut Replay::stream("refill", 0));
    assert_eq!(prekeys.refill(server.one_time_count(), 4, NOW, rng), Ok(3));
    server.merge(prekeys.publish_since(known, &identity));
    assert_eq!((server.one_time_count(), prekeys.one_time_count()), (4, 5));
    assert_eq!(PublishedPrekeys::decode(&server.encode()), Ok(server.clone()));
    // Uploading the same again, or all of it, adds nothing twice, not even when all was given away.
    while server.one_time_count() > 0 {
        assert!(server.pop_bundle().is_some());
    }
    server.merge(prekeys.publish(&identity));
    assert_eq!(server.one_time_count(), 0);
    assert_eq!(prekeys.refill(4, 4, NOW, rng), Ok(0));
}

#[test]
fn without_one_time_prekeys_the_last_resort_key_serves() {
    let (identity, prekeys) = pair();
    let mut server = prekeys.publish(&identity);
    let bundles: Vec<Bundle> = core::iter::from_fn(|| server.pop_bundle()).take(4).collect();
    let verified = bundles.into_iter().map(|bundle| bundle.verify(&stranger(), NOW));
    let one_time: Vec<bool> = verified.map(|bundle| bundle.unwrap().is_one_time()).collect();
    assert_eq!(one_time, [true, true, false, false]);
}

#[test]
fn ids_end() {
    let (_, mut prekeys) = pair();
    prekeys.keys.last_id = u32::MAX - 3;
    let before = prekeys.encode();
    let rng = &mut Replay::counting();
    assert_eq!(prekeys.refill(0, 2, NOW, rng), Err(Error::Exhausted));
    assert_eq!(prekeys.encode(), before);
    assert_eq!(prekeys.refill(0, 1, NOW, rng), Ok(1));
    assert!(prekeys.add_signed(NOW, rng).is_ok());
    assert_eq!(prekeys.add_signed(NOW, rng), Err(Error::Exhausted));
    assert_eq!(prekeys.rotate_if_due(u64::MAX, rng), Err(Error::Exhausted));
}

/// The ephemeral key number so and so.
fn ephemeral_key(number: u32) -> PublicKey {
    PublicKey::new(kdf::hash(&[&number.to_be_bytes()]))
}

/// Of the last-resort key that `pair` begins with.
const ALONE: PrekeyIds = PrekeyIds { signed: 1, one_time: None, kem: 2 };

#[test]
fn remembered_handshakes_make_a_rotation_due_and_go_with_the_key() {
    let (_, mut prekeys) = pair();
    for number in 0..4_096 {
        assert!(!prekeys.rotation_due(NOW));
        let key = ephemeral_key(number);
        prekeys.consume(&ALONE, &key);
        assert_eq!(prekeys.secrets(&ALONE, &key).map(drop), Err(Error::Replay));
    }
    assert!(prekeys.rotation_due(NOW));
    let rng = &mut Replay::stream("rotation", 0);
    assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(true));
    assert!(!prekeys.rotation_due(NOW));
    assert_eq!(prekeys.keys.accepted.len(), 4_096);
    prekeys.keys.expire(NOW + Prekeys::GRACE + 1);
    assert_eq!(prekeys.keys.accepted.len(), 0);
}

#[test]
fn a_last_resort_key_accepts_8192_handshakes_and_is_deleted_once_it_is_replaced() {
    let (_, mut prekeys) = pair();
    for number in 0..8_192 {
        assert!(prekeys.secrets(&ALONE, &ephemeral_key(number)).is_ok(), "{number}");
        prekeys.consume(&ALONE, &ephemeral_key(number));
    }
    // Whether it is new or a replay: the sender needs a fresh bundle.
    for number in [0, 8_191, 8_192] {
        let refused = prekeys.secrets(&ALONE, &ephemeral_key(number)).map(drop);
        assert_eq!(refused, Err(Error::UnknownPrekey));
    }
    // With a one-time prekey there is nothing to remember.
    let one_time = *prekeys.keys.one_time.first_key_value().unwrap().0;
    let ids = PrekeyIds { one_time: Some(one_time), ..ALONE };
    assert!(prekeys.secrets(&ids, &ephemeral_key(8_192)).is_ok());

    let rng = &mut Replay::stream("rotation", 0);
    assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(true));
    assert!(prekeys.keys.last_resort.contains_key(&2), "for the messages that already wait");
    assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(false));
    assert!(!prekeys.keys.last_resort.contains_key(&2));
    assert!(prekeys.keys.signed.contains_key(&1), "it still answers with one-time KEM keys");
    assert_eq!(prekeys.keys.accepted.len(), 0);
}

#[test]
fn rotations_that_come_early_leave_32_keys() {
    let (_, mut prekeys) = pair();
    let rng = &mut Replay::stream("rotation", 0);
    for _ in 0..40 {
        prekeys.add_signed(NOW, rng).unwrap();
        prekeys.add_last_resort(NOW, rng).unwrap();
    }
    let newest = prekeys.last_id();
    assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(false));
    assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (32, 32));
    assert!(prekeys.keys.last_resort.contains_key(&newest));
}

#[test]
fn the_same_upload_twice_changes_nothing() {
    let (identity, prekeys) = pair();
    let mut server = prekeys.publish(&identity);
    for _ in 0..2 {
        server.merge(prekeys.publish(&identity));
        assert_eq!(server, prekeys.publish(&identity));
    }
}

#[test]
fn one_time_keys_of_a_clock_that_was_ahead_leave_the_server_with_the_rotation() {
    let rng = &mut Replay::stream("ahead", 0);
    let identity = IdentityKeyPair::generate(rng);
    let mut prekeys = Prekeys::generate(3, NOW + 365 * DAY, rng).unwrap();
    let mut server = prekeys.publish(&identity);
    let known = prekeys.last_id();
    assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(true));
    server.merge(prekeys.publish_since(known, &identity));
    assert_eq!(server.one_time_count(), 0);
    assert_eq!(prekeys.refill(server.one_time_count(), 3, NOW, rng), Ok(3));
    server.merge(prekeys.publish_since(known, &identity));
    assert_eq!(server.one_time_count(), 3);
    while server.one_time_count() > 0 {
        assert!(server.pop_bundle().unwrap().verify(&stranger(), NOW).is_ok());
    }
    // A key that is newer than the signed prekey is no sign of anything.
    let known = prekeys.last_id();
    assert_eq!(prekeys.refill(0, 1, NOW + 6 * DAY, rng), Ok(1));
    server.merge(prekeys.publish_since(known, &identity));
    assert_eq!(server.one_time_count(), 1);
}

#[test]
fn the_stored_form_is_read_back_and_nothing_else_is() {
    let (identity, mut prekeys) = pair();
    prekeys.consume(&ALONE, &PublicKey::new([1; 32]));
    let stored = prekeys.encode();
    let again = Prekeys::decode(&stored).unwrap();
    assert_eq!(again.encode(), stored);
    assert_eq!(again.publish(&identity), prekeys.publish(&identity));
    for length in 0..stored.len() {
        assert_eq!(Prekeys::decode(&stored[..length]).map(drop), Err(Error::BadState));
    }
    let json = serde_json::to_vec(&prekeys).unwrap();
    assert_eq!(serde_json::from_slice::<Prekeys>(&json).unwrap().encode(), stored);
}
