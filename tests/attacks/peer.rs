//! A contact that goes bad: its sessions are real, and it asks, repeats and floods.

use rand_core::Rng;
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Table;
use subrosa::{Action, Event, Item, Progress, Received, Role};

use crate::liar::{Liar, Saying, noise};
use crate::world::{World, events, inbox, incoming, texts};

/// What alice writes to the liar, as references.
fn written(
    world: &mut World,
    alice: &mut crate::world::App,
    liar: &mut Liar,
    texts: &[&str],
) -> Vec<[u8; 16]> {
    for text in texts {
        world.write(alice, &liar.address.user.clone(), text);
    }
    world.settle(alice);
    liar.hear_all(world)
        .iter()
        .filter(|heard| heard.kind == 1)
        .map(|heard| heard.reference)
        .collect()
}

#[test]
fn a_text_is_sent_to_a_device_again_sixteen_times_and_no_more_whatever_it_names() {
    let mut world = World::new("resends");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let mut talk = liar.befriend(&mut world, &mut alice);
    let mut references = written(&mut world, &mut alice, &mut liar, &["a secret"]);
    inbox(&mut alice);
    let mut resent = 0;
    // It asks by the reference of each answer too.
    for _ in 0..12 {
        // A request makes alice begin anew: it goes on in the session that she writes in.
        talk = liar.talks.len() - 1;
        let saying = Saying::request([0; 8], &references);
        assert_eq!(liar.tell(&mut world, &mut alice, talk, &saying), Received::Handled);
        for _ in 0..4 {
            world.settle(&mut alice);
        }
        let heard = liar.hear_all(&mut world);
        let again: Vec<_> =
            heard.iter().filter(|one| one.kind == 1).map(|one| one.reference).collect();
        resent += again.len();
        references.extend(again);
    }
    assert_eq!(resent, 16);
    let told = events(&mut alice);
    assert!(told.len() <= references.len(), "{} events", told.len());
    let is_lost = |event: &&Event| matches!(event, Event::NotReadable { .. });
    assert_eq!(told.iter().filter(is_lost).count(), 1, "it is told once: {told:?}");
    // And the one who asks on fills no inbox.
    let before = disk.count(Table::Inbox);
    for _ in 0..20 {
        drop(liar.tell(&mut world, &mut alice, talk, &Saying::request([0; 8], &references)));
        world.settle(&mut alice);
    }
    assert_eq!(disk.count(Table::Inbox), before);
}

