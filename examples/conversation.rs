//! Two devices talk over a channel that loses, repeats, delays and forges: the lines of a text by
//! turns, then a file in chunks. All of it arrives once and unchanged, and both devices are stored
//! and loaded again in the middle.
//!
//! ```text
//! cargo run --release --example conversation -- [TEXT] [FILE] [--seed N]
//! ```
//!
//! What an app would take from here: `Device`, and the order of things in `Party::speak` and
//! `Party::hear`.
#![allow(clippy::arithmetic_side_effects, reason = "counters that stay far from their ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, mem};

use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
use subrosa::{SystemRng, Zeroizing};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// What every message is bound to. Both sides know it; it does not travel.
const CHAT: &[u8] = b"chat 1";

/// In turns. An item is sent again when even a late answer would have arrived.
const RESEND_AFTER: usize = 2 * LONGEST_DELAY;
const LONGEST_DELAY: usize = 8;

fn main() -> ExitCode {
    let (code, result) = match Input::new(env::args_os().skip(1)) {
        Ok(Some(input)) => {
            (1, run(&input).map_err(|error| format!("seed {}: {error}", input.seed).into()))
        }
        Ok(None) => (1, Ok(HELP.to_owned())),
        Err(error) => (2, Err(error)),
    };
    match result.and_then(|text| Ok(writeln!(io::stdout(), "{text}")?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conversation: {error}");
            ExitCode::from(code)
        }
    }
}

/// In a new folder that only its owner can look into.
fn run(input: &Input) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let folder = env::temp_dir().join(format!("subrosa-{}-{}", process::id(), now.as_nanos()));
    let builder = &mut DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(builder, 0o700);
    builder.create(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = converse(input, &folder, now.as_secs());
    fs::remove_dir_all(&folder)?;
    report
}

fn converse(input: &Input, folder: &Path, now: u64) -> Result<String> {
    let mut alice = Party::new(Device::new(folder.join("alice"), now)?);
    let mut bob = Party::new(Device::new(folder.join("bob"), now)?);

    // Bob uploads his prekeys; the server hands Alice a bundle, while Bob may be away.
    let mut server = bob.device.prekeys.publish(&bob.device.identity);
    let bundle = server.pop_bundle().ok_or("no prekeys on the server")?.encode();
    // That it is a bundle of the person Bob, no program can tell: the two compare their identity
    // keys.
    let bundle = Bundle::decode(&bundle)?.verify(&alice.device.identity.public_key(), now)?;
    alice.device.session =
        Some(Session::initiate(&alice.device.identity, &bundle, &mut SystemRng)?);
    alice.device.store(b"")?;

    // A longer line travels in pieces, since a plaintext has a limit. The chunks are small, so that
    // the default file makes enough messages for several post-quantum epochs (some 87 each).
    let lines = input
        .text
        .split_inclusive(|byte| *byte == b'\n')
        .flat_map(|line| line.chunks(Session::MAX_PLAINTEXT / 2));
    for (number, line) in lines.enumerate() {
        let speaker = if number % 2 == 0 { &mut alice } else { &mut bob };
        speaker.chat.items.push([&[LINE], line].concat());
    }
    alice.chat.items.extend(input.file.chunks(1024).map(|chunk| [&[CHUNK], chunk].concat()));

    let (mut to_bob, mut to_alice) = (Channel::new(input.seed), Channel::new(!input.seed));
    let shown = |alice: &Party, bob: &Party| alice.chat.shown.len() + bob.chat.shown.len();
    let half = (alice.chat.items.len() + bob.chat.items.len()) / 2;
    let (mut turn, mut restarted) = (0, false);
    while !(restarted && alice.chat.is_done() && bob.chat.is_done()) {
        turn += 1;
        alice.speak(turn, &mut bob, &mut to_bob)?;
        bob.speak(turn, &mut alice, &mut to_alice)?;
        if !restarted && bob.device.session.is_some() && shown(&alice, &bob) >= half {
            (alice, bob) = (alice.restart()?, bob.restart()?);
            restarted = true;
        }
    }
    verify(&alice, &bob)?;
    verify(&bob, &alice)?;
    report(input, [&alice, &bob], [&to_bob.counts, &to_alice.counts])
}

