//! A server that sees everything, and guesses who wrote.

use std::collections::BTreeMap;

use super::post::Mail;
use super::world::{App, World, is_initial, ticket};

const FRIENDS: [&str; 4] = ["ada", "bea", "cyd", "dot"];

/// What the server has of an envelope to Rose, in order, and who wrote it, which it does not have.
struct Seen {
    envelope: Vec<u8>,
    author: usize,
}

/// Friends write to Rose, who answers, all in an order that is drawn. `monologue`: how many texts
/// one of them writes before anybody else does.
fn seen(seed: u64, monologue: usize) -> Vec<Seen> {
    let world = &mut World::new(&format!("adversary {seed}"));
    let mut rose = world.create("rose");
    let mut friends: Vec<App> = FRIENDS.map(|name| world.create(name)).into();
    for friend in &mut friends {
        world.write(friend, "rose", "hello");
        world.settle_all(&mut [friend, &mut rose]);
        world.write(&mut rose, &friend.address().user.clone(), "hello");
        world.settle_all(&mut [friend, &mut rose]);
    }
    world.post.past.clear();
    for _ in 0..120 {
        let author = world.rng.below(FRIENDS.len());
        for _ in 0..monologue {
            world.write(&mut friends[author], "rose", "a text like any other");
            world.work(&mut friends[author]);
        }
        drop(world.fetch(&mut rose));
        world.work(&mut rose);
        // Whom Rose answers says nothing of who writes next.
        let reader = world.rng.below(FRIENDS.len());
        world.write(&mut rose, FRIENDS[reader], "and an answer to some");
        world.work(&mut rose);
        drop(world.fetch(&mut friends[reader]));
        world.work(&mut friends[reader]);
        world.pass(600);
    }
    let to_rose = world.post.past.iter().filter(|mail| mail.to.user == "rose");
    to_rose.map(of).collect()
}

fn of(mail: &Mail) -> Seen {
    assert!(mail.is_sealed() && !is_initial(&mail.envelope));
    let author = FRIENDS.iter().position(|name| *name == mail.from.user).expect("it is a friend");
    Seen { envelope: mail.envelope.clone(), author }
}

/// What an envelope shows that may be the same in another one of its author.
fn features(envelope: &[u8]) -> [Vec<u8>; 6] {
    [
        envelope[18..34].to_vec(),
        envelope[18..26].to_vec(),
        envelope[26..34].to_vec(),
        envelope[2..10].to_vec(),
        envelope[10..18].to_vec(),
        // The nonce of the header.
        envelope[36..48].to_vec(),
    ]
}

/// The server was told who wrote each second envelope, and guesses the others: by what they share
/// with those, and else by lengths. Returns right guesses and all, of envelopes whose ticket was
/// shown once, and of the others.
fn guess(all: &[Seen]) -> [[usize; 2]; 2] {
    let mut times: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    for seen in all {
        *times.entry(ticket(&seen.envelope)).or_default() += 1;
    }
    let mut known: Vec<BTreeMap<Vec<u8>, usize>> = vec![BTreeMap::new(); 6];
    let mut by_length: BTreeMap<usize, [usize; FRIENDS.len()]> = BTreeMap::new();
    for seen in all.iter().step_by(2) {
        for (feature, known) in features(&seen.envelope).into_iter().zip(&mut known) {
            known.insert(feature, seen.author);
        }
        by_length.entry(seen.envelope.len()).or_default()[seen.author] += 1;
    }
    let mut result = [[0; 2]; 2];
    for seen in all.iter().skip(1).step_by(2) {
        let shared = features(&seen.envelope);
        let linked = shared.iter().zip(&known).find_map(|(feature, known)| known.get(feature));
        let usual = by_length.get(&seen.envelope.len()).copied().unwrap_or_default();
        let most = (0..FRIENDS.len()).max_by_key(|author| usual[*author]).unwrap();
        let is_once = times[&ticket(&seen.envelope)] == 1;
        let count = &mut result[usize::from(!is_once)];
        count[0] += usize::from(linked.copied().unwrap_or(most) == seen.author);
        count[1] += 1;
        assert!(linked.is_none() || !is_once, "nothing else links two envelopes");
    }
    result
}

#[test]
fn a_server_that_sees_everything_guesses_no_better_than_chance() {
    let mut total = [0; 2];
    for seed in 0..4 {
        let [once, again] = guess(&seen(seed, 1));
        println!("world {seed}: {once:?} of tickets shown once, {again:?} of others");
        total = [total[0] + once[0], total[1] + once[1]];
    }
    // 240 guesses among four: 60 are right by chance, and 6.7 is the standard deviation.
    let [right, all] = total;
    assert!(all >= 200, "{all}");
    let expected = all / FRIENDS.len();
    let deviation = (all * 3 / 16).isqrt();
    assert!(right <= expected + 4 * deviation, "{right} of {all}");
    assert!(right + 4 * deviation >= expected, "{right} of {all}: it must not know what to avoid");
}

#[test]
fn tickets_that_ran_out_link_the_envelopes_of_a_monologue() {
    // Nobody answers in time: the last ticket is shown again, and the server sees that.
    let [_, again] = guess(&seen(9, 30));
    println!("monologues: {again:?} of tickets that were shown again");
    assert!(again[1] > 100, "{again:?}");
    assert!(again[0] * 10 >= again[1] * 8, "{again:?}: they are linked");
}
