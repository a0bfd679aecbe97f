//! What must hold when somebody is removed, when a store is restored from a copy, and when texts
//! wait.

use subrosa::{
    Action, Address, Error, Event, GroupEvent, GroupIntention, GroupStanding, MessageId, Progress,
    Role, Trust,
};

use crate::world::{HOUR, Mail, World, receive};

const DAY: u64 = 24 * HOUR;

/// The label of an envelope for the group: another chain has another one.
fn label(mail: &Mail) -> [u8; 8] {
    mail.envelope[18..26].try_into().unwrap()
}

fn is_of_group(mail: &Mail) -> bool {
    mail.envelope.starts_with(&[1, 2])
}

/// The envelopes for the group that left since.
fn since(world: &World, before: usize) -> Vec<Mail> {
    world.post.past[before..].iter().filter(|mail| is_of_group(mail)).cloned().collect()
}

/// A group of three who hold each other's chains.
fn chatty(seed: u64) -> (World, Vec<Address>) {
    World::new(seed).talking()
}

#[test]
fn what_waited_when_a_member_was_removed_leaves_under_a_key_that_the_member_does_not_hold() {
    let (mut world, all) = chatty(20);
    world.write(&all[0]).unwrap();
    world.connect(&all[0], 0);
    let known = label(since(&world, 0).last().unwrap());
    // Written under the old chain, which cyd holds; nothing of it has left.
    let before = world.post.past.len();
    let texts = [world.write(&all[0]).unwrap(), world.write(&all[0]).unwrap()];
    assert_eq!(world.client(&all[0]).progress(texts[0]), Ok(Progress::Queued));
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    world.devices.get_mut(&all[2]).unwrap().on = false;
    for _ in 0..3 {
        world.connect_all(0);
    }
    let sent = since(&world, before);
    assert!(sent.iter().all(|mail| label(mail) != known && mail.to.user != "cyd"));
    // The server gives cyd everything.
    let (now, keys) = (world.now, &mut world.keys);
    let cyd = world.devices.get_mut(&all[2]).unwrap();
    sent.iter().for_each(|mail| receive(cyd, mail, now, keys));
    world.settle();
    for text in texts {
        assert!(world.devices[&all[1]].shown.contains_key(&text));
        assert!(!world.devices[&all[2]].shown.contains_key(&text));
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    }
    world.check_nobody_else();
}

#[test]
fn a_removed_device_and_a_new_account_key_renew_the_chain_as_a_removed_member_does() {
    let (mut world, all) = chatty(21);
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    world.write(&all[0]).unwrap();
    world.settle();
    let known = label(since(&world, 0).last().unwrap());
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.remove_device(laptop.device, now, keys).unwrap();
    world.devices.get_mut(&laptop).unwrap().gone = true;
    world.settle();
    let before = world.post.past.len();
    world.write(&all[0]).unwrap();
    world.settle();
    let sent = since(&world, before);
    assert!(sent.iter().all(|mail| label(mail) != known && mail.to != laptop));
    world.check_nobody_else();
}

#[test]
fn a_member_who_is_added_while_texts_wait_is_shown_what_is_written_afterwards() {
    let (mut world, all) = chatty(22);
    let dot = world.create("dot");
    world.meet(&all[0], "dot");
    let early = world.write(&all[0]).unwrap();
    world.change(&all[0], GroupIntention::Add("dot")).unwrap();
    let late = world.write(&all[0]).unwrap();
    for _ in 0..3 {
        world.connect_all(0);
    }
    world.join(&dot);
    world.settle();
    let shown = &world.devices[&dot].shown;
    assert_eq!((shown.contains_key(&early), shown.contains_key(&late)), (false, true));
    world.check_nobody_else();
    world.check_all(&|_| true);
}

#[test]
fn a_restored_store_begins_its_chain_anew() {
    let (mut world, all) = chatty(23);
    world.back_up(&all[0]);
    // What the server has is newer than the copy: so it is noticed.
    world.link(&all[0], Role::Device);
    world.write(&all[0]).unwrap();
    world.settle();
    let known = label(since(&world, 0).last().unwrap());
    assert!(world.restore(&all[0]));
    let before = world.post.past.len();
    // Nothing is encrypted under the chain of the copy, which went on in the one that is lost.
    let text = world.write(&all[0]).unwrap();
    world.settle();
    let next = world.write(&all[0]).unwrap();
    world.settle();
    let sent = since(&world, before);
    assert!(sent.iter().all(|mail| label(mail) != known));
    assert!(sent.iter().any(|mail| mail.message == Some(next)));
    for of in &all[1..] {
        let shown = &world.devices[of].shown;
        assert_eq!((shown.get(&text), shown.get(&next)), (Some(&1), Some(&1)), "{of}");
    }
    // What others write is read.
    world.write(&all[1]).unwrap();
    world.settle();
    world.check_nobody_else();
    world.check_all(&|_| true);
}

