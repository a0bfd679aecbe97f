//! The examples `relay` and `chat` as people run them: processes that are killed and begin again.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process, and what it has printed so far.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    printed: Vec<String>,
    /// Lines up to here were waited for.
    read: usize,
}

impl Process {
    fn start(example: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(built(example))
            .args(arguments)
            .env("SUBROSA_PASSPHRASE", "under the rose")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Of what is meant to fail; what matters is printed.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stdin = child.stdin.take();
        Self { child, stdin, lines, printed: Vec::new(), read: 0 }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line that was not waited for before, and of which this is true.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.printed.get(self.read) {
                self.read += 1;
                if is_it(line) {
                    return line.clone();
                }
            }
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.printed.push(line),
                Err(why) => panic!("{why}: no {what:?} in {:#?}", self.printed),
            }
        }
    }

    fn wait(&mut self, line: &str) {
        self.wait_for(line, |printed| printed == line);
    }

    /// How often it printed a line so far.
    fn count(&mut self, line: &str) -> usize {
        self.printed.extend(self.lines.try_iter());
        self.printed.iter().filter(|printed| *printed == line).count()
    }

    /// It has taken all that was typed, and printed what came of it.
    fn catch_up(&mut self) {
        self.type_line("/accept nobody");
        self.wait("* nobody has no new key");
    }

    /// As a power cut would.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself, with all that it printed.
    fn exit(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end: {:#?}", self.printed);
            thread::sleep(Duration::from_millis(10));
        };
        self.printed.extend(self.lines.iter());
        status
    }

    /// Nothing more is typed: it ends. All that it printed.
    fn end(mut self) -> Vec<String> {
        drop(self.stdin.take());
        assert!(self.exit().success());
        std::mem::take(&mut self.printed)
    }
}

/// A test that fails leaves no process behind.
impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Cargo builds the examples for a whole test run, not for `--test chat` alone.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    let path = folder.join(example).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: cargo build --example {example}", path.display());
    path
}

/// A relay and the stores of the people who use it.
struct World {
    folder: TempDir,
    relay: Option<Process>,
    address: String,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut world = Self { folder, relay: None, address: "127.0.0.1:0".into() };
        world.start_relay(&[]);
        world
    }

    fn path(&self, name: &str) -> String {
        Path::new(self.folder.path()).join(name).to_str().unwrap().into()
    }

    /// At the same address as before.
    fn start_relay(&mut self, more: &[&str]) {
        let data = self.path("relay");
        let address = self.address.clone();
        let mut relay = Process::start("relay", &[&[address.as_str(), "--data", &data], more].concat());
        let line = relay.wait_for("an address", |line| line.starts_with("relay: listening on "));
        self.address = line.rsplit(' ').next().unwrap().into();
        self.relay = Some(relay);
    }

    fn stop_relay(&mut self) {
        self.relay.take().unwrap().kill();
    }

    fn start_chat(&self, name: &str, store: &str, more: &[&str]) -> Process {
        let store = self.path(store);
        Process::start("chat", &[&[name, "--relay", &self.address, "--store", &store], more].concat())
    }

    fn chat(&self, name: &str) -> Process {
        let mut chat = self.start_chat(name, name, &[]);
        chat.wait("* connected");
        // Whatever it prints in answer comes after the upload.
        chat.type_line("/devices");
        chat.wait_for("itself", |line| line.ends_with("(this one)"));
        chat
    }
}

