//! An app on disk that is killed, and what is expected of it afterwards.
//!
//! Alice has two devices and Bob one, each with a store of its own. What an app and its server keep
//! besides is in plain files. Those of the server's directories are replaced whole; the others are
//! only appended to, a line at a time, and a line that is not whole was never written:
//!
//! | file | a line |
//! | --- | --- |
//! | `wire` | sender, receiver, envelope: before [`Client::complete`] |
//! | `acked <device>` | how much of the wire was received: after [`Client::receive`] |
//! | `shown <device>` | inbox id, sender, user that a copy is for, text: before [`Client::acknowledge`] |
//! | `tried <device>` | `try`, number, receiver, texts: before [`Client::write`]; `ok` or `failed` after it |
//!
//! The number is in a row of the app's own, committed together with the texts. So after a kill the
//! store itself says whether what was tried last is in it: what is must be shown on every other
//! device of both users, and what is not, nowhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subrosa::directory::Directory;
use subrosa::store::Redb;
use subrosa::{
    Action, Address, Client, Completed, Error, Item, NewDevice, Received, Role, UnixTime,
};

use super::network::{Seed, Seeded};
use super::post::{Post, Reply};

const FOLDER: &str = "SUBROSA_CRASH_FOLDER";
const RUN: &str = "SUBROSA_CRASH_RUN";

/// An app that nobody kills comes to an end.
const LONGEST: Duration = Duration::from_secs(60);

/// No line is so long.
const TAIL: u64 = 1 << 20;

/// A file that is only appended to.
struct Lines {
    file: File,
    path: PathBuf,
}

impl Lines {
    /// Without the line that a kill left unfinished.
    fn open(path: PathBuf) -> Self {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).unwrap();
        let from = file.metadata().unwrap().len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from)).unwrap();
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).unwrap();
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(from + whole as u64).unwrap();
        Self { file, path }
    }

    fn append(&mut self, fields: &[&str]) {
        self.file.write_all(format!("{}\n", fields.join("\t")).as_bytes()).unwrap();
    }

    /// The lines from there on, each with where the next one is.
    fn from(&self, start: u64) -> impl Iterator<Item = (u64, Vec<String>)> + use<> {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(start)).unwrap();
        let lines = BufReader::new(file).lines();
        lines.scan(start, |at, line| {
            let line = line.unwrap();
            *at += line.len() as u64 + 1;
            Some((*at, line.split('\t').map(str::to_owned).collect()))
        })
    }

    fn all(&self) -> Vec<Vec<String>> {
        self.from(0).map(|(_, line)| line).collect()
    }

    fn last(&self) -> Option<Vec<String>> {
        let length = self.file.metadata().unwrap().len();
        self.from(length.saturating_sub(TAIL)).last().map(|(_, line)| line)
    }
}

fn address(text: &str) -> Address {
    let (user, device) = text.split_once('/').unwrap();
    Address::new(user, device.parse().unwrap())
}

/// The app's own row with the number of what was written last.
const WRITTEN: &[u8] = b"written";

const DEVICES: [&str; 3] = ["alice/1", "alice/2", "bob/1"];

struct Device {
    name: &'static str,
    client: Client<Redb>,
    received: u64,
    acked: Lines,
    shown: Lines,
    tried: Lines,
}

struct App {
    folder: PathBuf,
    wire: Lines,
    devices: Vec<Device>,
    rng: Seeded,
    run: u64,
    /// How often time went on within this run.
    pauses: u64,
    written: u64,
}

fn file(folder: &Path, kind: &str, device: &str) -> PathBuf {
    folder.join(format!("{kind} {}", device.replace('/', " ")))
}

fn store(folder: &Path, device: &str) -> Redb {
    Redb::open(file(folder, "store", device)).unwrap()
}

/// Three devices, of which two are linked.
fn found(folder: &Path, seed: u64) {
    let (rng, now) = (&mut Seeded::new(seed, "founding"), start());
    let mut phone = Client::create(store(folder, "alice/1"), "alice", now, rng).unwrap();
    let device = NewDevice::generate(rng);
    let grant = phone.link(&device.code(), Role::Device, now, rng).unwrap();
    drop(Client::join(store(folder, "alice/2"), &device, &grant, now, rng).unwrap());
    drop(Client::create(store(folder, "bob/1"), "bob", now, rng).unwrap());
}

fn start() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

/// The number of what was written last.
fn last_written(client: &mut Client<Redb>) -> u64 {
    let row = client.transact(|client| client.rows().get(WRITTEN)).unwrap();
    row.map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap()))
}

