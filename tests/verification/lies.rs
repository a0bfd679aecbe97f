//! Somebody in between, and devices that do not keep to the rules.

use rand_core::Rng;
use sha2::{Digest, Sha256};
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Table;
use subrosa::{
    Address, DeviceList, Error, Event, Received, Role, SasEnd, SasStage, Scanned, Trust,
};

use crate::ceremonies::{accept, acquainted, ended, start, trust, value};
use crate::liar::{Heard, Liar, Saying};
use crate::world::{App, World, events, inbox};

/// A user with both keys, as they enter what is hashed.
type Party<'a> = (&'a str, [u8; 32], [u8; 32]);

/// `T` of docs/verification.md, 4, by hand.
fn transcript(id: &[u8; 16], starter: Party<'_>, other: Party<'_>) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(b"Subrosa v1 sas").chain_update(id);
    for (user, account, device) in [starter, other] {
        hash = hash.chain_update([user.len() as u8]).chain_update(user);
        hash = hash.chain_update(account).chain_update(device);
    }
    hash.finalize().into()
}

fn commitment(transcript: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(b"Subrosa v1 sas commit").chain_update(transcript);
    hash.chain_update(nonce).finalize().into()
}

/// The start of a comparison with a client, committed to a nonce.
fn start_of(liar: &Liar, app: &mut App, id: &[u8; 16], nonce: &[u8; 32]) -> Saying {
    let own = app.address().user.clone();
    let account = app.trust(&own).unwrap().unwrap().account.encode();
    let to = (own.as_str(), account, app.identity_key().encode());
    let [account, identity] = [&liar.account, &liar.identity].map(|key| key.public_key().encode());
    let from = (liar.address.user.as_str(), account, identity);
    let commitment = commitment(&transcript(id, from, to), nonce);
    Saying::raw(9, &[&id[..], &commitment].concat())
}

/// Says something, which is taken.
fn tell(liar: &mut Liar, world: &mut World, app: &mut App, talk: usize, saying: &Saying) {
    assert_eq!(liar.tell(world, app, talk, saying), Received::Handled);
}

fn nonce_of(id: &[u8; 16], nonce: &[u8; 32]) -> Saying {
    Saying::raw(10, &[&id[..], nonce].concat())
}

/// The moves among what was heard: kind and body.
fn moves(heard: Vec<Heard>) -> Vec<(u8, Vec<u8>)> {
    let moves = heard.into_iter().filter(|heard| (8..=11).contains(&heard.kind));
    moves.map(|heard| (heard.kind, heard.body)).collect()
}

/// Everything that a device was told since.
fn told(world: &mut World, app: &mut App, liar: &mut Liar) -> Vec<(u8, Vec<u8>)> {
    world.settle(app);
    moves(liar.hear_all(world))
}

fn id_of(body: &[u8]) -> [u8; 16] {
    body[..16].try_into().unwrap()
}

/// Alice, and a liar who is her contact.
fn with_liar(name: &str) -> (World, App, crate::world::Disk, Liar, usize) {
    let mut world = World::new(name);
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    (world, alice, disk, liar, talk)
}

/// Alice and Bob with somebody in between who controls the server: to Alice it is "bob", to Bob it
/// is "alice".
struct Between {
    world: World,
    alice: App,
    bob: App,
    /// To Alice.
    as_bob: (Liar, usize),
    /// To Bob.
    as_alice: (Liar, usize),
}

impl Between {
    fn new(name: &str) -> Self {
        let mut world = World::new(name);
        let ((mut alice, _), (mut bob, _)) = (world.app("alice"), world.app("bob"));
        let pose = |world: &mut World, app: &mut App, user: &str| {
            let account = IdentityKeyPair::generate(&mut world.rng);
            let identity = IdentityKeyPair::generate(&mut world.rng);
            let list = DeviceList::first(&account, identity.public_key());
            world.lists.insert(user.into(), list.encode());
            let mut liar = Liar::posing(world, user, 1, account, identity, list);
            let talk = liar.befriend(world, app);
            world.lists.clear();
            (liar, talk)
        };
        let as_bob = pose(&mut world, &mut alice, "bob");
        let as_alice = pose(&mut world, &mut bob, "alice");
        Self { world, alice, bob, as_bob, as_alice }
    }
}

#[test]
fn somebody_in_between_is_seen_in_the_safety_number() {
    let Between { mut alice, mut bob, .. } = Between::new("between numbers");
    let (hers, his) = (alice.safety_number("bob").unwrap(), bob.safety_number("alice").unwrap());
    let both =
        [hers.groups(), his.groups()].map(|groups| [0, 6].map(|at| groups[at..at + 6].to_vec()));
    assert!(both[0].iter().all(|half| !both[1].contains(half)), "not even one half is the same");
}