/// One device's secrets, and the file they are stored in: here in the clear, in an app encrypted.
struct Device {
    path: PathBuf,
    identity: IdentityKeyPair,
    prekeys: Prekeys,
    session: Option<Session>,
}

impl Device {
    fn new(path: PathBuf, now: u64) -> Result<Self> {
        let identity = IdentityKeyPair::generate(&mut SystemRng);
        let prekeys = Prekeys::generate(10, now, &mut SystemRng)?;
        let device = Self { path, identity, prekeys, session: None };
        // Before anything is uploaded, since others will use these prekeys.
        device.store(b"")?;
        Ok(device)
    }

    /// Stores all that has to change together, with a plaintext that the chat has yet to take.
    ///
    /// The file is replaced in one step, so that a crash leaves the old one or the new one. To
    /// outlast a power cut as well, an app syncs the file and its folder, or uses a database.
    fn store(&self, plaintext: &[u8]) -> Result<()> {
        let (identity, prekeys) = (self.identity.encode(), self.prekeys.encode());
        let session = self.session.as_ref().map(Session::encode).unwrap_or_default();
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        for record in [identity.as_slice(), prekeys.as_slice(), session.as_slice(), plaintext] {
            file.write_all(&u32::try_from(record.len())?.to_be_bytes())?;
            file.write_all(record)?;
        }
        drop(file);
        Ok(fs::rename(new, &self.path)?)
    }

    /// The device, and the plaintext that was stored with it.
    fn load(path: PathBuf) -> Result<(Self, Vec<u8>)> {
        let mut file = File::open(&path)?;
        let mut record = || -> Result<Zeroizing<Vec<u8>>> {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let mut record = Zeroizing::new(vec![0; usize::try_from(u32::from_be_bytes(length))?]);
            file.read_exact(&mut record)?;
            Ok(record)
        };
        let (identity, prekeys) =
            (IdentityKeyPair::decode(&record()?)?, Prekeys::decode(&record()?)?);
        let session = Some(record()?).filter(|session| !session.is_empty());
        let session = session.map(|session| Session::decode(&session)).transpose()?;
        Ok((Self { path, identity, prekeys, session }, record()?.to_vec()))
    }

    /// What follows is for the caller to do: [`Self::store`], here and after [`Self::decrypt`].
    fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let session = self.session.as_mut().ok_or("there is no session")?;
        Ok(session.encrypt(plaintext, CHAT, &mut SystemRng)?.encode())
    }

    /// An app with several sessions asks `Session::matches` which one an initial message belongs
    /// to, and where none does, whether it wants to hear from the new session's `Session::peer`.
    fn decrypt(&mut self, bytes: &[u8]) -> Result<Vec<u8>, subrosa::Error> {
        let message = Message::decode(bytes)?;
        if let Some(session) = &mut self.session {
            return session.decrypt(&message, CHAT);
        }
        let (session, plaintext) =
            Session::respond(&self.identity, &mut self.prekeys, &message, CHAT)?;
        self.session = Some(session);
        Ok(plaintext)
    }
}

/// One side of the conversation.
struct Party {
    device: Device,
    chat: Chat,
    /// The newest ratchet step that a message from the other side told of.
    step: usize,
}

impl Party {
    fn new(device: Device) -> Self {
        Self { device, chat: Chat::default(), step: 0 }
    }

