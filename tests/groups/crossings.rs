//! What must hold where two things happen at once: a removal and much else to do, a new account key
//! and a change of the group, another delivery and a change that waits.

use subrosa::group::GroupId;
use subrosa::{
    Action, Address, Answer, Delivery, Error, Event, GroupIntention, GroupStanding, MessageId,
    Outgoing, Progress, Received, Role, Task,
};

use crate::world::{HOUR, World, collect};

const DAY: u64 = 24 * HOUR;

/// More groups than one call looks at.
fn many_groups(world: &mut World, by: &Address, others: &[&str]) -> Vec<GroupId> {
    let mut groups = Vec::new();
    for _ in 0..20 {
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(by).unwrap().client;
        groups.push(client.create_group(others, b"", now, keys).unwrap());
    }
    world.settle();
    groups
}

fn write_to_each(world: &mut World, by: &Address, groups: &[GroupId]) {
    for group in groups {
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(by).unwrap().client;
        client.write_to_group(*group, b"to all", now, keys).unwrap();
    }
}

#[test]
fn of_many_groups_none_sends_what_a_removed_device_could_read() {
    let (mut world, all) = World::with_group(70, &["bea", "cyd"]);
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    world.meet(&all[0], "bea");
    let groups = many_groups(&mut world, &all[0], &["bea", "cyd"]);
    let write = |world: &mut World| write_to_each(world, &all[0], &groups);
    write(&mut world);
    world.settle();
    // All of them hold the chains.
    write(&mut world);
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.remove_device(laptop.device, now, keys).unwrap();
    world.devices.get_mut(&laptop).unwrap().gone = true;
    world.connect(&all[1], 0);
    world.meet(&all[0], "bea");
    let before = world.post.past.len();
    world.connect(&all[0], 0);
    let left: Vec<_> = world.post.past[before..].to_vec();
    assert_eq!(left.iter().filter(|mail| mail.to == laptop).count(), 0);
    // A thief of the laptop has what the server has.
    let (now, keys) = (world.now, &mut world.keys);
    let thief = &mut world.devices.get_mut(&laptop).unwrap().client;
    let opens = |mail: &&crate::world::Mail| {
        let received = thief.receive(mail.named(), &mail.envelope, now, keys).unwrap();
        mail.is_of_group() && matches!(received, Received::Incoming(_))
    };
    assert_eq!(left.iter().filter(opens).count(), 0);
    // All of it leaves once each group was looked at.
    world.settle();
    for of in [&all[1], &all[2]] {
        assert_eq!(world.devices[of].shown.len(), 2 * groups.len(), "{of}");
    }
    world.devices.values().for_each(|device| assert!(device.shown.values().all(|n| *n == 1)));
}

#[test]
fn of_many_groups_none_sends_apart_what_is_for_a_removed_member() {
    let (mut world, all) = World::sealed(79).talking();
    let groups = many_groups(&mut world, &all[1], &["ada", "cyd"]);
    let (now, keys) = (world.now, &mut world.keys);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    for group in &groups {
        ada.join_group(*group, now, keys).unwrap();
    }
    let write = |world: &mut World| write_to_each(world, &all[0], &groups);
    write(&mut world);
    world.settle();
    write(&mut world);
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    for group in &groups {
        bea.change_group(*group, &[GroupIntention::Remove("cyd")], now, keys).unwrap();
    }
    world.connect(&all[1], 0);
    for mail in world.post.take(&all[0]) {
        let (now, keys) = (world.now, &mut world.keys);
        crate::world::receive(world.devices.get_mut(&all[0]).unwrap(), &mail, now, keys);
    }
    let before = world.post.past.len();
    world.connect(&all[0], 0);
    let to_cyd = |mail: &&crate::world::Mail| mail.to == all[2] && mail.message.is_some();
    assert_eq!(world.post.past[before..].iter().filter(to_cyd).count(), 0);
    world.settle();
    for (of, texts) in [(&all[1], 2), (&all[2], 1)] {
        assert_eq!(world.devices[of].shown.len(), 2 + texts * groups.len(), "{of}");
    }
}

