//! Backups of an account, what a restoration does to it and to its contacts, and history for a new
//! device.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use std::io::{self, Cursor, Write as _};

use faulty::{FAULT, Faulty, dump};
use network::Seeded;
use post::{Post, take};
use subrosa::archive::{
    Archive, ArchiveKind, Argon2Cost, Contact, Info, Lock, Passphrase, RecoveryCode, Writer,
};
use subrosa::file::{self, ChunkSize, Descriptor, Sealer};
use subrosa::store::{Memory, Store};
use subrosa::{
    Action, Address, Client, Contents, DeviceList, Error, Event, HistoryOffer, Incoming, Item,
    NewDevice, Others, Received, Remedy, Role, Rows, Trust, UnixTime,
};

const KEY: [u8; 32] = [7; 32];
const LOCK: [Lock<'_>; 1] = [Lock::Key(&KEY)];
const DAY: u64 = 24 * 60 * 60;

struct World {
    post: Post,
    now: UnixTime,
    rng: Seeded,
}

type Phone = Client<Memory>;

impl World {
    fn new(name: &str) -> Self {
        let now = UnixTime::from_secs(1_800_000_000).unwrap();
        Self { post: Post::default(), now, rng: Seeded::new(1, name) }
    }

    fn create(&mut self, user: &str) -> Phone {
        let mut phone = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        self.settle(&mut phone);
        phone
    }

    fn settle(&mut self, phone: &mut Phone) {
        self.post.settle(phone, self.now, &mut self.rng);
    }

    /// Does all that is due for these devices, until nothing more comes. What came for each.
    fn run<const N: usize>(&mut self, mut phones: [&mut Phone; N]) -> [Vec<Item>; N] {
        let mut shown = [const { Vec::new() }; N];
        for _ in 0..8 {
            for (phone, shown) in phones.iter_mut().zip(&mut shown) {
                phone.connected().unwrap();
                self.settle(phone);
                self.post.fetch(phone, self.now, &mut self.rng);
                self.settle(phone);
                shown.extend(take(phone).into_iter().map(|Incoming { item, .. }| item));
            }
        }
        shown
    }

    fn write(&mut self, from: &mut Phone, to: &str, text: &str) {
        from.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap();
    }

    fn link(&mut self, old: &mut Phone, role: Role) -> Phone {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), role, self.now, &mut self.rng).unwrap();
        self.settle(old);
        let mut new =
            Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        self.settle(&mut new);
        new
    }

    fn export(&mut self, phone: &mut Phone, lines: &[&str]) -> Vec<u8> {
        let frames = lines.iter().map(|line| Ok(line.as_bytes()));
        let contents = Contents::default();
        phone.export(&LOCK, &contents, frames, Vec::new(), self.now, &mut self.rng).unwrap()
    }

    fn restore(&mut self, archive: &[u8], others: Others) -> Result<Phone, Error> {
        let mut archive = open(archive);
        let list = self.post.list(&archive.info().user).cloned();
        let (list, now) = (list.as_ref(), self.now);
        Client::restore(Memory::new(), &mut archive, list, others, line, now, &mut self.rng)
            .map_err(inside)
    }

    /// Rosa's phone and tablet, Carol and Dave; everybody wrote to everybody, and Rosa compared
    /// keys with Carol.
    fn of_three(&mut self) -> [Phone; 4] {
        let mut rosa = self.create("rosa");
        let mut tablet = self.link(&mut rosa, Role::Device);
        let (mut carol, mut dave) = (self.create("carol"), self.create("dave"));
        self.write(&mut rosa, "carol", "hello");
        self.write(&mut carol, "rosa", "hello to you");
        self.write(&mut dave, "rosa", "hello from dave");
        self.run([&mut rosa, &mut tablet, &mut carol, &mut dave]);
        let account = carol.trust("carol").unwrap().unwrap().account;
        rosa.verify("carol", &account, self.now, &mut self.rng).unwrap();
        self.run([&mut rosa, &mut tablet, &mut carol, &mut dave]);
        [rosa, tablet, carol, dave]
    }
}

fn open(archive: &[u8]) -> Archive<Cursor<&[u8]>> {
    Archive::open(Cursor::new(archive), LOCK[0]).unwrap()
}

fn inside(error: io::Error) -> Error {
    error.downcast().unwrap()
}

/// What the app does with a line of its history: it is kept under the number of lines before.
fn line(rows: &mut Rows<'_>, line: &[u8]) -> Result<(), Error> {
    let count = rows.scan(b"line", usize::MAX)?.len() as u32;
    rows.put(&[&b"line"[..], &count.to_be_bytes()].concat(), line)
}

fn lines<S: Store>(client: &mut Client<S>) -> Vec<Vec<u8>> {
    let rows = client.transact(|client| client.rows().scan(b"line", usize::MAX)).unwrap();
    rows.into_iter().map(|(_, line)| line.to_vec()).collect()
}