#[test]
fn somebody_in_between_is_seen_by_a_scan_whatever_they_do_with_the_code() {
    let Between { mut world, mut alice, mut bob, mut as_bob, .. } = Between::new("between scans");
    let code = alice.show_code("bob", world.now, &mut world.rng).unwrap();
    // Bob scans Alice's own screen.
    let scanned = bob.scan("alice", &code, world.now, &mut world.rng);
    assert_eq!(scanned, Ok(Scanned::Mismatch));
    assert_eq!(trust(&mut bob, "alice"), Trust::FirstUse);
    // Somebody who saw the screen answers for him: Alice is told, and looks at Bob's phone.
    let bytes = data_encoding::BASE32_NOPAD.decode(&code.as_bytes()[9..]).unwrap();
    let (keys, secret) = (&bytes[1..65], &bytes[73..89]);
    let names = b"\x05alice\x03bob";
    let right = hmac(secret, &[b"Subrosa v1 scan", keys, names].concat());
    for (what, answer) in [
        ("another secret", hmac(&[0; 16], &[b"Subrosa v1 scan", keys, names].concat())),
        ("the names the other way round", {
            hmac(secret, &[b"Subrosa v1 scan", keys, b"\x03bob\x05alice"].concat())
        }),
        ("the secret itself", [secret, secret].concat().try_into().unwrap()),
    ] {
        let said = as_bob.0.tell(&mut world, &mut alice, as_bob.1, &Saying::raw(8, &answer));
        assert_eq!(said, Received::Handled);
        assert_eq!(events(&mut alice), [], "{what}");
    }
    let said = as_bob.0.tell(&mut world, &mut alice, as_bob.1, &Saying::raw(8, &right));
    assert_eq!(said, Received::Handled);
    assert_eq!(events(&mut alice), [Event::CodeScanned { user: "bob".into() }]);
    assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse, "a person decides that");
    // It says so once.
    tell(&mut as_bob.0, &mut world, &mut alice, as_bob.1, &Saying::raw(8, &right));
    assert_eq!(events(&mut alice), []);
    alice.hide_code("bob").unwrap();
    let confirmed = alice.confirm_scan("bob", world.now, &mut world.rng);
    assert_eq!(confirmed, Err(Error::OutOfTurn));
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[test]
fn somebody_in_between_is_seen_in_the_emoji_or_before() {
    for strategy in ["passes everything on", "compares with each", "passes the nonces on"] {
        let Between { mut world, mut alice, mut bob, mut as_bob, mut as_alice } =
            Between::new("between emoji");
        start(&mut world, &mut alice, "bob");
        let sent = told(&mut world, &mut alice, &mut as_bob.0);
        let [(9, begun)] = &sent[..] else { panic!("{sent:?}") };
        let (id, nonces) = (id_of(begun), [[0x31; 32], [0x32; 32]]);
        let said = match strategy {
            "passes everything on" => Saying::raw(9, begun),
            _ => start_of(&as_alice.0, &mut bob, &id, &nonces[0]),
        };
        tell(&mut as_alice.0, &mut world, &mut bob, as_alice.1, &said);
        accept(&mut world, &mut bob, "alice");
        let sent = told(&mut world, &mut bob, &mut as_alice.0);
        let [(10, answered)] = &sent[..] else { panic!("{sent:?}") };
        let said = match strategy {
            "compares with each" => nonce_of(&id, &nonces[1]),
            _ => Saying::raw(10, answered),
        };
        tell(&mut as_bob.0, &mut world, &mut alice, as_bob.1, &said);
        let sent = told(&mut world, &mut alice, &mut as_bob.0);
        let [(10, opened)] = &sent[..] else { panic!("{sent:?}") };
        let said = match strategy {
            "passes everything on" => Saying::raw(10, opened),
            _ => nonce_of(&id, &nonces[0]),
        };
        tell(&mut as_alice.0, &mut world, &mut bob, as_alice.1, &said);
        let hers = value(&world, &mut alice, "bob");
        match strategy {
            // What she committed herself to is between other keys.
            "passes everything on" => ended(&mut bob, SasEnd::Forged),
            _ => {
                let his = value(&world, &mut bob, "alice");
                assert_ne!(hers.emoji(), his.emoji());
                assert_ne!(hers.numbers(), his.numbers());
                // He reads her emoji to his screen: they are not the ones.
                let confirmed = bob.confirm_sas("alice", &hers, world.now, &mut world.rng);
                assert_eq!(confirmed, Err(Error::OutOfTurn));
            }
        }
        // A nonce that is known now changes nothing of what is shown.
        for nonce in [[0x41; 32], nonces[0], nonces[1]] {
            tell(&mut as_bob.0, &mut world, &mut alice, as_bob.1, &nonce_of(&id, &nonce));
            tell(&mut as_alice.0, &mut world, &mut bob, as_alice.1, &nonce_of(&id, &nonce));
        }
        assert_eq!(value(&world, &mut alice, "bob"), hers);
    }
}