#[test]
fn a_text_can_be_followed_and_taken_back() {
    let (mut world, all) = chatty(24);
    let group = world.group.unwrap();
    let before = world.post.past.len();
    let (first, second) = (world.write(&all[0]).unwrap(), world.write(&all[0]).unwrap());
    let ada = world.client(&all[0]);
    assert_eq!(ada.withdraw(first), Ok(true));
    assert_eq!(ada.withdraw(first), Ok(false));
    assert_eq!(ada.progress(first), Ok(Progress::Sent));
    assert_eq!(ada.progress(second), Ok(Progress::Queued));
    world.settle();
    assert_eq!(since(&world, before).len(), 2);
    assert_eq!(world.client(&all[0]).progress(second), Ok(Progress::Sent));
    assert_eq!(world.client(&all[0]).withdraw(second), Ok(false));
    for of in &all[1..] {
        let shown = &world.devices[of].shown;
        assert!(!shown.contains_key(&first) && shown.contains_key(&second));
    }
    // A device without a session is owed the text.
    let laptop = world.link(&all[1], Role::Device);
    world.meet(&all[0], "bea");
    let third = world.write(&all[0]).unwrap();
    assert_eq!(world.client(&all[0]).progress(third), Ok(Progress::Waiting));
    let long = world.client(&all[0]).group(group).unwrap();
    assert_eq!(long.members.len(), 3);
    assert_eq!(world.client(&all[0]).withdraw(third), Ok(true));
    world.settle();
    assert!(!world.devices[&laptop].shown.contains_key(&third));
}

/// A text of Ada's waits, since Bea named a change that the server keeps.
fn with_text_that_waits(seed: u64) -> (World, Vec<Address>, MessageId) {
    let (mut world, all) = chatty(seed);
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    world.change(&all[1], GroupIntention::Set(b"thorns")).unwrap();
    let group = world.group.unwrap();
    world.client(&all[1]).refresh_group(group).unwrap();
    world.write(&all[1]).unwrap();
    world.connect(&all[1], 0);
    // The server keeps the change, and not the chain that names it.
    let mail = world.post.take(&all[0]);
    let bea = world.devices.get_mut(&all[1]).unwrap();
    bea.on = false;
    let (now, keys) = (world.now, &mut world.keys);
    let ada = world.devices.get_mut(&all[0]).unwrap();
    mail.iter().skip(1).for_each(|mail| receive(ada, mail, now, keys));
    let before = world.post.past.len();
    let text = world.write(&all[0]).unwrap();
    world.connect(&all[0], 0);
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Waiting));
    assert!(since(&world, before).is_empty());
    (world, all, text)
}

#[test]
fn who_is_added_while_a_text_waits_for_changes_is_not_given_what_opens_it() {
    let (mut world, all, text) = with_text_that_waits(93);
    let dot = world.create("dot");
    world.meet(&all[0], "dot");
    world.change(&all[0], GroupIntention::Add("dot")).unwrap();
    world.connect(&all[0], 0);
    world.now = world.now.after(31);
    world.settle();
    world.join(&dot);
    world.settle();
    // The server gives Dot everything that there ever was.
    let (now, keys) = (world.now, &mut world.keys);
    for mail in world.post.past.iter().filter(|mail| is_of_group(mail)) {
        receive(world.devices.get_mut(&dot).unwrap(), mail, now, keys);
    }
    world.settle();
    let shown = [&all[2], &dot].map(|of| world.devices[of].shown.contains_key(&text));
    assert_eq!(shown, [true, false]);
}

#[test]
fn a_text_waits_for_changes_that_somebody_knows_of_and_not_for_long() {
    let (mut world, all, _) = with_text_that_waits(25);
    let (group, before) = (world.group.unwrap(), world.post.past.len());
    world.now = world.now.after(31);
    world.connect(&all[0], 0);
    assert!(!since(&world, before).is_empty());
    world.settle();
    assert_eq!(world.client(&all[0]).group(group).unwrap().settings, b"thorns");
    world.check_nobody_else();
    world.check_all(&|_| true);
}

#[test]
fn lists_that_are_old_are_fetched_before_a_chain_begins_and_nobody_waits_for_a_server_that_fails() {
    let (mut world, all) = chatty(26);
    world.now = world.now.after(8 * DAY);
    let text = world.write(&all[0]).unwrap();
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Waiting));
    let fetched = |world: &mut World| -> Vec<Action> {
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&all[0]).unwrap().client;
        let tasks = client.tasks(50, now, keys).unwrap();
        let lists: Vec<_> = tasks
            .iter()
            .filter(|task| matches!(task.action, Action::FetchDevices(_)))
            .cloned()
            .collect();
        for task in &lists {
            drop(client.complete(&task.id, subrosa::Answer::Failed, now, keys).unwrap());
        }
        lists.into_iter().map(|task| task.action).collect()
    };
    let users = ["bea", "cyd"].map(|user| Action::FetchDevices(user.into()));
    let lists: Vec<Action> = (0..3).flat_map(|_| fetched(&mut world)).collect();
    assert!(users.iter().all(|user| lists.contains(user)), "{lists:?}");
    world.settle();
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    world.check_all(&|_| true);
}