    /// Says up to three things, then lets arrive what is due. A responder is silent until it has a
    /// session.
    fn speak(&mut self, turn: usize, other: &mut Self, channel: &mut Channel) -> Result<()> {
        let most = if self.device.session.is_some() { 1 + channel.below(3) } else { 0 };
        for _ in 0..most {
            let frame = self.chat.frame(turn)?;
            let bytes = self.device.encrypt(&frame)?;
            // Before it leaves: a session that a crash set back would use this message's keys for
            // another.
            self.device.store(b"")?;
            channel.counts.plaintext += frame.len();
            // A side draws a new ratchet key when it answers a new one.
            channel.carry(bytes, self.step + 1, turn);
        }
        channel.arrivals(turn).iter().try_for_each(|packet| other.hear(packet, &mut channel.counts))
    }

    /// The device sees the bytes alone; all else in the packet is for counting.
    fn hear(&mut self, packet: &Packet, counts: &mut Counts) -> Result<()> {
        let repeated = counts.decrypted.contains(&packet.number);
        match self.device.decrypt(&packet.bytes) {
            Ok(_) if packet.forged => return Err("a forgery was accepted".into()),
            Ok(_) if repeated => return Err("a message was decrypted twice".into()),
            Ok(plaintext) => {
                // Together: if the session alone were stored, a crash now would lose the plaintext
                // for good.
                self.device.store(&plaintext)?;
                self.chat.take(&plaintext)?;
                self.step = self.step.max(packet.step);
                counts.late +=
                    usize::from(counts.decrypted.last().is_some_and(|last| *last > packet.number));
                counts.decrypted.insert(packet.number);
            }
            // Whatever was refused changed nothing; an app drops it.
            Err(_) if packet.forged => counts.forgeries += 1,
            Err(_) if repeated => counts.repeats += 1,
            Err(error) => {
                return Err(format!("message {} was refused: {error}", packet.number).into());
            }
        }
        Ok(())
    }

    /// Forgets the device, as a program does that ends, and loads what was stored.
    fn restart(self) -> Result<Self> {
        let (device, plaintext) = Device::load(self.device.path)?;
        let mut party = Self { device, ..self };
        // The chat may have taken it before the end or not: its number tells, and it is shown once.
        if !plaintext.is_empty() {
            party.chat.take(&plaintext)?;
        }
        Ok(party)
    }
}

const LINE: u8 = 0;
const CHUNK: u8 = 1;

/// What the app makes of messages: numbered items, confirmed by the other side, and sent again
/// where they are not. It is the app's own data, which this example keeps in memory.
///
/// ```text
/// frame = count:u8 || count * number:u32 (of items that arrived) || [number:u32 || item]
/// ```
#[derive(Default)]
struct Chat {
    /// All that this side says, each a kind and bytes.
    items: Vec<Vec<u8>>,
    sent: usize,
    /// Each with the turn in which it is sent again.
    unconfirmed: BTreeMap<u32, usize>,
    to_confirm: Vec<u32>,
    shown: BTreeMap<u32, Vec<u8>>,
    /// For the report: what was sent again, and what arrived again.
    resent: usize,
    hidden: usize,
}

impl Chat {
    /// Whether all that this side says has arrived, and this side knows it.
    fn is_done(&self) -> bool {
        self.sent == self.items.len() && self.unconfirmed.is_empty()
    }

    fn count(&self, kind: u8) -> usize {
        self.shown.values().filter(|item| item.first() == Some(&kind)).count()
    }

    /// What to say next: confirmations, and an item if there is one to send or to send again.
    fn frame(&mut self, turn: usize) -> Result<Vec<u8>> {
        let confirmed = self.to_confirm.drain(..self.to_confirm.len().min(255));
        let mut frame = vec![u8::try_from(confirmed.len())?];
        frame.extend(confirmed.flat_map(u32::to_be_bytes));
        let due = self.unconfirmed.iter().find(|(_, due)| **due <= turn).map(|(number, _)| *number);
        let number = due.map_or(u32::try_from(self.sent), Ok)?;
        if let Some(item) = self.items.get(usize::try_from(number)?) {
            match due {
                Some(_) => self.resent += 1,
                None => self.sent += 1,
            }
            self.unconfirmed.insert(number, turn + RESEND_AFTER);
            frame.extend(number.to_be_bytes());
            frame.extend(item);
        }
        Ok(frame)
    }