#[test]
fn who_has_groups_looked_at_without_end_keeps_no_other_one_waiting() {
    let (mut world, all) = World::with_group(80, &["bea"]);
    let cyd = world.create("cyd");
    let found = |world: &mut World, by: &Address, with: &Address| {
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(by).unwrap().client;
        let group = client.create_group(&[&*with.user], b"", now, keys).unwrap();
        world.settle();
        let (now, keys) = (world.now, &mut world.keys);
        world.devices.get_mut(with).unwrap().client.join_group(group, now, keys).unwrap();
        group
    };
    world.meet(&cyd, "ada");
    for _ in 0..30 {
        found(&mut world, &cyd, &all[0]);
    }
    let groups: Vec<_> = (0..5).map(|_| found(&mut world, &all[0], &all[1])).collect();
    world.settle();
    world.make_up_list(&all[0], "bea");
    let mut texts = Vec::new();
    for group in groups {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        texts.push(ada.write_to_group(group, b"to all", now, keys).unwrap());
    }
    let known = world.account(&all[0], "bea");
    world.accept(&all[0], "bea", &known);
    for _ in 0..40 {
        // Cyd has another list each second.
        let spare = world.link(&cyd, Role::Device);
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&cyd).unwrap().client;
        client.remove_device(spare.device, now, keys).unwrap();
        world.devices.remove(&spare);
        world.connect(&cyd, 0);
        world.meet(&all[0], "cyd");
        world.connect(&all[0], 0);
        world.now = world.now.after(1);
    }
    for text in texts {
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    }
}

fn deliver(world: &mut World, by: &Address, to: &str, delivery: Delivery) {
    let (now, keys) = (world.now, &mut world.keys);
    world.devices.get_mut(by).unwrap().client.deliver(to, delivery, now, keys).unwrap();
}

#[test]
fn who_is_added_under_a_new_account_key_gets_what_was_written_once_a_person_accepts_it() {
    for (delivery, knows) in [Delivery::Open, Delivery::Sealed]
        .into_iter()
        .flat_map(|delivery| [(delivery, false), (delivery, true)])
    {
        let (mut world, all) = World::delivering(71, delivery).talking();
        let [ada, bea, cyd] = &all[..] else { panic!("three") };
        let group = world.group.unwrap();
        let laptop = world.link(bea, Role::Device);
        let tablet = world.link(bea, Role::Manager);
        world.settle();
        for by in [ada, bea, cyd, &laptop] {
            world.write(by).unwrap();
            world.settle();
        }
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(bea).unwrap().client;
        client.remove_device(tablet.device, now, keys).unwrap();
        world.devices.get_mut(&tablet).unwrap().gone = true;
        world.connect(bea, 0);
        world.connect(&laptop, 0);
        let renewed = world.account(bea, "bea");
        let mut texts = Vec::new();
        if knows {
            // It waits for Cyd's decision.
            world.meet(cyd, "bea");
            texts.push(world.write(cyd).unwrap());
            world.connect(cyd, 0);
        }
        // Ada decides, and adds Bea anew.
        world.meet(ada, "bea");
        world.accept(ada, "bea", &renewed);
        let again = [GroupIntention::Remove("bea"), GroupIntention::Add("bea")];
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(ada).unwrap().client;
        client.change_group(group, &again, now, keys).unwrap();
        world.connect(ada, 0);
        world.connect(cyd, 0);
        texts.push(world.write(cyd).unwrap());
        world.settle();
        world.join(bea);
        world.settle();
        // Nobody has to write for Cyd to hear of the new key.
        let waits = world.client(cyd).trust("bea").unwrap().unwrap().new_account;
        assert_eq!(waits, Some(renewed), "{delivery:?} {knows}");
        texts.push(world.write(cyd).unwrap());
        world.settle();
        let shows =
            |world: &World, of: &Address, id: &MessageId| world.devices[of].shown.contains_key(id);
        for of in [bea, &laptop] {
            assert!(!texts.iter().any(|id| shows(&world, of, id)), "{delivery:?} {knows} {of}");
        }
        world.accept(cyd, "bea", &renewed);
        world.settle();
        for of in [bea, &laptop] {
            let shown: Vec<bool> = texts.iter().map(|id| shows(&world, of, id)).collect();
            assert!(shown.iter().all(|shown| *shown), "{delivery:?} {knows} {of} {shown:?}");
        }
        for id in texts {
            assert_eq!(world.client(cyd).progress(id), Ok(Progress::Sent));
        }
        assert!(world.devices.values().all(|device| device.shown.values().all(|n| *n == 1)));
        assert!(world.devices[&tablet].shown.len() == 4);
    }
}

