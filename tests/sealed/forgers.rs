//! Envelopes that somebody made, copied, exchanged or repeated; and copies of stores.

use std::collections::BTreeSet;

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Answer, CallId, Delivery, DeviceList, Error, Event, Received, Role, Signal, SignalKind,
};

use super::post::Mail;
use super::world::{App, DAY, World, events, is_initial, read};

/// A regular sealed envelope from one to the other.
fn regular(world: &mut World, from: &mut App, to: &App, text: &str) -> Mail {
    world.write(from, &to.address().user, text);
    world.work(from);
    let mail = world.post.take(to.address());
    let [mail] = &mail[..] else { panic!("{mail:?}") };
    assert!(!is_initial(&mail.envelope));
    mail.clone()
}

/// Every row of a store.
pub(crate) fn rows(store: &mut Memory) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let all = store.transact(|tx| {
        let mut all = Vec::new();
        for table in Table::ALL {
            let rows = tx.scan(*table, &[], usize::MAX)?;
            all.extend(rows.into_iter().map(|(key, row)| (*table, key, row.to_vec())));
        }
        Ok::<_, Error>(all)
    });
    all.unwrap()
}

#[test]
fn an_exchanged_ticket_opens_nothing_and_makes_nobody_ask_at_once() {
    let world = &mut World::new("exchanged");
    let (mut alice, mut bob) = world.talking();
    let first = regular(world, &mut alice, &bob, "three");
    let second = regular(world, &mut alice, &bob, "four");
    let mut forged = first.clone();
    forged.envelope[18..34].copy_from_slice(&second.envelope[18..34]);
    let received = world.give(&mut bob, &forged);
    assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
    // The server learns nothing from what Bob does then: he does nothing.
    for _ in 0..30 {
        assert_eq!(bob.tasks(9, world.now, &mut world.rng).unwrap(), []);
        world.pass(60);
    }
    // The true ones are taken all the same.
    for mail in [&first, &second] {
        assert!(matches!(world.give(&mut bob, mail), Received::Incoming(_)));
    }
    assert_eq!(read(&mut bob), ["three", "four"]);
    // It is asked for along with the next text, and comes as a duplicate.
    world.write(&mut bob, "alice", "five");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["five"]);
    assert_eq!(read(&mut bob), Vec::<String>::new());
}

#[test]
fn a_repeated_envelope_is_a_duplicate_and_a_ticket_of_another_is_of_no_use() {
    let world = &mut World::new("replayed");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    world.write(&mut carol, "bob", "hello");
    world.settle_all(&mut [&mut carol, &mut bob]);
    world.write(&mut bob, "carol", "hello");
    world.settle_all(&mut [&mut carol, &mut bob]);
    let (ours, others) =
        (regular(world, &mut alice, &bob, "three"), regular(world, &mut carol, &bob, "four"));
    assert!(matches!(world.give(&mut bob, &ours), Received::Incoming(_)));
    for _ in 0..3 {
        assert_eq!(world.give(&mut bob, &ours), Received::Duplicate);
    }
    // Carol's ticket on Alice's envelope: no session with Carol opens it.
    let mut forged = ours;
    forged.envelope[18..34].copy_from_slice(&others.envelope[18..34]);
    let received = world.give(&mut bob, &forged);
    assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
    assert_eq!(bob.tasks(9, world.now, &mut world.rng).unwrap(), [], "not at once");
    assert!(matches!(world.give(&mut bob, &others), Received::Incoming(_)));
}

#[test]
fn a_first_message_that_comes_twice_is_a_duplicate_and_the_second_one_finds_its_session() {
    let world = &mut World::new("first twice");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for text in ["one", "two", "three"] {
        world.write(&mut alice, "bob", text);
        world.work(&mut alice);
    }
    let mail = world.post.take(bob.address());
    assert!(mail.len() == 3 && mail.iter().all(|mail| is_initial(&mail.envelope)));
    for at in [2, 0, 1] {
        assert!(matches!(world.give(&mut bob, &mail[at]), Received::Incoming(_)), "{at}");
        assert_eq!(world.give(&mut bob, &mail[at]), Received::Duplicate, "{at}");
    }
    assert_eq!(bob.sessions("alice").unwrap().len(), 1);
    let mut all = read(&mut bob);
    all.sort();
    assert_eq!(all, ["one", "three", "two"]);
}

