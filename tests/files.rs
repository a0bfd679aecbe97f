//! The room `file`: known answers, every fault, interruption, seeking, memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use allocation_counter::measure;
use subrosa::Error;
use subrosa::file::{
    self, ChunkSize, Descriptor, Manifest, ManifestBuilder, Opener, Reader, Sealer, SeekReader,
    Writer,
};

#[path = "support/blob.rs"]
mod blob;
#[path = "support/own_vectors.rs"]
mod own_vectors;
#[path = "support/replay.rs"]
mod replay;

use blob::{File, content};
use replay::{Replay, bytes, hex, number, sha256, vectors};

const VOICE: ChunkSize = ChunkSize::VOICE;

fn seal(content: &[u8], chunk_size: ChunkSize) -> (Descriptor, Vec<u8>) {
    file::seal(content, chunk_size, &mut Replay::counting()).unwrap()
}

fn sealer(size: usize) -> Sealer {
    Sealer::new(size as u64, VOICE, &mut Replay::counting()).unwrap()
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// The crate's error in one of I/O.
fn inside(error: io::Error) -> Error {
    error.downcast().unwrap()
}

/// Every way to open all of a blob, each with what it says.
fn ways(descriptor: &Descriptor, blob: &[u8]) -> [Result<Vec<u8>, Error>; 4] {
    let at_once = file::open(descriptor, blob);
    let mut text = Vec::new();
    let reading =
        Reader::new(blob, descriptor).read_to_end(&mut text).map(|_| text).map_err(inside);
    let mut text = Vec::new();
    let seeking = SeekReader::new(Cursor::new(blob), descriptor).and_then(|mut reader| {
        reader.read_to_end(&mut text)?;
        reader.verify()?;
        Ok(text)
    });
    let opener = Opener::new(descriptor);
    let mut verifier = opener.verifier();
    let parallel = opener.open_parallel(&mut verifier, blob, threads(2));
    let parallel = parallel.and_then(|text| verifier.finish().map(|()| text));
    [at_once, reading, seeking.map_err(inside), parallel]
}

#[test]
fn known_answers() {
    let file = vectors("file.json");
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let (k, size) = (number::<u8>(&case["k"]), number::<usize>(&case["size"]));
        let (chunk_size, content) = (ChunkSize::new(k).unwrap(), content(size));
        let mut rng = Replay::new([bytes(&case["F"])]);
        let (descriptor, blob) = file::seal(&content, chunk_size, &mut rng).unwrap();
        rng.finish();
        assert_eq!(hex(&descriptor.encode()), case["descriptor"], "{}", case["name"]);
        assert_eq!(hex(&sha256(&blob)), case["blob_sha256"], "{}", case["name"]);
        assert_eq!(blob.len(), number::<usize>(&case["blob_length"]));
        assert!(case["blob"].is_null() || hex(&blob) == case["blob"]);
        assert_eq!(descriptor.blob_length(), blob.len() as u64);
        assert_eq!(descriptor.chunk_count(), (blob.len() as u64).div_ceil((1 << k) + 16));
        for opened in ways(&descriptor, &blob) {
            assert!(opened.unwrap() == content, "{}", case["name"]);
        }

        // The other ways to seal make the same bytes.
        let sealer =
            || Sealer::new(size as u64, chunk_size, &mut Replay::new([bytes(&case["F"])])).unwrap();
        let mut writer = Writer::new(Vec::new(), sealer());
        content.chunks(1_111).for_each(|piece| writer.write_all(piece).unwrap());
        assert!(writer.finish().unwrap() == (descriptor.clone(), blob.clone()), "{}", case["name"]);
        for count in [1, 2, 5] {
            let mut sealer = sealer();
            assert!(
                sealer.seal_parallel(&content, threads(count)).unwrap() == blob,
                "{}",
                case["name"]
            );
            assert_eq!(sealer.finish().unwrap(), descriptor);
        }
    }
    assert_eq!(cases.len(), 11);
}

