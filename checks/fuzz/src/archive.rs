//! Archives: what is before the chunks, and the frames in them.

use std::cell::RefCell;
use std::io::{Cursor, Error as IoError};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use subrosa::archive::{Archive, ArchiveKind, Argon2Cost, Contact, Frame, Info, Lock, Writer};
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Memory;
use subrosa::{DeviceList, Error};

use crate::household::{BEGIN, HOUSEHOLD, contents, open};
use crate::input::{Input, changed};
use crate::network::Seeded;

/// That of the archives in `tests/vectors/reject/`.
const KEY: [u8; 32] = [
    156, 179, 221, 94, 224, 26, 65, 46, 183, 25, 229, 82, 104, 222, 79, 161, 204, 188, 100, 99,
    219, 175, 149, 244, 199, 50, 40, 125, 139, 32, 185, 130,
];

thread_local! {
    /// A backup and a transfer, each with what its chunks are sealed under.
    pub(crate) static ARCHIVES: [(Vec<u8>, [u8; 32]); 2] =
        [ArchiveKind::Backup, ArchiveKind::Transfer].map(genuine);
    static BOBS: RefCell<Memory> = RefCell::new(HOUSEHOLD.with(|household| household.phone.clone()));
}

/// Bytes of a header with one slot.
pub(crate) const HEADER: usize = 27 + 125 + 32;

fn genuine(kind: ArchiveKind) -> (Vec<u8>, [u8; 32]) {
    let rng = &mut Seeded::new(1, "archive");
    let key = IdentityKeyPair::generate(rng);
    let list = DeviceList::first(&key, IdentityKeyPair::generate(rng).public_key());
    let info = Info::new("rosa", BEGIN, list.clone()).expect("it is a name");
    let locks = [Lock::Key(&KEY)];
    let before = rng.draws.len();
    let cost = Argon2Cost::default();
    let writer = Writer::new(Vec::new(), kind, &locks, cost, info, rng);
    let mut writer = writer.expect("a vector does not fail");
    // The id, and then the archive key.
    let archive_key = rng.draws[before + 1].clone();
    if kind == ArchiveKind::Backup {
        writer.account(&key).expect("a vector does not fail");
    }
    let contact = Contact::new("carol", list, true).expect("it is a name");
    writer.contact(&contact).expect("a vector does not fail");
    writer.app(b"a line").expect("it is short");
    let archive = writer.finish().expect("a vector does not fail");
    let info = [b"Subrosa v1 archive file", &archive[HEADER - 32..HEADER]].concat();
    (archive, derive(&archive_key, &info))
}

fn derive(ikm: &[u8], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(None, ikm).expand(info, &mut out).expect("it is short");
    out
}

/// An archive that is not what it was, or is none at all, is refused, and only that is opened which
/// was made.
pub fn archive(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.small();
    let genuine = ARCHIVES.with(|archives| archives[choice % 2].0.clone());
    let bytes = match choice / 2 {
        0 => input.rest().to_vec(),
        1 => changed(&genuine, &mut input),
        _ => {
            // Another header before the same chunks.
            let head = input.rest();
            let length = head.len().min(HEADER);
            [&head[..length], &genuine[length..]].concat()
        }
    };
    match read(&bytes) {
        Ok(_) => assert!(is_known(&bytes), "an archive that nobody made opened"),
        Err(error) => assert!(
            matches!(
                error,
                Error::Malformed
                    | Error::NewerArchive
                    | Error::WrongPassphrase
                    | Error::DamagedArchive { .. }
            ),
            "{error:?}"
        ),
    }
}

/// What the archives in `tests/vectors/reject/` were made from: this one is refused for its lock.
const VECTOR: &[u8] = include_bytes!("../corpus/archive/archive-another-lock");

fn is_known(bytes: &[u8]) -> bool {
    VECTOR.get(1..) == Some(bytes)
        || ARCHIVES.with(|archives| archives.iter().any(|(genuine, _)| genuine == bytes))
}

/// Any frames at all, by whoever has the archive key: they are read or refused as a whole, and what
/// is refused changes nothing.
pub fn archive_frames(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.small();
    let (genuine, file_key) = ARCHIVES.with(|archives| archives[choice % 2].clone());
    let mut frames = input.rest().to_vec();
    if (choice / 2).is_multiple_of(2) {
        let length = padme(frames.len().max(1024));
        frames.resize(length, 0);
    }
    let bytes = [&genuine[..HEADER], &seal(&file_key, &frames)].concat();
    let before = BOBS.with_borrow_mut(contents);
    let Ok(mut archive) = Archive::open(Cursor::new(&bytes), Lock::Key(&KEY)) else { return };
    let checked = archive.check();
    let (mut contacts, mut app) = (0, 0);
    let read = loop {
        match archive.next_frame() {
            Ok(Some(Frame::Contact(_))) => contacts += 1,
            Ok(Some(Frame::App(_))) => app += 1,
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(inside(error)),
        }
    };
    match &checked {
        Ok(checked) => assert_eq!((checked.contacts, checked.app_frames), (contacts, app)),
        Err(_) => assert!(matches!(read, Err(Error::Malformed | Error::NewerArchive)), "{read:?}"),
    }
    let mut client = open(BOBS.with_borrow(Memory::clone));
    let imported = client.import(&mut archive, |_, _| Ok(()), BEGIN).map_err(inside);
    match imported {
        Ok(imported) => assert_eq!(imported, checked.expect("it was imported")),
        Err(_) => {
            assert!(contents(&mut client.into_store()) == before, "an error changed the store");
        }
    }
}

fn read(bytes: &[u8]) -> Result<(), Error> {
    let mut archive = Archive::open(Cursor::new(bytes), Lock::Key(&KEY)).map_err(inside)?;
    archive.check().map(drop).map_err(inside)
}

fn inside(error: IoError) -> Error {
    error.downcast().expect("memory does not fail")
}

/// docs/files.md, section 1.
fn seal(file_key: &[u8; 32], text: &[u8]) -> Vec<u8> {
    let key = derive(file_key, b"Subrosa v1 file\x01\x10");
    let cipher = ChaCha20Poly1305::new(&key.into());
    let count = text.len().div_ceil(1 << 16);
    let chunks = text.chunks(1 << 16).enumerate().flat_map(|(index, chunk)| {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&u64::try_from(index).expect("it is small").to_be_bytes());
        nonce[11] = u8::from(index + 1 == count);
        let mut sealed = chunk.to_vec();
        let text = sealed.as_mut_slice().into();
        let tag = cipher.encrypt_inout_detached(&nonce.into(), b"", text).expect("it is short");
        sealed.extend_from_slice(&tag);
        sealed
    });
    chunks.collect()
}

fn padme(length: usize) -> usize {
    let exponent = length.ilog2();
    length.next_multiple_of(1 << (exponent - exponent.ilog2() - 1))
}