    fn take(&mut self, frame: &[u8]) -> Result<()> {
        let (count, rest) = frame.split_first().ok_or("an empty frame")?;
        let (confirmed, rest) =
            rest.split_at_checked(usize::from(*count) * 4).ok_or("a short frame")?;
        for number in confirmed.as_chunks().0 {
            self.unconfirmed.remove(&u32::from_be_bytes(*number));
        }
        if let Some((number, item)) = rest.split_first_chunk() {
            let number = u32::from_be_bytes(*number);
            // One that came before is confirmed again, since the first confirmation may be lost,
            // and not shown again.
            self.to_confirm.push(number);
            self.hidden += usize::from(self.shown.contains_key(&number));
            self.shown.entry(number).or_insert_with(|| item.to_vec());
        }
        Ok(())
    }
}

/// What travels, and what the example knows about it: its number, its ratchet step, whether it is
/// forged.
#[derive(Clone)]
struct Packet {
    bytes: Vec<u8>,
    due: usize,
    number: usize,
    step: usize,
    forged: bool,
}

/// One direction of the network. Its faults are drawn from splitmix64, so that a seed repeats them;
/// every key comes from `SystemRng`.
struct Channel {
    state: u64,
    under_way: Vec<Packet>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    messages: usize,
    plaintext: usize,
    wire: usize,
    lost: usize,
    late: usize,
    repeats: usize,
    forgeries: usize,
    decrypted: BTreeSet<usize>,
}

impl Channel {
    fn new(seed: u64) -> Self {
        Self { state: seed, under_way: Vec::new(), counts: Counts::default() }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or_default() % end
    }

    /// Of ten messages one is forged as well, one lost and one repeated; of four copies one is
    /// late.
    fn carry(&mut self, bytes: Vec<u8>, step: usize, turn: usize) {
        self.counts.messages += 1;
        self.counts.wire += bytes.len();
        let packet = Packet { bytes, due: turn, number: self.counts.messages, step, forged: false };
        if self.below(10) == 0 {
            // It arrives before the one it was made from, which must still open.
            let mut forged = Packet { forged: true, ..packet.clone() };
            let (at, bit) = (self.below(forged.bytes.len()), self.below(8));
            forged.bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            self.under_way.push(forged);
        }
        let copies = [0, 2].get(self.below(10)).copied().unwrap_or(1);
        self.counts.lost += usize::from(copies == 0);
        for _ in 0..copies {
            let delay = if self.below(4) == 0 { 1 + self.below(LONGEST_DELAY) } else { 0 };
            self.under_way.push(Packet { due: turn + delay, ..packet.clone() });
        }
    }

    fn arrivals(&mut self, turn: usize) -> Vec<Packet> {
        let (due, late) =
            mem::take(&mut self.under_way).into_iter().partition(|packet| packet.due <= turn);
        self.under_way = late;
        due
    }
}

/// That the two sides are what they believe, and that what `from` said is what `to` showed.
fn verify(from: &Party, to: &Party) -> Result<()> {
    let [one, other] = [from, to].map(|party| party.device.session.as_ref());
    let (one, other) = one.zip(other).ok_or("there is no session")?;
    if one.id() != other.id() || one.peer() != to.device.identity.public_key() {
        return Err("the two sides do not have the same session".into());
    }
    if !from.chat.items.iter().eq(to.chat.shown.values()) {
        return Err("what arrived is not what was said".into());
    }
    Ok(())
}

const DONE: &str = "\
Every line and every chunk arrived once, byte for byte.
Both devices were stored with each message, and loaded again in the middle.
";