#[test]
fn the_vectors_are_what_the_formulas_make() {
    own_vectors::check("file.json", &blob::answers(), &blob::faults(), &["file-"]);
}

/// `cargo test --test files -- --ignored` writes them anew.
#[test]
#[ignore = "writes tests/vectors"]
fn write_the_vectors() {
    own_vectors::write("file.json", &blob::answers(), &blob::faults());
}

#[test]
fn every_fault_is_refused_in_every_way_of_reading() {
    for (name, case) in blob::faults() {
        if case["what"] == "file descriptor" {
            let decoded = Descriptor::decode(&bytes(&case["bytes"]));
            assert_eq!(format!("{:?}", decoded.unwrap_err()), case["error"], "{name}");
            continue;
        }
        let descriptor = Descriptor::decode(&bytes(&case["descriptor"])).unwrap();
        let [at_once, rest @ ..] = ways(&descriptor, &bytes(&case["bytes"]));
        assert_eq!(format!("{:?}", at_once.unwrap_err()), case["error"], "{name}");
        for result in rest {
            assert!(matches!(result, Err(Error::DamagedFile | Error::DamagedChunk(_))), "{name}");
        }
    }
}

#[test]
fn no_blob_that_was_cut_or_changed_is_read_to_its_end() {
    let content = content(5_000);
    let (descriptor, blob) = seal(&content, VOICE);
    assert_eq!(blob.len(), 5_152);
    let refused = |changed: &[u8], what: &str| {
        for way in ways(&descriptor, changed) {
            assert!(matches!(way, Err(Error::DamagedFile | Error::DamagedChunk(_))), "{what}");
        }
        // What came before the error is the file's, and not all of it.
        let mut text = Vec::new();
        let mut reader = Reader::new(changed, &descriptor);
        let error = inside(reader.read_to_end(&mut text).unwrap_err());
        assert!(text.len() < content.len() && content.starts_with(&text), "{what}");
        // And it stays refused.
        assert_eq!(inside(reader.read(&mut [0]).unwrap_err()), error, "{what}");
    };
    for length in 0..blob.len() {
        refused(&blob[..length], &format!("cut to {length}"));
    }
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1 << (at % 8);
        refused(&changed, &format!("byte {at}"));
    }
}

#[test]
fn no_changed_descriptor_opens_a_blob() {
    let (descriptor, blob) = seal(&content(5_000), VOICE);
    let encoded = descriptor.encode();
    for at in 0..Descriptor::LENGTH {
        for bit in 0..8 {
            let mut changed = encoded.clone();
            changed[at] ^= 1 << bit;
            if let Ok(changed) = Descriptor::decode(&changed) {
                assert!(file::open(&changed, &blob).is_err(), "byte {at}");
                assert_ne!(changed, descriptor);
            }
        }
    }
    assert_eq!(Descriptor::try_from(&encoded[..]), Ok(descriptor.clone()));
    let json = serde_json::to_string(&descriptor).unwrap();
    assert_eq!(serde_json::from_str::<Descriptor>(&json).unwrap(), descriptor);
}

#[test]
fn one_blob_does_not_open_under_two_keys() {
    // A sender that finds two keys under which a chunk opens still needs a root for both.
    let file = File::new("one", 12, 3_000);
    let other = File { key: [7; 32], ..file.clone() };
    let chunks = file.chunks();
    let root = |file: &File| file.descriptor_of(3_000, &chunks)[42..].to_vec();
    assert_ne!(root(&file), root(&other));
}

#[test]
fn a_stranger_cannot_make_a_plausible_descriptor_cost_memory() {
    let bytes = [&[1, 20][..], &(1_u64 << 40).to_be_bytes(), &[7; 64]].concat();
    let descriptor = Descriptor::decode(&bytes).unwrap();
    let used = measure(|| {
        assert_eq!(file::open(&descriptor, &[0; 100]), Err(Error::DamagedFile));
        let mut reader = Reader::new(&[0; 100][..], &descriptor);
        assert_eq!(inside(reader.read(&mut [0]).unwrap_err()), Error::DamagedFile);
        assert!(SeekReader::new(Cursor::new([0; 100]), &descriptor).is_err());
    });
    assert!(used.bytes_max < 2_200_000, "{}", used.bytes_max);
}

