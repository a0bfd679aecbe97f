//! docs/files.md once more, straight from its formulas and over other crates, to hold the crate
//! against; and what somebody can do who holds the key and does not keep to it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::replay::hex;

/// A file with all that its sender chooses.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) k: u8,
    pub(crate) key: [u8; 32],
    pub(crate) content: Vec<u8>,
}

/// `SHA-256("subrosa file content" || 0:u64) || SHA-256(.. || 1:u64) || ..`, cut off.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|number| {
        Sha256::digest([&b"subrosa file content"[..], &number.to_be_bytes()].concat()).to_vec()
    });
    blocks.take(size).collect()
}

impl File {
    /// With the key `SHA-256("subrosa file key " || name)`.
    pub(crate) fn new(name: &str, k: u8, size: usize) -> Self {
        let key = Sha256::digest(format!("subrosa file key {name}")).into();
        Self { k, key, content: content(size) }
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn derived(&self) -> ([u8; 32], [u8; 32]) {
        let info = [&b"Subrosa v1 file"[..], &[1, self.k]].concat();
        let mut out = [0; 64];
        Hkdf::<Sha256>::new(Some(&[0; 32]), &self.key).expand(&info, &mut out).unwrap();
        (out[..32].try_into().unwrap(), out[32..].try_into().unwrap())
    }

    pub(crate) fn padded(&self) -> Vec<u8> {
        let mut padded = self.content.clone();
        padded.resize(padme(self.content.len().max(1024)), 0);
        padded
    }

    /// `AEAD(K, 0:3 || i:u64 || last:u8, P_i)`
    pub(crate) fn chunk(&self, index: u64, last: u8, text: &[u8]) -> Vec<u8> {
        let nonce: [u8; 12] =
            [&[0; 3][..], &index.to_be_bytes(), &[last]].concat().try_into().unwrap();
        let mut sealed = text.to_vec();
        let cipher = ChaCha20Poly1305::new(&self.derived().0.into());
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), b"", sealed.as_mut_slice().into())
            .unwrap();
        sealed.extend_from_slice(&tag);
        sealed
    }

    pub(crate) fn chunks(&self) -> Vec<Vec<u8>> {
        self.chunks_of(&self.padded())
    }

    /// Of a text that the sender padded in a way of its own.
    pub(crate) fn chunks_of(&self, padded: &[u8]) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> = padded.chunks(1 << self.k).collect();
        let last = pieces.len() - 1;
        let numbered = pieces.iter().enumerate();
        numbered.map(|(at, piece)| self.chunk(at as u64, u8::from(at == last), piece)).collect()
    }

    pub(crate) fn descriptor(&self) -> Vec<u8> {
        self.descriptor_of(self.size(), &self.chunks())
    }

    /// Of other chunks, with a root that fits.
    pub(crate) fn descriptor_of(&self, size: u64, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut root = Sha256::new();
        root.update(b"Subrosa v1 file root");
        root.update([1, self.k]);
        root.update(size.to_be_bytes());
        root.update(self.derived().1);
        chunks.iter().for_each(|chunk| root.update(Sha256::digest(chunk)));
        [&[1, self.k][..], &size.to_be_bytes(), &self.key, &root.finalize()].concat()
    }
}

/// A length of which all but the first bits are zero: as many as its exponent takes to write, and
/// one.
fn padme(length: usize) -> usize {
    let exponent = (0..).take_while(|bit| length >> bit > 1).count();
    let bits = (0..).take_while(|bit| exponent >> bit > 0).count();
    let unit = 1 << (exponent - bits);
    (length..).find(|length| length % unit == 0).unwrap()
}

/// The known answers of tests/vectors/file.json.
pub(crate) fn answers() -> Value {
    let cases = [
        ("empty", 16, 0),
        ("one byte", 12, 1),
        ("1,024 bytes", 16, 1_024),
        ("1,025 bytes", 16, 1_025),
        ("one chunk", 12, 4_096),
        ("one byte more than a chunk", 12, 4_097),
        ("a voice note", 12, 10_000),
        ("a last chunk of padding alone", 12, 295_000),
        ("one chunk of 64 KiB", 16, 65_536),
        ("two chunks of 64 KiB", 16, 70_000),
        ("the longest chunks", 20, 1_048_577),
    ];
    let cases = cases.map(|(name, k, size)| {
        let file = File::new(name, k, size);
        let blob = file.chunks().concat();
        let mut case = json!({
            "name": name,
            "k": k,
            "size": size,
            "F": hex(&file.key),
            "descriptor": hex(&file.descriptor()),
            "blob_length": blob.len(),
            "blob_sha256": hex(&Sha256::digest(&blob)),
        });
        if blob.len() < 2_000 {
            case["blob"] = hex(&blob).into();
        }
        case
    });
    json!({ "cases": cases })
}

/// The files of tests/vectors/reject: name and what is in it.
pub(crate) fn faults() -> Vec<(String, Value)> {
    blob_faults().into_iter().chain(descriptor_faults()).collect()
}

fn named(what: &str, fault: &str, mut case: Value) -> (String, Value) {
    case["what"] = what.into();
    case["fault"] = fault.into();
    let words =
        format!("{what} {fault}").replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase();
    (format!("{words}.json"), case)
}

