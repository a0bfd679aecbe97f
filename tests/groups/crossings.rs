//! What must hold where two things happen at once: a removal and much else to do, a new account key
//! and a change of the group, another delivery and a change that waits.

use subrosa::store::Memory;
use subrosa::{Address, Progress, Role};

use crate::world::World;

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
    make_up_list(&mut world, &all[0], "bea");
    let mut texts = Vec::new();
    for group in groups {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        texts.push(ada.write_to_group(group, b"to all", now, keys).unwrap());
    }
    let known = account(&mut world, &all[0], "bea");
    accept(&mut world, &all[0], "bea", &known);
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

/// The account key that a device takes for a user's.
fn account(world: &mut World, of: &Address, user: &str) -> subrosa::IdentityKey {
    world.client(of).devices(user).unwrap().unwrap().account()
}

fn accept(world: &mut World, of: &Address, user: &str, key: &subrosa::IdentityKey) {
    let (now, keys) = (world.now, &mut world.keys);
    world.devices.get_mut(of).unwrap().client.accept_new_key(user, key, now, keys).unwrap();
}

/// The server makes up a list of a user, and gives it to a device.
fn make_up_list(world: &mut World, of: &Address, user: &str) {
    let (now, keys) = (world.now, &mut world.keys);
    let mut other = subrosa::Client::create(Memory::new(), user, now, keys).unwrap();
    let list = other.devices(user).unwrap().unwrap().encode();
    let client = &mut world.devices.get_mut(of).unwrap().client;
    client.update_devices(user, &list, now, keys).unwrap();
}