#[test]
fn sessions_that_a_contact_begins_without_end_leave_rows_of_a_few() {
    let mut world = World::new("sessions without end");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    let before = disk.count(Table::Session);
    for number in 2..60 {
        world.pass(31);
        let talk = liar.begin(&mut world, &alice.address().clone());
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::text(number, "again"));
        assert!(matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.settle(&mut alice);
    let after = disk.count(Table::Session);
    assert!(after <= before + 8, "{before} {after}");
}

#[test]
fn requests_for_what_was_never_sent_read_and_send_nothing() {
    let mut world = World::new("made-up references");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    // What alice wrote to somebody else, and what nobody wrote.
    let mut bob = Liar::new(&mut world, "bob");
    bob.befriend(&mut world, &mut alice);
    let foreign = written(&mut world, &mut alice, &mut bob, &["for bob alone"]);
    let mut references = vec![[0; 16]; 1_000];
    for reference in &mut references[1..] {
        world.rng.fill_bytes(reference);
    }
    references[0] = foreign[0];
    world.settle(&mut alice);
    liar.hear_all(&mut world);
    disk.written();
    for round in 0..20 {
        let started = std::time::Instant::now();
        drop(liar.tell(&mut world, &mut alice, talk, &Saying::request([0; 8], &references)));
        let (rows, bytes) = disk.written();
        eprintln!("request of 1,000, {round}: {rows} rows, {bytes} bytes, {:?}", started.elapsed());
        assert!(rows < 60 && bytes < 64 << 10, "{rows} rows, {bytes} bytes");
        let sent = world.settle(&mut alice);
        assert!(sent.len() < 4, "{sent:?}");
        disk.written();
    }
    assert!(liar.hear_all(&mut world).iter().all(|heard| heard.kind != 1));
    assert!(disk.count(Table::Request) <= 8 + 1);
    assert_eq!(inbox(&mut alice), []);
}

#[test]
fn who_asks_for_what_was_never_sent_on_many_devices_keeps_nobody_else_waiting() {
    let mut world = World::new("many devices");
    let (mut alice, _) = world.app("alice");
    let here = alice.address().clone();
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    let mut devices = Vec::new();
    for _ in 0..20 {
        let identity = IdentityKeyPair::generate(&mut world.rng);
        let with = liar.list.with(&liar.account, identity.public_key(), Role::Device);
        let (list, device) = with.unwrap();
        liar.list = list.clone();
        let account = IdentityKeyPair::clone(&liar.account);
        devices.push(Liar::posing(&mut world, "mallory", device, account, identity, list));
    }
    liar.upload(&mut world);
    // Nobody can begin a session with these, to whom Alice writes.
    let names: Vec<String> = (0..12).map(|at| format!("bob {at}")).collect();
    let mut texts = Vec::new();
    let mut bobs: Vec<Liar> = names.iter().map(|name| Liar::new(&mut world, name)).collect();
    for bob in &bobs {
        world.bundles.insert(bob.address.clone(), Vec::new());
        texts.push(world.write(&mut alice, &bob.address.user, "hello"));
    }
    world.settle(&mut alice);
    let references: Vec<[u8; 16]> = (0..1_000_u128).map(u128::to_be_bytes).collect();
    for device in &mut devices {
        device.list = liar.list.clone();
        let talk = device.begin(&mut world, &here);
        for _ in 0..8 {
            let request = Saying::request([0; 8], &references);
            let received = device.tell(&mut world, &mut alice, talk, &request);
            assert_eq!(received, Received::Handled);
        }
    }
    // They write themselves.
    for bob in &mut bobs {
        let talk = bob.begin(&mut world, &here);
        let _text = bob.tell(&mut world, &mut alice, talk, &Saying::text(1, "hello"));
    }
    for _ in 0..30 {
        world.settle(&mut alice);
        world.pass(1);
    }
    for text in texts {
        assert_eq!(alice.progress(text), Ok(Progress::Sent));
    }
}

#[test]
fn a_text_that_waits_for_one_device_is_no_longer_for_any_number_of_others() {
    let mut world = World::new("any number of others");
    let (mut alice, disk) = world.app("alice");
    let here = alice.address().clone();
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let add = |liar: &mut Liar, world: &mut World| {
        let identity = IdentityKeyPair::generate(&mut world.rng);
        let with = liar.list.with(&liar.account, identity.public_key(), Role::Device);
        let (list, device) = with.unwrap();
        liar.list = list.clone();
        liar.upload(world);
        let account = IdentityKeyPair::clone(&liar.account);
        Liar::posing(world, "mallory", device, account, identity, list)
    };
    // Nobody can begin a session with this one.
    let waits = add(&mut liar, &mut world);
    world.bundles.insert(waits.address, Vec::new());
    let _told =
        liar.tell(&mut world, &mut alice, talk, &Saying::devices().with(&liar.list.clone()));
    let text = world.write(&mut alice, "mallory", "hello");
    let drafts = || {
        let rows = disk.rows().into_iter().filter(|(table, _)| *table == Table::Draft);
        rows.map(|(_, (_, value))| value.len()).sum::<usize>()
    };
    let mut most = 0;
    for round in 0..40 {
        let mut other = add(&mut liar, &mut world);
        let talk = other.begin(&mut world, &here);
        let _told = other.tell(&mut world, &mut alice, talk, &Saying::devices());
        world.settle(&mut alice);
        let heard = other.hear_all(&mut world);
        assert!(heard.iter().any(|heard| heard.kind == 1), "{round}");
        liar.list = liar.list.without(&liar.account, other.address.device).unwrap();
        world.pass(40);
        most = most.max(drafts());
    }
    assert_eq!(alice.progress(text), Ok(Progress::Waiting));
    assert!(most < 600, "{most}");
}

#[test]
fn only_what_was_asked_for_is_reported_lost_and_once() {
    let mut world = World::new("gone");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let envelope = noise(&mut world);
    let asked: [u8; 16] = envelope[2..18].try_into().unwrap();
    let from = liar.address.clone();
    assert!(matches!(world.give(&mut alice, &from, &envelope), Received::AskedAgain(_)));
    world.settle(&mut alice);
    let received = liar.tell(&mut world, &mut alice, talk, &Saying::gone(&vec![[7; 16]; 1_000]));
    assert_eq!((received, events(&mut alice)), (Received::Handled, vec![]));
    for references in [vec![asked, asked], vec![asked]] {
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::gone(&references));
        assert_eq!(received, Received::Handled);
    }
    let lost = events(&mut alice);
    assert!(matches!(lost[..], [Event::Lost { .. }]), "{lost:?}");
}