#[test]
fn a_stream_takes_the_memory_of_a_chunk_whatever_its_length() {
    let slack = 2_048;
    for size in [200_000, 3_000_000] {
        let content = content(size);
        let (descriptor, blob) = seal(&content, VOICE);
        let writing = measure(|| {
            let mut writer = Writer::new(io::sink(), sealer(size));
            content.chunks(100_000).for_each(|piece| writer.write_all(piece).unwrap());
            drop(writer.finish().unwrap());
        });
        assert!(writing.bytes_max <= 4_112 + slack, "{size}: {}", writing.bytes_max);
        let reading = measure(|| {
            io::copy(&mut Reader::new(&blob[..], &descriptor), &mut io::sink()).unwrap();
        });
        assert!(reading.bytes_max <= 2 * 4_112 + slack, "{size}: {}", reading.bytes_max);
        let seeking = measure(|| {
            let mut reader = SeekReader::new(Cursor::new(&blob), &descriptor).unwrap();
            io::copy(&mut reader, &mut io::sink()).unwrap();
            reader.verify().unwrap();
        });
        assert!(seeking.bytes_max <= 4_112 + slack, "{size}: {}", seeking.bytes_max);
    }
}

/// A channel that takes and gives a few bytes at a time, and often fails for now.
struct Fitful<T> {
    inner: T,
    turn: usize,
}

impl<T> Fitful<T> {
    const fn new(inner: T) -> Self {
        Self { inner, turn: 0 }
    }

    fn length(&mut self) -> io::Result<usize> {
        self.turn += 1;
        match self.turn % 4 {
            0 => Err(ErrorKind::WouldBlock.into()),
            1 => Err(ErrorKind::Interrupted.into()),
            _ => Ok(self.turn % 700),
        }
    }
}

impl<W: Write> Write for Fitful<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.length()?.clamp(1, bytes.len());
        self.inner.write(&bytes[..length])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Fitful<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.length()?.clamp(1, out.len());
        self.inner.read(&mut out[..length])
    }
}