#[test]
fn a_successor_has_members_under_the_keys_of_the_group_where_a_person_has_not_decided() {
    let (mut world, all) = World::new(84).talking();
    let group = world.group.unwrap();
    let tablet = world.link(&all[1], Role::Manager);
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.remove_device(tablet.device, now, keys).unwrap();
    world.devices.get_mut(&tablet).unwrap().gone = true;
    world.connect(&all[1], 0);
    let renewed = world.account(&all[1], "bea");
    world.meet(&all[0], "bea");
    world.accept(&all[0], "bea", &renewed);
    let again = [GroupIntention::Remove("bea"), GroupIntention::Add("bea")];
    let (now, keys) = (world.now, &mut world.keys);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    ada.change_group(group, &again, now, keys).unwrap();
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let cyd = &mut world.devices.get_mut(&all[2]).unwrap().client;
    assert!(cyd.trust("bea").unwrap().unwrap().new_account.is_some());
    let next = cyd.continue_group(group, &[], subrosa::Admins::Kept, now, keys).unwrap();
    let members = cyd.group(next).unwrap().members;
    let bea = members.iter().find(|member| member.user == "bea").unwrap();
    assert_eq!(bea.account, renewed);
}

#[test]
fn what_was_written_while_another_key_was_known_is_not_for_a_former_one_that_comes_back() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(85, delivery).talking();
        let tablet = world.link(&all[1], Role::Manager);
        world.settle();
        world.write(&all[0]).unwrap();
        world.settle();
        let former = world.client(&tablet).devices("bea").unwrap().unwrap();
        let (now, keys) = (world.now, &mut world.keys);
        let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
        bea.remove_device(tablet.device, now, keys).unwrap();
        world.connect(&all[1], 0);
        let renewed = world.account(&all[1], "bea");
        world.meet(&all[0], "bea");
        world.accept(&all[0], "bea", &renewed);
        // In the group she is under the former key. Nobody of hers is to have this.
        let text = world.write(&all[0]).unwrap();
        world.connect(&all[0], 0);
        // The thief of the tablet has the server show the former list, and somebody believes it.
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        ada.update_devices("bea", &former.encode(), now, keys).unwrap();
        world.accept(&all[0], "bea", &former.account());
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        let next = ada.write_to_group(world.group.unwrap(), b"to all", now, keys).unwrap();
        let mut to_thief = Vec::new();
        for _ in 0..9 {
            for task in ada.tasks(50, now, keys).unwrap() {
                if let Action::Send { to, message, .. } | Action::SendSealed { to, message, .. } =
                    &task.action
                {
                    to_thief.extend(message.filter(|_| *to == tablet));
                }
                let reply = world.post.serve(&all[0], &task.action, now);
                drop(ada.complete(&task.id, reply.answer(), now, keys).unwrap());
            }
        }
        assert_eq!(to_thief, [next], "{delivery:?}, and not {text}");
    }
}

#[test]
fn a_removal_that_waits_is_told_though_a_person_decides_to_deliver_openly() {
    let (mut world, all) = World::sealed(72).talking();
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    // Nothing has left yet.
    deliver(&mut world, &all[0], "bea", Delivery::Open);
    world.settle();
    for of in [&all[0], &all[1], &all[2]] {
        assert_eq!(world.members(of), ["ada", "bea"], "{of}");
    }
}

#[test]
fn a_removal_that_had_not_left_is_told_though_the_store_is_restored_from_a_copy() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(73, delivery).talking();
        world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
        world.back_up(&all[0]);
        world.client(&all[0]).connected().unwrap();
        world.connect(&all[0], 0);
        // The server takes it, and loses it.
        all[1..].iter().for_each(|of| drop(world.post.take(of)));
        assert!(world.restore(&all[0]));
        world.settle();
        let told = |event: &&Event| **event == Event::Restored;
        assert_eq!(world.devices[&all[0]].events.iter().filter(told).count(), 1);
        // Cyd hears of it when he writes.
        for of in &all[..2] {
            assert_eq!(world.members(of), ["ada", "bea"], "{delivery:?} {of}");
        }
    }
}

#[test]
fn what_is_encrypted_anew_for_another_delivery_is_followed_and_taken_back() {
    for is_taken_back in [false, true] {
        let (mut world, all) = World::sealed(74).talking();
        let text = world.write(&all[0]).unwrap();
        deliver(&mut world, &all[0], "bea", Delivery::Open);
        assert_ne!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        deliver(&mut world, &all[0], "cyd", Delivery::Open);
        assert_ne!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        if is_taken_back {
            assert_eq!(world.client(&all[0]).withdraw(text), Ok(true));
            world.written.last_mut().unwrap().to.clear();
        }
        world.settle();
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        world.check_nobody_else();
        world.check_all(&|_| true);
    }
}