#[test]
fn a_text_that_claims_to_stand_for_another_devices_envelope_names_another_one() {
    let mut world = World::new("foreign resent");
    let (mut alice, _) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    bob.befriend(&mut world, &mut alice);
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let envelope = noise(&mut world);
    let reference: [u8; 16] = envelope[2..18].try_into().unwrap();
    let Received::AskedAgain(asked) = world.give(&mut alice, &bob.address.clone(), &envelope)
    else {
        panic!("it is asked for");
    };
    let saying = Saying::text(5, "in bob's place").resent(&reference);
    let Item::Text(text) = incoming(liar.tell(&mut world, &mut alice, talk, &saying)) else {
        panic!()
    };
    assert_ne!(text.resent, Some(asked));
    let saying = Saying::text(6, "from bob").resent(&reference);
    let Item::Text(text) = incoming(bob.tell(&mut world, &mut alice, 0, &saying)) else { panic!() };
    assert_eq!(text.resent, Some(asked));
}

#[test]
fn ranks_that_change_are_missing_or_are_out_of_reach_are_refused() {
    let mut world = World::new("ranks");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let to = alice.address().clone();
    let now = world.now.as_secs();
    let list = liar.list.clone();
    for saying in [
        Saying::text(1, "none").bare().with(&list),
        Saying::text(2, "zero").rank(0),
        Saying::text(3, "far").rank(now + (1 << 32) + 1),
        Saying::text(4, "further").rank(u64::MAX),
    ] {
        let talk = liar.begin(&mut world, &to);
        let received = liar.tell(&mut world, &mut alice, talk, &saying);
        assert!(matches!(received, Received::Refused(_)), "{received:?}");
    }
    let talk = liar.begin(&mut world, &to);
    let good = Saying::text(5, "good").rank(now + (1 << 32));
    assert!(matches!(liar.tell(&mut world, &mut alice, talk, &good), Received::Incoming(_)));
    let changed = Saying::text(6, "changed").rank(now);
    assert!(matches!(liar.tell(&mut world, &mut alice, talk, &changed), Received::Refused(_)));
    assert_eq!(texts(&mut alice), ["good"]);
    // Alice can still begin one herself.
    alice.reset(&liar.address).unwrap();
    let done = {
        world.write(&mut alice, "mallory", "hello");
        world.settle(&mut alice)
    };
    assert!(done.iter().any(|action| matches!(action, Action::Send { .. })));
}

#[test]
fn a_contact_who_changes_its_devices_without_end_tells_one_event_an_envelope() {
    let mut world = World::new("device floods");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let account = liar.account.clone();
    for _ in 0..20 {
        let mut list = liar.list.clone();
        for device in list.clone().devices().iter().filter(|listed| listed.device != 1) {
            list = list.without(&account, device.device).unwrap();
        }
        for _ in 0..31 {
            let key = IdentityKeyPair::generate(&mut world.rng).public_key();
            (list, _) = list.with(&account, key, Role::Device).unwrap();
        }
        liar.list = list.clone();
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::devices().with(&list));
        assert_eq!(received, Received::Handled);
    }
    let told = events(&mut alice).len();
    eprintln!("20 lists of 31 new devices: {told} events; {} rows", disk.size().0);
    assert!(told <= 64 + 20 + 1);
}

#[test]
fn envelopes_that_the_server_takes_for_nobody_stand_in_front_of_no_others() {
    let mut world = World::new("full mailbox");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    world.full.push(liar.address.clone());
    for number in 0..1_300 {
        world.write(&mut alice, "mallory", &format!("{number}"));
    }
    world.settle(&mut alice);
    world.pass(1);
    world.write(&mut alice, "bob", "hello");
    world.settle(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(texts(&mut bob), ["hello"]);
}

#[test]
fn noise_of_a_contact_is_answered_within_an_allowance() {
    let mut world = World::new("noise of a contact");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let from = liar.address.clone();
    // Its session has as many skipped keys as it can.
    for _ in 0..2_000 {
        drop(liar.talks[talk].session.encrypt(b"", b"", &mut world.rng).unwrap());
    }
    let far = liar.tell(&mut world, &mut alice, talk, &Saying::text(3, "skipped"));
    assert!(matches!(far, Received::Incoming(_)), "{far:?}");
    inbox(&mut alice);
    let (rows, bytes) = disk.size();
    disk.written();
    let started = std::time::Instant::now();
    let mut asked = 0;
    for number in 0..1_200 {
        if number == 600 {
            world.settle(&mut alice);
        }
        let envelope = noise(&mut world);
        asked += usize::from(matches!(
            world.give(&mut alice, &from, &envelope),
            Received::AskedAgain(_)
        ));
    }
    let (written, per) = disk.written();
    let each = started.elapsed() / 1_200;
    let (rows, bytes) = (disk.size().0 - rows, disk.size().1 - bytes);
    eprintln!(
        "1,200 of noise: {asked} asked, {each:?} each, {written} rows and {per} bytes written, {rows} rows and {bytes} bytes stay"
    );
    assert!(asked <= 1_000);
    assert!(rows < 2_200 && bytes < 4 << 20, "{rows} rows, {bytes} bytes");
    let sent = world.settle(&mut alice);
    assert!(sent.iter().filter(|action| matches!(action, Action::Send { .. })).count() <= 1_000);
}

#[test]
fn what_others_send_forgets_no_text_so_that_a_replay_is_shown_again() {
    let mut world = World::new("flushing what was seen");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let mut policy = subrosa::Policy::default();
    (policy.seen, policy.log_messages) = (40, 10);
    let (mut alice, mut bob) = (alice.with_policy(policy.clone()), bob.with_policy(policy));
    for number in 0..60 {
        world.write(&mut bob, "alice", &format!("{number}"));
    }
    world.write(&mut bob, "alice", "pay carol 100");
    world.settle(&mut bob);
    let mail = world.mail(alice.address());
    world.fetch(&mut alice);
    assert_eq!(texts(&mut alice).len(), 61);
    // Replays of what was forgotten make alice ask, and bob say that it is gone.
    for round in 0..50 {
        drop(world.give(&mut alice, bob.address(), &mail[round % 10].envelope));
        world.rest(&mut [&mut alice, &mut bob]);
    }
    inbox(&mut alice);
    drop(world.give(&mut alice, bob.address(), &mail[60].envelope));
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut alice), Vec::<String>::new());
}