#[test]
fn who_only_reads_answers_a_chain_within_a_day_so_that_the_session_heals() {
    let (mut world, all) = chatty(27);
    let group = world.group.unwrap();
    world.settle();
    let answers = |world: &mut World, of: &[&Address]| {
        let before = world.post.past.len();
        for by in of {
            world.client(by).refresh_group(group).unwrap();
        }
        world.write(&all[0]).unwrap();
        for _ in 0..16 {
            world.now = world.now.after(2 * HOUR);
            world.connect_all(0);
        }
        let by_bea = world.post.past[before..].iter().filter(|mail| mail.from.user == "bea");
        by_bea.filter(|mail| !is_of_group(mail)).count()
    };
    assert_eq!(answers(&mut world, &[&all[0]]), 1);
    assert_eq!(answers(&mut world, &[]), 0, "the chain is known");
    world.now = world.now.after(8 * DAY);
    assert_eq!(answers(&mut world, &[&all[0]]), 1);
    // Who begins a chain meanwhile writes that, and nothing else.
    let before = world.post.past.len();
    world.client(&all[0]).refresh_group(group).unwrap();
    world.write(&all[0]).unwrap();
    world.connect_all(0);
    world.client(&all[1]).refresh_group(group).unwrap();
    world.write(&all[1]).unwrap();
    world.connect(&all[1], 0);
    world.settle();
    let by_bea = world.post.past[before..].iter().filter(|mail| mail.from == all[1]);
    let to_ada = by_bea.filter(|mail| mail.to == all[0] && !is_of_group(mail));
    assert_eq!(to_ada.count(), 1);
}

#[test]
fn under_sealed_delivery_no_envelope_says_who_wrote_to_the_group() {
    let (mut world, all) = World::sealed(29).founding(&["bea", "cyd"]);
    world.settle();
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    let before = world.post.past.len();
    for by in [&all[0], &all[1], &all[2], &laptop] {
        world.write(by).unwrap();
        world.connect(by, 0);
    }
    world.settle();
    assert!(world.post.past[before..].iter().all(Mail::is_sealed));
    world.check_nobody_else();
    world.check_progress();
    assert!(world.check_all(&|_| true) >= 11);
}

#[test]
fn a_text_has_left_when_there_are_no_more_tasks() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let mut world = World::new(35);
        world.delivery = delivery;
        let (mut world, all) = world.founding(&["bea", "cyd"]);
        for by in &all {
            world.write(by).unwrap();
        }
        world.settle();
        // A new chain begins, and lists are fetched before that.
        world.now = world.now.after(8 * DAY);
        for _ in 0..3 {
            world.connect_all(0);
        }
        for by in &all {
            let text = world.write(by).unwrap();
            world.connect(by, 0);
            assert_eq!(world.client(by).progress(text), Ok(Progress::Sent), "{delivery:?} {by}");
        }
    }
}

#[test]
fn who_joins_on_one_device_has_joined_on_the_others_under_sealed_delivery_too() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let mut world = World::new(34);
        world.delivery = delivery;
        let phone = world.create("bea");
        let laptop = world.link(&phone, Role::Device);
        world.settle();
        let ada = world.create("ada");
        world.meet(&ada, "bea");
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&ada).unwrap().client;
        let group = client.create_group(&["bea"], b"roses", now, keys).unwrap();
        world.group = Some(group);
        world.settle();
        for of in [&phone, &laptop] {
            let standing = world.client(of).group(group).unwrap().standing;
            assert_eq!(standing, GroupStanding::Invited, "{delivery:?} {of}");
        }
        world.join(&phone);
        world.settle();
        let standing = world.client(&laptop).group(group).unwrap().standing;
        assert_eq!(standing, GroupStanding::Joined, "{delivery:?}");
        let told = |event: &&Event| **event == Event::GroupJoined { group };
        assert_eq!(world.devices[&laptop].events.iter().filter(told).count(), 1, "{delivery:?}");
    }
}