#[test]
fn the_same_holds_where_the_store_is_restored_from_a_copy() {
    for is_taken_back in [false, true] {
        let (mut world, all) = World::sealed(75).talking();
        let text = world.write(&all[0]).unwrap();
        world.back_up(&all[0]);
        world.client(&all[0]).connected().unwrap();
        world.connect(&all[0], 0);
        all[1..].iter().for_each(|of| drop(world.post.take(of)));
        assert!(world.restore(&all[0]));
        world.devices.get_mut(&all[0]).unwrap().restored = None;
        // The server is asked what it holds, and nothing else.
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&all[0]).unwrap().client;
        for task in client.tasks(50, now, keys).unwrap() {
            let reply = world.post.serve(&all[0], &task.action, now);
            drop(client.complete(&task.id, reply.answer(), now, keys).unwrap());
        }
        assert_ne!(client.progress(text), Ok(Progress::Sent));
        if is_taken_back {
            assert_eq!(client.withdraw(text), Ok(true));
            world.written.last_mut().unwrap().to.clear();
        }
        world.settle();
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        world.check_nobody_else();
        world.check_all(&|_| true);
    }
}

#[test]
fn a_removed_member_who_could_not_be_told_at_once_hears_of_that_and_of_nothing_later() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(81, delivery).talking();
        let group = world.group.unwrap();
        let dot = world.create("dot");
        world.meet(&all[0], "dot");
        // There is no session with Cyd when he is removed, and there is one later.
        world.client(&all[0]).reset(&all[2]).unwrap();
        world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
        world.change(&all[0], GroupIntention::Add("dot")).unwrap();
        world.change(&all[0], GroupIntention::Set(b"thorns")).unwrap();
        world.settle();
        let info = world.client(&all[2]).group(group).unwrap();
        assert_eq!(info.standing, GroupStanding::Out, "{delivery:?}");
        assert_eq!(world.members(&all[2]), ["ada", "bea"], "{delivery:?}");
        assert_eq!(info.settings, b"roses", "{delivery:?}");
        for of in [&all[1], &dot] {
            assert_eq!(world.members(of), ["ada", "bea", "dot"], "{delivery:?}");
        }
    }
}

#[test]
fn who_is_restored_from_a_copy_older_than_a_removal_of_their_own_is_told_of_it() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(82, delivery).talking();
        world.back_up(&all[0]);
        world.client(&all[0]).connected().unwrap();
        world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
        world.settle();
        assert_eq!(world.members(&all[1]), ["ada", "bea"], "{delivery:?}");
        assert!(world.restore(&all[0]));
        // Cyd reads what he is given, and says nothing.
        world.devices.get_mut(&all[2]).unwrap().gone = true;
        world.write(&all[0]).unwrap();
        for _ in 0..4 {
            world.connect(&all[0], 0);
            world.connect(&all[1], 0);
            world.now = world.now.after(11 * 60);
        }
        assert_eq!(world.members(&all[0]), ["ada", "bea"], "{delivery:?}");
        let before = world.post.past.len();
        let next = world.write(&all[0]).unwrap();
        world.settle();
        let to_cyd = |mail: &&crate::world::Mail| mail.to == all[2] && mail.message == Some(next);
        assert_eq!(world.post.past[before..].iter().filter(to_cyd).count(), 0);
        assert_eq!(world.devices[&all[1]].shown.get(&next), Some(&1), "{delivery:?}");
    }
}

#[test]
fn a_text_that_is_taken_back_is_not_for_who_turns_out_to_be_a_member_later() {
    let (mut world, all) = World::new(83).talking();
    world.client(&all[0]).forget("cyd").unwrap();
    let directory = world.post.users.remove("cyd").unwrap();
    let texts = [world.write(&all[0]).unwrap(), world.write(&all[0]).unwrap()];
    world.connect(&all[0], 0);
    assert_eq!(world.client(&all[0]).progress(texts[0]), Ok(Progress::Sent));
    assert_eq!(world.client(&all[0]).withdraw(texts[0]), Ok(true));
    assert_eq!(world.client(&all[0]).withdraw(texts[0]), Ok(false));
    world.post.users.insert("cyd".into(), directory);
    for _ in 0..3 {
        world.settle();
    }
    for of in &all[1..] {
        let shown = &world.devices[of].shown;
        let shown = texts.map(|text| shown.contains_key(&text));
        assert_eq!(shown, [*of == all[1], true], "{of}");
    }
    assert_eq!(world.client(&all[0]).withdraw(texts[1]), Ok(false));
}

