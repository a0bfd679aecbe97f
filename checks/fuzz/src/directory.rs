//! The server's side: what devices upload, what it keeps, and what it says it holds.

use subrosa::directory::{Directory, Summary, Upload};
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Memory;
use subrosa::{Action, Answer, Completed, Event, Item, NewDevice, Role};

use crate::household::{BEGIN, HOUSEHOLD, contents, copy, open};
use crate::input::Input;
use crate::network::{NOW, Seeded};

/// What the servers of the targets have, and what comes later.
pub(crate) struct Desk {
    /// Bob's, when his phone's store was as it is.
    pub(crate) bob: Directory,
    /// What his devices upload then, with a third one linked, and what each leads to.
    pub(crate) uploads: Vec<(u32, Vec<u8>)>,
    /// What the server said to the phone, before and after these.
    pub(crate) summaries: Vec<Vec<u8>>,
    phone: Memory,
}

thread_local! {
    pub(crate) static DESK: Desk = Desk::new();
}

impl Desk {
    fn new() -> Self {
        let rng = &mut Seeded::new(1, "desk");
        let (phone, laptop, mut post) =
            HOUSEHOLD.with(|all| (all.phone.clone(), all.laptop.clone(), copy(&all.post)));
        let bob = post.users["bob"].clone();
        let mut summaries = vec![Summary::default().encode(), bob.summary(1).encode()];
        let mut uploads = Vec::new();
        for (device, store) in [(1, phone.clone()), (2, laptop)] {
            let mut client = open(store);
            if device == 1 {
                let new = NewDevice::generate(rng);
                client.link(&new.code(), Role::Device, BEGIN, rng).expect("it is linked");
            }
            for _ in 0..4 {
                for task in client.tasks(100, BEGIN, rng).expect("the store is sound") {
                    if let Action::Upload(upload) = &task.action {
                        uploads.push((device, upload.clone()));
                    }
                    post.perform(&mut client, &task, BEGIN, rng).expect("the store is sound");
                }
            }
            summaries.push(post.users["bob"].summary(device).encode());
        }
        assert!(uploads.len() >= 2);
        Self { bob, uploads, summaries, phone }
    }
}

/// A server takes in what the devices of its users made, and refuses all else: then nothing
/// changes.
pub fn upload(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    if let Ok(upload) = Upload::decode(data) {
        assert_eq!(upload.encode(), data);
    }
    DESK.with(|desk| {
        let device = u32::from(choice / 2);
        let mut directory = if choice % 2 == 0 { desk.bob.clone() } else { Directory::new() };
        let before = directory.clone();
        match directory.upload(device, data) {
            Ok(_) => {
                assert!(
                    desk.uploads.iter().any(|(_, genuine)| genuine == data),
                    "a forgery was taken"
                );
                is_stored(&directory);
                let once = directory.clone();
                assert!(directory.upload(device, data).is_ok_and(|again| again.removed.is_empty()));
                assert_eq!(directory, once);
            }
            Err(_) => {
                assert_eq!(directory, before, "an error changed the directory");
                if directory.re_register(device, data).is_err() {
                    assert_eq!(directory, before, "an error changed the directory");
                }
            }
        }
    });
}

/// What decodes as a summary has one form. A client takes it or refuses it, and goes on either way;
/// it does not believe a summary of somebody else's making that its store is an old copy.
pub fn summary(data: &[u8]) {
    let summary = Summary::decode(data);
    if let Ok(summary) = &summary {
        assert_eq!(summary.encode(), data);
    }
    DESK.with(|desk| {
        let rng = &mut Seeded::new(1, "summary");
        let mut client = open(desk.phone.clone());
        let tasks = client.tasks(1, BEGIN, rng).expect("the store is sound");
        let answer = Answer::Summary(data);
        let completed =
            client.complete(&tasks[0].id, answer, BEGIN, rng).expect("the store is sound");
        if summary.is_err() {
            assert!(matches!(completed, Completed::Rejected(_)), "{completed:?}");
        } else {
            assert_eq!(completed, Completed::Handled);
        }
        let key = client.identity_key();
        let stamps = |bytes: &[u8]| {
            Summary::decode(bytes).ok()?.verify_stamp(&key).map(|stamp| stamp.number)
        };
        let is_genuine = desk.summaries.iter().any(|genuine| stamps(genuine) == stamps(data));
        let inbox = client.inbox(100).expect("the store is sound");
        let is_restored = inbox.iter().any(|one| one.item == Item::Event(Event::Restored));
        assert!(!is_restored || is_genuine && stamps(data).is_some(), "nothing was restored");
        // What the server really holds is what counts in the end.
        let mut post = HOUSEHOLD.with(|household| copy(&household.post));
        let later = BEGIN.after(2 * 24 * 60 * 60);
        post.settle(&mut client, later, rng);
        let held = post.users["bob"].summary(1);
        assert!(held.prekeys.is_some_and(|held| held.one_time > 0));
        assert!(!contents(&mut client.into_store()).is_empty());
    });
}

/// What decodes as a server's rows goes on, whatever it is: it hands out bundles, takes uploads in,
/// and is stored.
pub fn directory(data: &[u8]) {
    let mut input = Input::new(data);
    let (user, first, second) = (input.run(), input.run(), input.run());
    let rows = [(1, first), (2, second)].into_iter().filter(|(_, row)| !row.is_empty());
    let Ok(mut directory) = Directory::decode(user, rows) else { return };
    is_stored(&directory);
    DESK.with(|desk| {
        let asker = IdentityKeyPair::generate(&mut Seeded::new(1, "directory")).public_key();
        for (device, now) in [(1, NOW), (1, NOW), (2, 0), (2, u64::MAX), (3, NOW)] {
            Summary::decode(&directory.summary(device).encode()).expect("it is what it says");
            let before = directory.clone();
            match directory.bundle(device, "somebody", now) {
                // The client looks at it again.
                Ok(bundle) => drop(bundle.verify(&asker, now)),
                Err(_) => assert!(directory == before, "an error changed the directory"),
            }
            is_stored(&directory);
        }
        for (device, upload) in &desk.uploads {
            let before = directory.clone();
            if directory.upload(*device, upload).is_err() {
                assert!(directory == before, "an error changed the directory");
            }
            is_stored(&directory);
        }
    });
}

/// The rows are read as they were written.
fn is_stored(directory: &Directory) {
    let Some(user) = directory.encode_user() else { return };
    let devices: Vec<(u32, Vec<u8>)> =
        (0..=3).filter_map(|device| Some((device, directory.encode_device(device)?))).collect();
    let rows = devices.iter().map(|(device, row)| (*device, row.as_slice()));
    assert_eq!(Directory::decode(&user, rows).as_ref(), Ok(directory));
}