/// They are in one session, which the open one began.
#[test]
fn a_sealed_first_message_that_an_open_one_overtakes_is_read() {
    let world = &mut World::with_certificates("overtaken");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.work(&mut alice);
    alice.deliver("bob", Delivery::Open, world.now, &mut world.rng).unwrap();
    world.write(&mut alice, "bob", "two");
    world.work(&mut alice);
    let mut mail = world.post.take(bob.address());
    assert_eq!(mail.iter().map(Mail::is_sealed).collect::<Vec<_>>(), [true, false]);
    mail.reverse();
    for mail in &mail {
        assert!(matches!(world.give(&mut bob, mail), Received::Incoming(_)));
    }
    assert_eq!(read(&mut bob), ["two", "one"]);
}

#[test]
fn a_flood_of_forged_tickets_costs_little_and_changes_nothing() {
    let world = &mut World::new("forged tickets");
    let (mut alice, bob) = world.talking();
    let genuine = regular(world, &mut alice, &bob, "three");
    let mut before = bob.into_store();
    let mut bob = world.open(before.clone());
    for round in 0..2_000_u32 {
        let mut forged = genuine.clone();
        let noise = u128::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        forged.envelope[18..34].copy_from_slice(&noise.to_be_bytes());
        let received = world.give(&mut bob, &forged);
        assert_eq!(received, Received::Refused(Error::UnknownHeader));
    }
    let mut after = bob.into_store();
    assert!(rows(&mut before) == rows(&mut after), "not a row is other than before");
    let mut bob = world.open(after);
    world.work(&mut bob);
    assert!(matches!(world.give(&mut bob, &genuine), Received::Incoming(_)));
    assert_eq!(bob.unknown_contacts().unwrap(), 0);
}

