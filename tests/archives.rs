//! The room `archive`: known answers, every fault, locks, memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

use allocation_counter::measure;
use serde_json::Value;
use subrosa::archive::{
    Archive, ArchiveKind, Argon2Cost, Contact, Frame, Info, Lock, MAX_FRAME, Passphrase,
    RecoveryCode, Writer,
};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{DeviceList, Error, UnixTime};

#[path = "support/replay.rs"]
mod replay;

use replay::{Replay, array, bytes, hex, number, sha256, vectors};

const KEY: [u8; 32] = [7; 32];

fn cheapest() -> Argon2Cost {
    Argon2Cost::new(8, 1)
}

/// The crate's error in one of I/O.
fn inside(error: io::Error) -> Error {
    error.downcast().unwrap()
}

/// Opens and checks an archive.
fn check(bytes: &[u8], lock: Lock<'_>) -> Result<(), Error> {
    let opened = Archive::open(Cursor::new(bytes), lock);
    opened.and_then(|mut archive| archive.check().map(drop)).map_err(inside)
}

fn frames<R: Read + Seek>(archive: &mut Archive<R>) -> Vec<Frame> {
    std::iter::from_fn(|| archive.next_frame().unwrap()).collect()
}

fn time() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn account() -> IdentityKeyPair {
    IdentityKeyPair::generate(&mut Replay::new([vec![1; 32]]))
}

fn list() -> DeviceList {
    let device = IdentityKeyPair::generate(&mut Replay::new([vec![2; 32]]));
    DeviceList::first(&account(), device.public_key())
}

fn info() -> Info {
    Info::new("rosa", time(), list()).unwrap()
}

fn begin<W: Write>(inner: W, kind: ArchiveKind, locks: &[Lock<'_>]) -> io::Result<Writer<W>> {
    Writer::new(inner, kind, locks, cheapest(), info(), &mut Replay::counting())
}

/// A small archive, and where its chunks begin.
fn small() -> (Vec<u8>, usize) {
    let mut writer = begin(Vec::new(), ArchiveKind::Backup, &[Lock::Key(&KEY)]).unwrap();
    writer.account(&account()).unwrap();
    writer.contact(&Contact::new("carol", list(), true).unwrap()).unwrap();
    writer.app(b"a line of the history").unwrap();
    (writer.finish().unwrap(), 27 + 125 + 32)
}

/// What a case says of a lock, and the lock.
struct Kept {
    code: Option<RecoveryCode>,
    key: Option<[u8; 32]>,
    passphrase: Option<String>,
}

impl Kept {
    fn of(lock: &Value) -> Self {
        let code = lock["secret"]
            .is_string()
            .then(|| RecoveryCode::generate(&mut Replay::new([bytes(&lock["secret"])])));
        let key = lock["key"].is_string().then(|| array(&lock["key"]));
        Self { code, key, passphrase: lock["passphrase"].as_str().map(str::to_owned) }
    }

    fn lock(&self) -> Lock<'_> {
        let code = self.code.as_ref().map(Lock::Code);
        let key = || self.key.as_ref().map(Lock::Key);
        let passphrase = || self.passphrase.as_deref().map(Lock::Passphrase);
        code.or_else(key).or_else(passphrase).unwrap()
    }
}

fn body(frame: &Value) -> Vec<u8> {
    if frame["body"].is_string() {
        return bytes(&frame["body"]);
    }
    vec![number(&frame["byte"]); number(&frame["length"])]
}

/// The body of a contact's frame, by its parts.
fn contact(body: &[u8]) -> Contact {
    let (head, list) = body.split_at(2 + usize::from(body[1]));
    let user = std::str::from_utf8(&head[2..]).unwrap();
    Contact::new(user, DeviceList::decode(list).unwrap(), body[0] == 1).unwrap()
}