#[test]
fn a_commitment_is_opened_once_for_one_device_and_one_nonce() {
    let mut world = World::new("opened once");
    let (mut alice, _) = world.app("alice");
    let mut one = Liar::new(&mut world, "mallory");
    let identity = IdentityKeyPair::generate(&mut world.rng);
    let (list, device) = one.list.with(&one.account, identity.public_key(), Role::Device).unwrap();
    one.list = list.clone();
    one.upload(&mut world);
    let talk = one.befriend(&mut world, &mut alice);
    let account = one.account.clone();
    let mut two = Liar::posing(&mut world, "mallory", device, account, identity, list);
    two.upload(&mut world);
    let other = two.befriend(&mut world, &mut alice);
    start(&mut world, &mut alice, "mallory");
    world.settle(&mut alice);
    let (first, second) = (moves(one.hear_all(&mut world)), moves(two.hear_all(&mut world)));
    let id = id_of(&first[0].1);
    assert_eq!(id_of(&second[0].1), id);
    assert_ne!(first[0].1, second[0].1, "each device has a commitment of its own");
    tell(&mut two, &mut world, &mut alice, other, &nonce_of(&id, &[1; 32]));
    let opened = told(&mut world, &mut alice, &mut two);
    assert!(matches!(&opened[..], [(10, _)]), "{opened:?}");
    let taken = moves(one.hear_all(&mut world));
    assert_eq!(taken, [(11, [&id[..], &[2]].concat())], "the others stop asking");
    let shown = value(&world, &mut alice, "mallory");
    // Another device, another nonce, and both.
    tell(&mut one, &mut world, &mut alice, talk, &nonce_of(&id, &[1; 32]));
    tell(&mut one, &mut world, &mut alice, talk, &nonce_of(&id, &[2; 32]));
    tell(&mut two, &mut world, &mut alice, other, &nonce_of(&id, &[2; 32]));
    world.settle(&mut alice);
    assert!(moves(one.hear_all(&mut world)).iter().all(|(kind, _)| *kind == 11));
    assert_eq!(moves(two.hear_all(&mut world)), []);
    // The same nonce again is answered as before.
    tell(&mut two, &mut world, &mut alice, other, &nonce_of(&id, &[1; 32]));
    assert_eq!(told(&mut world, &mut alice, &mut two), opened);
    assert_eq!(value(&world, &mut alice, "mallory"), shown);
    // What the device that is not compared with says of it does not count.
    for why in 0..6 {
        tell(&mut one, &mut world, &mut alice, talk, &Saying::raw(11, &[&id[..], &[why]].concat()));
    }
    assert_eq!(value(&world, &mut alice, "mallory"), shown);
    // From a store that was copied in between, it is not opened for another nonce either: what is
    // opened is in the row.
    assert_eq!(events(&mut alice), [Event::SasReady { user: "mallory".into() }]);
}

#[test]
fn an_id_is_answered_once_and_nothing_is_shown_before_it_is_opened() {
    let (mut world, mut alice, _, mut liar, talk) = with_liar("answered once");
    let (id, nonce) = ([7; 16], [8; 32]);
    let begin = start_of(&liar, &mut alice, &id, &nonce);
    tell(&mut liar, &mut world, &mut alice, talk, &begin);
    // Before the person accepts, a nonce says nothing.
    tell(&mut liar, &mut world, &mut alice, talk, &nonce_of(&id, &nonce));
    assert_eq!(alice.sas("mallory", world.now), Ok(Some(SasStage::Asked)));
    accept(&mut world, &mut alice, "mallory");
    let answered = told(&mut world, &mut alice, &mut liar);
    assert!(matches!(&answered[..], [(10, _)]));
    // The same start, and another one.
    tell(&mut liar, &mut world, &mut alice, talk, &begin);
    assert_eq!(told(&mut world, &mut alice, &mut liar), []);
    let other = start_of(&liar, &mut alice, &[9; 16], &nonce);
    tell(&mut liar, &mut world, &mut alice, talk, &other);
    let busy = told(&mut world, &mut alice, &mut liar);
    assert_eq!(busy, [(11, [&[9; 16][..], &[3]].concat())]);
    assert_eq!(alice.sas("mallory", world.now), Ok(Some(SasStage::Answered)));
    inbox(&mut alice);
    // Its own nonce, sent back, opens nothing.
    tell(&mut liar, &mut world, &mut alice, talk, &Saying::raw(10, &answered[0].1));
    ended(&mut alice, SasEnd::Forged);
    assert_eq!(alice.sas("mallory", world.now), Ok(None));
    let told = told(&mut world, &mut alice, &mut liar);
    assert_eq!(told, [(11, [&id[..], &[4]].concat())]);
}