#[test]
fn what_waits_when_mail_is_to_be_sealed_is_not_sent_openly() {
    let (mut world, all) = chatty(30);
    let text = world.write(&all[0]).unwrap();
    let device = world.devices.get_mut(&all[0]).unwrap();
    let mut policy = subrosa::Policy::default();
    policy.delivery = subrosa::Delivery::Sealed;
    device.client = subrosa::Client::open(device.disk.clone()).unwrap().with_policy(policy);
    let before = world.post.past.len();
    world.settle();
    assert!(since(&world, before).is_empty());
    assert_eq!(world.devices[&all[1]].shown.get(&text), Some(&1));
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    // Nor does an envelope come in without a sender.
    world.write(&all[1]).unwrap();
    world.connect(&all[1], 0);
    let mail = since(&world, before).remove(0);
    let (now, keys) = (world.now, &mut world.keys);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    let received = ada.receive(None, &mail.envelope, now, keys).unwrap();
    assert_eq!(received, subrosa::Received::Refused(Error::NoSender));
    let words = format!("{:?}", ada.group(world.group.unwrap()).unwrap());
    assert!(!words.contains("roses") && words.contains("5 bytes of settings"), "{words}");
}

#[test]
fn who_does_not_know_of_its_removal_is_told_of_it_and_of_nothing_later() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let (mut world, all) = World::delivering(31, delivery).talking();
        let group = world.group.unwrap();
        world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
        world.connect(&all[0], 0);
        // The server loses it.
        drop(world.post.take(&all[2]));
        world.settle();
        let dot = world.create("dot");
        world.meet(&all[0], "dot");
        world.change(&all[0], GroupIntention::Add("dot")).unwrap();
        world.settle();
        assert_eq!(world.members(&all[2]), ["ada", "bea", "cyd"], "{delivery:?}");
        world.client(&all[2]).refresh_group(group).unwrap();
        world.write(&all[2]).unwrap();
        world.settle();
        let info = world.client(&all[2]).group(group).unwrap();
        assert_eq!(info.standing, GroupStanding::Out, "{delivery:?}");
        assert_eq!(world.members(&all[2]), ["ada", "bea"], "{delivery:?}");
        assert_eq!(world.members(&dot), ["ada", "bea", "dot"], "{delivery:?}");
    }
}

#[test]
fn what_is_written_before_the_servers_list_came_is_for_the_devices_in_that_list() {
    let (mut world, all) = World::sealed(42).founding(&["bea"]);
    let group = world.group.unwrap();
    // Bea has Ada's word for who Ada is.
    let trust = |world: &mut World| world.client(&all[1]).group(group).unwrap().members[0].trust;
    assert_eq!(trust(&mut world), Some(Trust::Unvouched));
    let early = world.write(&all[1]).unwrap();
    world.connect(&all[1], 0);
    assert_eq!(world.client(&all[1]).progress(early), Ok(Progress::Waiting));
    let laptop = world.link(&all[0], Role::Device);
    world.settle();
    assert_eq!(trust(&mut world), Some(Trust::FirstUse));
    let tablet = world.link(&all[0], Role::Device);
    world.settle();
    let late = world.write(&all[1]).unwrap();
    world.settle();
    for (of, shows) in [(&all[0], true), (&laptop, true), (&tablet, false)] {
        let shown = &world.devices[of].shown;
        assert_eq!((shown.contains_key(&early), shown.contains_key(&late)), (shows, true), "{of}");
    }
    world.check_nobody_else();
    world.check_progress();
}

#[test]
fn who_left_has_nothing_that_waits() {
    let (mut world, all) = chatty(28);
    let text = world.write(&all[1]).unwrap();
    world.change(&all[1], GroupIntention::Leave).unwrap();
    assert_eq!(world.write(&all[1]), Err(Error::UnknownGroup));
    world.settle();
    assert_eq!(world.client(&all[1]).progress(text), Ok(Progress::Sent));
    assert_eq!(world.client(&all[1]).groups(), Ok(Vec::new()));
    world.check_nobody_else();
}

/// Bea is an admin, and does not know Ada's last change, which the server lost.
fn behind(seed: u64) -> (World, Vec<Address>) {
    behind_in(World::new(seed))
}

fn behind_in(world: World) -> (World, Vec<Address>) {
    let (mut world, all) = world.talking();
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    world.change(&all[0], GroupIntention::Set(b"thorns")).unwrap();
    world.connect(&all[0], 0);
    drop(world.post.take(&all[1]));
    world.settle();
    assert_eq!(settings(&mut world, &all[1]), b"roses");
    (world, all)
}

fn settings(world: &mut World, of: &Address) -> Vec<u8> {
    let group = world.group.unwrap();
    world.client(of).group(group).unwrap().settings
}

