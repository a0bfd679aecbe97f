//! The rules, one by one, and on every history of two devices within bounds.

use alloc::vec;

use explore::{Bounds, Search, explore};
use rules::{
    AnyEvidence, EachAsShort, EvidenceOnAsking, ExpiryBack, HealDisplaces, LastWins, NoClose,
    OneAsking, OneStrike, Right, Rules,
};

use super::*;
use crate::identity::IdentityKeyPair;
use crate::testing::Replay;

mod devices;
mod explore;
mod rules;

/// Nothing may happen.
const NONE: Bounds = Bounds {
    texts: 0,
    mails: 6,
    sessions: 4,
    noise: 0,
    garble: 0,
    lose: 0,
    restore: 0,
    expire: 0,
    age: 0,
    dead: 0,
    reset: 0,
    corrupt: 0,
};

/// Bounds, the least number of states within them, and the most deliveries until a text is there.
type Set = (Bounds, usize, usize);

/// From one session that both write in, with bundles that come at once.
const PROMPT: [Set; 4] = [
    (Bounds { texts: 2, noise: 1, garble: 1, ..NONE }, 1_700, 1),
    (Bounds { texts: 2, noise: 1, lose: 1, ..NONE }, 6_300, 3),
    (Bounds { texts: 2, restore: 1, ..NONE }, 2_100, 3),
    (Bounds { texts: 1, garble: 1, lose: 1, expire: 1, ..NONE }, 450, 3),
];

/// The same with bundles that come at any time.
const LATER: [Set; 3] = [
    (Bounds { texts: 1, garble: 1, lose: 1, age: 1, corrupt: 1, ..NONE }, 2_600, 3),
    (Bounds { texts: 1, garble: 1, restore: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 1, noise: 1, garble: 1, age: 2, ..NONE }, 2_500, 1),
];

/// From nothing, with bundles that come at any time.
const BEGINNING: [Set; 4] = [
    (Bounds { texts: 2, expire: 1, age: 1, dead: 1, ..NONE }, 2_000, 3),
    (Bounds { texts: 1, lose: 1, expire: 1, dead: 1, reset: 1, ..NONE }, 1_400, 3),
    (Bounds { texts: 3, lose: 1, dead: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 1, noise: 1, age: 2, reset: 1, corrupt: 1, ..NONE }, 1_100, 3),
];

/// Larger ones, for each beginning.
const LARGE: [Set; 5] = [
    (Bounds { texts: 2, noise: 2, garble: 1, age: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 2, noise: 1, garble: 1, lose: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 1, garble: 1, lose: 1, restore: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 2, lose: 1, expire: 1, dead: 1, reset: 1, ..NONE }, 1_000, 9),
    (Bounds { texts: 2, noise: 1, age: 1, reset: 1, corrupt: 1, ..NONE }, 1_000, 9),
];

fn check(sets: &[Set], healthy: bool, prompt: bool, late: usize) {
    let explore = |&(bounds, least, most): &Set| {
        let found = explore(&Right, &Search { bounds, healthy, prompt, late })
            .unwrap_or_else(|why| panic!("{why}"));
        std::println!("{bounds:?}: {found:?}");
        assert!(found.states >= least, "{bounds:?} has only {found:?}");
        assert!(found.deliveries <= most, "{bounds:?} takes {found:?}");
    };
    std::thread::scope(|scope| {
        for set in sets {
            scope.spawn(move || explore(set));
        }
    });
}

#[test]
fn two_devices_keep_to_one_session_whatever_comes() {
    check(&PROMPT, true, true, 1);
}

#[test]
fn they_do_while_bundles_are_slow() {
    check(&LATER, true, false, 3);
}

#[test]
fn they_do_from_the_first_text_on() {
    check(&BEGINNING, false, false, 0);
}

/// With more of everything, where `SUBROSA_MODEL=large` asks for it: some minutes.
#[test]
fn they_do_within_larger_bounds() {
    if std::env::var("SUBROSA_MODEL").is_ok_and(|size| size == "large") {
        for (healthy, prompt) in [(true, true), (true, false), (false, true), (false, false)] {
            check(&LARGE, healthy, prompt, 2);
        }
    }
}