#[test]
fn a_member_who_has_another_key_by_now_is_told_of_what_was_changed_before() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(86, delivery).talking();
        let group = world.group.unwrap();
        let tablet = world.link(&all[2], Role::Manager);
        world.settle();
        // There is no session with Cyd when the change is made.
        world.client(&all[0]).reset(&all[2]).unwrap();
        world.client(&all[0]).reset(&tablet).unwrap();
        world.change(&all[0], GroupIntention::Set(b"thorns")).unwrap();
        let (now, keys) = (world.now, &mut world.keys);
        let cyd = &mut world.devices.get_mut(&all[2]).unwrap().client;
        cyd.remove_device(tablet.device, now, keys).unwrap();
        world.devices.get_mut(&tablet).unwrap().gone = true;
        world.connect(&all[2], 0);
        let renewed = world.account(&all[2], "cyd");
        world.meet(&all[0], "cyd");
        world.accept(&all[0], "cyd", &renewed);
        world.settle();
        let info = world.client(&all[2]).group(group).unwrap();
        assert_eq!(info.settings, b"thorns", "{delivery:?}");
    }
}

/// Whom a device could not bring a text to.
fn undelivered(world: &World, of: &Address, id: MessageId) -> Vec<(String, Option<u32>)> {
    let events = world.devices[of].events.iter();
    let all = events.filter_map(|event| match event {
        Event::Undelivered { message, to, device } if *message == id => Some((to.clone(), *device)),
        _ => None,
    });
    all.collect()
}

#[test]
fn a_text_to_a_group_whose_time_is_over_before_a_device_could_have_it_is_not_lost_in_silence() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(76, delivery).talking();
        let group = world.group.unwrap();
        world.make_up_list(&all[0], "cyd");
        let write = |world: &mut World| {
            let (now, keys) = (world.now, &mut world.keys);
            let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
            let text = Outgoing::new("to all").disappears_after(HOUR);
            ada.write_to_group(group, text, now, keys).unwrap()
        };
        let (text, taken_back) = (write(&mut world), write(&mut world));
        world.connect(&all[0], 0);
        assert_eq!(world.client(&all[0]).withdraw(taken_back), Ok(true));
        world.settle();
        let known = world.account(&all[0], "cyd");
        world.accept(&all[0], "cyd", &known);
        world.settle();
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        let cyd = (String::from("cyd"), Some(1));
        assert_eq!(undelivered(&world, &all[0], text), [cyd], "{delivery:?}");
        assert_eq!(undelivered(&world, &all[0], taken_back), [], "{delivery:?}");
    }
}

#[test]
fn a_text_to_a_group_that_waits_longer_than_it_is_kept_is_not_lost_in_silence() {
    let (mut world, all) = World::new(77).talking();
    let text = world.write(&all[0]).unwrap();
    // It is on its way for longer than the log keeps it, and then Cyd is removed.
    world.now = world.now.after(8 * DAY);
    let (now, keys) = (world.now, &mut world.keys);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    drop(ada.tasks(0, now, keys).unwrap());
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    world.settle();
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
    assert!(!world.devices[&all[1]].shown.contains_key(&text));
    let told = undelivered(&world, &all[0], text);
    assert_eq!(told, [(String::from("bea"), Some(1))]);
}

#[test]
fn a_text_to_a_group_that_the_server_takes_for_nobody_is_not_lost_in_silence() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(78, delivery).talking();
        let text = world.write(&all[0]).unwrap();
        let directory = world.post.users.remove("cyd").unwrap();
        world.connect(&all[0], 0);
        world.post.users.insert("cyd".into(), directory);
        world.settle();
        assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
        let cyd = (String::from("cyd"), Some(1));
        assert_eq!(undelivered(&world, &all[0], text), [cyd], "{delivery:?}");
    }
}