#[test]
fn two_people_talk_and_any_process_may_be_killed() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: meet me under the rose");
    bob.wait("alice: meet me under the rose");
    bob.type_line("/to alice");
    bob.type_line("at nine: is that right?");
    alice.wait("bob: at nine: is that right?");

    // Bob is away, and the relay begins again with his mail.
    bob.kill();
    alice.type_line("bob: it is");
    alice.type_line("nobody: hello");
    alice.wait("* not sent to nobody: the relay knows nobody of this name");
    world.stop_relay();
    world.start_relay(&[]);
    let mut bob = world.start_chat("bob", "bob", &[]);
    bob.wait("alice: it is");

    // Without a relay, what is typed waits, even where the one who typed it is killed.
    alice.wait("* connected");
    world.stop_relay();
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    alice.type_line("/devices bob");
    alice.wait_for("what is known of bob", |line| line.starts_with("* bob/1: "));
    alice.type_line("bob: are you there?");
    alice.catch_up();
    alice.kill();
    let mut alice = world.start_chat("alice", "alice", &[]);
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    world.start_relay(&[]);
    bob.wait("alice: are you there?");
    bob.type_line("alice: yes");
    alice.wait("bob: yes");

    // All of it once, in order, on both sides.
    alice.type_line("bob: good");
    bob.wait("alice: good");
    let said =
        ["meet me under the rose", "at nine: is that right?", "it is", "are you there?", "yes", "good"];
    for (chat, user) in [(alice, "bob"), (bob, "alice")] {
        assert_eq!(history(chat, user), said, "with {user}");
    }
}

#[test]
fn whatever_is_killed_while_they_talk_each_line_arrives_once_and_in_order() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut said = Vec::new();
    for round in 0..9 {
        for line in 0..5 {
            said.push(format!("{round}-{line}"));
            alice.type_line(&format!("bob: {round}-{line}"));
        }
        match round % 3 {
            0 => {
                bob.kill();
                bob = world.start_chat("bob", "bob", &[]);
            }
            1 => {
                world.stop_relay();
                world.start_relay(&[]);
            }
            _ => {
                alice.catch_up();
                alice.kill();
                alice = world.start_chat("alice", "alice", &[]);
            }
        }
    }
    alice.type_line("bob: the end");
    bob.wait("alice: the end");
    said.push("the end".into());
    assert_eq!(history(bob, "alice"), said);
    assert_eq!(history(alice, "bob"), said);
}