impl App {
    fn open(folder: &Path, seed: u64, run: u64) -> Self {
        let devices = DEVICES.map(|name| {
            let lines = |kind| Lines::open(file(folder, kind, name));
            let client = Client::open(store(folder, name)).unwrap();
            let acked = lines("acked");
            let received = acked.last().map_or(0, |line| line[0].parse().unwrap());
            Device { name, client, received, acked, shown: lines("shown"), tried: lines("tried") }
        });
        let mut app = Self {
            folder: folder.into(),
            wire: Lines::open(folder.join("wire")),
            devices: devices.into(),
            // Dice of its own for each run: a generator that repeats itself would repeat keys.
            rng: Seeded::new(seed, &format!("run {run}")),
            run,
            pauses: 0,
            written: 0,
        };
        for device in &mut app.devices {
            if let Some(tried) = device.tried.last().filter(|line| line[0] == "try") {
                let before: u64 = tried[1].parse().unwrap();
                let now = last_written(&mut device.client);
                assert!(now == before || now == before + 1, "{before}, and then {now}");
                device
                    .tried
                    .append(&[if now > before { "ok" } else { "failed" }, "found out later"]);
            }
        }
        app
    }

    /// Time goes on from run to run, so that no allowance is ever used up.
    fn now(&self) -> UnixTime {
        start().after(4_000 * (self.run + 1) + 4_000 * self.pauses)
    }

    /// Something that an app does.
    fn act(&mut self) {
        let at = self.rng.below(DEVICES.len());
        match self.rng.below(1_000) {
            0..350 => self.write(at, 1),
            350..400 => self.write(at, 2),
            400..600 => drop(self.work(at)),
            600..850 => drop(self.receive(at)),
            850..960 => self.show(at),
            960..985 => self.reopen(at),
            985..997 => self.devices[at].client.connected().unwrap(),
            _ => self.reset(at),
        }
    }

    /// So many messages in one transaction.
    fn write(&mut self, at: usize, count: usize) {
        let now = self.now();
        let Self { devices, rng, run, written, .. } = self;
        let device = &mut devices[at];
        let texts: Vec<String> = (0..count)
            .map(|_| {
                *written += 1;
                let longer =
                    if rng.chance(100) { ".".repeat(rng.below(5_000)) } else { String::new() };
                format!("{written} of run {run}{longer}")
            })
            .collect();
        let to = if device.name == "bob/1" || rng.chance(100) { "alice" } else { "bob" };
        let device = &mut self.devices[at];
        let number = last_written(&mut device.client) + 1;
        let fields = ["try", &(number - 1).to_string(), to].map(str::to_owned);
        let fields: Vec<String> = fields.into_iter().chain(texts.iter().cloned()).collect();
        device.tried.append(&fields.iter().map(String::as_str).collect::<Vec<_>>());
        let rng = &mut self.rng;
        let done = device.client.transact(|client| {
            for text in &texts {
                client.write(to, text.as_bytes(), now, rng)?;
            }
            client.rows().put(WRITTEN, &number.to_be_bytes())
        });
        done.unwrap_or_else(|error: Error| panic!("{}: {error}", device.name));
        device.tried.append(&["ok"]);
    }

    /// What the server holds of a user.
    fn directory(&self, user: &str) -> Directory {
        let Ok(list) = fs::read(self.folder.join(format!("list {user}"))) else {
            return Directory::new();
        };
        let rows: Vec<(u32, Vec<u8>)> = (1..=2)
            .filter_map(|device| {
                Some((
                    device,
                    fs::read(file(&self.folder, "held", &format!("{user}/{device}"))).ok()?,
                ))
            })
            .collect();
        Directory::decode(&list, rows.iter().map(|(device, row)| (*device, row.as_slice())))
            .unwrap()
    }

    /// A file is replaced whole; a kill between two of them leaves one newer than the other.
    fn replace(&self, path: PathBuf, bytes: &[u8]) {
        let unfinished = self.folder.join("unfinished");
        fs::write(&unfinished, bytes).unwrap();
        fs::rename(unfinished, path).unwrap();
    }

    fn put_directory(&self, user: &str, directory: &Directory) {
        if let Some(list) = directory.encode_user() {
            self.replace(self.folder.join(format!("list {user}")), &list);
        }
        for device in 1..=2 {
            if let Some(row) = directory.encode_device(device) {
                self.replace(file(&self.folder, "held", &format!("{user}/{device}")), &row);
            }
        }
    }

    /// The server does a task. What it hands out is gone, whatever becomes of it.
    fn serve(&mut self, own: &Address, action: &Action) -> Reply {
        if let Action::Send { to, envelope, .. } = action {
            self.wire.append(&[&own.to_string(), &to.to_string(), &HEXLOWER.encode(envelope)]);
            return Reply::Done;
        }
        let user = match action {
            Action::FetchDevices(user) => user.clone(),
            Action::FetchBundle(of) => of.user.clone(),
            _ => own.user.clone(),
        };
        let mut post = Post::default();
        post.users.insert(user.clone(), self.directory(&user));
        let reply = post.serve(own, action, self.now());
        if matches!(action, Action::Upload(_) | Action::FetchBundle(_)) {
            self.put_directory(&user, &post.users[&user]);
        }
        reply
    }