#[test]
fn a_fault_in_the_rules_is_found() {
    let displaced = "noise displaced a healthy session";
    let older = "an older session is written in again";
    let faults: [(&str, &dyn Rules, Search, &str); 9] = [
        ("one strike", &OneStrike, HEALTHY, displaced),
        ("evidence on asking", &EvidenceOnAsking, HEALTHY, displaced),
        ("heal displaces", &HealDisplaces, HEALTHY, displaced),
        ("last wins", &LastWins, HEALTHY, displaced),
        ("any evidence", &AnyEvidence, HEALTHY, displaced),
        ("expiry back", &ExpiryBack, of(BEGINNING[0], false), older),
        ("no close", &NoClose, of(LATER[0], true), older),
        ("one asking", &OneAsking, PUNCTUAL, "they ask whenever they meet"),
        ("each as short", &EachAsShort, of(LATER[0], true), "they ask for ever where mail is late"),
    ];
    for (name, rules, search, why) in faults {
        let found = explore(rules, &search).expect_err(name);
        assert!(found.starts_with(why), "{name}: {found}");
        explore(&Right, &search).unwrap();
    }
}

const HEALTHY: Search = Search { bounds: PROMPT[0].0, healthy: true, prompt: true, late: 0 };

const PUNCTUAL: Search = Search { late: 0, ..of(LATER[1], true) };

const fn of((bounds, ..): Set, healthy: bool) -> Search {
    Search { bounds, healthy, prompt: false, late: 3 }
}

const EXPIRY: u64 = 30 * 24 * 60 * 60;

fn id(byte: u8) -> SessionId {
    postcard::from_bytes(&[&[32][..], &[byte; 32]].concat()).unwrap()
}

fn record() -> DeviceRecord {
    DeviceRecord::new(IdentityKeyPair::generate(&mut Replay::counting()).public_key(), 0)
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(NOW + secs).unwrap()
}

const NOW: u64 = 1_800_000_000;

/// A session of the peer's in which it writes.
fn hear(record: &mut DeviceRecord, byte: u8, rank: u64) -> Vec<SessionId> {
    let mut dropped = record.accept(id(byte), rank, at(0), false).unwrap();
    dropped.extend(record.opened(&id(byte), false, Some(rank), u64::MAX).unwrap());
    dropped
}

fn writing(record: &DeviceRecord) -> Option<SessionId> {
    record.writing().map(|entry| entry.id)
}

#[test]
fn the_higher_rank_is_written_in_and_then_the_smaller_id() {
    let mut record = record();
    for (byte, rank, expected) in
        [(5, NOW, 5), (6, NOW, 5), (4, NOW, 4), (3, NOW - 1, 4), (9, NOW + 1, 9)]
    {
        hear(&mut record, byte, rank);
        assert_eq!(writing(&record), Some(id(expected)));
    }
}

#[test]
fn a_rank_out_of_reach_is_refused_and_changes_nothing() {
    let mut record = record();
    let before = record.encode();
    for rank in [0, NOW + MAX_CLIMB + 1, u64::MAX] {
        assert_eq!(record.accept(id(1), rank, at(0), false), Err(Error::Malformed));
        assert_eq!(record.encode(), before);
    }
    record.accept(id(1), NOW + MAX_CLIMB, at(0), false).unwrap();
    record.accept(id(2), NOW + 2 * MAX_CLIMB, at(0), false).unwrap();
    assert_eq!(record.next_rank(at(0)), NOW + 2 * MAX_CLIMB + 1);
}

#[test]
fn a_rank_that_changes_is_refused_and_changes_nothing() {
    let mut record = record();
    record.accept(id(1), NOW, at(0), true).unwrap();
    record.opened(&id(1), true, Some(NOW), u64::MAX).unwrap();
    let before = record.encode();
    assert_eq!(record.opened(&id(1), false, Some(NOW + 1), u64::MAX), Err(Error::Malformed));
    assert_eq!(record.encode(), before);
    record.opened(&id(1), false, None, u64::MAX).unwrap();
    assert_eq!(writing(&record), Some(id(1)));
}