#[test]
fn an_error_of_the_channel_loses_nothing() {
    for size in [0, 1, 4_096, 9_000, 295_000] {
        let content = content(size);
        let (descriptor, blob) = seal(&content, VOICE);
        let mut writer = Writer::new(Fitful::new(Vec::new()), sealer(size));
        let mut rest = &content[..];
        while !rest.is_empty() {
            match writer.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        while writer.flush().is_err() {}
        // The padding goes at once, so here is one that does not fail.
        if size == 4_096 {
            let (made, inner) = writer.finish().unwrap();
            assert!((made, inner.inner) == (descriptor.clone(), blob.clone()));
        }

        let mut reader = Reader::new(Fitful::new(&blob[..]), &descriptor);
        let (mut text, mut buffer) = (Vec::new(), [0; 1_000]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(text == content, "{size}");
    }
}

#[test]
fn a_file_of_another_length_is_noticed() {
    for size in [0, 1, 1_024, 4_096, 9_000] {
        let content = content(size);
        // Longer.
        let mut writer = Writer::new(Vec::new(), sealer(size));
        writer.write_all(&content).unwrap();
        assert_eq!(inside(writer.write(b"x").unwrap_err()), Error::SourceChanged);
        writer.finish().unwrap();
        let mut sealer_ = sealer(size);
        assert_eq!(sealer_.seal(&[0; 10_000]), Err(Error::SourceChanged));
        assert_eq!(sealer_.seal_parallel(&[0; 10_000], threads(2)), Err(Error::SourceChanged));
        // Shorter.
        if let Some((_, shorter)) = content.split_last() {
            let mut writer = Writer::new(Vec::new(), sealer(size));
            writer.write_all(shorter).unwrap();
            assert_eq!(inside(writer.finish().unwrap_err()), Error::SourceChanged);
            // No byte at all is no chunk, and leads nowhere.
            let sealed = sealer_.seal_parallel(shorter, threads(2));
            assert_eq!(
                sealed,
                if shorter.is_empty() { Ok(Vec::new()) } else { Err(Error::SourceChanged) }
            );
        }
        assert_eq!(sealer(size).finish(), Err(Error::SourceChanged));
    }
    assert_eq!(sealer(0).seal_parallel(b"", threads(1)).map(|blob| blob.len()), Ok(1_040));
}

#[test]
fn a_file_above_two_to_the_40_bytes_is_too_long() {
    let rng = &mut Replay::counting();
    let longest = Sealer::new(file::MAX_SIZE, VOICE, rng).unwrap();
    assert_eq!(longest.blob_length(), (1 << 40) + (1 << 32));
    assert_eq!(Sealer::new(file::MAX_SIZE + 1, VOICE, rng).map(drop), Err(Error::TooLong));
    assert_eq!(ManifestBuilder::new(u64::MAX, VOICE, rng).map(drop), Err(Error::TooLong));
}

fn manifest(content: &[u8]) -> Manifest {
    let mut builder =
        ManifestBuilder::new(content.len() as u64, VOICE, &mut Replay::counting()).unwrap();
    let mut rest = content;
    while let Some(length) = builder.next_length() {
        let (now, later) = rest.split_at(length);
        builder.add(now).unwrap();
        rest = later;
    }
    builder.finish().unwrap()
}

#[test]
fn an_upload_goes_on_from_any_chunk() {
    for size in [0, 5_000, 20_000, 295_000] {
        let content = content(size);
        let (descriptor, blob) = seal(&content, VOICE);
        let stored = manifest(&content).encode();
        let manifest = Manifest::decode(&stored).unwrap();
        assert_eq!(*manifest.descriptor(), descriptor);
        for from in 0..=descriptor.chunk_count() {
            let sealer = Sealer::resume(manifest.clone(), from).unwrap();
            let (at, blob_at) = (sealer.position() as usize, sealer.blob_position() as usize);
            let mut writer = Writer::new(Vec::new(), sealer);
            writer.write_all(&content[at..]).unwrap();
            let (again, rest) = writer.finish().unwrap();
            assert_eq!(again, descriptor);
            assert!(rest == blob[blob_at..], "{size} from {from}");
            let mut sealer = Sealer::resume(manifest.clone(), from).unwrap();
            assert!(sealer.seal_parallel(&content[at..], threads(2)).unwrap() == rest);
        }
        let beyond = Sealer::resume(manifest, descriptor.chunk_count() + 1);
        assert_eq!(beyond.map(drop), Err(Error::Malformed));
    }
}

#[test]
fn no_chunk_of_a_changed_file_leaves_under_the_same_key() {
    let content = content(20_000);
    let manifest = manifest(&content);
    let blob = seal(&content, VOICE).1;
    for at in (0..content.len()).step_by(97) {
        let mut changed = content.clone();
        changed[at] ^= 1;
        for from in 0..=4 {
            let sealer = Sealer::resume(manifest.clone(), from).unwrap();
            let (start, blob_start) = (sealer.position() as usize, sealer.blob_position() as usize);
            if at < start {
                continue;
            }
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, sealer);
            let written =
                writer.write_all(&changed[start..]).and_then(|()| writer.finish().map(drop));
            assert_eq!(inside(written.unwrap_err()), Error::SourceChanged, "byte {at}");
            // What left is what the first upload had.
            assert!(
                blob[blob_start..].starts_with(&out) && out.len() <= at / 4_096 * 4_112,
                "byte {at}"
            );
            let mut sealer = Sealer::resume(manifest.clone(), from).unwrap();
            let sealed = sealer.seal_parallel(&changed[start..], threads(2));
            assert_eq!(sealed, Err(Error::SourceChanged));
            // The right one still does.
            assert!(
                sealer.seal_parallel(&content[start..], threads(2)).unwrap() == blob[blob_start..]
            );
        }
    }
}

#[test]
fn a_damaged_manifest_is_refused() {
    let stored = manifest(&content(9_000)).encode();
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        assert_eq!(Manifest::decode(&changed).map(drop), Err(Error::BadState), "byte {at}");
        assert_eq!(Manifest::decode(&stored[..at]).map(drop), Err(Error::BadState), "cut to {at}");
    }
    let longer = [&stored[..], &[0; 32]].concat();
    assert_eq!(Manifest::decode(&longer).map(drop), Err(Error::BadState));
    let json = serde_json::to_string(&manifest(&content(9_000))).unwrap();
    assert_eq!(*serde_json::from_str::<Manifest>(&json).unwrap().encode(), *stored);
}