    /// Returns whether there was a task.
    fn work(&mut self, at: usize) -> bool {
        let (now, own) = (self.now(), address(DEVICES[at]));
        let tasks = self.devices[at].client.tasks(20, now, &mut self.rng).unwrap();
        for task in &tasks {
            let reply = self.serve(&own, &task.action);
            let client = &mut self.devices[at].client;
            let completed = client.complete(&task.id, reply.answer(), now, &mut self.rng).unwrap();
            assert!(!matches!(completed, Completed::Rejected(_)), "{own}: {task:?}: {completed:?}");
        }
        !tasks.is_empty()
    }

    /// Returns whether there was any mail. Nothing was lost, so nothing has to be healed.
    fn receive(&mut self, at: usize) -> bool {
        let (now, device) = (self.now(), &mut self.devices[at]);
        let mut any = false;
        for (next, line) in self.wire.from(device.received).take(40) {
            if line[1] == device.name {
                any = true;
                let envelope = HEXLOWER.decode(line[2].as_bytes()).unwrap();
                let received =
                    device.client.receive(Some(&address(&line[0])), &envelope, now, &mut self.rng);
                let expected = matches!(
                    received,
                    Ok(Received::Incoming(_) | Received::Handled | Received::Duplicate)
                );
                assert!(expected, "{} from {}: {received:?}", line[1], line[0]);
                device.acked.append(&[&next.to_string()]);
            }
            device.received = next;
        }
        any
    }

    fn show(&mut self, at: usize) {
        let device = &mut self.devices[at];
        for incoming in device.client.inbox(20).unwrap() {
            if let Item::Text(text) = &incoming.item {
                let id = HEXLOWER.encode(incoming.id.as_bytes());
                let content = String::from_utf8(text.text.to_vec()).unwrap();
                let copy_to = text.copy_to.as_deref().unwrap_or("-");
                device.shown.append(&[&id, &text.from.to_string(), copy_to, &content]);
            }
            device.client.acknowledge(incoming.id).unwrap();
        }
    }

    fn reopen(&mut self, at: usize) {
        let device = self.devices.remove(at);
        drop(device.client);
        let client = Client::open(store(&self.folder, device.name)).unwrap();
        self.devices.insert(at, Device { client, ..device });
    }

    fn reset(&mut self, at: usize) {
        let with = (at + 1 + self.rng.below(DEVICES.len() - 1)) % DEVICES.len();
        self.devices[at].client.reset(&address(DEVICES[with])).unwrap();
    }

    /// Delivers and shows everything.
    fn settle(&mut self) {
        // What was handed out before a kill, or failed, comes again after a while.
        for _ in 0..3 {
            let mut busy = true;
            while busy {
                busy = false;
                for at in 0..DEVICES.len() {
                    busy |= self.work(at) | self.receive(at);
                    // A batch of the wire may have nothing for this device.
                    busy |= self.wire.from(self.devices[at].received).next().is_some();
                    while !self.devices[at].client.inbox(1).unwrap().is_empty() {
                        self.show(at);
                    }
                }
            }
            self.pauses += 1;
        }
    }

    /// What the files say that happened is what should have.
    fn judge(&self) -> Tally {
        let mut tally = Tally::default();
        // For each device: from whom, for whom the copy is, text.
        let mut expected: BTreeMap<&str, BTreeSet<[String; 3]>> = BTreeMap::new();
        for device in &self.devices {
            for pair in device.tried.all().chunks(2) {
                let [tried, outcome] = pair else { panic!("{} is not settled", device.name) };
                tally.found_out_later += outcome.len() - 1;
                if outcome[0] != "ok" {
                    continue;
                }
                let (to, own) = (&tried[2], address(device.name).user);
                for reader in DEVICES.iter().filter(|reader| **reader != device.name) {
                    let user = address(reader).user;
                    if user != *to && user != own {
                        continue;
                    }
                    let copy_to = if user == *to { "-" } else { to };
                    let rows = tried[3..]
                        .iter()
                        .map(|text| [device.name.into(), copy_to.into(), text.clone()]);
                    expected.entry(reader).or_default().extend(rows);
                }
                tally.written += tried.len() - 3;
            }
        }
        for device in &self.devices {
            let mut ids: BTreeMap<[String; 3], String> = BTreeMap::new();
            for line in device.shown.all() {
                let [id, from, copy_to, text] = <[String; 4]>::try_from(line).unwrap();
                match ids.insert([from, copy_to, text], id.clone()) {
                    // Shown, and killed before it was done: an app knows it by its id.
                    Some(before) if before == id => tally.shown_again += 1,
                    Some(before) => panic!("{}: one text as {before} and as {id}", device.name),
                    None => tally.shown += 1,
                }
            }
            let names: BTreeSet<&String> = ids.values().collect();
            assert_eq!(names.len(), ids.len(), "{}: two texts under one id", device.name);
            let shown: BTreeSet<[String; 3]> = ids.into_keys().collect();
            let expected = expected.remove(device.name).unwrap_or_default();
            let lost: Vec<_> = expected.difference(&shown).take(3).collect();
            let made_up: Vec<_> = shown.difference(&expected).take(3).collect();
            assert!(lost.is_empty() && made_up.is_empty(), "{}: {lost:?} {made_up:?}", device.name);
        }
        tally.sent_again = self.judge_keys();
        tally
    }