/// Writes the frames of a case under its draws.
fn written(case: &Value, locks: &[Lock<'_>]) -> Vec<u8> {
    let frames = case["frames"].as_array().unwrap();
    let list = DeviceList::decode(&body(&frames[0])[8 + 1 + 4..]).unwrap();
    let info = Info::new("rosa", time(), list).unwrap();
    let kind = match number::<u8>(&case["kind"]) {
        1 => ArchiveKind::Backup,
        _ => ArchiveKind::Transfer,
    };
    let mut rng = Replay::new(case["draws"].as_array().unwrap().iter().map(bytes));
    let mut writer = Writer::new(Vec::new(), kind, locks, cheapest(), info, &mut rng).unwrap();
    rng.finish();
    for frame in &frames[1..] {
        let body = body(frame);
        match number::<u16>(&frame["type"]) {
            2 => writer.account(&IdentityKeyPair::generate(&mut Replay::new([body]))).unwrap(),
            3 => writer.contact(&contact(&body)).unwrap(),
            _ => writer.app(&body).unwrap(),
        }
    }
    writer.finish().unwrap()
}

#[test]
fn known_answers() {
    let file = vectors("archive.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let name = &case["name"];
        let kept: Vec<Kept> = case["locks"].as_array().unwrap().iter().map(Kept::of).collect();
        let locks: Vec<Lock<'_>> = kept.iter().map(Kept::lock).collect();
        // One of two passes is among four; this writes one with one cost for all.
        let is_writable = case["writable"] == true && locks.len() == 1;
        let archive = if is_writable { written(case, &locks) } else { bytes(&case["archive"]) };
        assert_eq!(archive.len(), number::<usize>(&case["length"]), "{name}");
        assert_eq!(hex(&sha256(&archive)), case["sha256"], "{name}");
        assert!(case["archive"].is_null() || hex(&archive) == case["archive"], "{name}");
        for lock in locks {
            let mut opened = Archive::open(Cursor::new(&archive), lock).unwrap();
            assert_eq!((&*opened.info().user, opened.info().created_at), ("rosa", time()));
            let all = case["frames"].as_array().unwrap().iter();
            let all = all.filter(|frame| matches!(number::<u16>(&frame["type"]), 2 | 3 | 5));
            let checked = opened.check().unwrap();
            let read = frames(&mut opened);
            assert_eq!(read.len(), all.clone().count(), "{name}");
            assert_eq!(checked.account, read.iter().any(|one| matches!(one, Frame::Account(_))));
            for (frame, expected) in read.iter().zip(all) {
                let body = body(expected);
                match frame {
                    Frame::Account(key) => assert_eq!(key.encode()[2..], body[..]),
                    Frame::Contact(read) => assert_eq!(**read, contact(&body), "{name}"),
                    Frame::App(read) => assert!(**read == body, "{name}"),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(cases.len(), 12);
}

#[test]
fn every_fault_in_the_folder_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/reject");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.starts_with("archive-") {
            let case = vectors(&format!("reject/{name}"));
            let refused = check(&bytes(&case["bytes"]), Lock::Key(&array(&case["key"])));
            assert_eq!(format!("{:?}", refused.unwrap_err()), case["error"], "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 78);
}

#[test]
fn no_byte_can_be_changed_and_nothing_cut_off() {
    let (archive, chunks) = small();
    check(&archive, Lock::Key(&KEY)).unwrap();
    for at in 0..archive.len() {
        let cut = check(&archive[..at], Lock::Key(&KEY)).unwrap_err();
        let expected = match at {
            _ if at < chunks => Error::Malformed,
            _ if at == chunks => Error::DamagedArchive { chunk: None },
            _ => Error::DamagedArchive { chunk: Some(0) },
        };
        assert_eq!(cut, expected, "{at} bytes");
        for bit in [1, 0x80] {
            let mut changed = archive.clone();
            changed[at] ^= bit;
            let error = check(&changed, Lock::Key(&KEY)).unwrap_err();
            // Once the lock is known to be right, nobody is told that it is wrong.
            let is_right = match error {
                Error::DamagedArchive { chunk: Some(0) } => at >= chunks,
                Error::DamagedArchive { chunk: None } => (104..chunks).contains(&at),
                Error::WrongPassphrase => (9..104).contains(&at),
                Error::NewerArchive => at == 8,
                Error::Malformed => at < 40,
                _ => false,
            };
            assert!(is_right, "byte {at}: {error:?}");
        }
    }
}

#[test]
fn each_lock_opens_it_and_no_other_does() {
    let rng = &mut Replay::counting();
    let (code, other) = (RecoveryCode::generate(rng), RecoveryCode::generate(rng));
    let generated = Passphrase::generate(6, rng);
    let locks = [
        Lock::Passphrase("under the rose"),
        Lock::Key(&KEY),
        Lock::Code(&code),
        Lock::Generated(&generated),
    ];
    let writer = begin(Vec::new(), ArchiveKind::Backup, &locks).unwrap();
    let archive = writer.finish().unwrap();
    let typed = Passphrase::normalize(&generated.as_str().to_uppercase());
    for lock in locks.into_iter().chain([Lock::Passphrase(&typed)]) {
        assert_eq!(check(&archive, lock), Ok(()), "{lock:?}");
    }
    for lock in [Lock::Passphrase("under the hose"), Lock::Key(&[8; 32]), Lock::Code(&other)] {
        assert_eq!(check(&archive, lock), Err(Error::WrongPassphrase), "{lock:?}");
    }
    for locks in [&[][..], &[Lock::Key(&KEY); 5]] {
        let refused = begin(Vec::new(), ArchiveKind::Backup, locks).map(drop).map_err(inside);
        assert_eq!(refused, Err(Error::BadLocks));
    }
    let weak = begin(Vec::new(), ArchiveKind::Backup, &[Lock::Passphrase("x")]);
    assert_eq!(weak.map(drop).map_err(inside), Err(Error::WeakPassphrase));
}

#[test]
fn the_account_key_is_never_behind_a_lock_that_can_be_guessed() {
    let generated = Passphrase::generate(6, &mut Replay::counting());
    let code = RecoveryCode::generate(&mut Replay::counting());
    for (locks, expected) in [
        (vec![Lock::Key(&KEY), Lock::Code(&code), Lock::Generated(&generated)], Ok(())),
        (vec![Lock::Passphrase("a long one of a person's own")], Err(Error::WeakPassphrase)),
        (vec![Lock::Key(&KEY), Lock::Passphrase("another")], Err(Error::WeakPassphrase)),
    ] {
        let mut writer = begin(Vec::new(), ArchiveKind::Backup, &locks).unwrap();
        assert_eq!(writer.account(&account()).map_err(inside), expected);
        let archive = writer.finish().unwrap();
        let checked = Archive::open(Cursor::new(archive), locks[0]).unwrap().check().unwrap();
        assert_eq!(checked.account, expected.is_ok());
    }
}

#[test]
fn a_writer_makes_nothing_that_a_reader_refuses() {
    let locks = &[Lock::Key(&KEY)];
    let mut writer = begin(Vec::new(), ArchiveKind::Backup, locks).unwrap();
    let other = IdentityKeyPair::generate(&mut Replay::new([vec![3; 32]]));
    assert_eq!(writer.account(&other).map_err(inside), Err(Error::NotPermitted));
    writer.app(&[]).unwrap();
    assert_eq!(writer.account(&account()).map_err(inside), Err(Error::NotPermitted));
    assert_eq!(writer.app(&vec![0; MAX_FRAME + 1]).map_err(inside), Err(Error::TooLong));
    writer.app(&vec![0; MAX_FRAME]).unwrap();
    assert_eq!(check(&writer.finish().unwrap(), locks[0]), Ok(()));

    let mut writer = begin(Vec::new(), ArchiveKind::Transfer, locks).unwrap();
    assert_eq!(writer.account(&account()).map_err(inside), Err(Error::NotPermitted));
    writer.contact(&Contact::new("carol", list(), true).unwrap()).unwrap();
    let mut archive = Archive::open(Cursor::new(writer.finish().unwrap()), locks[0]).unwrap();
    assert_eq!(archive.kind(), ArchiveKind::Transfer);
    assert!(matches!(&frames(&mut archive)[..], [Frame::Contact(one)] if !one.verified));
    for name in [String::new(), "x".repeat(256)] {
        assert_eq!(Info::new(&name, time(), list()).unwrap_err(), Error::BadName);
        assert_eq!(Contact::new(&name, list(), true).unwrap_err(), Error::BadName);
    }
}

/// Reads of a few bytes, of which every seventh fails from some time on.
struct Stuttering<'a> {
    inner: Cursor<Vec<u8>>,
    turn: usize,
    is_on: &'a Cell<bool>,
}

impl Read for Stuttering<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.is_on.get() && self.turn.is_multiple_of(7) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = out.len().min(40_000);
        self.inner.read(&mut out[..length])
    }
}

impl Seek for Stuttering<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn an_error_of_the_disk_loses_nothing() {
    let mut writer = begin(Vec::new(), ArchiveKind::Backup, &[Lock::Key(&KEY)]).unwrap();
    for byte in 0..20 {
        writer.app(&vec![byte; 30_000]).unwrap();
    }
    // It need not begin where the file does.
    let mut inner = Cursor::new([b"something before".to_vec(), writer.finish().unwrap()].concat());
    inner.set_position(16);
    let is_on = Cell::new(false);
    let stuttering = Stuttering { inner, turn: 0, is_on: &is_on };
    let mut archive = Archive::open(stuttering, Lock::Key(&KEY)).unwrap();
    is_on.set(true);
    let (mut failed, mut read) = (0, Vec::new());
    loop {
        match archive.next_frame() {
            Ok(Some(Frame::App(body))) => read.push(body),
            Ok(None) => break,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                failed += 1;
            }
        }
    }
    assert!(failed > 2 && read.len() == 20, "{failed}");
    assert!((0..20).zip(&read).all(|(byte, body)| **body == vec![byte; 30_000]));
}

/// A disk on which there is room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = bytes.len().min(self.0);
        self.0 -= length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_at_once_and_ends_the_archive() {
    let write = |room: usize| -> io::Result<()> {
        let mut writer = begin(Full(room), ArchiveKind::Backup, &[Lock::Key(&KEY)])?;
        for byte in 0..4 {
            if let Err(error) = writer.app(&vec![byte; 50_000]) {
                writer.app(b"more").unwrap_err();
                return Err(error);
            }
        }
        writer.finish().map(drop)
    };
    write(1 << 20).unwrap();
    for room in [0, 26, 183, 184, 1_000, 66_000, 200_000] {
        assert_eq!(write(room).unwrap_err().kind(), io::ErrorKind::StorageFull, "{room}");
    }
}

/// What was written and not yet read.
#[derive(Clone, Default)]
struct Window(Rc<RefCell<Vec<u8>>>);

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive of very many frames that nobody keeps: it is made again as it is read.
struct OnTheFly {
    frames: u64,
    length: u64,
    at: u64,
    window: Window,
    /// Where in the archive the window begins.
    from: u64,
    writer: Option<Writer<Window>>,
    next: u64,
}

const FRAME: usize = 60_000;

fn fill(number: u64, out: &mut [u8]) {
    out.fill(number.to_le_bytes()[0]);
    out[..8].copy_from_slice(&number.to_le_bytes());
}

impl OnTheFly {
    /// Goes through it once, for its length.
    fn new(frames: u64) -> Self {
        let window = Window::default();
        let mut all =
            Self { frames, length: u64::MAX, at: 0, window, from: 0, writer: None, next: 0 };
        all.restart();
        while all.make() {}
        all.length = all.from + all.window.0.borrow().len() as u64;
        all.restart();
        all
    }

    fn restart(&mut self) {
        self.window.0.borrow_mut().clear();
        (self.from, self.next) = (0, 0);
        let locks = &[Lock::Key(&KEY)];
        self.writer = Some(begin(self.window.clone(), ArchiveKind::Backup, locks).unwrap());
    }

    /// Makes the next piece in the place of the one that was read.
    fn make(&mut self) -> bool {
        self.from += self.window.0.borrow().len() as u64;
        self.window.0.borrow_mut().clear();
        let Some(mut writer) = self.writer.take() else { return false };
        if self.next == self.frames {
            writer.finish().unwrap();
        } else {
            let mut body = [0; FRAME];
            fill(self.next, &mut body);
            writer.app(&body).unwrap();
            self.next += 1;
            self.writer = Some(writer);
        }
        true
    }
}

impl Read for OnTheFly {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at < self.from {
            self.restart();
        }
        while self.at >= self.from + self.window.0.borrow().len() as u64 {
            if !self.make() {
                return Ok(0);
            }
        }
        let window = self.window.0.borrow();
        let rest = &window[(self.at - self.from) as usize..];
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for OnTheFly {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(0) => self.length,
            SeekFrom::Current(0) => self.at,
            other => panic!("{other:?}"),
        };
        Ok(self.at)
    }
}