#[test]
fn a_writer_that_is_dropped_leaves_what_nothing_opens() {
    let content = content(9_000);
    let manifest = manifest(&content);
    for length in [0, 1, 4_096, 8_192, 8_999, 9_000] {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Sealer::resume(manifest.clone(), 0).unwrap());
        writer.write_all(&content[..length]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        if out.len() as u64 != manifest.descriptor().blob_length() {
            assert_eq!(file::open(manifest.descriptor(), &out), Err(Error::DamagedFile));
        } else {
            assert_eq!(length, 9_000);
        }
    }
}

#[test]
fn seeking_yields_the_file_from_everywhere() {
    for size in [0, 1, 4_095, 4_096, 4_097, 9_000, 295_000] {
        let content = content(size);
        let (descriptor, blob) = seal(&content, VOICE);
        let mut reader = SeekReader::new(Cursor::new(&blob), &descriptor).unwrap();
        let edges =
            (0..size + 5_000).step_by(61).chain((0..10).flat_map(|n| n * 4_096..n * 4_096 + 2));
        for at in edges.chain([size.saturating_sub(1), size, size + 1]) {
            assert_eq!(reader.seek(SeekFrom::Start(at as u64)).unwrap(), at as u64);
            let mut out = [0; 150];
            let length = read_up_to(&mut reader, &mut out);
            let from = at.min(size);
            assert_eq!(out[..length], content[from..(from + 150).min(size)], "{size}: {at}");
        }
        assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), size as u64);
        assert_eq!(reader.seek(SeekFrom::End(-(size as i64))).unwrap(), 0);
        let before = reader.seek(SeekFrom::Current(-1)).unwrap_err();
        assert_eq!(
            (before.kind(), reader.stream_position().unwrap()),
            (ErrorKind::InvalidInput, 0)
        );
        reader.verify().unwrap();
    }
}

fn read_up_to(reader: &mut impl Read, out: &mut [u8]) -> usize {
    let mut length = 0;
    while length < out.len() {
        match reader.read(&mut out[length..]).unwrap() {
            0 => break,
            more => length += more,
        }
    }
    length
}

#[test]
fn a_damaged_chunk_hides_no_other() {
    let content = content(20_000);
    let (descriptor, mut blob) = seal(&content, VOICE);
    blob[5_000] ^= 1;
    let mut reader = SeekReader::new(Cursor::new(&blob), &descriptor).unwrap();
    for _ in 0..2 {
        for (at, is_read) in
            [(0, true), (4_096, false), (8_191, false), (8_192, true), (19_999, true)]
        {
            reader.seek(SeekFrom::Start(at)).unwrap();
            match reader.read(&mut [0]) {
                Ok(length) => assert!(is_read && length == 1),
                Err(error) => assert_eq!((inside(error), is_read), (Error::DamagedChunk(1), false)),
            }
            let position = at + u64::from(is_read);
            assert_eq!(reader.stream_position().unwrap(), position);
        }
    }
    assert_eq!(inside(reader.verify().unwrap_err()), Error::DamagedFile);
}

