//! The files of a text go wherever the text goes: to every device, through drafts, restarts, and
//! what is sent again, held or late.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use subrosa::file::{self, ChunkSize};
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Attachment, Client, Error, Event, Item, NewDevice, Outgoing, Policy, Progress, Received, Role,
    Text, UnixTime,
};

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use faulty::dump;
use network::{NOW, Seeded};
use post::{Post, take};

/// A server, a clock and a generator.
struct World {
    post: Post,
    rng: Seeded,
    now: UnixTime,
}

impl World {
    fn new(name: &str) -> Self {
        let (post, now) = (Post::default(), UnixTime::from_secs(NOW).unwrap());
        Self { post, rng: Seeded::new(1, name), now }
    }

    fn create(&mut self, user: &str) -> Client<Memory> {
        let mut client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        self.settle(&mut client);
        client
    }

    fn link(&mut self, old: &mut Client<Memory>) -> Client<Memory> {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), Role::Device, self.now, &mut self.rng).unwrap();
        let new = Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng);
        let mut new = new.unwrap();
        self.settle(old);
        self.settle(&mut new);
        new
    }

    fn settle(&mut self, client: &mut Client<Memory>) {
        self.post.settle(client, self.now, &mut self.rng);
    }

    /// Everything comes to rest.
    fn settle_all(&mut self, clients: &mut [&mut Client<Memory>]) {
        for _ in 0..6 {
            for client in &mut *clients {
                self.post.fetch(client, self.now, &mut self.rng);
                self.settle(client);
            }
        }
    }

    /// A file of these bytes, of which this is said.
    fn file(&mut self, content: &[u8], info: &[u8]) -> Attachment {
        let (descriptor, _) = file::seal(content, ChunkSize::DEFAULT, &mut self.rng).unwrap();
        Attachment::new(descriptor, info).unwrap()
    }
}

/// The texts in an inbox, which is empty then.
fn texts(client: &mut Client<Memory>) -> Vec<Text> {
    let text = |item| match item {
        Item::Text(text) | Item::Late(text) => Some(text),
        _ => None,
    };
    take(client).into_iter().filter_map(|incoming| text(incoming.item)).collect()
}

/// The one text that is there, with its files.
#[track_caller]
fn has(client: &mut Client<Memory>, text: &[u8], files: &[Attachment]) {
    let texts = texts(client);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!((&texts[0].text[..], &texts[0].files[..]), (text, files));
}

#[test]
fn files_come_with_a_text_on_every_device_and_open_their_blobs() {
    let world = &mut World::new("every device");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone);
    let (descriptor, blob) = file::seal(b"a photograph", ChunkSize::VOICE, &mut world.rng).unwrap();
    let files = [Attachment::new(descriptor, b"").unwrap(), world.file(b"", &[7; 1_024])];
    // There is no session yet: it is a draft first, with a store that was closed.
    let message = Outgoing::new("the garden").files(&files);
    let id = phone.write("bob", message, world.now, &mut world.rng).unwrap();
    assert_eq!(phone.progress(id).unwrap(), Progress::Waiting);
    let mut phone = Client::open(phone.into_store()).unwrap();
    world.settle_all(&mut [&mut phone, &mut laptop, &mut bob]);
    let mut bob = Client::open(bob.into_store()).unwrap();
    let [incoming] = &bob.inbox(10).unwrap()[..] else { panic!("one text") };
    let Item::Text(text) = &incoming.item else { panic!("{incoming:?}") };
    assert_eq!(file::open(text.files[0].descriptor(), &blob).unwrap(), b"a photograph");
    assert_eq!(text.files[1].info(), [7; 1_024]);
    has(&mut bob, b"the garden", &files);
    has(&mut laptop, b"the garden", &files);
    // In a session, with a long text, and with no text.
    for text in [&[b'x'; 5_000][..], &[]] {
        let message = Outgoing::new(text).files(&files);
        phone.write("bob", message, world.now, &mut world.rng).unwrap();
        world.settle_all(&mut [&mut phone, &mut laptop, &mut bob]);
        has(&mut bob, text, &files);
        has(&mut laptop, text, &files);
    }
}

#[test]
fn files_come_with_a_text_that_is_sent_again() {
    let world = &mut World::new("again");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    alice.write("bob", "hello", world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut alice, &mut bob]);
    bob.write("alice", "hello", world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut alice, &mut bob]);
    drop(take(&mut bob));
    // Bob loses his sessions.
    let mut store = bob.into_store();
    let lost: Result<(), Error> = store.transact(|tx| {
        let rows = tx.scan(Table::Session, b"", 100)?;
        rows.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
    });
    lost.unwrap();
    let mut bob = Client::open(store).unwrap();
    let files = [world.file(b"a photograph", b"rose.jpg")];
    let message = Outgoing::new("the garden").files(&files);
    alice.write("bob", message, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let received = world.post.fetch(&mut bob, world.now, &mut world.rng);
    assert!(matches!(received[..], [Received::AskedAgain(_)]), "{received:?}");
    world.settle_all(&mut [&mut bob, &mut alice]);
    has(&mut bob, b"the garden", &files);
}