#[test]
fn what_is_to_be_sealed_since_it_was_encrypted_leaves_though_nothing_else_happens() {
    let (mut world, all) = World::new(90).talking();
    let text = world.write(&all[0]).unwrap();
    let mut policy = subrosa::Policy::default();
    policy.delivery = Delivery::Sealed;
    world.client(&all[0]).set_policy(policy);
    let before = world.post.past.len();
    world.connect(&all[0], 0);
    let now = world.now;
    world.now = world.client(&all[0]).next_due(now).unwrap();
    assert!(world.now.since(now) <= 1);
    world.connect(&all[0], 0);
    let left = &world.post.past[before..];
    assert!(left.len() == 2 && left.iter().all(crate::world::Mail::is_sealed));
    assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent));
}

#[test]
fn what_waits_of_a_group_that_was_left_does_not_leave_for_a_device_in_doubt() {
    let (mut world, all) = World::new(48).talking();
    let [ada, ..] = &all[..] else { panic!() };
    let tablet = world.link(ada, Role::Device);
    world.settle();
    world.write(ada).unwrap();
    world.settle();
    let id = world.write(ada).unwrap();
    world.change(ada, GroupIntention::Leave).unwrap();
    // The server shows another account of hers, which the tablet is not in.
    world.make_up_list(ada, "ada");
    let (now, keys) = (world.now, &mut world.keys);
    let tasks = world.devices.get_mut(ada).unwrap().client.tasks(100, now, keys).unwrap();
    let to_tablet = |task: &&Task| match &task.action {
        Action::Send { to, message, .. } => *to == tablet && *message == Some(id),
        _ => false,
    };
    assert!(!tasks.is_empty() && !tasks.iter().any(|task| to_tablet(&task)), "{tasks:?}");
}

#[test]
fn a_device_that_was_removed_sleeps_though_something_is_new_of_its_groups() {
    let (mut world, all) = World::new(91).founding(&["bea"]);
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    world.write(&all[0]).unwrap();
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    bea.remove_device(laptop.device, now, keys).unwrap();
    let list = bea.devices("bea").unwrap().unwrap().encode();
    world.change(&all[0], GroupIntention::Set(b"lilies")).unwrap();
    world.connect(&all[0], 0);
    for mail in world.post.take(&laptop) {
        let (now, keys) = (world.now, &mut world.keys);
        crate::world::receive(world.devices.get_mut(&laptop).unwrap(), &mail, now, keys);
    }
    let (now, keys) = (world.now, &mut world.keys);
    let removed = &mut world.devices.get_mut(&laptop).unwrap().client;
    removed.update_devices("bea", &list, now, keys).unwrap();
    assert!(removed.tasks(50, now, keys).unwrap().is_empty());
    assert!(removed.next_due(now).unwrap() > now.after(DAY / 25));
}

#[test]
fn texts_of_groups_that_were_not_looked_at_stand_in_front_of_nothing_else() {
    for seed in 92..96 {
        let (mut world, all) = World::sealed(seed).talking();
        let mut groups = Vec::new();
        for _ in 0..20 {
            let (now, keys) = (world.now, &mut world.keys);
            let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
            groups.push(ada.create_group(&["bea", "cyd"], b"", now, keys).unwrap());
        }
        let write = |world: &mut World| {
            for group in &groups {
                let (now, keys) = (world.now, &mut world.keys);
                let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
                ada.write_to_group(*group, b"to all", now, keys).unwrap();
            }
        };
        write(&mut world);
        world.settle();
        write(&mut world);
        world.now = world.now.after(1);
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        let text = ada.write("bea", b"to you", now, keys).unwrap();
        // The server says that Cyd has another account key.
        world.make_up_list(&all[0], "cyd");
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        loop {
            let tasks = ada.tasks(1, now, keys).unwrap();
            let Some(task) = tasks.first() else { break };
            let reply = world.post.serve(&all[0], &task.action, now);
            drop(ada.complete(&task.id, reply.answer(), now, keys).unwrap());
        }
        assert_eq!(ada.progress(text), Ok(Progress::Sent), "{seed}");
    }
}

