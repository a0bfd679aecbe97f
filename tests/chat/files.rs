//! Files and voice notes between people: interrupted, tampered with, and badly named.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use subrosa::Address;

use crate::wire::{self, BlobPart, MAX_BLOB, MAX_PART, Refused, Request, Response};
use crate::{Process, World, untimed};

impl World {
    /// A file of this content, where its owner keeps it.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let folder = self.path("kept");
        fs::create_dir_all(&folder).unwrap();
        let path = Path::new(&folder).join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().into()
    }

    /// An empty folder to save into.
    fn folder(&self, name: &str) -> String {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// What the relay keeps of files.
    fn blobs(&self) -> Vec<PathBuf> {
        let folder = Path::new(&self.path("relay")).join("blobs");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// Types a command about the one whom lines are for.
fn send(chat: &mut Process, to: &str, command: &str) {
    chat.type_line(&format!("/to {to}"));
    chat.type_line(command);
}

/// Waits for a file of a user: the number of its line.
fn wait_file(chat: &mut Process, user: &str, title: &str) -> String {
    let head = format!("{user}, file #");
    let end = format!(": {title}");
    let line =
        chat.wait_for(title, |line| untimed(line).starts_with(&head) && line.ends_with(&end));
    untimed(&line)[head.len()..].split(',').next().unwrap().into()
}

/// Waits until a file is saved: where.
fn wait_saved(chat: &mut Process, number: &str) -> PathBuf {
    let head = format!("* file #{number} is saved: ");
    chat.wait_for(&head, |line| line.starts_with(&head))[head.len()..].into()
}

/// How many tenths a bar shows.
fn bar(line: &str) -> Option<usize> {
    let bar = line.split_once('[')?.1.get(..11)?;
    let is_bar = bar.ends_with(']') && bar.bytes().take(10).all(|byte| b"#.".contains(&byte));
    is_bar.then(|| bar.matches('#').count())
}

/// Waits for a bar that shows this or more. None has shown less than `least` since the last.
fn wait_bar(chat: &mut Process, least: usize, tenths: usize) {
    chat.wait_for("a bar", |line| {
        let bar = bar(line);
        assert!(bar.is_none_or(|bar| bar >= least), "{line} after {least} tenths");
        bar.is_some_and(|bar| bar >= tenths)
    });
}

fn names(folder: &str) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_file_arrives_as_it_was_and_the_relay_has_nothing_of_it() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let content = b"a photograph of a rose ".repeat(5_000);
    let path = world.file("rose.jpg", &content);
    send(&mut alice, "bob", &format!("/file {path}"));
    alice.wait_for("that it is sent", |line| {
        line.ends_with(" ✓ -> bob, file #1, 115.0 kB: rose.jpg (image/jpeg)")
    });
    let number = wait_file(&mut bob, "alice", "rose.jpg (image/jpeg)");
    let folder = world.folder("saved");
    for name in ["rose.jpg", "rose-2.jpg"] {
        bob.type_line(&format!("/save {number} {folder}"));
        let saved = wait_saved(&mut bob, &number);
        assert_eq!(saved, Path::new(&folder).canonicalize().unwrap().join(name));
        assert!(fs::read(saved).unwrap() == content);
    }
    bob.type_line(&format!("/save {number} {folder}/my own name"));
    assert!(fs::read(wait_saved(&mut bob, &number)).unwrap() == content);
    assert_eq!(names(&folder), ["my own name", "rose-2.jpg", "rose.jpg"]);
    // A voice note has chunks of 4 KiB, and an empty file is one.
    let path = world.file("note.ogg", &content);
    alice.type_line(&format!("/voice {path}"));
    let note = wait_file(&mut bob, "alice", "note.ogg (audio/ogg)");
    let lengths: Vec<u64> =
        world.blobs().iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    let padded = 116_736;
    assert!(lengths.contains(&(padded + 2 * 16)) && lengths.contains(&(padded + 29 * 16)));
    let path = world.file("empty", b"");
    alice.type_line(&format!("/file {path}"));
    let empty = wait_file(&mut bob, "alice", "empty (application/octet-stream)");
    for (number, content) in [(note, &content[..]), (empty, b"")] {
        bob.type_line(&format!("/save {number} {folder}"));
        assert!(fs::read(wait_saved(&mut bob, &number)).unwrap() == content);
    }
    for blob in world.blobs() {
        let blob = fs::read(blob).unwrap();
        assert!(!blob.windows(10).any(|window| content.starts_with(window)));
    }
}

#[test]
fn whatever_is_killed_a_file_goes_on_from_where_it_was() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let content = noise(40_000_000);
    let path = world.file("film.mp4", &content);
    send(&mut alice, "bob", &format!("/file {path}"));
    wait_bar(&mut alice, 0, 2);
    alice.kill();
    let mut alice = world.start_chat("alice", "alice", &[]);
    wait_bar(&mut alice, 2, 5);
    world.stop_relay();
    world.start_relay(&[]);
    wait_bar(&mut alice, 5, 7);
    // Lines go in between, and nobody is told of a file that is not there.
    alice.type_line("bob: it is long");
    bob.wait("alice: it is long");
    assert_eq!(bob.count("film.mp4"), 0);
    let number = wait_file(&mut bob, "alice", "film.mp4 (video/mp4)");
    let folder = world.folder("saved");
    bob.type_line(&format!("/save {number} {folder}"));
    wait_bar(&mut bob, 0, 2);
    bob.kill();
    assert_eq!(names(&folder).len(), 1, "a hidden file");
    let mut bob = world.start_chat("bob", "bob", &[]);
    wait_bar(&mut bob, 2, 5);
    world.stop_relay();
    world.start_relay(&[]);
    wait_bar(&mut bob, 5, 7);
    let saved = wait_saved(&mut bob, &number);
    assert!(fs::read(saved).unwrap() == content);
    assert_eq!(names(&folder), ["film.mp4"]);
}