#[test]
fn a_range_of_the_file_is_found_in_the_blob() {
    for size in [0, 1, 4_096, 9_000, 295_000] {
        let content = content(size);
        let (descriptor, blob) = seal(&content, VOICE);
        let opener = Opener::new(&descriptor);
        let places = [0, 1, 4_095, 4_096, 4_097, 8_999, 9_000, 9_001, 294_999, 295_000, 400_000];
        for (start, end) in places.iter().flat_map(|start| places.map(|end| (*start, end))) {
            let span = descriptor.locate(start as u64..end as u64);
            let wanted = content.get(start..end.min(size)).unwrap_or_default();
            if wanted.is_empty() {
                assert!(span.chunks.is_empty() && span.blob.is_empty() && span.skip == 0);
                continue;
            }
            let fetched = &blob[span.blob.start as usize..span.blob.end as usize];
            let opened = span.chunks.clone().zip(fetched.chunks(4_112));
            let text: Vec<u8> =
                opened.flat_map(|(index, sealed)| opener.open(index, sealed).unwrap()).collect();
            assert!(text[span.skip..].starts_with(wanted));
            // And no chunk more than it takes.
            assert!(text.len() - wanted.len() < 2 * 4_096);
        }
        assert_eq!(descriptor.locate(..), descriptor.locate(0..u64::MAX));
        assert_eq!(descriptor.locate(..=0), descriptor.locate(0..1));
        assert_eq!(descriptor.locate(u64::MAX..=u64::MAX).blob, 0..0);
    }
}

#[test]
fn chunks_open_in_any_order_and_in_no_other_place() {
    let content = content(20_000);
    let (descriptor, blob) = seal(&content, VOICE);
    let opener = Opener::new(&descriptor);
    let chunks: Vec<&[u8]> = blob.chunks(4_112).collect();
    for at in (0..chunks.len()).rev() {
        for (index, chunk) in chunks.iter().enumerate() {
            let opened = opener.open(at as u64, chunk);
            match index == at {
                true => {
                    assert!(opened.unwrap() == content[at * 4_096..20_000.min((at + 1) * 4_096)])
                }
                false => assert_eq!(opened, Err(Error::DamagedChunk(at as u64))),
            }
        }
    }
    for index in [5, 6, u64::MAX] {
        assert_eq!(opener.open(index, chunks[4]), Err(Error::DamagedChunk(index)));
        assert_eq!(opener.sealed_length(index), None);
    }
    let mut verifier = opener.verifier();
    assert_eq!(verifier.add(&chunks[0][1..]), Err(Error::DamagedChunk(0)));
    chunks[..4].iter().for_each(|chunk| verifier.add(chunk).unwrap());
    assert_eq!(verifier.finish(), Err(Error::DamagedFile));
}

#[test]
fn several_threads_name_the_first_chunk_that_is_damaged() {
    let content = content(300_000);
    let (descriptor, blob) = seal(&content, VOICE);
    let opener = Opener::new(&descriptor);
    let mut verifier = opener.verifier();
    let mut text = Vec::new();
    for run in blob.chunks(7 * 4_112) {
        let mut damaged = run.to_vec();
        damaged[100] ^= 1;
        *damaged.last_mut().unwrap() ^= 1;
        let first = text.len() as u64 / 4_096;
        let refused = opener.open_parallel(&mut verifier, &damaged, threads(3));
        assert_eq!(refused, Err(Error::DamagedChunk(first)));
        let cut = opener.open_parallel(&mut verifier, &run[..run.len() - 1], threads(3));
        assert!(matches!(cut, Err(Error::DamagedChunk(_))));
        text.extend(opener.open_parallel(&mut verifier, run, threads(3)).unwrap());
    }
    assert_eq!(
        opener.open_parallel(&mut verifier, &blob[..4_112], threads(3)),
        Err(Error::DamagedFile)
    );
    verifier.finish().unwrap();
    assert!(text == content);
}

#[test]
fn what_reads_and_writes_goes_from_thread_to_thread() {
    fn moves<T: Send + Sync>() {}
    moves::<(Descriptor, Manifest, ManifestBuilder, Sealer, Opener)>();
    moves::<(Writer<Vec<u8>>, Reader<&[u8]>, SeekReader<Cursor<Vec<u8>>>)>();
}