#[test]
fn a_change_that_was_lost_is_told_again_to_a_device_that_shows_that_it_does_not_know_it() {
    // By a change that is made without it.
    let (mut world, all) = behind(38);
    world.change(&all[1], GroupIntention::Promote("cyd")).unwrap();
    let before = world.post.past.len();
    for _ in 0..3 {
        world.connect_all(0);
    }
    assert_eq!(settings(&mut world, &all[1]), b"thorns");
    // Its author told it, and nobody else.
    let told = world.post.past[before..].iter().filter(|mail| mail.to == all[1]);
    assert_eq!(told.map(|mail| &mail.from).collect::<Vec<_>>(), [&all[0]]);
    // By a chain that is given.
    let (mut world, all) = behind(39);
    let group = world.group.unwrap();
    world.client(&all[1]).refresh_group(group).unwrap();
    world.write(&all[1]).unwrap();
    for _ in 0..3 {
        world.connect_all(0);
    }
    assert_eq!(settings(&mut world, &all[1]), b"thorns");
    world.settle();
    world.check_all(&|_| true);
}

#[test]
fn under_sealed_delivery_the_first_text_after_a_renewal_says_which_changes_its_author_knows() {
    // Of the two, one knows the change, and either may write.
    for by in 0..2 {
        let (mut world, all) = behind_in(World::sealed(43));
        let group = world.group.unwrap();
        world.write(&all[by]).unwrap();
        world.settle();
        assert_eq!(settings(&mut world, &all[1]), b"roses", "nothing is said without need");
        world.client(&all[by]).refresh_group(group).unwrap();
        world.write(&all[by]).unwrap();
        world.settle();
        assert_eq!(settings(&mut world, &all[1]), b"thorns", "{}", all[by]);
        world.check_nobody_else();
        world.check_all(&|_| true);
    }
}

#[test]
fn a_group_whose_mail_is_no_longer_sealed_is_given_chains() {
    let (mut world, all) = World::sealed(44).talking();
    world.delivery = subrosa::Delivery::Open;
    for of in &all {
        world.reopen(of);
    }
    let before = world.post.past.len();
    for _ in 0..2 {
        world.write(&all[0]).unwrap();
        world.settle();
    }
    assert_eq!(since(&world, before).len(), 2, "the second one is for all");
    world.check_nobody_else();
    world.check_all(&|_| true);
}

#[test]
fn what_would_show_who_asks_is_asked_for_along_with_a_text_to_the_group() {
    let (mut world, all) = World::sealed(45).talking();
    world.write(&all[0]).unwrap();
    world.settle();
    world.back_up(&all[1]);
    world.write(&all[1]).unwrap();
    world.settle();
    // Ada writes under a key that Bea's copy knows nothing of: the header opens, and no more.
    assert!(world.restore(&all[1]));
    let text = world.write(&all[0]).unwrap();
    world.settle();
    assert!(!world.devices[&all[1]].shown.contains_key(&text));
    world.write(&all[1]).unwrap();
    world.settle();
    assert_eq!(world.devices[&all[1]].shown.get(&text), Some(&1));
}

#[test]
fn changes_that_cross_are_told_twice_at_most() {
    let (mut world, all) = chatty(40);
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    world.change(&all[0], GroupIntention::Set(b"thorns")).unwrap();
    world.change(&all[1], GroupIntention::Set(b"lilies")).unwrap();
    let before = world.post.past.len();
    for by in &all {
        // Everybody sends before anybody fetches.
        let mail = world.post.mail.remove(by);
        world.connect(by, 0);
        world.post.mail.entry(by.clone()).or_default().extend(mail.into_iter().flatten());
    }
    world.settle();
    let told = world.post.past[before..].iter();
    let between = told.filter(|mail| mail.from != all[2] && mail.to != all[2]).count();
    assert!((2..=4).contains(&between), "{between}");
    let seen: Vec<Vec<u8>> = all.iter().map(|of| settings(&mut world, of)).collect();
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
}

#[test]
fn who_declined_tells_a_member_who_does_not_know_it_and_writes() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let mut world = World::new(41);
        world.delivery = delivery;
        let (mut world, all) = world.founding(&["bea", "cyd"]);
        for by in &all {
            world.write(by).unwrap();
        }
        world.settle();
        let dot = world.create("dot");
        world.meet(&all[0], "dot");
        world.change(&all[0], GroupIntention::Add("dot")).unwrap();
        world.settle();
        // With nobody but Ada is there a session.
        world.change(&dot, GroupIntention::Leave).unwrap();
        world.settle();
        assert_eq!(world.members(&all[0]), ["ada", "bea", "cyd"], "{delivery:?}");
        assert_eq!(world.members(&all[1]), ["ada", "bea", "cyd", "dot"], "{delivery:?}");
        world.write(&all[1]).unwrap();
        world.settle();
        assert_eq!(world.members(&all[1]), ["ada", "bea", "cyd"], "{delivery:?}");
        assert!(world.devices[&dot].shown.is_empty());
        world.check_nobody_else();
    }
}