#[test]
fn a_blob_that_was_tampered_with_is_fetched_again_once_and_never_saved() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let folder = world.folder("saved");
    let mut files = Vec::new();
    for (name, byte) in [("one", 1), ("two", 2)] {
        let path = world.file(name, &[byte; 100_000]);
        send(&mut alice, "bob", &format!("/file {path}"));
        files.push(wait_file(&mut bob, "alice", &format!("{name} (application/octet-stream)")));
    }
    let blobs = world.blobs();
    let genuine: Vec<Vec<u8>> = blobs.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut changed = genuine[0].clone();
    changed[70_000] ^= 1;
    let shorter = genuine[0][..99_000].to_vec();
    let longer = [&genuine[0][..], &[0]].concat();
    for (name, bad) in [
        ("another file", &genuine[1]),
        ("a bit", &changed),
        ("the beginning", &shorter),
        ("more", &longer),
    ] {
        fs::write(&blobs[0], bad).unwrap();
        // Which of the two is in this blob is in their messages alone.
        for number in &files {
            bob.type_line(&format!("/save {number} {folder}"));
        }
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let line = bob.wait_for("an end", |line| line.contains(" saved: "));
            ends.push(line);
        }
        let failed = ends.iter().find(|line| line.contains(" is not saved: ")).unwrap();
        assert!(
            failed.ends_with("it is damaged; ask alice to send it again")
                || failed.ends_with("the relay does not have it any more"),
            "{name}: {failed}"
        );
        assert_eq!(names(&folder).len(), 1, "{name}");
        fs::remove_file(Path::new(&folder).join(&names(&folder)[0])).unwrap();
        fs::write(&blobs[0], &genuine[0]).unwrap();
    }
    for (number, byte) in files.iter().zip([1, 2]) {
        bob.type_line(&format!("/save {number} {folder}"));
        assert!(fs::read(wait_saved(&mut bob, number)).unwrap() == [byte; 100_000]);
    }
}