#[test]
fn files_are_held_with_a_text_under_a_new_key_and_come_when_it_is_accepted() {
    let world = &mut World::new("held");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    bob.write("alice", "hello", world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut bob, &mut alice]);
    // Bob lost everything, and begins anew.
    world.post.users.remove("bob");
    let mut bob = world.create("bob");
    let files = [world.file(b"a photograph", b"rose.jpg")];
    bob.write("alice", Outgoing::new("me").files(&files), world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut bob, &mut alice]);
    drop(take(&mut alice));
    let held = alice.held("bob", 10).unwrap();
    assert!(
        matches!(&held[..], [one] if matches!(&one.item, Item::Text(text) if text.files == files)),
        "{held:?}"
    );
    let key = alice.trust("bob").unwrap().unwrap().new_account.unwrap();
    alice.accept_new_key("bob", &key, world.now, &mut world.rng).unwrap();
    has(&mut alice, b"me", &files);
}

#[test]
fn files_are_late_with_a_text_of_a_removed_device() {
    let world = &mut World::new("late");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone);
    laptop.write("bob", "hello", world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut phone, &mut laptop, &mut bob]);
    drop(take(&mut bob));
    let files = [world.file(b"a photograph", b"rose.jpg")];
    laptop.write("bob", Outgoing::new("me").files(&files), world.now, &mut world.rng).unwrap();
    world.settle(&mut laptop);
    let late = world.post.take(bob.address());
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    phone.write("bob", "I lost it", world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut phone, &mut bob]);
    for mail in late {
        drop(bob.receive(Some(&mail.from), &mail.envelope, world.now, &mut world.rng).unwrap());
    }
    let late = take(&mut bob);
    assert!(
        late.iter().any(|one| matches!(&one.item, Item::Late(text) if text.files == files)),
        "{late:?}"
    );
}

#[test]
fn what_is_too_much_is_refused_and_changes_nothing() {
    let world = &mut World::new("too much");
    let (alice, mut bob) = (world.create("alice"), world.create("bob"));
    let file = world.file(b"", &[7; 1_024]);
    let files: Vec<Attachment> = std::iter::repeat_n(file, 17).collect();
    let text = vec![b'x'; Client::<Memory>::MAX_TEXT];
    let around = 1 + 16 * (74 + 2 + 1_024);
    let longest = &text[around..];
    let mut alice = {
        let before = dump(&mut alice.into_store());
        let mut store = Memory::new();
        let copied: Result<(), Error> = store.transact(|tx| {
            before.iter().try_for_each(|(table, (key, value))| tx.put(*table, key, value))
        });
        copied.unwrap();
        let mut alice = Client::open(store).unwrap();
        for message in [
            Outgoing::new("17 files").files(&files),
            Outgoing::new(&text).files(&files[..1]),
            Outgoing::new(&text[around - 1..]).files(&files[..16]),
        ] {
            let refused = alice.write("bob", message, world.now, &mut world.rng);
            assert_eq!(refused.err(), Some(Error::TooLong), "{message:?}");
        }
        let mut store = alice.into_store();
        assert!(dump(&mut store) == before);
        Client::open(store).unwrap()
    };
    let message = Outgoing::new(longest).files(&files[..16]);
    alice.write("bob", message, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut alice, &mut bob]);
    has(&mut bob, longest, &files[..16]);
}

#[test]
fn files_disappear_with_their_text_and_count_for_what_is_kept() {
    let world = &mut World::new("kept");
    let (alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut policy = Policy::default();
    policy.log_bytes = 1_500;
    let mut alice = alice.with_policy(policy);
    world.settle_all(&mut [&mut alice, &mut bob]);
    let texts_kept = |store: &mut Memory| {
        let kept: Result<_, Error> = store.transact(|tx| tx.scan(Table::Log, b"", 100));
        kept.unwrap().iter().filter(|(key, _)| key.len() == 41 && key[16] == 0).count()
    };
    let files = [world.file(b"", &[7; 900])];
    let [one, _] = ["one", "two"].map(|text| {
        let text = Outgoing::new(text).files(&files);
        alice.write("bob", text, world.now, &mut world.rng).unwrap()
    });
    world.settle_all(&mut [&mut alice, &mut bob]);
    // The first had to make room before it could leave.
    let told = Event::Undelivered { message: one, to: "bob".into(), device: Some(1) };
    let items: Vec<Item> = take(&mut alice).into_iter().map(|one| one.item).collect();
    assert_eq!(items, [Item::Event(told)]);
    let mut store = alice.into_store();
    assert_eq!(texts_kept(&mut store), 1, "two of 900 bytes are more than 1,500");
    let mut alice = Client::open(store).unwrap();
    let message = Outgoing::new("burn this").files(&files).disappears_after(60);
    alice.write("bob", message, world.now, &mut world.rng).unwrap();
    world.now = world.now.after(61);
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(texts_kept(&mut alice.into_store()), 1);
}

#[test]
fn neither_what_is_written_nor_what_comes_shows_a_descriptor() {
    let world = &mut World::new("debug");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let files = [world.file(b"a photograph", b"rose.jpg")];
    let message = Outgoing::new("me").files(&files);
    alice.write("bob", message, world.now, &mut world.rng).unwrap();
    let written = format!("{message:?}");
    world.settle_all(&mut [&mut alice, &mut bob]);
    let come = format!("{:?}", take(&mut bob));
    let all = format!("{written} {come} {files:?}");
    let secret = files[0].descriptor().encode();
    for window in secret[10..].windows(4) {
        let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!all.contains(&hex) && !all.contains(&format!("{window:?}")[1..12]), "{all}");
    }
    assert!(!all.contains("rose") && all.contains("Attachment(1040 bytes, 8 bytes about it)"));
}