#[test]
fn answers_to_requests_are_bounded_in_bytes() {
    let mut world = World::new("answers in bytes");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    let long = "x".repeat(200_000);
    let references = written(&mut world, &mut alice, &mut liar, &[&long[..]; 10]);
    assert_eq!(references.len(), 10);
    let mut bytes = 0;
    for _ in 0..16 {
        let talk = liar.talks.len() - 1;
        drop(liar.tell(&mut world, &mut alice, talk, &Saying::request([0; 8], &references)));
        for _ in 0..12 {
            world.settle(&mut alice);
        }
        bytes += world.mail(&liar.address).iter().map(|mail| mail.envelope.len()).sum::<usize>();
        liar.hear_all(&mut world);
    }
    eprintln!("answers: {bytes} bytes");
    assert!((8 << 20..17 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn the_log_keeps_as_many_texts_as_the_policy_says() {
    let mut world = World::new("log");
    let (alice, _) = world.app("alice");
    let mut policy = subrosa::Policy::default();
    policy.log_messages = 3;
    let mut alice = alice.with_policy(policy);
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    let references = written(&mut world, &mut alice, &mut liar, &["1", "2", "3", "4"]);
    let talk = liar.talks.len() - 1;
    drop(liar.tell(&mut world, &mut alice, talk, &Saying::request([0; 8], &references)));
    for _ in 0..4 {
        world.settle(&mut alice);
    }
    let again = liar.hear_all(&mut world);
    let texts: Vec<&[u8]> =
        again.iter().filter(|one| one.kind == 1).map(|one| &one.body[16..]).collect();
    assert_eq!(texts, [b"2", b"3", b"4"]);
}

#[test]
fn as_many_envelopes_are_remembered_as_the_policy_says() {
    let mut world = World::new("seen");
    let (alice, _) = world.app("alice");
    let mut policy = subrosa::Policy::default();
    policy.seen = 40;
    let mut alice = alice.with_policy(policy);
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let first = liar.say(&mut world, talk, &Saying::text(100, "first"));
    let from = liar.address.clone();
    drop(world.give(&mut alice, &from, &first));
    for number in 0..39 {
        drop(liar.tell(&mut world, &mut alice, talk, &Saying::text(101 + number, "more")));
    }
    assert_eq!(world.give(&mut alice, &from, &first), Received::Duplicate);
    drop(liar.tell(&mut world, &mut alice, talk, &Saying::text(200, "one more")));
    assert!(matches!(world.give(&mut alice, &from, &first), Received::AskedAgain(_)));
}

#[test]
fn what_is_to_be_asked_of_a_contact_is_bounded_however_long_nobody_can_be_asked() {
    let mut world = World::new("nobody can be asked");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    liar.befriend(&mut world, &mut alice);
    alice.reset(&liar.address).unwrap();
    world.bundles.insert(liar.address.clone(), Vec::new());
    let from = liar.address.clone();
    for _ in 0..3 {
        for _ in 0..600 {
            let envelope = noise(&mut world);
            drop(world.give(&mut alice, &from, &envelope));
        }
        world.pass(10_000);
    }
    // The references, and how many there are.
    assert_eq!(disk.count(Table::Request), 1_000 + 1);
}