#[test]
fn a_flood_of_sealed_handshakes_takes_nothing_from_contacts() {
    let world = &mut World::new("handshakes");
    let (mut alice, mut bob) = world.talking();
    let mut mallory = world.create("mallory");
    world.write(&mut mallory, "bob", "noise");
    world.work(&mut mallory);
    let [noise] = &world.post.take(bob.address())[..] else { panic!() };
    let mut counts = [0; 2];
    for round in 0..200_u32 {
        let mut forged = noise.clone();
        // Another ephemeral key each time, and no ticket.
        forged.envelope[36..40].copy_from_slice(&round.to_be_bytes());
        match world.give(&mut bob, &forged) {
            Received::Refused(Error::RateLimited) => counts[1] += 1,
            Received::Refused(_) => counts[0] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts, [64, 136]);
    // What is over the allowance is refused; the contact's own is untouched, by its ticket.
    alice.reset(bob.address()).unwrap();
    world.write(&mut alice, "bob", "three");
    world.work(&mut alice);
    let [mail] = &world.post.take(bob.address())[..] else { panic!() };
    assert!(is_initial(&mail.envelope));
    let received = world.give(&mut bob, mail);
    assert!(matches!(received, Received::Incoming(_)), "{received:?}");
    // A stranger gets in again after two seconds.
    assert_eq!(world.give(&mut bob, noise), Received::Refused(Error::RateLimited));
    world.pass(2);
    assert!(matches!(world.give(&mut bob, noise), Received::Incoming(_)));
}

#[test]
fn the_tickets_of_a_contact_that_a_copy_does_not_know_are_counted_and_told() {
    let world = &mut World::new("older than the contact");
    let (mut alice, mut bob) = world.with_older_copy();
    // The copy has the keys that the tickets were made with only if it had made any.
    let told = events(&mut bob);
    let counted = bob.unknown_contacts().unwrap();
    let unknown = told.iter().filter(|event| matches!(event, Event::UnknownContact { .. }));
    assert_eq!(unknown.count() > 0, counted > 0, "{told:?}");
    // Once Bob writes, all of it heals.
    world.write(&mut bob, "alice", "hello");
    world.settle_all(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "six");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert!(read(&mut bob).contains(&"six".to_owned()));
}

#[test]
fn a_forgotten_user_is_told_of_by_number_alone_and_each_doubling() {
    let world = &mut World::new("forgotten");
    let (mut alice, mut bob) = world.talking();
    bob.forget("alice").unwrap();
    for round in 0..9 {
        let mail = regular(world, &mut alice, &bob, &format!("{round}"));
        assert_eq!(world.give(&mut bob, &mail), Received::Refused(Error::UnknownHeader));
        world.pass(1);
    }
    let told: Vec<Event> = events(&mut bob);
    let counts = [1, 2, 4, 8].map(|envelopes| Event::UnknownContact { envelopes });
    assert_eq!(told, counts);
    assert_eq!(bob.unknown_contacts().unwrap(), 9);
}

#[test]
fn of_a_user_who_is_forgotten_nothing_is_left_whatever_waits() {
    let world = &mut World::new("nothing is left");
    let (mut alice, mut bob) = world.talking();
    let mut tablet = world.link_as(&mut bob, Role::Device);
    world.settle_all(&mut [&mut alice, &mut bob, &mut tablet]);
    world.write(&mut tablet, "alice", "from the tablet");
    world.settle_all(&mut [&mut alice, &mut bob, &mut tablet]);
    bob.remove_device(2, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut alice, &mut bob]);
    let ring = Signal::new(CallId::new([1; 16]), SignalKind::Offer, b"sdp").unwrap();
    let (now, rng) = (world.now, &mut world.rng);
    bob.write("alice", b"unread", now, rng).unwrap();
    bob.signal(std::slice::from_ref(alice.address()), &ring, now, rng).unwrap();
    bob.start_sas("alice", now, rng).unwrap();
    world.settle(&mut [&mut bob, &mut alice]);
    let damaged = {
        let mut mail = regular(world, &mut bob, &alice, "damaged");
        *mail.envelope.last_mut().unwrap() ^= 1;
        mail
    };
    let asked = world.give(&mut alice, &damaged);
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    let (now, rng) = (world.now, &mut world.rng);
    alice.write("bob", b"never sent", now, rng).unwrap();
    for task in alice.tasks(usize::MAX, now, rng).unwrap() {
        if let Action::SendSealed { .. } = &task.action {
            alice.complete(&task.id, Answer::Refused, now, rng).unwrap();
        }
    }
    let mut store = alice.into_store();
    let is_bob = |(table, _, row): &&(Table, Vec<u8>, Vec<u8>)| {
        *table == Table::User && row.windows(3).any(|some| some == b"bob")
    };
    let tag = rows(&mut store).iter().find(is_bob).unwrap().1.clone();
    let of_bob = |store: &mut Memory| {
        let all = rows(store).into_iter().filter(|(_, key, row)| {
            let has = |bytes: &[u8]| {
                [&tag[..], b"bob"].iter().any(|of| bytes.windows(of.len()).any(|some| some == *of))
            };
            has(key) || has(row)
        });
        all.map(|(table, key, _)| (table, key)).collect::<Vec<_>>()
    };
    let tables: BTreeSet<Table> = of_bob(&mut store).iter().map(|(table, _)| *table).collect();
    let none = [Table::Account, Table::Prekey, Table::Vault, Table::App];
    assert!(Table::ALL.iter().all(|table| tables.contains(table) || none.contains(table)));
    let mut alice = world.open(store);
    alice.deliver("bob", Delivery::Open, world.now, &mut world.rng).unwrap();
    alice.forget("bob").unwrap();
    // What the app has not taken is the app's.
    drop(events(&mut alice));
    world.work(&mut alice);
    let mut store = alice.into_store();
    let left = of_bob(&mut store);
    let is_timer =
        |(table, key): &(Table, Vec<u8>)| *table == Table::Task && (16..32).contains(&key[0]);
    assert!(left.iter().all(is_timer), "{left:?}");
    let mut alice = world.open(store);
    world.pass(31 * DAY);
    world.work(&mut alice);
    assert_eq!(of_bob(&mut alice.into_store()), []);
}