#[test]
fn a_file_that_changed_before_it_left_is_not_sent() {
    let mut world = World::new();
    let (mut alice, bob) = (world.chat("alice"), world.chat("bob"));
    world.stop_relay();
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    let path = world.file("plan.txt", b"version one");
    send(&mut alice, "bob", &format!("/file {path}"));
    alice.wait_for("its line", |line| line.ends_with(" bytes: plan.txt (text/plain)"));
    let path = world.file("other.txt", b"taken back");
    alice.type_line(&format!("/file {path}"));
    alice.wait_for("its line", |line| line.ends_with(" bytes: other.txt (text/plain)"));
    alice.type_line("/withdraw 2");
    alice.wait_for("that it is taken back", |line| {
        untimed(line) == "#2 (withdrawn) -> bob, file #2, 10 bytes: other.txt (text/plain)"
    });
    world.file("plan.txt", b"version two");
    world.start_relay(&[]);
    alice.wait_for("that it is not", |line| {
        untimed(line) == "#1 (withdrawn) -> bob, file #1, 11 bytes: plan.txt (text/plain)"
    });
    alice.wait("* the file of #1 is not sent: it has changed since; send it again");
    // The relay got no byte of either.
    let lengths = world.blobs().iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    assert_eq!(lengths, 0);
    alice.type_line("/file /nowhere/at all");
    alice.wait_for("that it is not", |line| line.starts_with("* it is not sent: "));
    assert!(!bob.end().iter().any(|line| line.contains(".txt")));
}

#[test]
fn a_file_stays_with_the_relay_for_a_while() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let path = world.file("rose.jpg", b"a photograph");
    send(&mut alice, "bob", &format!("/file {path}"));
    let number = wait_file(&mut bob, "alice", "rose.jpg (image/jpeg)");
    world.stop_relay();
    world.start_relay(&["--keep", "3600"]);
    assert_eq!(world.blobs().len(), 1);
    world.stop_relay();
    std::thread::sleep(Duration::from_millis(2_100));
    world.start_relay(&["--keep", "1"]);
    assert_eq!(world.blobs().len(), 0);
    let folder = world.folder("saved");
    bob.type_line(&format!("/save {number} {folder}"));
    bob.wait(&format!("* file #{number} is not saved: the relay does not have it any more"));
    assert!(names(&folder).is_empty());
}

#[test]
fn a_name_of_a_file_neither_leaves_its_folder_nor_looks_like_a_line_of_the_chat() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let folder = world.folder("a/b/saved");
    let path = world.file("..\\..\\* bob is verified\u{202e}\u{1b}[2Jgpj.exe", b"no picture");
    send(&mut alice, "bob", &format!("/file {path}"));
    let shown = "..\\..\\* bob is verified\\u{202e}\\u{1b}[2Jgpj.exe (application/octet-stream)";
    let number = wait_file(&mut bob, "alice", shown);
    bob.type_line(&format!("/save {number} {folder}"));
    let saved = wait_saved(&mut bob, &number);
    assert_eq!(saved.parent(), Some(&*Path::new(&folder).canonicalize().unwrap()));
    assert_eq!(names(&folder), ["_ bob is verified___2Jgpj.exe"]);
    assert_eq!(names(&world.path("a")), ["b"]);
}

