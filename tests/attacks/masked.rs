//! Somebody who seals, and says in a sealed envelope what is not so.

use subrosa::store::Table;
use subrosa::{Address, Error, Item, Received, Trust};

use crate::liar::{Liar, Saying};
use crate::world::{App, Disk, World, inbox, incoming, texts};

/// A ticket that nobody gave.
const NO_TICKET: [u8; 16] = [7; 16];

/// Hands over a sealed envelope of which the transport says this.
fn give(world: &mut World, app: &mut App, from: Option<&Address>, envelope: &[u8]) -> Received {
    app.receive(from, envelope, world.now, &mut world.rng).unwrap()
}

/// Rows that a message leaves which was taken.
fn left(disk: &Disk) -> [usize; 5] {
    [Table::Inbox, Table::Session, Table::Device, Table::User, Table::Seen].map(|of| disk.count(of))
}

#[test]
fn a_sealed_envelope_of_whom_the_transport_names_another_sender_is_refused_and_can_come_again() {
    let mut world = World::new("two senders");
    let (mut alice, disk) = world.app("alice");
    let mut mallory = Liar::new(&mut world, "mallory");
    let (from, other) = (mallory.address.clone(), Address::new("bob", 1));
    let talk = mallory.begin(&mut world, &alice.address().clone());
    let before = left(&disk);
    // The second one is found by the handshake of the first.
    for (id, text) in [(1, "one"), (2, "two")] {
        let envelope = mallory.say_sealed(&mut world, talk, &Saying::text(id, text), NO_TICKET);
        let refused = give(&mut world, &mut alice, Some(&other), &envelope);
        assert_eq!(refused, Received::Refused(Error::Decrypt), "{text}");
        assert!(id == 2 || left(&disk) == before, "nothing of it was written");
        let taken = give(&mut world, &mut alice, Some(&from), &envelope);
        let Item::Text(text) = incoming(taken) else { panic!("a text") };
        assert_eq!((text.from, text.trust), (from.clone(), Trust::Unvouched));
    }
    assert_eq!(texts(&mut alice), ["one", "two"]);
}

#[test]
fn a_sealed_message_that_claims_to_be_the_receivers_own_is_refused() {
    let mut world = World::new("own address");
    let (mut alice, disk) = world.app("alice");
    let mut mallory = Liar::new(&mut world, "mallory");
    let own = alice.address().clone();
    let talk = mallory.begin(&mut world, &own);
    let before = left(&disk);
    let saying = Saying::text(1, "a note to myself").claiming_sender(&own);
    let envelope = mallory.say_sealed(&mut world, talk, &saying, NO_TICKET);
    let received = give(&mut world, &mut alice, None, &envelope);
    assert_eq!(received, Received::Refused(Error::OwnIdentity));
    assert_eq!(left(&disk), before);
}

#[test]
fn a_later_message_of_a_sealed_session_claims_no_other_sender() {
    let mut world = World::new("another sender later");
    let (mut alice, disk) = world.app("alice");
    let mut mallory = Liar::new(&mut world, "mallory");
    let talk = mallory.begin(&mut world, &alice.address().clone());
    let first = mallory.say_sealed(&mut world, talk, &Saying::text(1, "one"), NO_TICKET);
    assert!(matches!(give(&mut world, &mut alice, None, &first), Received::Incoming(_)));
    inbox(&mut alice);
    let before = left(&disk);
    for claimed in [Address::new("bob", 1), Address::new("mallory", 2)] {
        let saying = Saying::text(2, "two").claiming_sender(&claimed);
        let envelope = mallory.say_sealed(&mut world, talk, &saying, NO_TICKET);
        let received = give(&mut world, &mut alice, None, &envelope);
        assert_eq!(received, Received::Refused(Error::Malformed), "{claimed}");
    }
    assert_eq!(left(&disk), before);
}

#[test]
fn who_is_blocked_gets_in_by_no_sealed_handshake_without_a_ticket() {
    let mut world = World::new("blocked without a ticket");
    let (mut alice, disk) = world.app("alice");
    let mut mallory = Liar::new(&mut world, "mallory");
    alice.block("mallory", world.now, &mut world.rng).unwrap();
    let before = left(&disk);
    let talk = mallory.begin(&mut world, &alice.address().clone());
    let envelope = mallory.say_sealed(&mut world, talk, &Saying::text(1, "let me in"), NO_TICKET);
    let received = give(&mut world, &mut alice, None, &envelope);
    assert_eq!(received, Received::Refused(Error::Blocked));
    assert_eq!(left(&disk), before);
}