#[test]
fn a_sixth_session_drops_the_lowest_and_never_the_one_written_in() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    // Late mail of old sessions comes after it, and is above nothing.
    for byte in 2..6 {
        assert_eq!(hear(&mut record, byte, NOW - u64::from(byte)), []);
    }
    assert_eq!(hear(&mut record, 6, NOW - 6), [id(6)]);
    assert_eq!(hear(&mut record, 7, NOW + 7), [id(5)]);
    assert_eq!(writing(&record), Some(id(7)));
    // A session that is closed by a reset makes room before the one that is begun then.
    record.close_all();
    let dropped = record.begin(id(8), at(0), false);
    assert_eq!((dropped, writing(&record)), (vec![id(4)], Some(id(8))));
}

#[test]
fn a_side_has_two_sessions_that_only_ask() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    assert_eq!(record.begin(id(2), at(0), true), []);
    assert_eq!(record.begin(id(4), at(0), true), []);
    assert_eq!(record.accept(id(3), NOW + 3, at(0), true).unwrap(), []);
    assert_eq!(record.accept(id(5), NOW + 1, at(0), true).unwrap(), []);
    // What is asked for, is asked for in the newer one.
    assert_eq!(record.ask_in(at(0)), AskIn::Session(id(4)));
    assert_eq!(record.begin(id(6), at(0), true), [id(2)]);
    assert_eq!(record.accept(id(7), NOW + 2, at(0), true).unwrap(), [id(5)]);
    assert_eq!((writing(&record), record.sessions().len()), (Some(id(1)), 5));
    // One that was heard is no such session any more.
    record.opened(&id(6), false, None, u64::MAX).unwrap();
    assert_eq!(record.begin(id(8), at(0), true), []);
    assert_eq!(writing(&record), Some(id(6)));
}

#[test]
fn it_asks_where_the_peer_may_read_it() {
    let mut record = record();
    assert_eq!(record.ask_in(at(0)), AskIn::NewSession);
    drop(record.begin(id(1), at(0), false));
    assert_eq!(record.ask_in(at(YOUNG)), AskIn::Session(id(1)));
    // One request in a session that the peer may not be able to open is enough.
    record.requested(&id(1));
    assert_eq!(record.ask_in(at(0)), AskIn::NewAsking);
    record.opened(&id(1), false, None, u64::MAX).unwrap();
    assert_eq!(record.ask_in(at(0)), AskIn::NewAsking);
    drop(record.begin(id(2), at(0), true));
    assert_eq!(record.ask_in(at(YOUNG - 1)), AskIn::Session(id(2)));
    assert_eq!(record.ask_in(at(YOUNG)), AskIn::NewAsking);
    assert!(record.asks_in(&id(2)) && !record.asks_in(&id(1)));
}

#[test]
fn each_session_that_asks_is_asked_in_for_longer_than_the_one_before_and_a_day_at_most() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    let (mut begun, mut next) = (Vec::new(), 2);
    for minute in 0..6 * 24 * 60 {
        let now = at(60 * minute);
        assert_eq!(record.age(now, EXPIRY), []);
        // Whatever comes, however often: it is noise that a server makes.
        if record.ask_in(now) == AskIn::NewAsking {
            drop(record.begin(id(next), now, true));
            begun.push(minute);
            next += 1;
        }
        assert_eq!(record.ask_in(now), AskIn::Session(id(next - 1)));
    }
    assert_eq!(begun, [0, 5, 25, 105, 425, 1_705, 3_145, 4_585, 6_025, 7_465]);
}

#[test]
fn a_clock_that_was_wrong_keeps_nothing_in_use_for_longer_than_a_day() {
    for wrong in [1_000 * EXPIRY, 0] {
        let mut record = record();
        hear(&mut record, 1, NOW);
        drop(record.begin(id(2), at(wrong), true));
        drop(record.begin(id(3), at(500 * EXPIRY), true));
        drop(record.begin(id(4), at(1_000 * EXPIRY - wrong), true));
        let now = 500 * EXPIRY + 7;
        drop(record.age(at(now), EXPIRY));
        assert_eq!(record.ask_in(at(now + MOST_YOUNG)), AskIn::NewAsking, "{wrong}");
        // What seems to be of the future is as old as it was when that was noticed.
        drop(record.age(at(now + ASKING_AGE + 1), EXPIRY));
        assert_eq!(record.sessions().len(), 1, "{wrong}");
    }
}

