//! Texts leave in the order in which they were written.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use network::Seeded;
use post::Post;
use subrosa::store::Memory;
use subrosa::{Action, Answer, Client, Item, UnixTime};

const WRITTEN: [&str; 20] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19",
];

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn write_all(client: &mut Client<Memory>, rng: &mut Seeded) {
    for text in WRITTEN {
        client.write("bob", text.as_bytes(), now(), rng).unwrap();
    }
}

/// The texts that come to a device.
fn read_all(client: &mut Client<Memory>, post: &mut Post, rng: &mut Seeded) -> Vec<String> {
    for received in post.fetch(client, now(), rng) {
        assert!(matches!(received, subrosa::Received::Incoming(_)), "{received:?}");
    }
    let inbox = client.inbox(1_000).unwrap().into_iter();
    let texts = inbox.filter_map(|incoming| match incoming.item {
        Item::Text(text) => Some(String::from_utf8(text.text.to_vec()).unwrap()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn drafts_of_one_second_leave_in_the_order_in_which_they_were_written() {
    let rng = &mut Seeded::new(1, "order");
    let mut post = Post::default();
    let mut alice = Client::create(Memory::new(), "alice", now(), rng).unwrap();
    write_all(&mut alice, rng);
    let mut bob = Client::create(Memory::new(), "bob", now(), rng).unwrap();
    post.settle(&mut bob, now(), rng);
    post.settle(&mut alice, now(), rng);
    assert_eq!(read_all(&mut bob, &mut post, rng), WRITTEN);
}

/// Two who have talked, the first of whom has written and handed the first half of the tasks to
/// somebody who does none of them.
fn interrupted(post: &mut Post, rng: &mut Seeded) -> (Client<Memory>, Client<Memory>) {
    let mut alice = Client::create(Memory::new(), "alice", now(), rng).unwrap();
    let mut bob = Client::create(Memory::new(), "bob", now(), rng).unwrap();
    post.settle(&mut bob, now(), rng);
    bob.write("alice", b"hello", now(), rng).unwrap();
    post.settle(&mut alice, now(), rng);
    post.settle(&mut bob, now(), rng);
    assert_eq!(read_all(&mut alice, post, rng), ["hello"]);
    write_all(&mut alice, rng);
    let tasks = alice.tasks(WRITTEN.len() / 2, now(), rng).unwrap();
    assert_eq!(tasks.len(), WRITTEN.len() / 2);
    assert!(tasks.iter().all(|task| matches!(task.action, Action::Send { .. })), "{tasks:?}");
    (alice, bob)
}

#[test]
fn what_a_killed_process_was_sending_is_sent_first_by_the_next_one() {
    let rng = &mut Seeded::new(2, "order");
    let mut post = Post::default();
    let (alice, mut bob) = interrupted(&mut post, rng);
    let mut alice = Client::open(alice.into_store()).unwrap();
    post.settle(&mut alice, now(), rng);
    assert_eq!(read_all(&mut bob, &mut post, rng), WRITTEN);
}

#[test]
fn what_failed_while_the_network_was_away_is_sent_first_when_it_is_back() {
    let rng = &mut Seeded::new(3, "order");
    let mut post = Post::default();
    let (mut alice, mut bob) = interrupted(&mut post, rng);
    for task in alice.tasks(1_000, now(), rng).unwrap() {
        let _later = alice.complete(&task.id, Answer::Failed, now(), rng).unwrap();
    }
    // A user who was not there yet, and is now.
    alice.write("carol", b"welcome", now(), rng).unwrap();
    for task in alice.tasks(1_000, now(), rng).unwrap() {
        assert_eq!(task.action, Action::FetchDevices("carol".into()));
        let _later = alice.complete(&task.id, Answer::Missing, now(), rng).unwrap();
    }
    let mut carol = Client::create(Memory::new(), "carol", now(), rng).unwrap();
    post.settle(&mut carol, now(), rng);
    assert_eq!(alice.tasks(1_000, now(), rng).unwrap(), []);
    alice.connected().unwrap();
    post.settle(&mut alice, now(), rng);
    assert_eq!(read_all(&mut bob, &mut post, rng), WRITTEN);
    assert_eq!(read_all(&mut carol, &mut post, rng), ["welcome"]);
}

#[test]
fn the_first_summary_that_failed_is_fetched_again_as_soon_as_the_device_connects() {
    let rng = &mut Seeded::new(4, "order");
    let mut alice = Client::create(Memory::new(), "alice", now(), rng).unwrap();
    for attempt in 0..3 {
        let tasks = alice.tasks(10, now(), rng).unwrap();
        assert!(
            matches!(&tasks[..], [task] if task.action == Action::FetchSummary),
            "{attempt}: {tasks:?}"
        );
        if attempt == 1 {
            // As where the network went away before the answer.
            let _later = alice.complete(&tasks[0].id, Answer::Failed, now(), rng).unwrap();
        }
        assert_eq!(alice.tasks(10, now(), rng).unwrap(), []);
        alice.connected().unwrap();
    }
}