#[test]
fn two_groups_that_are_founded_alike_are_two_groups() {
    let (mut world, all) = chatty(41);
    let (now, keys) = (world.now, &mut world.keys);
    let founder = &mut world.devices.get_mut(&all[0]).unwrap().client;
    let mut found = || {
        let group = founder.create_group(&["bea", "cyd"], b"roses", now, keys).unwrap();
        let set = [GroupIntention::Set(b"tulips")];
        founder.change_group(group, &set, now, keys).unwrap();
        group
    };
    let groups = [found(), found(), found()];
    assert!(groups[0] != groups[1] && groups[1] != groups[2] && groups[0] != groups[2]);
    for group in groups {
        assert_eq!(founder.group(group).unwrap().members.len(), 3);
    }
}

/// A device is restored from a copy that is older than the group, and is written to.
fn text_to_a_copy_older_than_the_group(mut world: World, of: &Address) -> (World, MessageId) {
    let ada = Address::new("ada", 1);
    world.back_up(of);
    world.meet(&ada, &of.user);
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(&ada).unwrap().client;
    world.group = Some(client.create_group(&[&of.user], b"lilies", now, keys).unwrap());
    world.settle();
    world.join(of);
    for by in [&ada, of] {
        world.write(by).unwrap();
        world.settle();
    }
    assert!(world.restore(of));
    let text = world.write(&ada).unwrap();
    (world, text)
}

#[test]
fn a_copy_older_than_the_group_asks_for_a_sealed_text_and_is_told_of_the_group() {
    let (world, all) = World::sealed(42).talking();
    let (mut world, text) = text_to_a_copy_older_than_the_group(world, &all[2]);
    world.settle();
    assert_eq!(world.devices[&all[2]].shown.get(&text), Some(&1));
}

#[test]
fn a_copy_older_than_its_contacts_is_told_of_the_group_once_the_silence_is_over() {
    let (mut world, _) = World::sealed(43).founding(&["bea"]);
    let cyd = world.create("cyd");
    let (mut world, text) = text_to_a_copy_older_than_the_group(world, &cyd);
    for _ in 0..6 {
        world.settle();
    }
    assert_eq!(world.devices[&cyd].shown.get(&text), Some(&1));
}

#[test]
fn what_comes_to_a_group_while_a_person_is_to_decide_waits_for_the_decision() {
    let (mut world, all) = World::sealed(60).talking();
    // Until Cyd decides, nobody vouches for Bea's device.
    world.make_up_list(&all[2], "bea");
    let text = world.write(&all[1]).unwrap();
    world.settle();
    assert!(world.devices[&all[0]].shown.contains_key(&text));
    assert!(!world.devices[&all[2]].shown.contains_key(&text));
    let known = world.account(&all[2], "bea");
    world.accept(&all[2], "bea", &known);
    world.settle();
    world.check_all(&|_| true);
    world.check_nobody_else();
    assert!(world.devices[&all[2]].late.is_empty());
}

#[test]
fn what_was_written_before_a_person_is_to_decide_waits_for_the_decision_too() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let (mut world, all) = World::delivering(65, delivery).talking();
        let before = world.write(&all[0]).unwrap();
        // Until Ada decides, nothing more is given to Cyd.
        world.make_up_list(&all[0], "cyd");
        let meanwhile = world.write(&all[0]).unwrap();
        world.settle();
        let progress = world.client(&all[0]).progress(meanwhile);
        assert_eq!(progress, Ok(Progress::Waiting), "{delivery:?}");
        for text in [before, meanwhile] {
            assert!(world.devices[&all[1]].shown.contains_key(&text), "{delivery:?}");
        }
        let known = world.account(&all[0], "cyd");
        world.accept(&all[0], "cyd", &known);
        world.settle();
        world.write(&all[0]).unwrap();
        world.settle();
        world.check_all(&|_| true);
        world.check_nobody_else();
        world.check_progress();
    }
}

#[test]
fn what_a_device_writes_under_an_account_key_that_nobody_accepted_yet_waits_too() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let (mut world, all) = World::delivering(61, delivery).talking();
        let group = world.group.unwrap();
        let tablet = world.link(&all[1], Role::Manager);
        world.settle();
        let (now, keys) = (world.now, &mut world.keys);
        let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
        bea.remove_device(tablet.device, now, keys).unwrap();
        world.devices.get_mut(&tablet).unwrap().gone = true;
        world.connect(&all[1], 0);
        let laptop = world.link(&all[1], Role::Device);
        world.settle();
        let renewed = world.account(&laptop, "bea");
        world.meet(&all[0], "bea");
        world.meet(&all[2], "bea");
        world.accept(&all[0], "bea", &renewed);
        let again = [GroupIntention::Remove("bea"), GroupIntention::Add("bea")];
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        ada.change_group(group, &again, now, keys).unwrap();
        world.settle();
        world.join(&all[1]);
        world.settle();
        let text = world.write(&laptop).unwrap();
        world.settle();
        assert!(!world.devices[&all[2]].shown.contains_key(&text), "{delivery:?}");
        world.accept(&all[2], "bea", &renewed);
        world.settle();
        assert!(world.devices[&all[2]].shown.contains_key(&text), "{delivery:?}");
        assert!(world.devices[&all[2]].late.is_empty(), "{delivery:?}");
        world.check_nobody_else();
    }
}