fn texts(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| match item {
        Item::Text(text) => Some(String::from_utf8(text.text.to_vec()).unwrap()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

fn events(items: &[Item]) -> Vec<Event> {
    let event = |item: &Item| match item {
        Item::Event(event) => Some(event.clone()),
        _ => None,
    };
    items.iter().filter_map(event).collect()
}

fn added(user: &str, device: u32) -> Event {
    Event::DeviceAdded { user: user.into(), device }
}

fn trust(client: &mut Phone, user: &str) -> Option<Trust> {
    client.trust(user).unwrap().map(|trust| trust.trust)
}

#[test]
fn an_account_moves_to_a_new_phone_and_its_contacts_see_another_device() {
    let mut world = World::new("moves");
    let [mut rosa, mut tablet, mut carol, mut dave] = world.of_three();
    let archive = world.export(&mut rosa, &["hello", "hello to you"]);
    let before = rosa.devices("rosa").unwrap().unwrap();

    let mut phone = world.restore(&archive, Others::Keep).unwrap();
    assert_eq!(*phone.address(), Address::new("rosa", 3));
    assert_eq!(lines(&mut phone), [b"hello".to_vec(), b"hello to you".to_vec()]);
    let after = phone.devices("rosa").unwrap().unwrap();
    assert_eq!((after.account(), after.version()), (before.account(), before.version() + 256));
    assert_eq!(trust(&mut phone, "carol"), Some(Trust::Verified));
    assert_eq!(trust(&mut phone, "dave"), Some(Trust::FirstUse));
    assert!(phone.sessions("carol").unwrap().is_empty());

    world.settle(&mut phone);
    world.write(&mut phone, "carol", "it is me");
    world.write(&mut phone, "dave", "me too");
    let all = [&mut phone, &mut carol, &mut dave, &mut rosa, &mut tablet];
    let [_, at_carol, at_dave, at_rosa, at_tablet] = world.run(all);
    assert_eq!(texts(&at_carol), ["it is me"]);
    assert_eq!(texts(&at_dave), ["me too"]);
    for (items, user) in [(&at_carol, "rosa"), (&at_dave, "rosa"), (&at_rosa, "rosa")] {
        assert_eq!(events(items), [added(user, 3)]);
    }
    // The account's other devices see what the new one wrote.
    for items in [&at_rosa, &at_tablet] {
        let mut copies = texts(items);
        copies.sort();
        assert_eq!(copies, ["it is me", "me too"]);
    }

    // Back to all of them, and the new phone is a manager as any.
    world.write(&mut carol, "rosa", "welcome");
    let all = [&mut carol, &mut phone, &mut rosa, &mut tablet];
    let [_, at_phone, at_rosa, at_tablet] = world.run(all);
    for items in [at_phone, at_rosa, at_tablet] {
        assert_eq!(texts(&items), ["welcome"]);
    }
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    let [_, at_tablet] = world.run([&mut phone, &mut tablet]);
    assert_eq!(events(&at_tablet), [Event::Unlinked]);
}

#[test]
fn who_is_blocked_stays_so_on_a_new_phone() {
    let world = &mut World::new("blocked");
    let [mut rosa, tablet, mut carol, mut dave] = world.of_three();
    for user in ["dave", "nobody-we-know"] {
        rosa.block(user, world.now, &mut world.rng).unwrap();
    }
    let backup = world.export(&mut rosa, &[]);
    assert_eq!(open(&backup).check().unwrap().blocked, 2);
    drop((rosa, tablet));
    let mut rosa = world.restore(&backup, Others::Keep).unwrap();
    world.settle(&mut rosa);
    let mut blocked = rosa.blocked().unwrap();
    blocked.sort();
    assert_eq!(blocked, ["dave", "nobody-we-know"]);
    // Both reach the new phone once they know of it.
    world.write(&mut rosa, "carol", "a new phone");
    world.write(&mut rosa, "dave", "a new phone");
    world.run([&mut rosa, &mut carol, &mut dave]);
    world.write(&mut dave, "rosa", "it is me again");
    world.write(&mut carol, "rosa", "and it works");
    let [shown, ..] = world.run([&mut rosa, &mut carol, &mut dave]);
    assert_eq!(texts(&shown), ["and it works"]);
}

#[test]
fn an_import_blocks_nobody_who_is_known_and_history_nobody_at_all() {
    let world = &mut World::new("blocked before");
    let [mut rosa, _, _, _] = world.of_three();
    for user in ["dave", "erin"] {
        rosa.block(user, world.now, &mut world.rng).unwrap();
    }
    let backup = world.export(&mut rosa, &[]);
    rosa.unblock("dave").unwrap();
    rosa.unblock("erin").unwrap();
    rosa.import(&mut open(&backup), line, world.now).unwrap();
    assert_eq!(rosa.blocked().unwrap(), ["erin"]);
    let mut fresh = world.create("rosa-anew");
    let list = fresh.devices("rosa-anew").unwrap().unwrap();
    let info = Info::new("rosa-anew", world.now, list).unwrap();
    for (kind, expected) in
        [(ArchiveKind::Transfer, &[] as &[&str]), (ArchiveKind::Backup, &["erin"])]
    {
        let (cost, info) = (Argon2Cost::default(), info.clone());
        let mut out = Writer::new(Vec::new(), kind, &LOCK, cost, info, &mut world.rng).unwrap();
        out.blocked("erin").unwrap();
        // Nobody blocks themselves, whoever wrote it.
        out.blocked("rosa-anew").unwrap();
        let archive = out.finish().unwrap();
        fresh.import(&mut open(&archive), line, world.now).unwrap();
        assert_eq!(fresh.blocked().unwrap(), expected);
    }
}

#[test]
fn a_restoration_that_removes_the_others_shuts_the_thief_out_and_everybody_sees_a_new_key() {
    let mut world = World::new("stolen");
    let [mut stolen, mut tablet, mut carol, mut dave] = world.of_three();
    let archive = world.export(&mut stolen, &[]);
    let old = stolen.devices("rosa").unwrap().unwrap().account();

    let mut phone = world.restore(&archive, Others::Remove).unwrap();
    world.settle(&mut phone);
    let new = phone.devices("rosa").unwrap().unwrap();
    assert_ne!(new.account(), old);
    let numbers: Vec<u32> = new.devices().iter().map(|listed| listed.device).collect();
    assert_eq!((numbers, Some(&new)), (vec![3], world.post.list("rosa")));
    assert_eq!(trust(&mut phone, "rosa"), Some(Trust::Verified));

    world.write(&mut phone, "carol", "it is me");
    let [_, at_carol] = world.run([&mut phone, &mut carol]);
    let changed = Event::KeyChanged { user: "rosa".into(), account: new.account() };
    assert!(events(&at_carol).contains(&changed), "{at_carol:?}");
    assert!(texts(&at_carol).is_empty());
    let waiting = carol.trust("rosa").unwrap().unwrap();
    assert_eq!((waiting.account, waiting.new_account), (old, Some(new.account())));

    // The thief's phone holds the old key. Nothing that it makes counts, and what it writes is
    // shown apart.
    world.write(&mut stolen, "carol", "send money");
    let thief = world.run([&mut stolen, &mut tablet, &mut carol, &mut dave]);
    assert_eq!(world.post.list("rosa"), Some(&new));
    assert!(events(&thief[0]).contains(&changed), "{:?}", thief[0]);
    assert!(texts(&thief[2]).is_empty());
    assert!(matches!(&thief[2][..], [Item::Late(text)] if text.text[..] == *b"send money"));

    carol.accept_new_key("rosa", &new.account(), world.now, &mut world.rng).unwrap();
    world.write(&mut carol, "rosa", "so it is you");
    let [at_carol, at_phone] = world.run([&mut carol, &mut phone]);
    assert_eq!(texts(&at_carol), ["it is me"]);
    assert_eq!(texts(&at_phone), ["so it is you"]);
}

#[test]
fn the_key_is_renewed_once_the_server_has_the_new_device_whatever_is_lost_on_the_way() {
    let mut world = World::new("renewed");
    let [mut rosa, ..] = world.of_three();
    let archive = world.export(&mut rosa, &[]);
    let old = rosa.devices("rosa").unwrap().unwrap().account();
    let mut phone = world.restore(&archive, Others::Remove).unwrap();
    let (now, rng) = (world.now, &mut Seeded::new(2, "renewed"));
    // The app ends after each step, and the answer to the first upload is lost.
    let mut uploads = 0;
    for step in 0..40_u64 {
        let now = now.after(step * 120);
        if step % 3 == 0 {
            phone = Client::open(phone.into_store()).unwrap();
        }
        let tasks = phone.tasks(1, now, rng).unwrap();
        let Some(task) = tasks.first() else { break };
        let reply = world.post.serve(phone.address(), &task.action, now);
        uploads += u32::from(matches!(task.action, Action::Upload(_)));
        if uploads != 1 {
            phone.complete(&task.id, reply.answer(), now, rng).unwrap();
        }
    }
    world.now = now.after(DAY);
    world.settle(&mut phone);
    let list = world.post.list("rosa").unwrap();
    assert_ne!(list.account(), old);
    assert_eq!(Some(list), phone.devices("rosa").unwrap().as_ref());
    // It is renewed once.
    let before = list.clone();
    world.run([&mut phone]);
    assert_eq!(world.post.list("rosa"), Some(&before));
}

#[test]
fn where_the_account_has_another_key_by_now_the_old_one_is_neither_stored_nor_used() {
    let mut world = World::new("replaced");
    let [mut rosa, mut tablet, ..] = world.of_three();
    let manager = world.link(&mut rosa, Role::Manager);
    let archive = world.export(&mut rosa, &["a line"]);
    rosa.remove_device(manager.address().device, world.now, &mut world.rng).unwrap();
    world.run([&mut rosa, &mut tablet]);

    let (mut store, mut opened) = (Memory::new(), open(&archive));
    let list = world.post.list("rosa").cloned();
    for others in [Others::Keep, Others::Remove] {
        let (list, now, rng) = (list.as_ref(), world.now, &mut world.rng);
        let refused = Client::restore(&mut store, &mut opened, list, others, line, now, rng);
        assert_eq!(inside(refused.unwrap_err()), Error::AccountReplaced);
    }
    assert_eq!(Error::AccountReplaced.remedy(), Remedy::LinkAgain);
    assert!(dump(&mut store).is_empty());

    // It links instead, and takes contacts and history.
    let mut phone = world.link(&mut rosa, Role::Device);
    let checked = phone.import(&mut opened, line, world.now).unwrap();
    assert_eq!((checked.contacts, checked.app_frames), (2, 1));
    assert_eq!(lines(&mut phone), [b"a line".to_vec()]);
    // Whoever has the archive marks nobody.
    assert_eq!(trust(&mut phone, "carol"), Some(Trust::FirstUse));
    assert_eq!(phone.devices("rosa").unwrap().as_ref(), world.post.list("rosa"));
}

#[test]
fn the_account_key_is_exported_by_managers_under_locks_that_nobody_guesses() {
    let mut world = World::new("locks");
    let [mut rosa, mut tablet, ..] = world.of_three();
    let (now, rng) = (world.now, &mut world.rng);
    let mut contents = Contents::default();
    contents.cost = Argon2Cost::new(8, 1);
    let (code, passphrase) = (RecoveryCode::generate(rng), Passphrase::generate(6, rng));
    let (typed, drawn) = (Lock::Passphrase("roses are red"), Lock::Generated(&passphrase));
    let mut without = contents.clone();
    without.account = false;
    let none = || std::iter::empty::<io::Result<Vec<u8>>>();
    for (locks, expected) in [
        (vec![drawn, Lock::Code(&code), LOCK[0]], None),
        (vec![typed], Some(Error::WeakPassphrase)),
        (vec![drawn, typed], Some(Error::WeakPassphrase)),
        (vec![], Some(Error::BadLocks)),
        (vec![LOCK[0]; 5], Some(Error::BadLocks)),
    ] {
        let mut out = Vec::new();
        let made = rosa.export(&locks, &contents, none(), &mut out, now, rng);
        assert_eq!(made.err().map(inside), expected);
        assert_eq!(out.is_empty(), expected.is_some());
    }
    // Without the key, any passphrase will do, and any device.
    for client in [&mut rosa, &mut tablet] {
        let made = client.export(&[typed], &without, none(), Vec::new(), now, rng).unwrap();
        let mut archive = Archive::open(Cursor::new(made), typed).unwrap();
        let refused =
            Client::restore(Memory::new(), &mut archive, None, Others::Keep, line, now, rng);
        assert_eq!(inside(refused.unwrap_err()), Error::NotPermitted);
    }
    let refused = tablet.export(&LOCK, &contents, none(), Vec::new(), now, rng);
    assert_eq!(inside(refused.unwrap_err()), Error::NotPermitted);
    // What fails in the app's frames fails.
    let broken = [Ok(vec![1]), Err(io::ErrorKind::NotFound.into())];
    let failed = rosa.export(&LOCK, &contents, broken, Vec::new(), now, rng);
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::NotFound);
    let long = [Ok(vec![1; (1 << 20) + 1])];
    let failed = rosa.export(&LOCK, &contents, long, Vec::new(), now, rng);
    assert_eq!(inside(failed.unwrap_err()), Error::TooLong);
}

#[test]
fn a_backup_is_restored_on_as_many_devices_as_one_likes_and_into_no_store_twice() {
    let mut world = World::new("twice");
    let [mut rosa, _, mut carol, _] = world.of_three();
    let archive = world.export(&mut rosa, &[]);
    let mut first = world.restore(&archive, Others::Keep).unwrap();
    world.settle(&mut first);
    let mut second = world.restore(&archive, Others::Keep).unwrap();
    world.settle(&mut second);
    assert_eq!((first.address().device, second.address().device), (3, 4));
    assert_ne!(first.identity_key(), second.identity_key());
    world.run([&mut first, &mut second]);
    world.write(&mut first, "carol", "here I am, twice");
    world.run([&mut first, &mut second, &mut carol]);
    world.write(&mut carol, "rosa", "to all of you");
    let [_, one, two] = world.run([&mut carol, &mut first, &mut second]);
    assert_eq!((texts(&one), texts(&two)), (vec!["to all of you".into()], texts(&one)));

    let mut store = first.into_store();
    let before = dump(&mut store);
    let (now, rng) = (world.now, &mut world.rng);
    let again =
        Client::restore(&mut store, &mut open(&archive), None, Others::Keep, line, now, rng);
    assert_eq!(inside(again.unwrap_err()), Error::AccountExists);
    assert!(dump(&mut store) == before);
}

#[test]
fn of_two_devices_that_are_restored_at_once_one_hears_that_it_is_not_in() {
    let world = &mut World::new("restored at once");
    let [mut rosa, ..] = world.of_three();
    let archive = world.export(&mut rosa, &[]);
    let mut first = world.restore(&archive, Others::Keep).unwrap();
    let mut second = world.restore(&archive, Others::Keep).unwrap();
    assert_eq!(first.address(), second.address());
    world.settle(&mut first);
    for _ in 0..3 {
        world.settle(&mut second);
        world.now = world.now.after(60 * 60);
    }
    assert_eq!(second.write("carol", b"hello", world.now, &mut world.rng), Err(Error::Unlinked));
    world.settle(&mut first);
    assert!(first.write("carol", b"hello", world.now, &mut world.rng).is_ok());
}

#[test]
fn an_older_list_of_the_server_does_not_bring_an_older_version() {
    let mut world = World::new("older");
    let mut rosa = world.create("rosa");
    let old = world.post.list("rosa").unwrap().clone();
    world.link(&mut rosa, Role::Device);
    let archive = world.export(&mut rosa, &[]);
    for list in [Some(&old), None] {
        let (now, rng) = (world.now, &mut world.rng);
        let mut archive = open(&archive);
        let mut phone =
            Client::restore(Memory::new(), &mut archive, list, Others::Keep, line, now, rng)
                .unwrap();
        let made = phone.devices("rosa").unwrap().unwrap();
        assert_eq!((made.version(), phone.address().device), (2 + 256, 3));
        assert_eq!(made.devices().len(), 3);
    }
}

#[test]
fn a_full_account_has_no_room_for_a_device_more_unless_the_others_go() {
    let mut world = World::new("full");
    let mut rosa = world.create("rosa");
    for _ in 1..DeviceList::MAX_DEVICES {
        let device = NewDevice::generate(&mut world.rng);
        rosa.link(&device.code(), Role::Device, world.now, &mut world.rng).unwrap();
    }
    world.settle(&mut rosa);
    let archive = world.export(&mut rosa, &[]);
    assert_eq!(world.restore(&archive, Others::Keep).err(), Some(Error::TooManyDevices));
    let phone = world.restore(&archive, Others::Remove).unwrap();
    assert_eq!(phone.address().device, 33);
}

#[test]
fn every_contact_of_very_many_comes_back() {
    let mut world = World::new("many");
    let (mut rosa, carol) = (world.create("rosa"), world.create("carol"));
    let list = world.post.list("carol").unwrap().encode();
    drop(carol);
    rosa.transact(|rosa| {
        for number in 0..700 {
            let (now, rng) = (world.now, &mut world.rng);
            rosa.update_devices(&format!("user {number}"), &list, now, rng)?;
        }
        Ok::<_, Error>(())
    })
    .unwrap();
    let archive = world.export(&mut rosa, &[]);
    assert_eq!(open(&archive).check().unwrap().contacts, 700);
    let mut phone = world.restore(&archive, Others::Keep).unwrap();
    for number in 0..700 {
        assert_eq!(trust(&mut phone, &format!("user {number}")), Some(Trust::FirstUse));
    }
}

#[test]
fn a_contact_whose_devices_are_all_others_by_now_is_reached() {
    let mut world = World::new("moved too");
    let [mut rosa, _, mut carol, _] = world.of_three();
    let archive = world.export(&mut rosa, &[]);
    // Carol has another phone too, by a backup, and the old one goes.
    let of_carol = world.export(&mut carol, &[]);
    let mut carols = world.restore(&of_carol, Others::Keep).unwrap();
    world.settle(&mut carols);
    world.run([&mut carols, &mut carol]);
    carols.remove_device(1, world.now, &mut world.rng).unwrap();
    world.run([&mut carols]);

    let mut phone = world.restore(&archive, Others::Keep).unwrap();
    world.settle(&mut phone);
    world.write(&mut phone, "carol", "it is me");
    world.run([&mut phone, &mut carols]);
    world.now = world.now.after(60);
    let [at_phone, _] = world.run([&mut phone, &mut carols]);
    // A manager was removed, so Carol's account has another key, and Rosa is asked.
    let new = world.post.list("carol").unwrap().account();
    let waiting = phone.trust("carol").unwrap().unwrap();
    assert_eq!(waiting.new_account, Some(new), "{at_phone:?}");
    phone.accept_new_key("carol", &new, world.now, &mut world.rng).unwrap();
    let [_, at_carol] = world.run([&mut phone, &mut carols]);
    assert_eq!(texts(&at_carol), ["it is me"]);
}

#[test]
fn a_restoration_that_is_cut_anywhere_goes_on_and_nothing_can_be_opened_before() {
    let mut world = World::new("cut");
    let [mut rosa, ..] = world.of_three();
    // Several batches.
    let frames: Vec<Vec<u8>> = (0..14).map(|number| vec![number; 70_000]).collect();
    let (now, contents) = (world.now, Contents::default());
    let app = frames.iter().map(Ok);
    let archive = rosa.export(&LOCK, &contents, app, Vec::new(), now, &mut world.rng).unwrap();
    let other = world.export(&mut rosa, &[]);
    let list = world.post.list("rosa").cloned();
    let restore = |store: &Faulty, archive: &[u8], others| {
        let (mut archive, rng) = (open(archive), &mut Seeded::new(9, "restore"));
        let list = list.as_ref();
        Client::restore(store.clone(), &mut archive, list, others, line, now, rng).map_err(inside)
    };
    let whole = Faulty::default();
    let mut client = restore(&whole, &archive, Others::Remove).unwrap();
    assert_eq!(lines(&mut client), frames);

    let (mut cuts, mut begun) = (0, 0);
    for operations in 0.. {
        let store = Faulty::default();
        store.fail_after(operations);
        let done = restore(&store, &archive, Others::Remove);
        if !store.mend() {
            break;
        }
        assert_eq!(done.err(), Some(FAULT), "operation {operations}");
        cuts += 1;
        // Where something was written, this archive goes on with it and nothing else does.
        let is_begun = !store.dump().is_empty();
        begun += u32::from(is_begun);
        let expected = if is_begun { Error::UnfinishedRestoration } else { Error::NoAccount };
        assert_eq!(Client::open(store.clone()).err(), Some(expected));
        if is_begun {
            let rng = &mut Seeded::new(1, "other");
            let created = Client::create(store.clone(), "eve", now, rng);
            assert_eq!(created.err(), Some(Error::UnfinishedRestoration));
            let restored = restore(&store, &other, Others::Remove);
            assert_eq!(restored.err(), Some(Error::UnfinishedRestoration));
        }
        let mut client = restore(&store, &archive, Others::Remove).unwrap();
        assert_eq!(lines(&mut client), frames, "operation {operations}");
        assert_eq!(client.address().device, 3);
        let rows = |store: &Faulty| store.dump().len();
        assert_eq!(rows(&store), rows(&whole), "operation {operations}");
    }
    assert!(cuts > 60 && begun > 50, "{cuts} {begun}");
}

/// As the guide does it: each frame says itself where it goes. An app that counts frames would
/// count from 1 again after each cut.
#[test]
fn a_restoration_as_in_the_guide_has_every_line_wherever_it_is_cut() {
    let mut world = World::new("guide");
    let mut rosa = world.create("rosa");
    let names: Vec<[u8; 24]> = (0..600_u16)
        .map(|number| std::array::from_fn(|at| number.to_be_bytes().get(at).copied().unwrap_or(9)))
        .collect();
    let frames: Vec<Vec<u8>> = names.iter().map(|name| [&name[..], b"a line"].concat()).collect();
    let (now, contents) = (world.now, Contents::default());
    let frames = frames.iter().map(Ok);
    let archive = rosa.export(&LOCK, &contents, frames, Vec::new(), now, &mut world.rng).unwrap();
    let put = |rows: &mut Rows<'_>, frame: &[u8]| {
        let (name, line) = frame.split_at_checked(24).ok_or(Error::Malformed)?;
        rows.put(name, line)
    };
    let restore = |store: &Faulty| {
        let (mut archive, rng) = (open(&archive), &mut Seeded::new(9, "restore"));
        let store = store.clone();
        Client::restore(store, &mut archive, None, Others::Keep, put, now, rng).map_err(inside)
    };
    // One in each of its transactions.
    for operations in [3, 200, 500, 601] {
        let store = Faulty::default();
        store.fail_after(operations);
        assert_eq!(restore(&store).err(), Some(FAULT));
        assert!(store.mend());
        let mut client = restore(&store).unwrap();
        // Again, into the account that it has become: nothing is there twice.
        client.import(&mut open(&archive), put, now).unwrap();
        let rows = client.transact(|client| client.rows().scan(&[], usize::MAX)).unwrap();
        let found: Vec<_> = rows.into_iter().map(|row| row.0).collect();
        assert_eq!(found, names, "operation {operations}");
    }
}

#[test]
fn an_app_that_fails_leaves_its_batch_out_and_gets_it_again() {
    let mut world = World::new("app fails");
    let mut rosa = world.create("rosa");
    let archive = world.export(&mut rosa, &["one", "two", "three"]);
    let (mut store, mut archive) = (Memory::new(), open(&archive));
    let (now, rng) = (world.now, &mut world.rng);
    let mut calls = 0;
    let mut fail = |rows: &mut Rows<'_>, body: &[u8]| {
        calls += 1;
        if calls == 2 { Err(Error::RateLimited) } else { line(rows, body) }
    };
    let failed = Client::restore(&mut store, &mut archive, None, Others::Keep, &mut fail, now, rng);
    assert_eq!(inside(failed.unwrap_err()), Error::RateLimited);
    let mut client =
        Client::restore(&mut store, &mut archive, None, Others::Keep, &mut fail, now, rng).unwrap();
    assert_eq!(lines(&mut client), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert_eq!(calls, 5);
}

#[test]
fn a_damaged_archive_writes_nothing() {
    let mut world = World::new("damaged");
    let mut rosa = world.create("rosa");
    let mut archive = world.export(&mut rosa, &["a line"]);
    let last = archive.len() - 1;
    archive[last] ^= 1;
    // The first chunk is the last: it does not even open.
    let damaged = Error::DamagedArchive { chunk: Some(0) };
    let opened = Archive::open(Cursor::new(&archive), LOCK[0]);
    assert_eq!(inside(opened.unwrap_err()), damaged);
    assert_eq!(damaged.remedy(), Remedy::RestoreState);

    let long = "x".repeat(100_000);
    let mut archive = world.export(&mut rosa, &[&long, &long]);
    let last = archive.len() - 1;
    archive[last] ^= 1;
    let mut store = Memory::new();
    let (now, rng) = (world.now, &mut world.rng);
    let mut opened = open(&archive);
    let refused = Client::restore(&mut store, &mut opened, None, Others::Keep, line, now, rng);
    assert_eq!(inside(refused.unwrap_err()), Error::DamagedArchive { chunk: Some(3) });
    assert!(dump(&mut store).is_empty());
    let refused = rosa.import(&mut opened, line, now);
    assert_eq!(inside(refused.unwrap_err()), Error::DamagedArchive { chunk: Some(3) });
    assert!(lines(&mut rosa).is_empty());
}

/// What one device offers another: the blob, what opens it, and the archive.
struct Offered {
    blob: Vec<u8>,
    descriptor: Descriptor,
    key: [u8; 32],
}

fn sealed(archive: &[u8], key: [u8; 32], rng: &mut Seeded) -> Offered {
    let sealer = Sealer::new(archive.len() as u64, ChunkSize::DEFAULT, rng).unwrap();
    let mut writer = file::Writer::new(Vec::new(), sealer);
    writer.write_all(archive).unwrap();
    let (descriptor, blob) = writer.finish().unwrap();
    Offered { blob, descriptor, key }
}

impl World {
    fn history(&mut self, phone: &mut Phone, lines: &[&str]) -> Offered {
        let frames = lines.iter().map(|line| Ok(line.as_bytes()));
        let (now, rng) = (self.now, &mut self.rng);
        let (archive, key) = phone.export_history(frames, Vec::new(), now, rng).unwrap();
        sealed(&archive, *key, rng)
    }

    /// Offers it, with a session to do so in.
    fn offer(&mut self, phone: &mut Phone, device: u32, offered: &Offered) -> Result<(), Error> {
        let Offered { descriptor, key, .. } = offered;
        let (now, rng) = (self.now, &mut self.rng);
        match phone.offer_history(device, descriptor, key, b"blob 7", now, rng) {
            Err(Error::BundlesNeeded(of)) => {
                for of in &of {
                    let directory = self.post.users.get_mut(&of.user).unwrap();
                    let bundle = directory.bundle(of.device, &of.user, now.as_secs()).unwrap();
                    phone.add_bundle(of, &bundle.encode(), now, rng).unwrap();
                }
                phone.offer_history(device, descriptor, key, b"blob 7", now, rng)
            }
            done => done,
        }
    }
}

fn offers(items: &[Item]) -> Vec<HistoryOffer> {
    let offer = |event: Event| match event {
        Event::History { offer, .. } => Some(*offer),
        _ => None,
    };
    events(items).into_iter().filter_map(offer).collect()
}

#[test]
fn a_new_device_gets_the_history_of_the_account() {
    let mut world = World::new("history");
    let [mut rosa, ..] = world.of_three();
    let mut new = world.link(&mut rosa, Role::Device);
    let offered = world.history(&mut rosa, &["hello", "hello to you"]);
    world.offer(&mut rosa, 3, &offered).unwrap();
    let [_, at_new] = world.run([&mut rosa, &mut new]);
    let offer = &offers(&at_new)[0];
    assert_eq!((offer.location(), offer.descriptor()), (&b"blob 7"[..], &offered.descriptor));

    // Another blob than the one that was offered is refused before anything is taken.
    for at in [0, offered.blob.len() / 2, offered.blob.len() - 1] {
        let mut blob = offered.blob.clone();
        blob[at] ^= 1;
        let refused = new.take_history(offer, Cursor::new(blob), line, world.now);
        assert_eq!(inside(refused.unwrap_err()), Error::DamagedFile);
    }
    assert!(lines(&mut new).is_empty() && trust(&mut new, "dave").is_none());
    let blob = Cursor::new(&offered.blob);
    let checked = new.take_history(offer, blob, line, world.now).unwrap();
    assert_eq!((checked.account, checked.contacts, checked.app_frames), (false, 2, 2));
    assert_eq!(lines(&mut new), [b"hello".to_vec(), b"hello to you".to_vec()]);
    // No marks: the person compares keys on each device, or is told by `Event::VerifiedElsewhere`.
    for user in ["carol", "dave"] {
        assert_eq!(trust(&mut new, user), Some(Trust::FirstUse));
    }
    world.write(&mut new, "carol", "from the new one");
    world.run([&mut new, &mut rosa]);
}

#[test]
fn history_is_for_devices_that_were_linked_within_a_day() {
    let mut world = World::new("within a day");
    let [mut rosa, ..] = world.of_three();
    let mut new = world.link(&mut rosa, Role::Device);
    let offered = world.history(&mut rosa, &[]);
    for (device, expected) in
        [(1, Error::NotPermitted), (9, Error::UnknownDevice(Address::new("rosa", 9).into()))]
    {
        assert_eq!(world.offer(&mut rosa, device, &offered), Err(expected));
    }
    let Offered { descriptor, key, .. } = &offered;
    let long = [0; 1_025];
    let (now, rng) = (world.now, &mut world.rng);
    let refused = rosa.offer_history(3, descriptor, key, &long, now, rng);
    assert_eq!(refused, Err(Error::TooLong));

    let linked = world.now;
    world.now = linked.after(DAY);
    world.offer(&mut rosa, 3, &offered).unwrap();
    let [_, at_new] = world.run([&mut rosa, &mut new]);
    assert_eq!(offers(&at_new).len(), 1);
    // A second later it is too late, for the one that offers...
    world.now = linked.after(DAY + 1);
    assert_eq!(world.offer(&mut rosa, 3, &offered), Err(Error::NotPermitted));
    // ...and for one that is told, by a device whose clock is behind.
    world.now = linked.after(DAY);
    world.offer(&mut rosa, 3, &offered).unwrap();
    world.settle(&mut rosa);
    world.now = linked.after(DAY + 1);
    let received = world.post.fetch(&mut new, world.now, &mut world.rng);
    assert_eq!(received, [Received::Handled]);
}

#[test]
fn a_hostile_device_of_the_account_offers_a_few_times_and_marks_nobody() {
    let mut world = World::new("hostile");
    let [mut rosa, ..] = world.of_three();
    let mut new = world.link(&mut rosa, Role::Device);
    let own = rosa.devices("rosa").unwrap().unwrap();
    let carol = rosa.devices("carol").unwrap().unwrap();

    // A backup in the place of a transfer, one of another user, one that does not open.
    let info = |user: &str| Info::new(user, world.now, own.clone()).unwrap();
    let make = |kind, user: &str| {
        let rng = &mut Seeded::new(3, user);
        let mut writer =
            Writer::new(Vec::new(), kind, &LOCK, Argon2Cost::default(), info(user), rng).unwrap();
        writer.contact(&Contact::new("carol", carol.clone(), true).unwrap()).unwrap();
        writer.finish().unwrap()
    };
    for (archive, key, expected) in [
        (make(ArchiveKind::Backup, "rosa"), KEY, Error::NotPermitted),
        (make(ArchiveKind::Transfer, "eve"), KEY, Error::NotPermitted),
        (make(ArchiveKind::Transfer, "rosa"), [8; 32], Error::WrongPassphrase),
        (b"no archive".to_vec(), KEY, Error::Malformed),
    ] {
        let offered = sealed(&archive, key, &mut world.rng);
        world.offer(&mut rosa, 3, &offered).unwrap();
        let [_, at_new] = world.run([&mut rosa, &mut new]);
        let offer = &offers(&at_new)[0];
        let refused = new.take_history(offer, Cursor::new(offered.blob), line, world.now);
        assert_eq!(inside(refused.unwrap_err()), expected);
    }
    assert_eq!(trust(&mut new, "carol"), None);

    // It may say so without end: the app is told eight times, and once an hour.
    let offered = world.history(&mut rosa, &[]);
    for _ in 0..20 {
        world.offer(&mut rosa, 3, &offered).unwrap();
    }
    let [_, at_new] = world.run([&mut rosa, &mut new]);
    assert_eq!(offers(&at_new).len(), 4);
    world.now = world.now.after(3_600);
    for _ in 0..3 {
        world.offer(&mut rosa, 3, &offered).unwrap();
    }
    let [_, at_new] = world.run([&mut rosa, &mut new]);
    assert_eq!(offers(&at_new).len(), 1);
}

#[test]
fn an_import_that_is_cut_anywhere_goes_on() {
    let mut world = World::new("import cut");
    let [mut rosa, ..] = world.of_three();
    let frames: Vec<Vec<u8>> = (0..9).map(|number| vec![number; 90_000]).collect();
    let (now, contents) = (world.now, Contents::default());
    let app = frames.iter().map(Ok);
    let archive = rosa.export(&LOCK, &contents, app, Vec::new(), now, &mut world.rng).unwrap();
    let new = world.create("rose").into_store();
    let whole = Faulty::over(new.clone());
    let mut client = Client::open(whole.clone()).unwrap();
    client.import(&mut open(&archive), line, now).unwrap();
    let mut cuts = 0;
    for operations in 0.. {
        let store = Faulty::over(new.clone());
        let mut client = Client::open(store.clone()).unwrap();
        store.fail_after(operations);
        let done = client.import(&mut open(&archive), line, now);
        if !store.mend() {
            break;
        }
        assert_eq!(inside(done.unwrap_err()), FAULT);
        cuts += 1;
        client.import(&mut open(&archive), line, now).unwrap();
        assert_eq!(lines(&mut client), frames);
        assert!(store.dump() == whole.dump(), "operation {operations}");
    }
    assert!(cuts > 30, "{cuts}");
}

/// An archive of an account, with a contact that is verified in it.
fn with_contact(world: &World, kind: ArchiveKind, of: DeviceList, contact: &Contact) -> Vec<u8> {
    let (info, rng) = (Info::new("rosa", world.now, of).unwrap(), &mut Seeded::new(4, "made"));
    let mut writer =
        Writer::new(Vec::new(), kind, &LOCK, Argon2Cost::default(), info, rng).unwrap();
    writer.contact(contact).unwrap();
    writer.finish().unwrap()
}

#[test]
fn an_import_replaces_nobody_who_is_known_and_not_the_own_user() {
    let mut world = World::new("known contacts");
    let [mut rosa, _, mut carol, _] = world.of_three();
    let genuine = rosa.devices("carol").unwrap().unwrap();
    rosa.unverify("carol", world.now, &mut world.rng).unwrap();
    let (own, own_trust) = (rosa.devices("rosa").unwrap(), rosa.trust("rosa").unwrap());
    for user in ["carol", "rosa"] {
        // Of a name that has another account at another server.
        let other = Client::create(Memory::new(), user, world.now, &mut world.rng);
        let list = other.unwrap().devices(user).unwrap().unwrap();
        let contact = Contact::new(user, list, true).unwrap();
        let archive = with_contact(&world, ArchiveKind::Backup, own.clone().unwrap(), &contact);
        rosa.import(&mut open(&archive), line, world.now).unwrap();
    }
    assert_eq!(rosa.devices("carol").unwrap().unwrap(), genuine);
    assert_eq!(trust(&mut rosa, "carol"), Some(Trust::FirstUse));
    assert_eq!((rosa.devices("rosa").unwrap(), rosa.trust("rosa").unwrap()), (own, own_trust));
    world.write(&mut rosa, "carol", "still you");
    let [_, at_carol] = world.run([&mut rosa, &mut carol]);
    assert_eq!(texts(&at_carol), ["still you"]);
}

#[test]
fn history_restores_no_account() {
    let mut world = World::new("history is no backup");
    let [mut rosa, ..] = world.of_three();
    let (own, carol) = (rosa.devices("rosa"), rosa.devices("carol"));
    let contact = Contact::new("carol", carol.unwrap().unwrap(), false).unwrap();
    let archive = with_contact(&world, ArchiveKind::Transfer, own.unwrap().unwrap(), &contact);
    assert_eq!(world.restore(&archive, Others::Keep).err(), Some(Error::NotPermitted));
}