#[test]
fn who_asks_without_end_is_heard_five_times_and_fills_nothing() {
    let (mut world, mut alice, disk, mut liar, talk) = with_liar("asks without end");
    let mut sizes = Vec::new();
    for round in 0..200_u8 {
        let begin = start_of(&liar, &mut alice, &[round; 16], &[round; 32]);
        let received = liar.tell(&mut world, &mut alice, talk, &begin);
        assert_eq!(received, Received::Handled);
        for kind in [8, 10] {
            let mut body = vec![round; if kind == 8 { 32 } else { 48 }];
            world.rng.fill_bytes(&mut body);
            let received = liar.tell(&mut world, &mut alice, talk, &Saying::raw(kind, &body));
            assert_eq!(received, Received::Handled);
        }
        sizes.push((disk.count(Table::Task), disk.count(Table::Inbox), disk.count(Table::Outbox)));
    }
    let asks = events(&mut alice);
    assert_eq!(asks, vec![Event::SasAsked { user: "mallory".into() }; 5]);
    assert_eq!(sizes[10], sizes[199], "rows of tasks, inbox and outbox");
    // Alice can stop being asked, and reach others.
    alice.cancel_sas("mallory", world.now, &mut world.rng).unwrap();
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    start(&mut world, &mut alice, "bob");
}

#[test]
fn a_move_of_the_wrong_length_is_refused_and_changes_nothing() {
    let (mut world, mut alice, disk, mut liar, talk) = with_liar("wrong lengths");
    for (kind, length) in [(8, 32), (9, 48), (10, 48), (11, 17)] {
        for wrong in [0, 1, 16, length - 1, length + 1, 200] {
            let before = disk.rows();
            let saying = Saying::raw(kind, &vec![1; wrong]);
            let received = liar.tell(&mut world, &mut alice, talk, &saying);
            assert_eq!(received, Received::Refused(Error::Malformed), "{kind}, {wrong} bytes");
            assert!(disk.rows() == before);
        }
        let saying = Saying::raw(kind, &vec![1; length]);
        let received = liar.tell(&mut world, &mut alice, talk, &saying);
        assert_eq!(received, Received::Handled);
    }
}