/// The most memory that writing an archive takes, and reading one, with what makes that on the fly.
fn memory(frames: u64) -> (u64, u64) {
    let writing = measure(|| {
        let mut writer = begin(io::sink(), ArchiveKind::Backup, &[Lock::Key(&KEY)]).unwrap();
        for number in 0..frames {
            let mut body = [0; FRAME];
            fill(number, &mut body);
            writer.app(&body).unwrap();
        }
        writer.finish().unwrap();
    });
    let mut all = Some(OnTheFly::new(frames));
    let reading = measure(|| {
        let mut archive = Archive::open(all.take().unwrap(), Lock::Key(&KEY)).unwrap();
        assert_eq!(archive.check().unwrap().app_frames, frames);
        let (mut number, mut expected) = (0, vec![0; FRAME]);
        while let Some(Frame::App(body)) = archive.next_frame().unwrap() {
            fill(number, &mut expected);
            assert!(*body == expected, "frame {number}");
            number += 1;
        }
        assert_eq!(number, frames);
    });
    (writing.bytes_max, reading.bytes_max)
}

#[test]
fn an_archive_takes_the_memory_of_a_chunk_however_long_it_is() {
    let few = memory(20);
    assert_eq!(memory(200), few);
    // A chunk and the window for writing; a chunk and two frames more for reading.
    assert!(few.0 < 4 << 16 && few.1 < 7 << 16, "{few:?}");
}

/// `cargo test --release --test archives -- --ignored --nocapture`
#[test]
#[ignore = "goes through 10 GB four times"]
fn ten_gigabytes_take_the_memory_of_a_chunk() {
    let began = std::time::Instant::now();
    let most = memory(10_000_000_000 / FRAME as u64);
    println!("10 GB: {} bytes to write, {} to read, {:?}", most.0, most.1, began.elapsed());
    assert_eq!(most, memory(200));
}
