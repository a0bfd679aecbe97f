//! The examples `relay`, `chat` and `letters` as people run them: processes that are killed and
//! begin again.
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

use subrosa::SystemRng;
#[cfg(unix)]
use subrosa::store::{Lock, Redb, Vault};
use tempfile::TempDir;

#[path = "../examples/support/file_names.rs"]
mod file_names;
#[path = "chat/files.rs"]
mod files;
#[path = "chat/frames.rs"]
mod frames;
#[path = "chat/groups.rs"]
mod groups;
#[path = "chat/sealed.rs"]
mod sealed;
#[path = "chat/stranger.rs"]
mod stranger;
#[path = "../examples/support/wire.rs"]
#[allow(dead_code, reason = "it is the relay's and the chat's")]
mod wire;

use stranger::Stranger;

/// Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

const PASSPHRASE: &str = "under the rose";

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
        Self::of(Command::new(built(example)).args(arguments).env("SUBROSA_PASSPHRASE", PASSPHRASE))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Of what is meant to fail; what matters is printed.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
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

    /// A line, but for its time where it has one.
    fn wait(&mut self, line: &str) {
        self.wait_for(line, |printed| untimed(printed) == line);
    }

    /// The relay has a message that was written here.
    fn wait_sent(&mut self, to: &str, text: &str) {
        let end = format!(" ✓ -> {to}: {text}");
        self.wait_for(&end, |printed| untimed(printed).starts_with('#') && printed.ends_with(&end));
    }

    /// A message was written here: its number.
    fn wait_written(&mut self, to: &str, text: &str) -> String {
        let end = format!(" .. -> {to}: {text}");
        let line = self.wait_for(&end, |printed| printed.ends_with(&end));
        untimed(&line).split_once(' ').unwrap().0.into()
    }

    /// How often it printed a line so far.
    fn count(&mut self, line: &str) -> usize {
        self.printed.extend(self.lines.try_iter());
        self.printed.iter().filter(|printed| untimed(printed) == line).count()
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

/// A line without the time that it begins with.
fn untimed(line: &str) -> &str {
    let is_time = |time: &str| time.len() == 5 && time.get(2..3) == Some(":");
    line.split_once(' ').filter(|(time, _)| is_time(time)).map_or(line, |(_, rest)| rest)
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

    /// A chat that asks for its passphrase.
    fn start_asking(&self, user: &str) -> Process {
        let mut command = Command::new(built("chat"));
        command.args([user, "--relay", &self.address, "--store", &self.path(user)]);
        Process::of(command.env_remove("SUBROSA_PASSPHRASE"))
    }

    /// At the same address as before.
    fn start_relay(&mut self, more: &[&str]) {
        let data = self.path("relay");
        let address = self.address.clone();
        let mut relay =
            Process::start("relay", &[&[address.as_str(), "--data", &data], more].concat());
        let line = relay.wait_for("an address", |line| line.starts_with("relay: listening on "));
        self.address = line.rsplit(' ').next().unwrap().into();
        self.relay = Some(relay);
    }

    fn stop_relay(&mut self) {
        self.relay.take().unwrap().kill();
    }

    /// A key opens the store: a passphrase takes a quarter of a second each time.
    #[cfg(unix)]
    fn start_chat(&self, name: &str, store: &str, more: &[&str]) -> Process {
        let (file, program) = (self.path(store), self.path("key"));
        if !fs::exists(&file).unwrap() {
            program_at(&program, &format!("printf {}", "07".repeat(32)));
            let new = Redb::open(&file).unwrap();
            Vault::open(new, Lock::Key(&[7; 32]), &mut SystemRng).unwrap();
        }
        self.start_locked(name, store, &[more, &["--keychain", &program]].concat())
    }

    #[cfg(not(unix))]
    fn start_chat(&self, name: &str, store: &str, more: &[&str]) -> Process {
        self.start_locked(name, store, more)
    }

    fn start_locked(&self, name: &str, store: &str, more: &[&str]) -> Process {
        let store = self.path(store);
        Process::start(
            "chat",
            &[&[name, "--relay", &self.address, "--store", &store], more].concat(),
        )
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
    alice.wait_sent("bob", "it is");
    world.stop_relay();
    world.start_relay(&[]);
    let mut bob = world.start_chat("bob", "bob", &[]);
    bob.wait("alice: it is");

    // Without a relay, what is typed waits, even where the one who typed it is killed.
    alice.wait("* connected");
    world.stop_relay();
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    alice.type_line("/devices bob");
    alice.wait_for("what is known of bob", |line| line.starts_with("* bob/1: manager, "));
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
    let said = [
        "meet me under the rose",
        "at nine: is that right?",
        "it is",
        "are you there?",
        "yes",
        "good",
    ];
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

/// The texts that a chat says were said with somebody, from its newest page. It ends with that.
fn history(mut chat: Process, user: &str) -> Vec<String> {
    chat.type_line("/to");
    // Some are shown when it starts.
    chat.catch_up();
    let mut pages = Vec::new();
    for page in ["3", "2", "1"] {
        let before = chat.printed.len();
        chat.type_line(&format!("/history {user} {page}"));
        chat.catch_up();
        pages.push(chat.printed[before..].to_vec());
    }
    chat.end();
    let lines = pages.iter().flatten().filter(|line| untimed(line) != line.as_str());
    lines.map(|line| untimed(line).split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn a_linked_device_that_lies_brings_no_line_of_its_own_making() {
    let world = World::new();
    let mut phone = world.chat("alice");
    let mut stranger = Stranger::linked(&world, &mut phone, "alice");
    for name in ["x\n* bob is verified", "bob: it is me", "\u{202e}bob"] {
        stranger.pretend_to_know(name);
        stranger.client.write(name, b"hello", stranger.now(), &mut SystemRng).unwrap();
        stranger.do_tasks();
        phone.wait("(alice/2) -> (a bad name): hello");
        phone.catch_up();
    }
    for line in &phone.printed {
        assert!(!line.contains("bob") && !line.contains('\u{202e}'), "{line:?}");
    }
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
    laptop.wait_for("itself", |line| {
        line.starts_with("* alice/2: device, ") && line.ends_with("(this one)")
    });
    bob.type_line("/devices alice");
    bob.wait_for("the laptop", |line| line.starts_with("* alice/2: "));

    bob.type_line("alice: to both");
    phone.wait("bob: to both");
    laptop.wait("bob: to both");
    laptop.type_line("bob: from the laptop");
    bob.wait("alice: from the laptop");
    phone.wait("(alice/2) -> bob: from the laptop");

    // Killed and back, it is still a device of the account.
    laptop.kill();
    phone.type_line("bob: from the phone");
    bob.wait("alice: from the phone");
    let mut laptop = world.start_chat("alice", "laptop", &[]);
    laptop.wait("(alice/1) -> bob: from the phone");

    // Removed, it gets nothing more, and is told.
    phone.type_line("/remove 2");
    phone.wait("* removed");
    phone.type_line("/devices");
    phone.wait_for("itself", |line| line.starts_with("* alice/1: "));
    bob.type_line("/devices alice");
    bob.wait_for("the phone", |line| line.starts_with("* alice/1: "));
    bob.type_line("alice: to one");
    phone.wait("bob: to one");
    assert!(!laptop.exit().success());
    assert_eq!(laptop.count("* !! this device was removed from the account"), 1);
    assert_eq!(laptop.count("bob: to one"), 0, "{:#?}", laptop.printed);
    let mut laptop = world.start_chat("alice", "laptop", &[]);
    assert!(!laptop.exit().success());
    assert_eq!(laptop.count("* connected"), 0);
}

#[test]
fn a_backup_brings_the_account_and_its_history_to_another_device() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: meet me under the rose");
    bob.wait("alice: meet me under the rose");
    bob.type_line("alice: at nine");
    alice.wait("bob: at nine");
    let file = world.path("backup");
    alice.type_line(&format!("/export {file}"));
    let said = alice.wait_for("the words", |line| line.starts_with("* write down what opens it"));
    let words = said.rsplit(": ").next().unwrap().to_uppercase();
    alice.kill();

    // A phone that was stolen: the words, and that it was.
    let mut phone = world.start_chat("alice", "phone", &["--restore", &file]);
    phone.type_line("abandon abandon abandon abandon abandon abandon");
    assert!(!phone.exit().success());
    let mut phone = world.start_chat("alice", "phone", &["--restore", &file]);
    phone.type_line(&words);
    phone.type_line("yes");
    phone.wait_for("the date", |line| line.starts_with("* the account of alice, as of "));
    phone.wait("(alice/1) -> bob: meet me under the rose");
    phone.wait("bob: at nine");
    phone.wait("* connected");
    phone.type_line("bob: it is me");
    bob.wait_for("a new key", |line| line.contains("/accept alice"));
    bob.type_line("/accept alice");
    bob.type_line("yes");
    bob.wait("alice: it is me");
    let stolen = world.start_chat("alice", "alice", &[]).exit();
    assert!(!stolen.success());
}

#[test]
fn people_compare_emoji_and_scan_a_code() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    alice.type_line("/verify bob emoji");
    bob.wait_for("a question", |line| line.starts_with("* alice wants to compare emoji"));
    bob.type_line("/verify alice emoji");
    let mut shown = Vec::new();
    for chat in [&mut alice, &mut bob] {
        let emoji = chat.wait_for("emoji", |line| line.starts_with("    "));
        assert_eq!(emoji.split(", ").count(), 7, "{emoji}");
        shown.push(emoji);
    }
    assert_eq!(shown[0], shown[1]);
    alice.type_line("/verify bob same");
    alice.wait("* bob is verified");
    bob.type_line("/verify alice differ");
    bob.wait_for("a warning", |line| line.starts_with("* alice is not verified."));
    alice.wait_for("a warning", |line| line.contains("they say that it differs"));
    alice.type_line("/devices bob");
    alice.wait("* bob: not verified; /verify compares keys");

    alice.type_line("/verify bob");
    let code = alice.wait_for("a code", |line| line.starts_with("* SUBROSA1:"));
    alice.type_line("no");
    bob.type_line("/scan alice SUBROSA1:0000");
    bob.wait("* these letters are no such code");
    alice.type_line("/verify bob seen");
    alice.wait("* bob has not scanned the code, or too long ago");
    bob.type_line(&format!("/scan alice {}", &code[2..]));
    bob.wait_for("success", |line| line.starts_with("* this is alice: alice is verified"));
    alice.wait_for("a question", |line| line.starts_with("* somebody has scanned the code"));
    alice.type_line("/verify bob seen");
    alice.wait("* bob is verified");
}

#[test]
fn keys_are_compared_and_a_new_key_stops_the_writing_until_it_is_accepted() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    // Both see the same number.
    let mut keys = Vec::new();
    for (chat, user) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        chat.type_line(&format!("/verify {user}"));
        let number = [(); 3].map(|()| chat.wait_for("a number", |line| line.starts_with("    ")));
        keys.push(number);
        chat.type_line("yes");
        chat.wait(&format!("* {user} is verified"));
        chat.type_line(&format!("/devices {user}"));
        chat.wait(&format!("* {user}: verified"));
    }
    assert_eq!(keys[0], keys[1]);
    assert!(keys[0].iter().all(|line| line.trim().len() == 4 * 6 - 1), "{:?}", keys[0]);

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
    alice.wait_for("that it is held", |line| line.starts_with("* !! somebody writes as bob"));
    assert_eq!(alice.count("bob: it is me, honestly"), 0);
    alice.type_line("/held bob");
    alice.wait("? bob: it is me, honestly");
    alice.type_line("bob: secret");
    alice.wait_for("a warning", |line| line.starts_with("* !! bob has another key"));
    alice.type_line("/accept bob");
    alice.wait_for("a question", |line| line.ends_with("(yes/no)"));
    alice.type_line("no");
    alice.wait("* nothing changed");
    assert_eq!(bob.count("alice: secret"), 0);
    alice.type_line("/accept bob");
    alice.wait_for("a question", |line| line.ends_with("(yes/no)"));
    alice.type_line("Y");
    alice.wait("bob: it is me, honestly");
    bob.wait("alice: secret");
    alice.type_line("/devices bob");
    alice.wait("* bob: not verified; /verify compares keys");
    alice.type_line("/reset bob");
    alice.type_line("bob: in a new session");
    bob.wait("alice: in a new session");
}

#[test]
fn a_store_opens_under_its_passphrase_alone_and_shows_no_text() {
    let world = World::new();
    let start = |name, more: &[&str]| world.start_locked(name, name, more);
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| start(name, &[]));
    bob.wait("* connected");
    alice.type_line("bob: meet me under the rose");
    bob.wait("alice: meet me under the rose");
    bob.end();
    let mut wrong = start("bob", &["--passphrase", "a guess"]);
    assert!(!wrong.exit().success());
    assert_eq!(wrong.count("alice: meet me under the rose"), 0);
    let mut bob = start("bob", &[]);
    bob.wait("alice: meet me under the rose");
    for file in ["alice", "bob", "relay/relay.redb"] {
        let bytes = fs::read(world.path(file)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"the rose"), "{file}");
    }
}