/// Whoever makes up names fills no store.
#[test]
fn of_somebody_whom_the_server_does_not_know_no_removed_device_is_remembered() {
    for is_other in [false, true] {
        let world = &mut World::new("made up");
        let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
        let mut tablet = world.link_as(&mut bob, Role::Device);
        let mut later = world.link_as(&mut bob, Role::Manager);
        world.settle(&mut [&mut bob, &mut tablet, &mut later]);
        for (from, removes) in [(&mut tablet, false), (&mut bob, true)] {
            if removes {
                from.remove_device(2, world.now, &mut world.rng).unwrap();
            }
            world.write(from, "alice", "hello");
            world.work(from);
            world.fetch(&mut alice);
        }
        assert_eq!(read(&mut alice), ["hello", "hello"]);
        world.post.users.remove("bob");
        if is_other {
            drop(world.create("bob"));
        }
        world.pass(DAY);
        world.work(&mut alice);
        let left: Vec<Table> = rows(&mut alice.into_store())
            .into_iter()
            .filter(|(table, _, row)| {
                *table == Table::Ticket && row.windows(3).any(|name| name == b"bob")
            })
            .map(|(table, ..)| table)
            .collect();
        assert_eq!(left, [], "{is_other}");
    }
}

#[test]
fn a_restored_copy_heals_and_makes_no_ticket_twice() {
    let world = &mut World::new("restored");
    let (mut alice, bob) = world.talking();
    let copy = bob.into_store();
    let mut bob = world.open(copy.clone());
    for round in 0..20 {
        world.write(&mut bob, "alice", &format!("b{round}"));
        world.settle_all(&mut [&mut alice, &mut bob]);
        world.write(&mut alice, "bob", &format!("a{round}"));
        world.settle_all(&mut [&mut alice, &mut bob]);
        world.pass(DAY / 8);
    }
    drop((read(&mut alice), bob));
    let mut bob = world.open(copy);
    world.write(&mut alice, "bob", "a20");
    world.settle_all(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "b20");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert!(read(&mut bob).contains(&"a20".to_owned()));
    assert_eq!(read(&mut alice), ["b20"]);
    for round in 21..41 {
        world.write(&mut alice, "bob", &format!("a{round}"));
        world.settle_all(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("b{round}"));
        world.settle_all(&mut [&mut alice, &mut bob]);
    }
    let shown: Vec<&[u8]> = world
        .post
        .past
        .iter()
        .filter(|mail| mail.to.user == "bob" && !is_initial(&mail.envelope))
        .map(|mail| &mail.envelope[18..34])
        .collect();
    let different: BTreeSet<&[u8]> = shown.iter().copied().collect();
    assert_eq!(different.len(), shown.len(), "{shown:?}");
}

#[test]
fn envelopes_that_the_server_destroys_take_no_others_with_them() {
    let world = &mut World::new("lost answers");
    let (mut alice, mut bob) = world.talking();
    for round in 0..10 {
        world.write(&mut alice, "bob", &format!("{round}"));
        world.work(&mut alice);
        // Every second envelope is destroyed after the server has taken it.
        let mail = world.post.take(bob.address());
        for mail in mail.iter().filter(|_| round % 2 == 0) {
            drop(world.give(&mut bob, mail));
        }
        world.settle_all(&mut [&mut alice, &mut bob]);
    }
    let alone = read(&mut bob);
    assert_eq!(alone, ["0", "2", "4", "6", "8"]);
    world.write(&mut bob, "alice", "are you there?");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut alice), ["are you there?"]);
}