#[test]
fn what_a_device_wrote_to_a_group_before_it_was_removed_is_shown_apart() {
    for (delivery, is_known) in [subrosa::Delivery::Open, subrosa::Delivery::Sealed]
        .into_iter()
        .flat_map(|delivery| [(delivery, false), (delivery, true)])
    {
        let (mut world, all) = World::delivering(62, delivery).talking();
        let laptop = world.link(&all[1], Role::Device);
        world.settle();
        world.write(&all[2]).unwrap();
        world.settle();
        if is_known {
            world.write(&laptop).unwrap();
            world.settle();
        }
        // Cyd is away, and hears of the removal first.
        world.devices.get_mut(&all[2]).unwrap().on = false;
        let texts: Vec<MessageId> = (0..33).map(|_| world.write(&laptop).unwrap()).collect();
        for _ in 0..3 {
            world.connect(&laptop, 0);
        }
        let (now, keys) = (world.now, &mut world.keys);
        let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
        bea.remove_device(laptop.device, now, keys).unwrap();
        world.connect(&all[1], 0);
        world.devices.get_mut(&laptop).unwrap().gone = true;
        world.meet(&all[2], "bea");
        world.settle();
        let cyd = &world.devices[&all[2]];
        let of = |set: &dyn Fn(&MessageId) -> bool| texts.iter().filter(|id| set(id)).count();
        let shown = (of(&|id| cyd.shown.contains_key(id)), of(&|id| cyd.late.contains(id)));
        // Some, and not without end.
        assert_eq!(shown, (32, 32), "{delivery:?} {is_known}");
        world.check_nobody_else();
    }
}

#[test]
fn what_waits_apart_when_a_member_was_removed_does_not_leave() {
    let (mut world, all) = World::sealed(63).talking();
    let text = world.write(&all[0]).unwrap();
    world.written.last_mut().unwrap().to.remove(&all[2]);
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    world.settle();
    assert_eq!(world.members(&all[2]), ["ada", "bea"]);
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    world.check_all(&|_| true);
    world.check_nobody_else();
}

#[test]
fn a_group_in_which_an_account_is_only_under_its_former_key_can_be_left() {
    let (mut world, all) = World::new(64).talking();
    let group = world.group.unwrap();
    let laptop = world.link(&all[1], Role::Device);
    let tablet = world.link(&all[1], Role::Manager);
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.remove_device(tablet.device, now, keys).unwrap();
    world.devices.get_mut(&tablet).unwrap().gone = true;
    world.settle();
    for of in [&all[1], &laptop] {
        assert_eq!(world.write(of), Err(Error::NotPermitted), "{of}");
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(of).unwrap().client;
        let left = client.change_group(group, &[GroupIntention::Leave], now, keys);
        assert_eq!(left, Ok(subrosa::GroupChange::Made), "{of}");
        assert_eq!(client.groups(), Ok(Vec::new()), "{of}");
    }
    world.settle();
    // An admin adds the account anew: that is an invitation like any other.
    let renewed = world.account(&all[1], "bea");
    world.meet(&all[0], "bea");
    world.accept(&all[0], "bea", &renewed);
    let again = [GroupIntention::Remove("bea"), GroupIntention::Add("bea")];
    let (now, keys) = (world.now, &mut world.keys);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    ada.change_group(group, &again, now, keys).unwrap();
    world.settle();
    let standing = world.client(&all[1]).group(group).unwrap().standing;
    assert_eq!(standing, GroupStanding::Invited);
    // One that nobody wants is declined.
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.decline_group(group, now, keys).unwrap();
    assert_eq!(bea.groups(), Ok(Vec::new()));
}

#[test]
fn everything_that_a_device_is_owed_leaves_though_nothing_else_happens() {
    for delivery in [subrosa::Delivery::Open, subrosa::Delivery::Sealed] {
        let (mut world, all) = World::delivering(66, delivery).talking();
        world.make_up_list(&all[0], "cyd");
        let texts: Vec<_> = (0..100).map(|_| world.write(&all[0]).unwrap()).collect();
        world.settle();
        let known = world.account(&all[0], "cyd");
        world.accept(&all[0], "cyd", &known);
        world.settle();
        for text in texts {
            let progress = world.client(&all[0]).progress(text);
            assert_eq!(progress, Ok(Progress::Sent), "{delivery:?}");
        }
        world.check_all(&|_| true);
    }
}