fn report(input: &Input, [alice, bob]: [&Party; 2], [there, back]: [&Counts; 2]) -> Result<String> {
    let mut lines = vec![DONE.to_owned()];
    for (name, party) in [("Alice", alice), ("Bob", bob)] {
        let session = party.device.session.as_ref().ok_or("there is no session")?;
        let file = usize::try_from(fs::metadata(&party.device.path)?.len())?;
        let [file, stored] = [file, session.encode().len()].map(grouped);
        lines.push(format!("{name:<10}identity {}", party.device.identity.public_key()));
        lines.push(format!("          session  {} (the same)", session.id()));
        lines.push(format!("          stored   {file} bytes, of which {stored} the session"));
        lines.push(format!(
            "          epochs   {} of the post-quantum ratchet",
            session.post_quantum_epochs()
        ));
    }
    let [plaintext, wire] = [there.plaintext + back.plaintext, there.wire + back.wire];
    // Neither divisor is 0: there is a first message, and a frame is one byte at least.
    let percent = 100 * (wire - plaintext) / plaintext;
    let each = (wire - plaintext) / (there.messages + back.messages);
    let [text, file] = [&input.text, &input.file].map(|bytes| grouped(bytes.len()));
    lines.push(format!(
        "Ratchet   {} Diffie-Hellman steps, both sides together",
        alice.step.max(bob.step)
    ));
    lines.push(format!("Input     text {text} bytes, file {file} bytes, seed {}", input.seed));
    lines.push(format!(
        "Overhead  {each} bytes a message, {percent} %: headers, tags, padding, handshake\n"
    ));
    lines.push(format!("{:<30}{:>14}{:>14}{:>14}", "", "Alice to Bob", "Bob to Alice", "both"));
    let rows = [
        ("lines delivered", bob.chat.count(LINE), alice.chat.count(LINE)),
        ("chunks delivered", bob.chat.count(CHUNK), alice.chat.count(CHUNK)),
        ("messages sent", there.messages, back.messages),
        ("  plaintext, bytes", there.plaintext, back.plaintext),
        ("  on the wire, bytes", there.wire, back.wire),
        ("  lost on the way", there.lost, back.lost),
        ("  out of order, decrypted", there.late, back.late),
        ("lines and chunks sent again", alice.chat.resent, bob.chat.resent),
        ("  came again, not shown", bob.chat.hidden, alice.chat.hidden),
        ("repeats refused", there.repeats, back.repeats),
        ("forgeries refused", there.forgeries, back.forgeries),
    ];
    for (label, there, back) in rows {
        let [one, other, both] = [there, back, there + back].map(grouped);
        lines.push(format!("{label:<30}{one:>14}{other:>14}{both:>14}"));
    }
    Ok(lines.join("\n"))
}

/// With a comma every three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

const HELP: &str = "\
Usage: conversation [TEXT] [FILE] [--seed N]

Two devices send each other the lines of TEXT by turns, then FILE in chunks, over a bad channel.

  TEXT      any file (default: the README of subrosa)
  FILE      any file (default: the first 256 KiB of this program)
  --seed N  what the channel does, a number below 2^64 (default: 1)";

/// What the arguments ask for.
struct Input {
    text: Vec<u8>,
    file: Vec<u8>,
    seed: u64,
}

impl Input {
    /// None where that is help.
    fn new(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>> {
        let (mut paths, mut seed) = (Vec::new(), 1);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("-h" | "--help") => return Ok(None),
                Some("--seed") => {
                    let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
                    seed = number.ok_or("--seed takes a number below 2^64")?;
                }
                Some(option) if option.starts_with('-') => {
                    Err(format!("no option {option}; see --help"))?
                }
                _ => paths.push(PathBuf::from(argument)),
            }
        }
        let (text, file, most) = match paths.as_slice() {
            [] => (
                Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"),
                env::current_exe()?,
                256 * 1024,
            ),
            [text] => (text.clone(), env::current_exe()?, 256 * 1024),
            [text, file] => (text.clone(), file.clone(), u64::MAX),
            _ => return Err("two files at most; see --help".into()),
        };
        Ok(Some(Self { text: read(&text, u64::MAX)?, file: read(&file, most)?, seed }))
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    result.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}