#[test]
fn a_move_of_an_own_device_is_ignored() {
    let (mut world, (mut alice, disk), _) = acquainted("own moves");
    let account = crate::world::stolen(&disk, b"account key");
    let new = subrosa::NewDevice::generate(&mut world.rng);
    let grant = alice.link(&new.code(), Role::Device, world.now, &mut world.rng).unwrap();
    let other = crate::world::Disk::default();
    let joined =
        subrosa::Client::join(other.clone(), &new, &grant, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let list = alice.devices("alice").unwrap().unwrap();
    let identity = crate::world::stolen(&other, b"identity");
    let device = joined.address().device;
    let mut liar = Liar::posing(&mut world, "alice", device, account, identity, list);
    liar.upload(&mut world);
    inbox(&mut alice);
    let talk = liar.begin(&mut world, &Address::new("alice", 1));
    for (kind, length) in [(8, 32), (9, 48), (10, 48), (11, 17)] {
        let saying = Saying::raw(kind, &vec![1; length]);
        let received = liar.tell(&mut world, &mut alice, talk, &saying);
        assert_eq!(received, Received::Handled);
    }
    assert_eq!(events(&mut alice), []);
}

#[test]
fn a_device_that_was_removed_takes_part_in_no_verification() {
    let (mut world, mut alice, _, mut liar, _) = with_liar("removed device");
    // A second device of Mallory's, which Alice hears, and which is removed then.
    let identity = IdentityKeyPair::generate(&mut world.rng);
    let account = liar.account.clone();
    let (list, device) = liar.list.with(&account, identity.public_key(), Role::Device).unwrap();
    let mut second =
        Liar::posing(&mut world, "mallory", device, account.clone(), identity, list.clone());
    let talk = second.begin(&mut world, &alice.address().clone());
    let hello = second.tell(&mut world, &mut alice, talk, &Saying::text(7, "hello"));
    assert!(matches!(hello, Received::Incoming(_)), "{hello:?}");
    let code = alice.show_code("mallory", world.now, &mut world.rng).unwrap();
    liar.list = list.without(&account, device).unwrap();
    let (list, now) = (liar.list.encode(), world.now);
    alice.update_devices("mallory", &list, now, &mut world.rng).unwrap();
    inbox(&mut alice);
    let begin = start_of(&second, &mut alice, &[1; 16], &[2; 32]);
    tell(&mut second, &mut world, &mut alice, talk, &begin);
    assert_eq!((events(&mut alice), alice.sas("mallory", now).unwrap()), (vec![], None));
    // It saw the code on the screen.
    let bytes = data_encoding::BASE32_NOPAD.decode(&code.as_bytes()[9..]).unwrap();
    let text = [b"Subrosa v1 scan", &bytes[1..65], b"\x05alice\x07mallory"].concat();
    let right = Saying::raw(8, &hmac(&bytes[73..89], &text));
    tell(&mut second, &mut world, &mut alice, talk, &right);
    assert_eq!(events(&mut alice), []);
    let talk = liar.begin(&mut world, &alice.address().clone());
    tell(&mut liar, &mut world, &mut alice, talk, &right);
    assert_eq!(events(&mut alice), [Event::CodeScanned { user: "mallory".into() }]);
}

#[test]
fn moves_that_are_refused_or_repeated_are_answered_within_an_allowance() {
    let (mut world, mut alice, _, mut liar, talk) = with_liar("repeated moves");
    start(&mut world, &mut alice, "mallory");
    let [(9, started)] = &told(&mut world, &mut alice, &mut liar)[..] else { panic!("a start") };
    let id = id_of(started);
    // Mallory answers, and they compare; then she repeats herself, and begins anew.
    tell(&mut liar, &mut world, &mut alice, talk, &nonce_of(&id, &[3; 32]));
    assert!(matches!(alice.sas("mallory", world.now), Ok(Some(SasStage::Compare(_)))));
    told(&mut world, &mut alice, &mut liar);
    let mut answers = 0;
    for round in 0..50_u8 {
        let begin = start_of(&liar, &mut alice, &[round; 16], &[round; 32]);
        for saying in [nonce_of(&id, &[3; 32]), begin] {
            tell(&mut liar, &mut world, &mut alice, talk, &saying);
        }
        answers += told(&mut world, &mut alice, &mut liar).len();
    }
    assert_eq!(answers, 32);
}

#[test]
fn a_code_is_over_after_ten_minutes_though_no_timer_ran() {
    let Between { mut world, mut alice, mut as_bob, .. } = Between::new("late answer");
    let code = alice.show_code("bob", world.now, &mut world.rng).unwrap();
    let bytes = data_encoding::BASE32_NOPAD.decode(&code.as_bytes()[9..]).unwrap();
    let text = [b"Subrosa v1 scan", &bytes[1..65], b"\x05alice\x03bob"].concat();
    let right = Saying::raw(8, &hmac(&bytes[73..89], &text));
    world.pass(601);
    tell(&mut as_bob.0, &mut world, &mut alice, as_bob.1, &right);
    assert_eq!(events(&mut alice), []);
}

#[test]
fn after_the_person_confirmed_the_other_side_takes_it_back_by_a_mismatch_alone() {
    let (mut world, mut alice, _, mut liar, talk) = with_liar("late ends");
    start(&mut world, &mut alice, "mallory");
    let [(9, started)] = &told(&mut world, &mut alice, &mut liar)[..] else { panic!("a start") };
    let id = id_of(started);
    tell(&mut liar, &mut world, &mut alice, talk, &nonce_of(&id, &[3; 32]));
    let shown = value(&world, &mut alice, "mallory");
    alice.confirm_sas("mallory", &shown, world.now, &mut world.rng).unwrap();
    inbox(&mut alice);
    for why in [0, 2, 3, 4] {
        let end = Saying::raw(11, &[&id[..], &[why]].concat());
        tell(&mut liar, &mut world, &mut alice, talk, &end);
        assert_eq!(events(&mut alice), [], "{why}");
        assert_eq!(trust(&mut alice, "mallory"), Trust::Verified, "{why}");
    }
    let mismatch = Saying::raw(11, &[&id[..], &[1]].concat());
    tell(&mut liar, &mut world, &mut alice, talk, &mismatch);
    ended(&mut alice, SasEnd::Mismatch);
    assert_eq!(trust(&mut alice, "mallory"), Trust::FirstUse);
}