#[test]
fn whoever_talks_nonsense_to_the_relay_disturbs_nobody() {
    let world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut connections: Vec<_> =
        (0..100).map(|_| TcpStream::connect(&world.address).unwrap()).collect();
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
    for socket in
        connections.iter_mut().enumerate().filter(|(number, _)| number % 4 != 3).map(|one| one.1)
    {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // It hangs up, and says nothing.
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    alice.type_line("bob: still there?");
    bob.wait("alice: still there?");
}

#[test]
fn no_text_looks_like_a_line_of_the_chat_or_of_somebody_else() {
    let world = World::new();
    let (mut alice, mut mallory) = (world.chat("alice"), world.chat("mallory"));
    let forged = [
        ("12:34 bob: it is me", "12:34 bob: it is me"),
        ("#7 ✓ -> bob: I owe you money", "#7 ✓ -> bob: I owe you money"),
        ("* bob is verified", "* bob is verified"),
        // It would be read from right to left; stay so; move the cursor; begin a line.
        ("\u{202e}draw kcab", "\\u{202e}draw kcab"),
        ("\u{2066}held\u{2069}", "\\u{2066}held\\u{2069}"),
        ("\u{1b}[2K\r* bob is verified", "\\u{1b}[2K\\u{d}* bob is verified"),
        ("one\u{2028}two\u{85}three\u{7}", "one\\u{2028}two\\u{85}three\\u{7}"),
    ];
    for (text, shown) in forged {
        mallory.type_line(&format!("alice: {text}"));
        alice.wait(&format!("mallory: {shown}"));
        assert_eq!(alice.count(text), 0, "{text:?}");
    }
    for line in &alice.printed {
        assert!(
            !line.contains(|letter: char| letter.is_control() || letter == '\u{202e}'),
            "{line:?}"
        );
    }
}

#[test]
fn a_name_that_could_be_read_as_something_else_is_refused() {
    let world = World::new();
    let long = "a".repeat(33);
    for name in
        ["you to bob", "bob:", "", "b\u{43e}b", "bob\u{202e}", "bob\n*", "->", "#7", long.as_str()]
    {
        let mut chat = world.start_chat(name, "refused", &[]);
        assert!(!chat.exit().success(), "{name:?}");
    }
    // The relay does not believe the chat in this: hello by "a b", device 1, in postcard's
    // encoding.
    let mut socket = TcpStream::connect(&world.address).unwrap();
    socket.write_all(&[0, 0, 0, 6, 0, 3, b'a', b' ', b'b', 1]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    // Refused, since the name is bad.
    assert_eq!(answer, [0, 0, 0, 2, 2, 1]);
    // Capital letters are small ones.
    let mut bob = world.start_chat("Bob", "bob", &[]);
    bob.wait("* this is bob/1; /help says what there is");
}

#[test]
fn a_draft_for_somebody_who_is_not_there_yet_is_sent_when_they_are() {
    let mut world = World::new();
    let mut alice = world.chat("alice");
    alice.type_line("bob: welcome");
    alice.wait_written("bob", "welcome");
    alice.wait_for("that nobody is", |line| line.starts_with("* nobody is registered as bob yet"));
    let mut bob = world.chat("bob");
    alice.wait("* bob has registered");
    bob.wait("alice: welcome");
    alice.wait_sent("bob", "welcome");

    // A draft outlives the chat and the relay, in its order.
    alice.type_line("carol: one");
    alice.type_line("carol: two");
    alice.type_line("carol: three");
    let two = alice.wait_written("carol", "two");
    alice.wait_written("carol", "three");
    alice.type_line(&format!("/withdraw {two}"));
    alice.wait(&format!("{two} (withdrawn) -> carol: two"));
    alice.kill();
    world.stop_relay();
    world.start_relay(&[]);
    let mut alice = world.start_chat("alice", "alice", &[]);
    alice.wait_written("carol", "one");
    alice.wait("* connected");
    let mut carol = world.chat("carol");
    carol.wait("alice: one");
    carol.wait("alice: three");
    assert_eq!(carol.count("alice: two"), 0);
    alice.wait_sent("carol", "one");
    alice.wait_sent("carol", "three");
    alice.type_line("/withdraw 1");
    alice.wait("* #1 has left, or is no message of this device");
}

#[test]
fn what_was_queued_without_a_relay_is_sent_in_order_by_a_later_run() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    world.stop_relay();
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    for text in ["one", "two", "three"] {
        alice.type_line(&format!("bob: {text}"));
        alice.wait_written("bob", text);
    }
    alice.kill();
    let mut alice = world.start_chat("alice", "alice", &[]);
    alice.wait_for("that it is away", |line| line.starts_with("* the relay is away"));
    alice.type_line("bob: four");
    alice.wait_written("bob", "four");
    world.start_relay(&[]);
    for text in ["one", "two", "three", "four"] {
        bob.wait(&format!("alice: {text}"));
    }
    alice.wait_sent("bob", "four");
}

#[test]
fn a_line_goes_to_the_one_it_is_for_and_those_of_others_are_counted() {
    let world = World::new();
    let (mut alice, mut bob, mut carol) =
        (world.chat("alice"), world.chat("bob"), world.chat("carol"));
    alice.type_line("see http://x.org: nice");
    alice.wait_for("a question", |line| line.starts_with("* for whom?"));
    alice.type_line("Carol: hello");
    carol.wait("alice: hello");
    alice.type_line("/to bob");
    for text in ["see http://x.org: nice", "http://x.org is nice", "note: buy milk"] {
        alice.type_line(text);
        bob.wait(&format!("alice: {text}"));
    }
    alice.type_line("carol: still there?");
    carol.wait("alice: still there?");
    carol.type_line("alice: yes");
    alice.wait("* carol has written, 1 unread: /to carol");
    assert_eq!(alice.count("carol: yes"), 0);
    alice.type_line("/to carol");
    alice.wait("carol: yes");
}

#[test]
fn a_linked_manager_links_the_next_device() {
    let world = World::new();
    let (mut phone, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut laptop = world.start_chat("alice", "laptop", &["--link"]);
    let link = laptop.wait_for("a code", |line| line.starts_with("/link "));
    phone.type_line(&format!("{link} manager"));
    laptop.wait("* connected");
    laptop.type_line("/devices");
    laptop.wait_for("itself", |line| line.starts_with("* alice/2: manager, "));
    let mut tablet = world.start_chat("alice", "tablet", &["--link"]);
    let link = tablet.wait_for("a code", |line| line.starts_with("/link "));
    laptop.type_line(&link);
    tablet.wait("* connected");
    phone.wait_for("the tablet", |line| line.starts_with("* !! your account has a new device, 3."));
    bob.type_line("alice: to three");
    for device in [&mut phone, &mut laptop, &mut tablet] {
        device.wait("bob: to three");
    }
}

#[test]
fn a_passphrase_is_chosen_at_the_first_run_and_asked_for_when_the_store_is_free() {
    let world = World::new();
    let start = || world.start_asking("alice");
    let mut alice = start();
    // Too short, twice; two that differ; then one, and the same again.
    for line in ["", "x", "under the rose", "under a rose", PASSPHRASE, PASSPHRASE] {
        alice.type_line(line);
    }
    alice.wait("* connected");
    // Another process has it: nothing is asked for.
    assert!(!start().exit().success());
    alice.end();
    let mut alice = start();
    alice.type_line(PASSPHRASE);
    alice.wait("* connected");
    alice.end();
    let mut wrong = start();
    wrong.type_line("under a rose");
    assert!(!wrong.exit().success());
}

#[test]
fn a_passphrase_that_was_drawn_opens_the_store_however_it_is_typed() {
    let world = World::new();
    let start = || world.start_asking("alice");
    let mut alice = start();
    let mut drawn = Vec::new();
    // The first is typed wrong, and another one is drawn.
    for typed in ["rose", ""] {
        alice.type_line("?");
        let line = alice.wait_for("words", |line| line.starts_with("Write it down: "));
        let words = line.trim_start_matches("Write it down: ").to_owned();
        assert_eq!(words.split(' ').count(), 6);
        alice.type_line(if typed.is_empty() { &words } else { typed });
        drawn.push(words);
    }
    assert_ne!(drawn[0], drawn[1]);
    alice.wait("* connected");
    alice.end();
    for typed in [drawn[1].clone(), drawn[1].to_uppercase().replace(' ', "-")] {
        let mut alice = start();
        alice.type_line(&typed);
        alice.wait("* connected");
        alice.end();
    }
    let mut wrong = start();
    wrong.type_line(&drawn[0]);
    assert!(!wrong.exit().success());
}

#[test]
fn the_letters_arrive() {
    let mut letters = Process::start("letters", &[]);
    letters.wait("bob begins again");
    letters.wait("alice/1 reads, from bob/1: \"is nine too early?\"");
    letters.wait("bob/1 reads, from alice/1: \"meet me under the rose\"");
    assert!(letters.exit().success());
}

/// A program for the shell.
#[cfg(unix)]
fn program_at(path: &str, commands: &str) {
    use std::os::unix::fs::PermissionsExt;

    fs::write(path, format!("#!/bin/sh\n{commands}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A keychain that is a folder, for what `--keychain` runs.
#[cfg(unix)]
fn fake_keychain(world: &World) -> String {
    let path = world.path("keychain");
    let file = "file=\"$0.$(printf %s \"$2\" | tr -c a-zA-Z0-9 _)\"";
    let cases = "case $1 in get) cat \"$file\";; set) cat > \"$file\";; esac";
    program_at(&path, &format!("{file}\n{cases}"));
    path
}

#[cfg(unix)]
#[test]
fn a_key_in_the_keychain_opens_the_store_and_the_passphrase_does_so_without_it() {
    let world = World::new();
    let program = fake_keychain(&world);
    let key = || {
        let files = fs::read_dir(world.folder.path()).unwrap().map(|file| file.unwrap().path());
        let is_key = |path: &PathBuf| path.to_str().unwrap().contains("keychain.");
        files.filter(is_key).collect::<Vec<_>>()
    };
    let starts = |more: &[&str]| {
        let mut alice = world.start_locked("alice", "alice", more);
        alice.wait("* this is alice/1; /help says what there is");
        alice.end();
    };
    let fails = |more: &[&str]| {
        let mut alice = world.start_locked("alice", "alice", more);
        assert!(!alice.exit().success());
    };
    starts(&["--keychain", &program]);
    let [kept] = &key()[..] else { panic!("one key") };
    let first = fs::read(kept).unwrap();
    assert_eq!(first.len(), 64);
    starts(&["--keychain", &program, "--passphrase", "a guess"]);
    starts(&[]);
    fails(&["--passphrase", "a guess"]);
    // What the keychain gives instead of the key opens nothing, and the passphrase makes a new one.
    for other in [&b""[..], b"no key", &[b'0'; 64], &[b'0'; 65], &[b'x'; 64]] {
        fs::write(kept, other).unwrap();
        fails(&["--keychain", &program, "--passphrase", "a guess"]);
        assert_eq!(fs::read(kept).unwrap(), other, "it was not opened, so it is as it was");
    }
    starts(&["--keychain", &program]);
    let second = fs::read(kept).unwrap();
    assert!(second.len() == 64 && second != first);
    starts(&["--keychain", &program, "--passphrase", "a guess"]);
    // The first key was left behind nowhere.
    fs::write(kept, &first).unwrap();
    fails(&["--keychain", &program, "--passphrase", "a guess"]);
    fs::remove_file(kept).unwrap();
    // No keychain at all.
    starts(&["--keychain", &world.path("nothing here")]);
    fails(&["--keychain", &world.path("nothing here"), "--passphrase", "a guess"]);
}
