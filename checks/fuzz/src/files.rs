//! Files: descriptors, manifests and blobs from anywhere.

use std::io::{Cursor, Read};

use subrosa::file::{
    self, ChunkSize, Descriptor, Manifest, ManifestBuilder, Opener, Reader, Sealer, SeekReader,
};

use crate::network::Seeded;

/// A file of two chunks and a half, with what opens it.
pub(crate) struct Sealed {
    pub(crate) content: Vec<u8>,
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    pub(crate) blob: Vec<u8>,
}

impl Sealed {
    fn new() -> Self {
        let content: Vec<u8> = (0..10_000_u32).flat_map(|at| (at % 251).to_be_bytes()).collect();
        let content = content[..10_000].to_vec();
        let rng = &mut Seeded::new(1, "file");
        let mut builder = ManifestBuilder::new(10_000, ChunkSize::VOICE, rng).expect("it is short");
        let mut rest = &content[..];
        while let Some(length) = builder.next_length() {
            builder.add(&rest[..length]).expect("it is its length");
            rest = &rest[length..];
        }
        let manifest = builder.finish().expect("that is all");
        let mut sealer = Sealer::resume(manifest.clone(), 0).expect("it is the beginning");
        let (mut blob, mut rest) = (Vec::new(), &content[..]);
        while let Some(length) = sealer.next_length() {
            blob.extend(sealer.seal(&rest[..length]).expect("it is the same"));
            rest = &rest[length..];
        }
        let descriptor = sealer.finish().expect("that is all");
        Self { content, descriptor, manifest, blob }
    }
}

thread_local! {
    pub(crate) static SEALED: Sealed = Sealed::new();
}

/// Bytes as 0: a descriptor. 1: a manifest. 2: changes of a genuine blob, `place:u16 || xor:u8`
/// each. 3: a descriptor and a blob.
pub fn file(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 4 {
        0 => descriptor(data),
        1 => manifest(data),
        2 => SEALED.with(|sealed| changed(sealed, data)),
        _ => {
            if let Some((head, blob)) = data.split_at_checked(Descriptor::LENGTH)
                && let Ok(descriptor) = Descriptor::decode(head)
            {
                open(&descriptor, blob);
            }
        }
    }
}

fn descriptor(data: &[u8]) {
    let Ok(descriptor) = Descriptor::decode(data) else { return };
    assert_eq!(descriptor.encode()[..], *data);
    assert!(descriptor.size() <= file::MAX_SIZE && descriptor.blob_length() > descriptor.size());
    let all = descriptor.locate(..);
    let is_empty = descriptor.size() == 0;
    assert_eq!(all.blob.is_empty(), is_empty);
    assert!(all.blob.end <= descriptor.blob_length() && all.chunks.end <= descriptor.chunk_count());
    let end = descriptor.locate(descriptor.size().saturating_sub(1)..u64::MAX);
    assert!(end.blob.end == all.blob.end && (is_empty || end.chunks.end == end.chunks.start + 1));
    let opener = Opener::new(&descriptor);
    assert!(opener.sealed_length(descriptor.chunk_count()).is_none());
    assert!(opener.sealed_length(descriptor.chunk_count() - 1).is_some());
}

fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::decode(data) else { return };
    assert_eq!(manifest.encode()[..], *data);
    let count = manifest.descriptor().chunk_count();
    assert!(Sealer::resume(manifest.clone(), count + 1).is_err());
    let mut sealer = Sealer::resume(manifest, count - 1).expect("there is such a chunk");
    // Whoever knows no file to it gets nothing out.
    let length = sealer.next_length().expect("there is one chunk left");
    let is_genuine = SEALED.with(|sealed| sealed.manifest.encode()[..] == *data);
    assert!(is_genuine || length == 0 || sealer.seal(&vec![0x5a; length]).is_err());
}

fn changed(sealed: &Sealed, data: &[u8]) {
    let mut blob = sealed.blob.clone();
    for change in data.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]]));
        match blob.get_mut(place) {
            Some(byte) => *byte ^= change[2],
            None if change[2] % 2 == 0 => blob.truncate(place % (sealed.blob.len() + 1)),
            None => blob.push(change[2]),
        }
    }
    assert_eq!(open(&sealed.descriptor, &blob).is_some(), blob == sealed.blob);
    if let Some(content) = open(&sealed.descriptor, &blob) {
        assert_eq!(content, sealed.content);
    }
}

/// Each way to open a blob says the same, and none hands out more than is genuine.
fn open(descriptor: &Descriptor, blob: &[u8]) -> Option<Vec<u8>> {
    let opened = file::open(descriptor, blob).ok();
    let mut read = Vec::new();
    let ended = Reader::new(blob, descriptor).read_to_end(&mut read);
    assert_eq!(ended.ok().map(|_| &read), opened.as_ref());
    let mut sought = Vec::new();
    if let Ok(mut reader) = SeekReader::new(Cursor::new(blob), descriptor) {
        let ended = reader.read_to_end(&mut sought).is_ok() && reader.verify().is_ok();
        assert_eq!(ended, opened.is_some());
    } else {
        assert!(opened.is_none());
    }
    assert!(opened.as_ref().is_none_or(|content| content.len() as u64 == descriptor.size()));
    assert!(Opener::new(descriptor).verify(blob).is_ok() || opened.is_none());
    opened
}