    /// The nonce of a header comes out of the message's key: two envelopes that share one share the
    /// key. Returns how many envelopes were sent again as they were.
    fn judge_keys(&self) -> usize {
        let mut envelopes: HashMap<String, [u8; 32]> = HashMap::new();
        let mut again = 0;
        for (_, line) in self.wire.from(0) {
            let [from, to, envelope] = <[String; 3]>::try_from(line).unwrap();
            let initial = &envelope[2 * (18 + 1)..][..2] == "02";
            let at = 18 + 2 + if initial { 1_660 } else { 0 };
            let nonce = envelope[2 * at..][..24].to_owned();
            let digest = Sha256::new().chain_update(&to).chain_update(&envelope).finalize().into();
            match envelopes.insert(nonce, digest) {
                Some(before) if before == digest => again += 1,
                Some(_) => panic!("{from} used a message key twice to {to}"),
                None => {}
            }
        }
        again
    }
}

#[derive(Debug, Default)]
struct Tally {
    written: usize,
    shown: usize,
    /// Killed inside of [`Client::write`], or right after it.
    found_out_later: usize,
    /// Killed before [`Client::acknowledge`].
    shown_again: usize,
    /// Killed before [`Client::complete`].
    sent_again: usize,
}

/// The app, busy until it is killed.
pub(crate) fn be_killed() {
    let (Ok(folder), Ok(run)) = (std::env::var(FOLDER), std::env::var(RUN)) else { return };
    let seed = Seed::chosen_or([1])[0];
    let began = Instant::now();
    let mut app = App::open(Path::new(&folder), seed, run.parse().unwrap());
    println!("\nbusy");
    while began.elapsed() < LONGEST {
        app.act();
    }
}

/// Starts the app and kills it: a while after it began, or after it was busy.
fn kill(folder: &Path, seed: u64, run: u64, dice: &mut Seeded) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_app_that_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(RUN, run.to_string())
        .env("SUBROSA_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if dice.chance(800) {
        let busy = lines.any(|line| line.unwrap() == "busy");
        if busy {
            std::thread::sleep(Duration::from_micros(dice.below(150_000) as u64));
        }
    } else {
        std::thread::sleep(Duration::from_micros(dice.below(40_000) as u64));
    }
    child.kill().unwrap();
    let ended = child.wait_with_output().unwrap();
    // A test that ends by itself, well or not, has a code.
    let killed = ended.status.code().is_none_or(|code| !matches!(code, 0 | 101));
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    let wrong = String::from_utf8_lossy(&ended.stderr);
    assert!(killed, "run {run} ended by itself: {} {}\n{wrong}", ended.status, said.join("\n"));
}

/// In memory, where the system has a place for that: what a process wrote outlives it either way,
/// and where no commit waits for a disk, more kills hit the code.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn kill_and_see() {
    let kills = std::env::var("SUBROSA_KILLS").map_or(25, |kills| kills.parse().unwrap());
    for seed in Seed::chosen_or([1]) {
        let seed = Seed(seed);
        let place = place();
        let folder = place.path();
        found(folder, seed.0);
        let mut app = App::open(folder, seed.0, 0);
        app.settle();
        drop(app);
        let dice = &mut Seeded::new(seed.0, "kills");
        for run in 1..=kills {
            kill(folder, seed.0, run, dice);
        }
        let mut app = App::open(folder, seed.0, kills + 1);
        app.settle();
        let tally = app.judge();
        println!("{kills} kills: {tally:?}");
        // Kills that hit nothing would show nothing.
        assert!(tally.written > 0 && tally.shown > 0, "{tally:?}");
        // And on it goes.
        for at in (0..DEVICES.len()).chain(0..DEVICES.len()) {
            app.write(at, 1);
            app.settle();
        }
        assert_eq!(app.judge().written, tally.written + 2 * DEVICES.len());
    }
}
