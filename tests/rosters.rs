//! Rosters of groups by their known answers: histories with conflicts, in any order, and changes
//! that are refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

#[path = "support/own_vectors.rs"]
mod own_vectors;
#[path = "support/replay.rs"]
mod replay;
#[path = "../examples/vectors.rs"]
#[allow(dead_code, reason = "a part of what the example writes")]
mod written;

use replay::{Replay, bytes, hex, vectors};
use serde_json::Value;
use subrosa::group::{Change, GroupRole, Roster};
use subrosa::protocol::IdentityKeyPair;

/// The seed of the file.
const SEED: u64 = 1;

fn changes(case: &Value) -> Vec<Change> {
    let all = case["changes"].as_array().unwrap().iter();
    all.map(|change| Change::decode(&bytes(&change["bytes"])).unwrap()).collect()
}

/// The outcome that a case has is that of a roster.
fn is_outcome(case: &Value, roster: &Roster) {
    let name = &case["name"];
    assert_eq!(hex(roster.group().as_bytes()), case["group"], "{name}");
    for (change, read) in case["changes"].as_array().unwrap().iter().zip(changes(case)) {
        assert_eq!(hex(read.id().as_bytes()), change["id"], "{name}");
        assert_eq!(roster.counts(&read.id()), change["counts"], "{name}");
    }
    let members = case["members"].as_array().unwrap();
    assert_eq!(roster.members().len(), members.len(), "{name}");
    for (member, expected) in roster.members().iter().zip(members) {
        assert_eq!(hex(member.id.as_bytes()), expected["id"], "{name}");
        assert_eq!(*member.user, *expected["user"].as_str().unwrap(), "{name}");
        assert_eq!(hex(&member.account.encode()), expected["account"], "{name}");
        assert_eq!(member.role == GroupRole::Admin, expected["admin"], "{name}");
        assert_eq!(member.suspended, expected["suspended"], "{name}");
    }
    let settings = roster.settings().map(hex);
    assert_eq!(settings.as_deref(), case["settings"].as_str(), "{name}");
    let continues = roster.continues().map(|group| hex(group.as_bytes()));
    assert_eq!(continues.as_deref(), case["continues"].as_str(), "{name}");
    let heads: Vec<String> = roster.heads().iter().map(|id| hex(id.as_bytes())).collect();
    assert_eq!(Value::from(heads), case["heads"], "{name}");
}

#[test]
fn every_history_has_its_outcome_in_whatever_order_it_comes() {
    let file = vectors("group-roster.json");
    let mut cases = 0;
    for case in file["cases"].as_array().unwrap() {
        let all = changes(case);
        is_outcome(case, &Roster::from_changes(all.clone()).unwrap());
        // One by one, from the last to the first: what waits comes again.
        let mut roster = Roster::from_changes(all[..1].to_vec()).unwrap();
        let mut waiting = Vec::new();
        for change in all[1..].iter().rev() {
            waiting.push(change.clone());
            waiting = roster.merge(waiting).waiting;
        }
        assert_eq!(waiting, [], "{}", case["name"]);
        is_outcome(case, &roster);
        cases += 1;
    }
    assert_eq!(cases, 43);
    let count = |name: &str, is: bool| {
        let all = file["cases"].as_array().unwrap().iter();
        all.flat_map(|case| case[name].as_array().unwrap())
            .filter(|one| one["counts"] == is || one["suspended"] == is)
            .count()
    };
    // There is something to get wrong in them.
    assert!(count("changes", false) > 20 && count("members", true) > 3);
    for account in file["accounts"].as_array().unwrap() {
        let key = IdentityKeyPair::generate(&mut Replay::new([bytes(&account["seed"])]));
        assert_eq!(hex(&key.public_key().encode()), account["account"]);
    }
}

#[test]
fn every_fault_is_refused_by_name_and_changes_nothing() {
    let (_, faults) = written::rosters::rosters(SEED).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (file, _) in &faults {
        let case = vectors(&format!("reject/{file}"));
        let base = case["changes"].as_array().unwrap().iter();
        let base: Vec<Change> = base.map(|one| Change::decode(&bytes(one)).unwrap()).collect();
        let mut roster = Roster::from_changes(base).unwrap();
        let before = roster.encode();
        let error = match Change::decode(&bytes(&case["bytes"])) {
            Err(error) => format!("{error:?}"),
            Ok(change) => {
                let merged = roster.merge([change]);
                assert_eq!(merged.accepted, [], "{file}");
                match &merged.refused[..] {
                    [(_, error)] => format!("{error:?}"),
                    _ => "waits".into(),
                }
            }
        };
        assert_eq!(error, case["error"], "{file}");
        assert_eq!(roster.encode(), before, "{file}");
        names.insert(error);
    }
    let all =
        ["BadSignature", "InvalidKey", "Malformed", "NotPermitted", "UnsupportedVersion", "waits"];
    assert!(names.iter().eq(all), "{names:?}");
}

#[test]
fn the_vectors_are_what_the_example_writes() {
    let (answers, faults) = written::rosters::rosters(SEED).unwrap();
    own_vectors::check("group-roster.json", &answers, &faults, &["group-roster"]);
}

/// `cargo test --test rosters -- --ignored` writes them anew.
#[test]
#[ignore = "writes tests/vectors"]
fn write_the_vectors() {
    let (answers, faults) = written::rosters::rosters(SEED).unwrap();
    own_vectors::write("group-roster.json", &answers, &faults);
}
