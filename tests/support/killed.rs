//! An app on disk that is killed, and what is expected of it afterwards.
//!
//! Alice has two devices, Bob and Carol one each, with a store of its own. Alice founds groups, Bob
//! is in all of them, and Carol comes and goes. What an app and its server keep besides is in plain
//! files. Those of the server's directories are replaced whole; the others are
//! only appended to, a line at a time, and a line that is not whole was never written:
//!
//! | file | a line |
//! | --- | --- |
//! | `wire` | sender, receiver, envelope: before [`Client::complete`] |
//! | `acked <device>` | how much of the wire was received: after [`Client::receive`] |
//! | `shown <device>` | inbox id, sender, user that a copy is for, text: before [`Client::acknowledge`] |
//! | `tried <device>` | `try`, number, receiver, texts: before [`Client::write`]; `ok` or `failed` after it |
//!
//! A text to a group has `group` and all devices of its members in the place of the receiver, and
//! is for those devices. What Carol's device writes to a group, or is to show of one, may come to
//! nothing, since she may have been removed meanwhile: `may` is before such devices.
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
use subrosa::group::{GroupId, MemberId};
use subrosa::store::Redb;
use subrosa::{
    Action, Address, Client, Completed, Error, GroupIntention, GroupStanding, Item, NewDevice,
    Received, Role, UnixTime,
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

const DEVICES: [&str; 4] = ["alice/1", "alice/2", "bob/1", "carol/1"];

/// Alice's device with the account key, and those of the users who do not come and go.
const FOUNDER: usize = 0;
const CAROL: usize = 3;

/// Groups that Alice founds.
const MOST_GROUPS: usize = 3;

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

/// Four devices, of which two are linked.
fn found(folder: &Path, seed: u64) {
    let (rng, now) = (&mut Seeded::new(seed, "founding"), start());
    let mut phone = Client::create(store(folder, "alice/1"), "alice", now, rng).unwrap();
    let device = NewDevice::generate(rng);
    let grant = phone.link(&device.code(), Role::Device, now, rng).unwrap();
    drop(Client::join(store(folder, "alice/2"), &device, &grant, now, rng).unwrap());
    drop(Client::create(store(folder, "bob/1"), "bob", now, rng).unwrap());
    drop(Client::create(store(folder, "carol/1"), "carol", now, rng).unwrap());
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
            0..200 => self.write(at, 1),
            200..240 => self.write(at, 2),
            240..360 => drop(self.write_to_group(at, false)),
            360..420 => self.change_groups(at),
            420..620 => drop(self.work(at)),
            620..850 => drop(self.receive(at)),
            850..960 => self.show(at),
            960..985 => self.reopen(at),
            985..997 => self.devices[at].client.connected().unwrap(),
            _ => self.reset(at),
        }
    }

    /// So many messages in one transaction.
    fn write(&mut self, at: usize, count: usize) {
        let texts: Vec<String> = (0..count).map(|_| self.text()).collect();
        let is_bob = self.devices[at].name == "bob/1";
        let to = if is_bob || self.rng.chance(100) { "alice" } else { "bob" };
        self.attempt(at, to, None, &texts);
    }

    /// A text that nothing else is like.
    fn text(&mut self) -> String {
        let Self { rng, run, written, .. } = self;
        *written += 1;
        let longer = if rng.chance(100) { ".".repeat(rng.below(5_000)) } else { String::new() };
        format!("{written} of run {run}{longer}")
    }

    /// Writes texts, and notes that in the file before, and in the store with them.
    fn attempt(&mut self, at: usize, to: &str, group: Option<GroupId>, texts: &[String]) {
        let (now, device, rng) = (self.now(), &mut self.devices[at], &mut self.rng);
        let number = last_written(&mut device.client) + 1;
        let before = (number - 1).to_string();
        let texts = texts.iter().map(String::as_str);
        let fields: Vec<&str> = ["try", &before, to].into_iter().chain(texts.clone()).collect();
        device.tried.append(&fields);
        let done = device.client.transact(|client| {
            for text in texts {
                match group {
                    Some(group) => client.write_to_group(group, text, now, rng)?,
                    None => client.write(to, text, now, rng)?,
                };
            }
            client.rows().put(WRITTEN, &number.to_be_bytes())
        });
        done.unwrap_or_else(|error: Error| panic!("{}: {error}", device.name));
        device.tried.append(&["ok"]);
    }

    /// Writes to a group that the device has joined, if there is one. `all`: to each of them, and
    /// everybody is to show it.
    fn write_to_group(&mut self, at: usize, all: bool) -> usize {
        let mut groups = self.devices[at].client.groups().unwrap();
        if !all && !groups.is_empty() {
            groups = Vec::from([groups[self.rng.below(groups.len())]]);
        }
        let mut written = 0;
        for group in groups {
            let device = &mut self.devices[at];
            let info = device.client.group(group).unwrap();
            if info.standing != GroupStanding::Joined {
                continue;
            }
            let mut to = String::from("group");
            for member in &info.members {
                // Whose devices are not known yet is owed it once they are.
                let is_known = member.trust.is_some();
                let list = device.client.devices(&member.user).unwrap();
                let listed = |one: &str| {
                    let list = list.as_ref().filter(|_| is_known);
                    list.is_none_or(|list| list.get(address(one).device).is_some())
                };
                let of_member = |one: &&&str| address(one).user == member.user && listed(one);
                for reader in DEVICES.iter().filter(of_member) {
                    let may = !is_known || at == CAROL || *reader == DEVICES[CAROL];
                    let may = if may && !all { "may " } else { "" };
                    to = format!("{to} {may}{reader}");
                }
            }
            let text = self.text();
            self.attempt(at, &to, Some(group), &[text]);
            written += 1;
        }
        written
    }

    /// Alice founds a group, or adds, removes or asks for another key; the others join.
    fn change_groups(&mut self, at: usize) {
        if at != FOUNDER {
            self.join_all(at);
            return;
        }
        let now = self.now();
        ["bob", "carol"].iter().for_each(|user| self.meet(at, user));
        let Self { devices, rng, .. } = self;
        let client = &mut devices[at].client;
        let groups = client.groups().unwrap();
        if groups.len() < MOST_GROUPS && (groups.is_empty() || rng.chance(100)) {
            client.create_group(&["bob", "carol"][..1 + rng.below(2)], b"", now, rng).unwrap();
            return;
        }
        let group = groups[rng.below(groups.len())];
        if rng.chance(300) {
            client.refresh_group(group).unwrap();
        } else {
            self.let_carol(group, None);
        }
    }

    /// Carol is added to a group, or removed from it, or the other of both.
    fn let_carol(&mut self, group: GroupId, be_in: Option<bool>) {
        let (now, rng) = (self.now(), &mut self.rng);
        let client = &mut self.devices[FOUNDER].client;
        let info = client.group(group).unwrap();
        let is_in = info.members.iter().any(|member| member.user == "carol");
        if be_in == Some(is_in) {
            return;
        }
        let what = match is_in {
            true => GroupIntention::Remove("carol"),
            false => GroupIntention::Add("carol"),
        };
        client.change_group(group, &[what], now, rng).unwrap();
    }

    /// A device learns the list of a user, as an app does that looks for somebody.
    fn meet(&mut self, at: usize, user: &str) {
        let directory = self.directory(user);
        let (now, device, rng) = (self.now(), &mut self.devices[at], &mut self.rng);
        if let Some(list) = directory.list().filter(|_| device.client.devices(user) == Ok(None)) {
            device.client.update_devices(user, &list.encode(), now, rng).unwrap();
        }
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
        let of_carol = |line: &[String]| line[..2].iter().any(|name| name == DEVICES[CAROL]);
        for (next, line) in self.wire.from(device.received).take(40) {
            if line[1] == device.name {
                any = true;
                let envelope = HEXLOWER.decode(line[2].as_bytes()).unwrap();
                let received =
                    device.client.receive(Some(&address(&line[0])), &envelope, now, &mut self.rng);
                // Who was removed, or is to hear of it, writes what nobody takes.
                let expected = match received {
                    Ok(Received::Incoming(_) | Received::Handled | Received::Duplicate) => true,
                    Ok(_) => of_carol(&line),
                    Err(_) => false,
                };
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
            let text = match &incoming.item {
                Item::Text(text) => Some((text, text.copy_to.as_deref().unwrap_or("-"))),
                Item::Group(of_group) => Some((&of_group.text, "group")),
                _ => None,
            };
            if let Some((text, kind)) = text {
                let id = HEXLOWER.encode(incoming.id.as_bytes());
                let content = String::from_utf8(text.text.to_vec()).unwrap();
                device.shown.append(&[&id, &text.from.to_string(), kind, &content]);
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
        match self.devices[at].client.reset(&address(DEVICES[with])) {
            // They have not met yet.
            Ok(()) | Err(Error::DevicesNeeded(_)) => {}
            Err(error) => panic!("{error}"),
        }
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

    /// After all kills the groups are whole: Carol is in all of them, and everybody writes to all and
    /// is shown by all; she is removed, and shows nothing any more. Returns how many texts that were.
    fn groups_go_on(&mut self) -> usize {
        self.change_groups(FOUNDER);
        let groups = self.devices[FOUNDER].client.groups().unwrap();
        let mut written = 0;
        for is_in in [true, false] {
            groups.iter().for_each(|group| self.let_carol(*group, Some(is_in)));
            self.settle();
            (0..DEVICES.len()).for_each(|at| self.join_all(at));
            self.settle();
            // Who writes knows of everybody, and is known.
            for (at, name) in DEVICES.iter().enumerate() {
                let texts = self.write_to_group(at, true);
                let is_member = is_in || at != CAROL;
                assert_eq!(texts, if is_member { groups.len() } else { 0 }, "{name}");
                written += texts;
                self.settle();
            }
        }
        let rosters: BTreeSet<Vec<Vec<MemberId>>> = self.devices[..CAROL]
            .iter_mut()
            .map(|device| {
                let of = |group: &GroupId| {
                    let info = device.client.group(*group).unwrap();
                    info.members.iter().map(|member| member.id).collect()
                };
                groups.iter().map(of).collect()
            })
            .collect();
        assert_eq!(rosters.len(), 1, "{rosters:?}");
        written
    }

    fn join_all(&mut self, at: usize) {
        let (now, rng) = (self.now(), &mut self.rng);
        let client = &mut self.devices[at].client;
        for group in client.groups().unwrap() {
            client.join_group(group, now, rng).unwrap();
        }
    }

    /// What the files say that happened is what should have.
    fn judge(&self) -> Tally {
        let mut tally = Tally::default();
        // For each device: from whom, for whom the copy is, text; and whether it may be lost.
        let mut expected: BTreeMap<&str, BTreeMap<[String; 3], bool>> = BTreeMap::new();
        for device in &self.devices {
            for pair in device.tried.all().chunks(2) {
                let [tried, outcome] = pair else { panic!("{} is not settled", device.name) };
                tally.found_out_later += outcome.len() - 1;
                if outcome[0] != "ok" {
                    continue;
                }
                for reader in DEVICES.iter().filter(|reader| **reader != device.name) {
                    let Some((kind, may)) = readers(&tried[2], device.name, reader) else {
                        continue;
                    };
                    let row =
                        |text: &String| ([device.name.into(), kind.into(), text.clone()], may);
                    expected.entry(reader).or_default().extend(tried[3..].iter().map(row));
                }
                tally.written += tried.len() - 3;
                tally.to_groups += usize::from(tried[2].starts_with("group"));
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
            let is_lost = |row: &(&[String; 3], &bool)| !row.1 && !shown.contains(row.0);
            let lost: Vec<_> = expected.iter().filter(is_lost).take(3).collect();
            let made_up: Vec<_> =
                shown.iter().filter(|row| !expected.contains_key(*row)).take(3).collect();
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
            // One for many is the same for each; the key comes out of the reference too.
            if let Some(rest) = envelope.strip_prefix("0102") {
                let digest = Sha256::digest(&envelope).into();
                let before = envelopes.insert(format!("group {}", &rest[..32]), digest);
                assert!(
                    before.is_none_or(|before| before == digest),
                    "{from} used a reference twice"
                );
                continue;
            }
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

/// What a text written to somebody, or to a group, is for a device: what kind of text it shows, and
/// whether it may not come. None where it is not for it.
fn readers<'t>(to: &'t str, writer: &str, reader: &str) -> Option<(&'t str, bool)> {
    if let Some(all) = to.strip_prefix("group") {
        let may = all.contains(&format!(" may {reader}"));
        return all.contains(reader).then_some(("group", may));
    }
    let user = address(reader).user;
    if user == to {
        return Some(("-", false));
    }
    (user == address(writer).user).then_some((to, false))
}

#[derive(Debug, Default)]
struct Tally {
    written: usize,
    to_groups: usize,
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
        // Kills that hit nothing would show nothing. On a slow machine it takes more of them until
        // there is a group.
        assert!(tally.written > 0 && tally.shown > 0, "{tally:?}");
        assert!(tally.written < 500 || tally.to_groups > 0, "{tally:?}");
        let of_groups = app.groups_go_on();
        let tally = app.judge();
        println!("{of_groups} texts to groups afterwards");
        // And on it goes.
        for at in (0..DEVICES.len()).chain(0..DEVICES.len()) {
            app.write(at, 1);
            app.settle();
        }
        assert_eq!(app.judge().written, tally.written + 2 * DEVICES.len());
    }
}