/// Does the tasks of a device for days. Of some devices there is nothing to begin a session with.
fn work_without(world: &mut World, of: &Address, without: &[Address], days: u64) {
    let until = world.now.after(days * DAY);
    while world.now < until {
        let World { post, keys, now, devices, .. } = &mut *world;
        let device = devices.get_mut(of).unwrap();
        loop {
            let tasks = device.client.tasks(50, *now, keys).unwrap();
            if tasks.is_empty() {
                break;
            }
            for task in tasks {
                let is_of = matches!(&task.action, Action::FetchBundle(of) if without.contains(of));
                let reply = post.serve(of, &task.action, *now);
                let answer = if is_of { Answer::Missing } else { reply.answer() };
                drop(device.client.complete(&task.id, answer, *now, keys).unwrap());
            }
        }
        collect(device);
        *now = device.client.next_due(*now).unwrap();
    }
}

#[test]
fn what_was_written_to_a_group_and_a_device_that_cannot_be_reached_for_a_month_is_given_up() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let (mut world, all) = World::delivering(90, delivery).talking();
        let tablet = world.link(&all[2], Role::Device);
        world.meet(&all[0], "cyd");
        for of in [&all[1], &all[2], &tablet] {
            world.client(&all[0]).reset(of).unwrap();
        }
        let first = world.write(&all[0]).unwrap();
        let without = [tablet.clone(), all[1].clone()];
        work_without(&mut world, &all[0], &without[..1], 29);
        assert_eq!(world.client(&all[0]).progress(first), Ok(Progress::Waiting), "{delivery:?}");
        assert_eq!(undelivered(&world, &all[0], first), []);
        // Another one cannot be reached for some days alone.
        world.client(&all[0]).reset(&all[1]).unwrap();
        let second = world.write(&all[0]).unwrap();
        work_without(&mut world, &all[0], &without, 3);
        for text in [first, second] {
            let told = [(String::from("cyd"), Some(2))];
            assert_eq!(undelivered(&world, &all[0], text), told, "{delivery:?}");
        }
        assert_eq!(world.client(&all[0]).progress(second), Ok(Progress::Waiting));
        work_without(&mut world, &all[0], &without[..1], 1);
        for text in [first, second] {
            assert_eq!(world.client(&all[0]).progress(text), Ok(Progress::Sent), "{delivery:?}");
        }
        // It is there after all: what is written from now on comes.
        let later = world.write(&all[0]).unwrap();
        world.settle();
        for (of, was_there) in [(&all[1], true), (&all[2], true), (&tablet, false)] {
            let shown = &world.devices[of].shown;
            let shown = [first, second, later].map(|text| shown.get(&text).copied());
            let expected = was_there.then_some(1);
            assert_eq!(shown, [expected, expected, Some(1)], "{delivery:?} {of}");
        }
    }
}

#[test]
fn who_asks_for_a_text_to_a_group_that_is_gone_by_then_is_told_so() {
    let (mut world, all) = World::with_group(91, &["bea", "cyd"]);
    world.back_up(&all[1]);
    world.write(&all[0]).unwrap();
    world.settle();
    // The copy does not have the chain that Ada writes with.
    assert!(world.restore(&all[1]));
    let (group, now) = (world.group.unwrap(), world.now);
    let text = Outgoing::new("to all").disappears_after(HOUR);
    let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
    let text = ada.write_to_group(group, text, now, &mut world.keys).unwrap();
    world.connect(&all[0], 0);
    world.connect(&all[1], 0);
    world.now = world.now.after(2 * HOUR);
    world.settle();
    let lost = |event: &&Event| matches!(event, Event::Lost { by, .. } if *by == all[0]);
    let told = all.iter().map(|of| world.devices[of].events.iter().filter(lost).count());
    assert_eq!(told.collect::<Vec<_>>(), [0, 1, 0]);
    let shown = all.iter().map(|of| world.devices[of].shown.contains_key(&text));
    assert_eq!(shown.collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_text_to_a_group_that_is_damaged_or_said_to_be_this_devices_own_is_refused() {
    let (mut world, all) = World::new(92).talking();
    world.write(&all[0]).unwrap();
    world.connect(&all[0], 0);
    let mail = world.post.take(&all[1]).pop().unwrap();
    assert!(mail.is_of_group());
    let mut damaged = mail.envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    for (from, envelope, error) in [
        (&all[1], &mail.envelope, Error::OwnIdentity),
        // It is not asked for: anybody could damage it without end.
        (&all[0], &damaged, Error::Decrypt),
    ] {
        assert_eq!(bea.receive(Some(from), envelope, now, keys), Ok(Received::Refused(error)));
    }
    let received = bea.receive(Some(&all[0]), &mail.envelope, now, keys);
    assert!(matches!(received, Ok(Received::Incoming(_))), "{received:?}");
}