/// What a chat says was said with somebody. It ends with that.
fn history(mut chat: Process, user: &str) -> Vec<String> {
    chat.type_line("/to");
    // Some are shown when it starts.
    chat.catch_up();
    chat.type_line(&format!("/history {user}"));
    let before = chat.printed.len();
    let printed = chat.end();
    let lines = printed[before..].iter().filter_map(|line| line.strip_prefix('[')?.split_once("] "));
    lines.map(|(_, line)| line.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn a_linked_device_gets_what_the_others_get() {
    let world = World::new();
    let (mut phone, mut bob) = (world.chat("alice"), world.chat("bob"));
    bob.type_line("alice: before");
    phone.wait("bob: before");
    let mut laptop = world.start_chat("alice", "laptop", &["--link"]);
    let link = laptop.wait_for("a code", |line| line.starts_with("/link "));
    phone.type_line("/link WRONG-CODE");
    phone.wait("* the linking code does not fit");
    phone.type_line(&link);
    phone.wait("* linked");
    laptop.wait("* connected");
    laptop.type_line("/devices");
    laptop.wait_for("itself", |line| line.starts_with("* alice/2: ") && line.ends_with("(this one)"));
    bob.type_line("/devices alice");
    bob.wait_for("the laptop", |line| line.starts_with("* alice/2: "));

    bob.type_line("alice: to both");
    phone.wait("bob: to both");
    laptop.wait("bob: to both");
    laptop.type_line("bob: from the laptop");
    bob.wait("alice: from the laptop");
    phone.wait("you (alice/2) to bob: from the laptop");

    // Killed and back, it is still a device of the account.
    laptop.kill();
    phone.type_line("bob: from the phone");
    bob.wait("alice: from the phone");
    let mut laptop = world.start_chat("alice", "laptop", &[]);
    laptop.wait("you (alice/1) to bob: from the phone");

    // Removed, it gets nothing more, and is told.
    phone.type_line("/remove 2");
    phone.wait("* removed");
    phone.type_line("/devices");
    phone.wait_for("itself", |line| line.starts_with("* alice/1: "));
    bob.type_line("/devices alice");
    bob.wait_for("the phone", |line| line.starts_with("* alice/1: "));
    bob.type_line("alice: to one");
    phone.wait("bob: to one");
    laptop.type_line("bob: it is still me");
    assert!(!laptop.exit().success());
    assert_eq!(bob.count("alice: it is still me"), 0);
    assert_eq!(laptop.count("bob: to one"), 0, "{:#?}", laptop.printed);
}

#[test]
fn keys_are_compared_and_a_new_key_stops_the_writing_until_it_is_accepted() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    // Both see the same two keys.
    let mut keys = Vec::new();
    for (chat, user) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        chat.type_line(&format!("/verify {user}"));
        let mut both = [(); 2].map(|()| chat.wait_for("a key", |line| line.starts_with("  ")));
        both.sort();
        keys.push(both);
        chat.type_line("yes");
        chat.wait(&format!("* {user} is verified"));
    }
    assert_eq!(keys[0], keys[1]);

    // Bob loses his device. The name is his, as the relay has it, until somebody frees it.
    bob.kill();
    fs::remove_file(world.path("bob")).unwrap();
    let mut refused = world.start_chat("bob", "bob", &[]);
    assert!(!refused.exit().success());
    world.stop_relay();
    world.start_relay(&["--forget", "bob"]);
    let mut bob = world.chat("bob");
    bob.type_line("alice: it is me, honestly");
    alice.wait_for("a warning", |line| line.starts_with("* !! bob has another key"));
    alice.wait("bob: it is me, honestly");
    alice.type_line("bob: secret");
    alice.wait_for("a warning", |line| line.starts_with("* !! bob has another key"));
    alice.type_line("/accept bob");
    alice.wait_for("a question", |line| line.ends_with("(yes/no)"));
    alice.type_line("no");
    alice.wait("* nothing changed");
    assert_eq!(bob.count("alice: secret"), 0);
    alice.type_line("/accept bob");
    alice.wait_for("a question", |line| line.ends_with("(yes/no)"));
    alice.type_line("yes");
    bob.wait("alice: secret");
    alice.type_line("/reset bob");
    alice.type_line("bob: in a new session");
    bob.wait("alice: in a new session");
}

#[test]
fn a_store_opens_under_its_passphrase_alone_and_shows_no_text() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: meet me under the rose");
    bob.wait("alice: meet me under the rose");
    bob.end();
    let mut wrong = world.start_chat("bob", "bob", &["--passphrase", "a guess"]);
    assert!(!wrong.exit().success());
    assert_eq!(wrong.count("[0 min ago] alice: meet me under the rose"), 0);
    let mut bob = world.start_chat("bob", "bob", &[]);
    bob.wait_for("the history", |line| line.ends_with("] alice: meet me under the rose"));
    for file in ["alice", "bob", "relay/relay.redb"] {
        let bytes = fs::read(world.path(file)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"the rose"), "{file}");
    }
}

#[test]
fn whoever_talks_nonsense_to_the_relay_disturbs_nobody() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut connections: Vec<_> = (0..100).map(|_| TcpStream::connect(&world.address).unwrap()).collect();
    for (number, socket) in connections.iter_mut().enumerate() {
        // Too long; a kind that there is not; a name that runs on; half a frame.
        let nonsense: &[u8] = match number % 4 {
            0 => &[0xff; 4],
            1 => &[0, 0, 0, 1, 99],
            2 => &[0, 0, 0, 3, 0, 0xff, 0xff],
            _ => &[0, 0, 1, 0, 7, 7],
        };
        socket.write_all(nonsense).unwrap();
    }
    for socket in connections.iter_mut().enumerate().filter(|(number, _)| number % 4 != 3).map(|one| one.1) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // It hangs up, and says nothing.
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    alice.type_line("bob: still there?");
    bob.wait("alice: still there?");
}
