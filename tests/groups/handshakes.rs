//! Many sessions begin with one device at once.

use subrosa::{Address, Error, GroupIntention, Received};

use crate::post::take;
use crate::world::World;

/// A device gets its mail. How many of the first messages were refused as too many?
fn refused(world: &mut World, of: &Address) -> usize {
    let mail = world.post.take(of);
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(of).unwrap().client;
    let mut refused = 0;
    for mail in &mail {
        let received = client.receive(mail.named(), &mail.envelope, now, keys).unwrap();
        refused += usize::from(received == Received::Refused(Error::RateLimited));
    }
    drop(take(client));
    refused
}

/// So many users whom nobody knows write to zoe.
fn strangers(world: &mut World, count: usize, kind: &str) -> usize {
    for at in 0..count {
        let stranger = world.create(&format!("{kind} {at}"));
        world.meet(&stranger, "zoe");
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&stranger).unwrap().client;
        client.write("zoe", "who are you?", now, keys).unwrap();
        world.connect(&stranger, 0);
    }
    refused(world, &Address::new("zoe", 1))
}

#[test]
fn all_first_sealed_messages_of_members_are_taken_and_those_of_strangers_are_bounded() {
    let world = World::sealed(80);
    let names: Vec<String> = (0..9).map(|at| format!("member {at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut world, all) = world.founding(&names);
    world.settle();
    let zoe = world.create("zoe");
    world.meet(&all[0], "zoe");
    world.change(&all[0], GroupIntention::Add("zoe")).unwrap();
    world.settle();
    world.join(&zoe);
    world.settle();
    // Sixty-four at once, and one more every two seconds: strangers leave room for four.
    assert_eq!(strangers(&mut world, 60, "stranger"), 0);
    let before = world.post.past.len();
    for by in &all {
        world.write(by).unwrap();
        world.connect(by, 0);
    }
    let sent = world.post.past[before..].iter().filter(|mail| mail.to == zoe);
    assert!(sent.count() >= all.len());
    assert_eq!(refused(&mut world, &zoe), 0, "of members");
    // What members cost, strangers do not have more or less for.
    let refused = strangers(&mut world, 10, "another");
    assert!((4..=8).contains(&refused), "{refused}");
}

#[test]
fn all_members_of_a_large_group_may_begin_at_once_and_know_each_other_by_it() {
    let mut world = World::sealed(81);
    // Half as many again as strangers may be at once.
    let names: Vec<String> = (0..100).map(|at| format!("member {at}")).collect();
    let ada = world.create("ada");
    let members: Vec<Address> = names.iter().map(|name| world.create(name)).collect();
    let zoe = world.create("zoe");
    names.iter().map(String::as_str).chain(["zoe"]).for_each(|user| world.meet(&ada, user));
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["zoe"]).collect();
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(&ada).unwrap().client;
    world.group = Some(client.create_group(&all, b"roses", now, keys).unwrap());
    for of in [&ada, &zoe] {
        world.connect(of, 0);
    }
    world.join(&zoe);
    world.connect(&zoe, 0);
    // None of them has a ticket of hers, or wrote to her before.
    for by in &members {
        world.meet(by, "zoe");
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(by).unwrap().client;
        client.write("zoe", "here I am", now, keys).unwrap();
        world.connect(by, 0);
    }
    assert_eq!(refused(&mut world, &zoe), 0, "of members");
    let refused = strangers(&mut world, 70, "stranger");
    assert!((4..=8).contains(&refused), "{refused}");
}