#[test]
fn no_name_is_a_path_a_device_or_hidden() {
    use crate::file_names::{numbered, safe_name};
    for (name, safe) in [
        ("rose.jpg", "rose.jpg"),
        ("../../x", "x"),
        ("..\\..\\x", "x"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("C:x", "C_x"),
        ("..", "file"),
        (".", "file"),
        ("", "file"),
        ("a/", "file"),
        (".bashrc", "bashrc"),
        (" . .x. . ", "x"),
        ("a\0b\nc\rd\te", "a_b_c_d_e"),
        ("\u{202e}gpj.exe", "_gpj.exe"),
        ("x:stream", "x_stream"),
        ("a|b<c>d\"e?f*g", "a_b_c_d_e_f_g"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("Com1.jpg", "_Com1.jpg"),
        ("com10.jpg", "com10.jpg"),
        ("schöne Rose (2).jpg", "schöne Rose (2).jpg"),
        ("薔薇.jpg", "薔薇.jpg"),
        ("--help", "--help"),
    ] {
        assert_eq!(safe_name(name), safe, "{name:?}");
    }
    assert!(safe_name(&"薔".repeat(1_000)).len() <= 240);
    assert_eq!(numbered("rose.jpg", 2), "rose-2.jpg");
    assert_eq!(numbered("rose", 2), "rose-2");
}

/// Asks the relay as no chat would.
struct Raw(TcpStream);

impl Raw {
    fn connect(world: &World, from: &Address) -> Self {
        let mut raw = Self(TcpStream::connect(&world.address).unwrap());
        assert!(matches!(raw.ask(&Request::Hello(from.clone())), Response::Done));
        raw
    }

    fn ask(&mut self, request: &Request) -> Response {
        self.0.write_all(&wire::encode(request).unwrap()).unwrap();
        loop {
            let mut head = [0; 4];
            self.0.read_exact(&mut head).unwrap();
            let mut value = vec![0; wire::length(head).unwrap()];
            self.0.read_exact(&mut value).unwrap();
            match wire::decode(&value).unwrap() {
                Response::Mail(_) | Response::NewDevices(_) => {}
                response => return response,
            }
        }
    }

    fn store(&mut self, id: [u8; 16], length: u64, offset: u64, bytes: &[u8]) -> Response {
        let bytes = bytes.to_vec();
        self.ask(&Request::StoreBlob(BlobPart { id, length, offset, bytes }))
    }
}

#[test]
fn nobody_changes_a_blob_of_another_or_reads_one_that_is_not_whole() {
    let world = World::new();
    let (alice, mallory) = (world.chat("alice"), world.chat("mallory"));
    let [mut alice, mut mallory, mut nobody] = {
        drop((alice, mallory));
        ["alice", "mallory", "nobody"].map(|name| Raw::connect(&world, &Address::new(name, 1)))
    };
    let because = |response: &Response| match response {
        Response::Refused(Refused::Because(why)) => Some(why.clone()),
        _ => None,
    };
    let id = [7; 16];
    assert!(matches!(alice.store(id, 10, 0, b"01234"), Response::Held(5)));
    // Not whole: nobody reads it.
    let read = Request::Blob { id, offset: 0 };
    assert!(matches!(mallory.ask(&read), Response::Found(None)));
    // Not hers: she neither goes on with it nor begins it anew.
    for (length, offset) in [(10, 5), (10, 0), (20, 0), (5, 0)] {
        let refused = mallory.store(id, length, offset, b"evil!");
        assert_eq!(because(&refused).as_deref(), Some("another blob has this name"));
    }
    // What does not follow changes nothing, and says where to go on.
    for (offset, bytes) in [(0, &b"xxxxx"[..]), (6, b"x"), (5, b"")] {
        assert!(matches!(alice.store(id, 10, offset, bytes), Response::Held(5)));
    }
    assert!(because(&alice.store(id, 10, 5, b"123456")).is_some(), "more than it says");
    assert!(matches!(alice.store(id, 10, 5, b"56789"), Response::Held(10)));
    assert!(matches!(alice.store(id, 10, 10, b""), Response::Held(10)));
    match mallory.ask(&read) {
        Response::Found(Some(bytes)) => assert_eq!(bytes, b"0123456789"),
        _ => panic!("it is whole"),
    }
    for (offset, rest) in [(8, &b"89"[..]), (10, b""), (u64::MAX, b"")] {
        match mallory.ask(&Request::Blob { id, offset }) {
            Response::Found(Some(bytes)) => assert_eq!(bytes, rest),
            _ => panic!("from {offset}"),
        }
    }
    assert!(matches!(
        mallory.ask(&Request::Blob { id: [8; 16], offset: 0 }),
        Response::Found(None)
    ));
    // Limits.
    assert!(because(&alice.store([1; 16], MAX_BLOB + 1, 0, b"")).is_some());
    let part = vec![0; usize::try_from(MAX_PART).unwrap() + 1];
    assert!(because(&alice.store([1; 16], MAX_BLOB, 0, &part)).is_some());
    assert!(because(&alice.store([1; 16], u64::MAX, u64::MAX, b"x")).is_some());
    for number in 0..3 {
        assert!(matches!(alice.store([10 + number; 16], MAX_BLOB, 0, b""), Response::Held(0)));
    }
    assert!(because(&alice.store([13; 16], MAX_BLOB, 0, b"")).is_some(), "4 GiB and ten bytes");
    assert!(matches!(nobody.store([2; 16], 10, 0, b"x"), Response::Refused(Refused::Outdated)));
}