#[test]
fn tickets_that_were_handed_on_charge_their_giver_alone() {
    let world = &mut World::new("handed on");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    world.write(&mut carol, "bob", "hello");
    world.settle_all(&mut [&mut carol, &mut bob]);
    // Mallory floods Bob with handshakes that show a ticket which Alice gave her.
    let given = regular(world, &mut alice, &bob, "three").envelope[18..34].to_vec();
    let mut mallory = world.create("mallory");
    world.write(&mut mallory, "bob", "noise");
    world.work(&mut mallory);
    let [noise] = &world.post.take(bob.address())[..] else { panic!() };
    for round in 0..200_u32 {
        let mut forged = noise.clone();
        forged.envelope[18..34].copy_from_slice(&given);
        forged.envelope[36..40].copy_from_slice(&round.to_be_bytes());
        drop(world.give(&mut bob, &forged));
    }
    // Carol gets in, and a stranger does.
    carol.reset(bob.address()).unwrap();
    world.write(&mut carol, "bob", "by her own ticket");
    world.work(&mut carol);
    for received in world.fetch(&mut bob) {
        assert!(matches!(received, Received::Incoming(_)), "{received:?}");
    }
    assert!(matches!(world.give(&mut bob, noise), Received::Incoming(_)));
    // Alice's next handshake waits.
    alice.reset(bob.address()).unwrap();
    world.write(&mut alice, "bob", "four");
    world.work(&mut alice);
    let [mail] = &world.post.take(bob.address())[..] else { panic!() };
    assert_eq!(world.give(&mut bob, mail), Received::Refused(Error::RateLimited));
    world.pass(DAY);
    // What was set aside of the flood is looked at once more, at her expense, and goes.
    world.work(&mut bob);
    world.pass(DAY);
    assert!(matches!(world.give(&mut bob, mail), Received::Incoming(_)));
    assert!(read(&mut bob).contains(&"four".to_owned()));
}

#[test]
fn who_lists_somebody_elses_device_as_their_own_keeps_no_mail_of_it_away() {
    let world = &mut World::new("listed by another");
    let (mut alice, mut bob) = world.talking();
    let account = IdentityKeyPair::generate(&mut world.rng);
    let own = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&account, own.public_key());
    let (list, device) = list.with(&account, bob.identity_key(), Role::Device).unwrap();
    alice.update_devices("mallory", &list.encode(), world.now, &mut world.rng).unwrap();
    world.write(&mut alice, "mallory", "hello");
    // The server helps: Bob's device has prekeys.
    for task in alice.tasks(50, world.now, &mut world.rng).unwrap() {
        if matches!(&task.action, Action::FetchBundle(of) if of.device == device) {
            let bundle = world.post.users.get_mut("bob").unwrap();
            let bundle = bundle.bundle(1, "alice", world.now.as_secs()).unwrap().encode();
            let answer = Answer::Bundle(&bundle);
            drop(alice.complete(&task.id, answer, world.now, &mut world.rng).unwrap());
        }
    }
    assert_eq!(alice.sessions("mallory").unwrap().len(), 1);
    let mail = regular(world, &mut bob, &alice, "three");
    assert!(matches!(world.give(&mut alice, &mail), Received::Incoming(_)));
    // It is none of hers any more, and forgotten.
    let list = list.without(&account, device).unwrap();
    alice.update_devices("mallory", &list.encode(), world.now, &mut world.rng).unwrap();
    world.pass(8 * DAY);
    world.work(&mut alice);
    let mail = regular(world, &mut bob, &alice, "four");
    assert!(matches!(world.give(&mut alice, &mail), Received::Incoming(_)));
    assert_eq!(read(&mut alice), ["three", "four"]);
}