#[expect(clippy::too_many_lines, reason = "one list of faults")]
fn blob_faults() -> Vec<(String, Value)> {
    // Three chunks: two of 4,096 bytes, and one of 1,024 of which 216 are padding.
    let file = File::new("rejected", 12, 9_000);
    let (chunks, honest) = (file.chunks(), file.descriptor());
    let case = |fault: &str, error: &str, descriptor: &[u8], blob: &[u8]| {
        named(
            "file",
            fault,
            json!({ "error": error, "descriptor": hex(descriptor), "bytes": hex(blob) }),
        )
    };
    // The root of what is changed here fits, so that nothing but the fault can be noticed.
    let sealed = |fault: &str, error: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut chunks = chunks.clone();
        change(&mut chunks);
        case(fault, error, &file.descriptor_of(9_000, &chunks), &chunks.concat())
    };
    let flipped = |at: usize| {
        let mut blob = chunks.concat();
        blob[at] ^= 1;
        blob
    };
    let padded = file.padded();
    let blob = chunks.concat();
    let other = File { content: vec![7; 9_000], ..file.clone() };
    let longer_chunks = File { k: 13, content: content(1_000), ..file.clone() };
    let one = File { content: content(1_000), ..file.clone() };
    let mut dirty = padded.clone();
    dirty[9_000] = 1;
    let mut dirty_end = padded.clone();
    *dirty_end.last_mut().unwrap() = 0x80;
    vec![
        case("empty", "DamagedFile", &honest, b""),
        case("truncated at a boundary", "DamagedFile", &honest, &blob[..8_224]),
        case("truncated inside a chunk", "DamagedFile", &honest, &blob[..5_000]),
        case("truncated by a byte", "DamagedFile", &honest, &blob[..blob.len() - 1]),
        case("one byte more", "DamagedFile", &honest, &[&blob[..], &[0]].concat()),
        case(
            "one more chunk",
            "DamagedFile",
            &honest,
            &[&blob[..], &file.chunk(3, 1, &[0; 512])].concat(),
        ),
        case("exchanged chunks", "DamagedChunk(0)", &honest, &{
            [&chunks[1][..], &chunks[0], &chunks[2]].concat()
        }),
        case("a chunk twice", "DamagedChunk(1)", &honest, &{
            [&chunks[0][..], &chunks[0], &chunks[2]].concat()
        }),
        case("a flipped bit in the first chunk", "DamagedChunk(0)", &honest, &flipped(17)),
        case("a flipped bit in the last tag", "DamagedChunk(2)", &honest, &flipped(blob.len() - 1)),
        sealed("last chunk not marked", "DamagedChunk(2)", &|chunks| {
            chunks[2] = file.chunk(2, 0, &padded[8_192..]);
        }),
        sealed("first chunk marked as last", "DamagedChunk(0)", &|chunks| {
            chunks[0] = file.chunk(0, 1, &padded[..4_096]);
        }),
        sealed("last mark 2", "DamagedChunk(2)", &|chunks| {
            chunks[2] = file.chunk(2, 2, &padded[8_192..])
        }),
        sealed("padding not zero", "DamagedChunk(2)", &|chunks| *chunks = file.chunks_of(&dirty)),
        sealed("padding not zero at the end", "DamagedChunk(2)", &|chunks| {
            *chunks = file.chunks_of(&dirty_end)
        }),
        sealed("exchanged chunks under a root that fits", "DamagedChunk(0)", &|chunks| {
            chunks.swap(0, 1)
        }),
        case(
            "size larger than the blob",
            "DamagedFile",
            &file.descriptor_of(20_000, &chunks),
            &blob,
        ),
        case(
            "size smaller than the blob",
            "DamagedFile",
            &file.descriptor_of(5_000, &chunks),
            &blob,
        ),
        case(
            "size 2^40",
            "DamagedFile",
            &[&[1, 12][..], &(1_u64 << 40).to_be_bytes(), &honest[10..]].concat(),
            &blob,
        ),
        case(
            "another size of the same padded length",
            "DamagedFile",
            &[&[1, 12][..], &9_001_u64.to_be_bytes(), &honest[10..]].concat(),
            &blob,
        ),
        case("root of another file under the same key", "DamagedFile", &other.descriptor(), &blob),
        case(
            "blob of another file under the same key",
            "DamagedFile",
            &honest,
            &other.chunks().concat(),
        ),
        case(
            "chunk of another file under the same key",
            "DamagedFile",
            &honest,
            &[&chunks[0][..], &other.chunks()[1], &chunks[2]].concat(),
        ),
        case("k of a blob of the same length", "DamagedChunk(0)", &longer_chunks.descriptor(), &{
            one.chunks().concat()
        }),
    ]
}

fn descriptor_faults() -> Vec<(String, Value)> {
    let honest = File::new("rejected", 12, 9_000).descriptor();
    let case = |fault: &str, error: &str, bytes: &[u8]| {
        named("file descriptor", fault, json!({ "error": error, "bytes": hex(bytes) }))
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = honest.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    vec![
        case("empty", "Malformed", b""),
        case("one byte short", "Malformed", &honest[..73]),
        case("one byte long", "Malformed", &[&honest[..], &[0]].concat()),
        case("version 0", "UnsupportedVersion", &with(0, &[0])),
        case("version 2", "UnsupportedVersion", &with(0, &[2])),
        case("k 11", "Malformed", &with(1, &[11])),
        case("k 21", "Malformed", &with(1, &[21])),
        case("k 255", "Malformed", &with(1, &[255])),
        case("size above 2^40", "Malformed", &with(2, &((1_u64 << 40) + 1).to_be_bytes())),
        case("size of all ones", "Malformed", &with(2, &[0xff; 8])),
    ]
}