#[test]
fn what_nobody_answers_ends_and_nothing_older_takes_its_place() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    record.entry_mut(&id(1)).unwrap().heard = false;
    drop(record.begin(id(2), at(0), false));
    drop(record.begin(id(3), at(0), true));
    assert_eq!(record.age(at(ASKING_AGE), EXPIRY), []);
    assert_eq!(record.age(at(ASKING_AGE + 1), EXPIRY), [id(3)]);
    assert_eq!((record.age(at(EXPIRY), EXPIRY), writing(&record)), (vec![], Some(id(2))));
    assert_eq!((record.age(at(EXPIRY + 1), EXPIRY), writing(&record)), (vec![], None));
}

#[test]
fn a_session_that_a_fast_clock_began_gets_old_too() {
    let mut record = record();
    drop(record.begin(id(1), at(1_000 * EXPIRY), false));
    drop(record.age(at(0), EXPIRY));
    assert_eq!(writing(&record), Some(id(1)));
    drop(record.age(at(EXPIRY + 1), EXPIRY));
    assert_eq!(writing(&record), None);
}

#[test]
fn all_that_is_closed_stays_closed_and_so_does_what_comes_below() {
    let mut record = record();
    hear(&mut record, 5, NOW);
    record.close_all();
    for (byte, rank) in [(1, NOW), (2, NOW - 1), (0, NOW)] {
        hear(&mut record, byte, rank);
        assert_eq!(writing(&record), None, "{byte}");
    }
    hear(&mut record, 9, NOW + 1);
    assert_eq!(writing(&record), Some(id(9)));
    assert_eq!(record.drop_all().len(), 5);
    assert_eq!(record.known_ids().count(), 5);
}

#[test]
fn a_first_request_casts_doubt_and_a_second_closes() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    record.accept(id(2), NOW + 1, at(0), true).unwrap();
    record.opened(&id(2), true, Some(NOW + 1), u64::MAX).unwrap();
    record.made = 10;
    let holds = short(&id(1));
    let mut asked = Asked { asked_in: id(2), holds, made_in: id(1), evidence: Some(9) };
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Request, Some(id(1))));
    asked.evidence = None;
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Writing, Some(id(1))));
    asked.evidence = Some(9);
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Request, Some(id(1))));
    asked.evidence = Some(10);
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Writing, Some(id(2))));
}

#[test]
fn one_request_in_the_session_that_it_speaks_of_closes_nothing_either() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    record.made = 10;
    let mut asked =
        Asked { asked_in: id(1), holds: short(&id(1)), made_in: id(1), evidence: Some(9) };
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Request, Some(id(1))));
    asked.evidence = Some(10);
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Writing, None));
}

#[test]
fn an_asker_that_holds_another_session_closes_at_once() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    record.accept(id(2), NOW + 1, at(0), true).unwrap();
    let asked = Asked { asked_in: id(2), holds: [0; 8], made_in: id(1), evidence: Some(0) };
    assert_eq!((record.asked(&asked), writing(&record)), (AnswerIn::Writing, Some(id(2))));
}

#[test]
fn a_row_that_cannot_be_read_closes_what_is_below_only_where_it_was_written_in() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    drop(record.begin(id(2), at(0), true));
    record.lose(&id(2));
    assert_eq!((writing(&record), record.sessions().len()), (Some(id(1)), 1));
    assert_eq!(record.ask_in(at(0)), AskIn::NewAsking);
    hear(&mut record, 3, NOW + 3);
    hear(&mut record, 2, NOW + 2);
    record.lose(&id(3));
    assert_eq!((writing(&record), record.sessions().len()), (None, 2));
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let mut record = record();
    hear(&mut record, 1, NOW);
    drop(record.begin(id(2), at(0), true));
    record.lose(&id(1));
    (record.opened, record.made, record.logged, record.requests) = (1, 2, 3, 4);
    let encoded = record.encode();
    let read = DeviceRecord::decode(&encoded).unwrap();
    assert_eq!(read.encode(), encoded);
    assert_eq!((read.entries, read.dropped), (record.entries.clone(), record.dropped.clone()));
    assert!(DeviceRecord::decode(&encoded[..encoded.len() - 1]).is_err());
}