#[test]
fn what_no_allowance_is_left_for_leaves_once_there_is_one() {
    let (mut world, all) = World::sealed(67).talking();
    // 16 MB to each device at once, and then 256 bytes a second.
    let (group, long) = (world.group.unwrap(), "long".repeat(250_000));
    let mut texts = Vec::new();
    for _ in 0..18 {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        texts.push(ada.write_to_group(group, long.as_bytes(), now, keys).unwrap());
        world.connect(&all[0], 0);
    }
    let last = *texts.last().unwrap();
    assert_eq!(world.client(&all[0]).progress(last), Ok(Progress::Waiting));
    let (began, mut looked) = (world.now, 0);
    while world.client(&all[0]).progress(last) != Ok(Progress::Sent) {
        let now = world.now;
        world.now = world.client(&all[0]).next_due(now).unwrap();
        world.connect(&all[0], 0);
        looked += 1;
        assert!(looked < 60 && world.now.since(began) < 6 * HOUR, "{looked}");
    }
}

#[test]
fn groups_that_wait_for_an_allowance_stand_in_front_of_no_other() {
    let (mut world, all) = World::sealed(68).talking();
    let founded = |world: &mut World, with: &Address| {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        let group = ada.create_group(&[&*with.user], b"", now, keys).unwrap();
        world.settle();
        let (now, keys) = (world.now, &mut world.keys);
        world.devices.get_mut(with).unwrap().client.join_group(group, now, keys).unwrap();
        group
    };
    let many: Vec<_> = (0..12).map(|_| founded(&mut world, &all[2])).collect();
    let others: Vec<_> = (0..5).map(|_| founded(&mut world, &all[1])).collect();
    world.settle();
    let long = "long".repeat(250_000);
    let write = |world: &mut World, group, text: &str| {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        let id = ada.write_to_group(group, text.as_bytes(), now, keys).unwrap();
        world.connect(&all[0], 0);
        id
    };
    for group in many.iter().chain(&many) {
        write(&mut world, *group, &long);
    }
    let last = write(&mut world, many[0], &long);
    assert_eq!(world.client(&all[0]).progress(last), Ok(Progress::Waiting));
    // What others are owed leaves in steps of their own, once somebody decided.
    world.make_up_list(&all[0], "bea");
    let texts: Vec<_> = others.iter().map(|group| write(&mut world, *group, "hello")).collect();
    let known = world.account(&all[0], "bea");
    world.accept(&all[0], "bea", &known);
    for _ in 0..5 {
        world.connect(&all[0], 0);
        let now = world.now;
        world.now = world.client(&all[0]).next_due(now).unwrap();
    }
    for text in texts {
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    }
    assert_eq!(world.client(&all[0]).progress(last), Ok(Progress::Waiting));
}

#[test]
fn whoever_has_a_new_account_key_is_in_again_by_one_change() {
    let (mut world, all) = World::with_group(1, &["bea", "cyd"]);
    let [ada, bea, cyd] = &all[..] else { panic!("three") };
    let tablet = world.link(bea, Role::Manager);
    let group = world.group.unwrap();
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(bea).unwrap().client;
    client.remove_device(tablet.device, now, keys).unwrap();
    world.devices.remove(&tablet);
    world.connect(bea, 0);
    let add = [GroupIntention::Add("bea")];
    for of in [ada, cyd] {
        world.meet(of, "bea");
        let waits = world.client(of).trust("bea").unwrap().unwrap().new_account.unwrap();
        // Not before a person accepted the key.
        let refused = world.client(of).preview_change(group, &add).unwrap_err();
        assert_eq!(refused, Error::IdentityChanged("bea".into()));
        world.accept(of, "bea", &waits);
    }
    let user = || String::from("bea");
    let told = [GroupEvent::Removed { user: user() }, GroupEvent::Added { user: user() }];
    assert_eq!(world.client(ada).preview_change(group, &add).unwrap().changes, told);
    // Nothing is done twice for whoever says so.
    let both = [GroupIntention::Remove("bea"), GroupIntention::Add("bea")];
    assert_eq!(world.client(ada).preview_change(group, &both).unwrap().changes, told);
    world.devices.get_mut(cyd).unwrap().events.clear();
    world.change(ada, add[0]).unwrap();
    world.connect_all(0);
    let shown: Vec<GroupEvent> = world.devices[cyd]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::GroupChanged { what, .. } => Some(what.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(shown, told);
    world.settle();
    world.join(bea);
    world.settle();
    for by in &all {
        world.write(by).unwrap();
    }
    world.settle();
    let shown = |of: &Address| world.devices[of].shown.len();
    assert_eq!([shown(ada), shown(bea), shown(cyd)], [2; 3]);
    assert!(world.client(ada).preview_change(group, &add).is_err(), "bea is in");
}
