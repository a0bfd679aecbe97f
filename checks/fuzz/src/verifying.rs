//! Codes that are scanned, and the moves of a device that went bad while people compare.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE32_NOPAD;
use subrosa::{Error, Received, SasStage, SasValue, Scanned, Trust};

use crate::door::{DOOR, content};
use crate::household::{BEGIN, HOUSEHOLD, contents, copy, open};
use crate::input::Input;
use crate::network::Seeded;

/// A code of any bytes (0 first) or in letters as they are (anything else first): a user is
/// verified by a code for both account keys and both names, and otherwise nothing changes.
pub fn scan(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = match kind {
        0 => format!("SUBROSA1:{}", BASE32_NOPAD.encode(data)),
        _ => match str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
    };
    let rng = &mut Seeded::new(1, "scan");
    let mut store = HOUSEHOLD.with(|household| household.phone.clone());
    let before = contents(&mut store);
    let mut client = open(store);
    let scanned = client.scan("alice", &text, BEGIN, rng);
    let trust = client.trust("alice").expect("the store is sound").expect("she is known");
    assert_eq!(trust.trust == Trust::Verified, scanned == Ok(Scanned::Match));
    match scanned {
        Ok(Scanned::Match) => {
            let own = client.trust("bob").expect("the store is sound").expect("it is its own");
            let keys = [trust.account.encode(), own.account.encode()].concat();
            let letters: String = text.split_whitespace().collect::<String>().to_uppercase();
            let letters = letters.split_once(':').expect("it has a beginning").1;
            let bytes = BASE32_NOPAD.decode(letters.as_bytes()).expect("it is base32");
            assert_eq!((bytes.len(), &bytes[1..65]), (89, &keys[..]));
        }
        Ok(_) | Err(Error::BadScan) => assert!(contents(&mut client.into_store()) == before),
        other => panic!("{other:?}"),
    }
}

/// A device of Alice's went bad, and says what it likes while Bob starts, accepts and stops, and
/// never says that anything is the same: Alice is not verified, a nonce is opened once, what is
/// shown stays what it is, and the store stays small.
pub fn moves(data: &[u8]) {
    DOOR.with(|door| {
        let (rng, post) = (&mut Seeded::new(2, "moves"), &mut copy(&door.post));
        let (mut input, mut now) = (Input::new(data), BEGIN);
        let (mut phone, mut liar) = (open(door.phone.clone()), door.liars().swap_remove(0));
        post.settle(&mut phone, now, rng);
        let (list, mut reference) = (door.bad[0].list(), [3; 16]);
        let (mut ids, mut opened) = (vec![[7; 16]], BTreeMap::<[u8; 16], BTreeSet<Vec<u8>>>::new());
        let mut shown: Option<SasValue> = None;
        let mut begun = BTreeSet::new();
        for step in 0..40_u8 {
            let Some(choice) = input.byte() else { break };
            let id = ids[input.small() % ids.len()];
            let before = phone.sas("alice", now).expect("no key changed");
            let done = match choice % 12 {
                0 => phone.start_sas("alice", now, rng),
                1 => phone.accept_sas("alice", now, rng),
                2 => phone.cancel_sas("alice", now, rng),
                3 => phone.show_code("alice", now, rng).map(drop),
                4 => {
                    now = now.after(input.number() as u64 % 700);
                    Ok(())
                }
                choice => {
                    let (kind, body) = a_move(choice, &id, &mut input);
                    // Where nothing is under way, it begins a comparison of its own under the id.
                    if kind == 9 && before.is_none() {
                        let begins = |begun: &[u8; 16]| body.starts_with(begun);
                        begun.retain(|id| !begins(id));
                        opened.retain(|id, _| !begins(id));
                    }
                    reference[15] = step;
                    let said = content(kind, list, &[], &body);
                    let envelope = liar.envelope(reference, &said, rng);
                    let received = phone.receive(Some(liar.address()), &envelope, now, rng);
                    let is_taken = matches!(
                        received,
                        Ok(Received::Handled | Received::Refused(Error::Malformed))
                    );
                    assert!(is_taken, "{received:?}");
                    Ok(())
                }
            };
            let is_foreseen = matches!(done, Ok(()) | Err(Error::OutOfTurn | Error::RateLimited));
            assert!(is_foreseen, "{done:?}");
            post.settle(&mut phone, now, rng);
            for mail in post.take(liar.address()) {
                let Some((kind, id, rest)) = liar.hear(&mail).and_then(|said| heard(&said)) else {
                    continue;
                };
                match kind {
                    9 => {
                        ids.push(id);
                        begun.insert(id);
                    }
                    10 if begun.contains(&id) => drop(opened.entry(id).or_default().insert(rest)),
                    _ => {}
                }
            }
            let after = phone.sas("alice", now).expect("no key changed");
            match (before, after) {
                (Some(SasStage::Compare(one)), Some(SasStage::Compare(other))) => {
                    assert_eq!(one, other);
                }
                (_, Some(SasStage::Compare(value))) => {
                    assert_ne!(shown, Some(value), "no value comes twice");
                    shown = Some(value);
                }
                _ => {}
            }
        }
        assert!(opened.values().all(|nonces| nonces.len() <= 1), "a nonce is opened once");
        let trust = phone.trust("alice").expect("the store is sound").expect("she is known");
        assert_eq!(trust.trust, Trust::FirstUse);
        let mut store = phone.into_store();
        assert!(contents(&mut store).len() < contents(&mut door.phone.clone()).len() + 128);
    });
}

/// What the device hears: a kind of content, an id, and what follows. The fields are over at the
/// end: a body follows a zero.
fn heard(said: &[u8]) -> Option<(u8, [u8; 16], Vec<u8>)> {
    let (_, body) = said.split_last_chunk::<48>()?;
    let (id, rest) = body.split_first_chunk()?;
    Some((*said.first()?, *id, rest.to_vec()))
}

/// What the device says: a kind of content, and a body.
fn a_move(choice: u8, id: &[u8; 16], input: &mut Input<'_>) -> (u8, Vec<u8>) {
    match choice {
        5 => (8, input.run().to_vec()),
        6 | 7 => (9, [&id[..], &[input.byte().unwrap_or(0); 32]].concat()),
        8 | 9 => (10, [&id[..], &[input.byte().unwrap_or(0); 32]].concat()),
        10 => (11, [&id[..], &[input.byte().unwrap_or(0)]].concat()),
        _ => (8 + input.byte().unwrap_or(0) % 4, input.run().to_vec()),
    }
}
