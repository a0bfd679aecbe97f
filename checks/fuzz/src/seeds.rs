//! What the fuzzing begins with: the vectors of `tests/`, and what the public API makes of the same
//! parties that the targets have.

use rand_core::Rng;
use serde_json::Value;
use subrosa::DeviceList;

use crate::archive::ARCHIVES;
use crate::decode::PARTIES;
use crate::directory::DESK;
use crate::door::{ASKS, DEVICES, DOOR, FILES, RANK, RESENT, content};
use crate::files::SEALED;
use crate::groups::CHAIN;
use crate::household::{BEGIN, HOUSEHOLD, open};
use crate::linking::JOINING;
use crate::network::{NOW, Seeded, Side};
use crate::rows::ROWS;

/// An input: the target it is for, a name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All of them, the same each time.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = rejected();
    seeds.extend(vectors());
    seeds.extend(parties());
    seeds.extend(linking());
    seeds.extend(envelopes());
    seeds.extend(server());
    seeds.extend(stores());
    seeds.extend(archives());
    seeds.extend(chunks());
    seeds.extend(plays());
    seeds.extend(files());
    seeds.extend(groups());
    seeds.extend(calls());
    seeds.extend(verifying());
    seeds.extend(sealed());
    seeds
}

/// Codes to read, one of them right; and people who compare, with a device that lies.
fn verifying() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let file = read("verification.json");
    for (at, case) in file["reads"].as_array().expect("a list").iter().enumerate() {
        let text = case["text"].as_str().expect("a text");
        seeds.push(("scan", format!("vector-{at}"), [b"x", text.as_bytes()].concat()));
    }
    let (rng, mut alice) =
        (&mut Seeded::new(1, "code"), open(HOUSEHOLD.with(|household| household.alice.clone())));
    let code = alice.show_code("bob", BEGIN, rng).expect("he is known");
    seeds.push(("scan", "match".into(), [b"x", code.as_bytes()].concat()));
    let said = data_encoding::BASE32_NOPAD.decode(code[9..].as_bytes()).expect("it is base32");
    seeds.push(("scan", "match-bytes".into(), [&[0], &said[..]].concat()));
    for (name, bytes) in [
        ("begun-and-answered", &[0, 0, 8, 1, 5, 8, 1, 6, 8, 1, 5][..]),
        ("asked-and-forged", &[6, 0, 9, 1, 0, 8, 0, 9, 4, 0, 0, 200, 2, 0]),
        ("both-begin", &[0, 0, 6, 0, 9, 8, 0, 9, 10, 1, 0]),
        ("begun-again", &[0, 0, 2, 0, 0, 0, 8, 1, 5, 8, 2, 6, 8, 2, 7, 10, 2, 1]),
        ("asked-again", &[6, 0, 9, 6, 0, 8, 1, 0, 6, 0, 7, 10, 0, 3, 4, 0, 2, 100, 6, 0, 1]),
        ("scanned", &[3, 0, 5, 0, 0, 32, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("wrong-lengths", &[11, 0, 1, 0, 3, 1, 2, 3, 11, 0, 2, 0, 0, 11, 0, 3, 0, 1, 9]),
    ] {
        seeds.push(("moves", name.into(), bytes.to_vec()));
    }
    seeds
}

fn read(path: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal");
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}

/// One for each fault in `tests/vectors/reject/`.
fn rejected() -> Vec<Seed> {
    let folder = format!("{}/../../tests/vectors/reject", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("it is there");
    let mut names: Vec<String> = files
        .map(|file| file.expect("it is there").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let seed = |name: String| {
        let case = read(&format!("reject/{name}"));
        let target = match case["what"].as_str()? {
            "bundle" => "bundle",
            "identity key pair" => "identity",
            "message" => "message",
            "prekeys" => "prekeys",
            "published prekeys" => "published",
            "session" => "session",
            // The first byte says that the rest is the archive.
            "archive" => {
                let bytes = [&[0][..], &bytes(&case["bytes"])].concat();
                return Some(("archive", name.replace(".json", ""), bytes));
            }
            "file" | "file descriptor" => "file",
            "group change" => "group_change",
            "group distribution" => "group_distribution",
            "group envelope" => "group_envelope",
            what => panic!("{what}: no target"),
        };
        // A blob comes with its descriptor.
        let head = match case["what"].as_str()? {
            "file" => [&[3][..], &bytes(&case["descriptor"])].concat(),
            "file descriptor" | "group envelope" | "group change" => vec![0],
            _ => Vec::new(),
        };
        let seed = [head, bytes(&case["bytes"])].concat();
        Some((target, name.replace(".json", ""), seed))
    };
    names.into_iter().filter_map(seed).collect()
}

/// Genuine archives, changed ones, and frames.
fn archives() -> Vec<Seed> {
    ARCHIVES.with(|archives| {
        let mut seeds: Vec<Seed> = Vec::new();
        for (at, (archive, _)) in archives.iter().enumerate() {
            seeds.push(("archive", format!("genuine-{at}"), [&[0][..], archive].concat()));
            for (number, change) in [[0, 0, 90], [1, 3, 0], [2, 0, 9]].iter().enumerate() {
                let choice = [2 + u8::try_from(at).expect("there are two")];
                let seed = [&choice[..], change].concat();
                seeds.push(("archive", format!("changed-{at}-{number}"), seed));
            }
        }
        let frames = &read("archive.json")["cases"][0]["frames"];
        let mut bytes_before = vec![0];
        for (count, frame) in (1_u64..).zip(frames.as_array().expect("a list")) {
            let body = bytes(&frame["body"]);
            let kind = u16::try_from(frame["type"].as_u64().expect("a number")).expect("a type");
            bytes_before.extend_from_slice(&kind.to_be_bytes());
            let length = u32::try_from(body.len()).expect("it is short");
            bytes_before.extend_from_slice(&length.to_be_bytes());
            bytes_before.extend_from_slice(&body);
            // As far as this frame, with an end.
            let end = [&bytes_before[..], &[0, 6, 0, 0, 0, 8], &count.to_be_bytes()].concat();
            seeds.push(("archive_frames", format!("frames-{count}"), end));
        }
        seeds
    })
}

fn vectors() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let identity = read("identity.json");
    for (at, case) in identity["decode"].as_array().expect("a list").iter().enumerate() {
        seeds.push(("identity_key", format!("vector-{at}"), bytes(&case["encoding"])));
    }
    for (at, case) in identity["keys"].as_array().expect("a list").iter().enumerate() {
        let pair = [&[1, 32][..], &bytes(&case["seed"])].concat();
        seeds.push(("identity", format!("vector-{at}"), pair));
        seeds.push(("identity_key", format!("vector-key-{at}"), bytes(&case["public"])));
    }
    for (at, case) in read("prekeys.json")["bundles"].as_array().expect("a list").iter().enumerate()
    {
        seeds.push(("bundle", format!("vector-{at}"), bytes(&case["encoding"])));
    }
    let sealed = read("sealed.json");
    for (at, case) in sealed["certificates"].as_array().expect("a list").iter().enumerate() {
        seeds.push(("certificate", format!("genuine-{at}"), bytes(&case["certificate"])));
    }
    for case in read("handshake.json")["cases"].as_array().expect("a list") {
        for (at, event) in case["events"].as_array().expect("a list").iter().enumerate().take(3) {
            if event["message"].is_string() {
                let name = format!(
                    "vector-{}-{at}",
                    case["name"].as_str().expect("a name").replace(' ', "-")
                );
                seeds.push(("message", name, bytes(&event["message"])));
            }
        }
    }
    seeds
}

/// Genuine bytes of the parties that the targets have.
fn parties() -> Vec<Seed> {
    PARTIES.with(|parties| {
        let mut seeds = Vec::new();
        for (at, letter) in parties.letters.iter().enumerate().skip(1) {
            seeds.push(("message", format!("letter-{at}"), letter.bytes.clone()));
        }
        let party = &parties.new.responder.party;
        let mut published = party.prekeys.publish(&party.identity);
        seeds.push(("published", "genuine".into(), published.encode()));
        seeds.push(("prekeys", "genuine".into(), party.prekeys.encode().to_vec()));
        seeds.push(("identity", "genuine".into(), party.identity.encode().to_vec()));
        for (at, bundle) in (0..3).filter_map(|_| published.pop_bundle()).enumerate() {
            seeds.push(("bundle", format!("genuine-{at}"), bundle.encode()));
        }
        seeds.push(("published", "last-resort".into(), published.encode()));
        let session = parties.new.initiator.session();
        seeds.push(("session", "initiated".into(), session.encode().to_vec()));
        // The post-quantum ratchet has eleven states, and what is kept of a side that skipped.
        let mut pair = parties.talking.copy();
        for turn in 0..24 {
            for side in Side::BOTH {
                let stored = pair.end(side).session().encode();
                seeds.push((
                    "session",
                    format!("turn-{turn}-{side:?}").to_lowercase(),
                    stored.to_vec(),
                ));
            }
            for _ in 0..4 {
                drop(pair.send_many(Side::Initiator, turn % 3));
                pair.round_trip(Side::Initiator);
            }
        }
        seeds
    })
}

fn linking() -> Vec<Seed> {
    let mut seeds: Vec<Seed> =
        JOINING.with(|joining| vec![("grant", "genuine".into(), joining.grant.clone())]);
    let code = subrosa::NewDevice::generate(&mut Seeded::new(1, "code")).code();
    seeds.push(("link", "letters".into(), [b"x", code.as_bytes()].concat()));
    let said = data_encoding::BASE32_NOPAD.decode(code.replace('-', "").to_uppercase().as_bytes());
    let mut said = said.expect("a code is base32");
    said.truncate(97);
    seeds.push(("link", "bytes".into(), [&[0], &said[..]].concat()));
    for (at, list) in DOOR.with(|door| door.lists.clone()).into_iter().enumerate() {
        seeds.push(("devices", format!("genuine-{at}"), list));
    }
    seeds
}

/// A length, and so many bytes.
fn run(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it is short").to_be_bytes();
    [&length, bytes].concat()
}

/// A choice, and a run.
fn framed(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice][..], &run(bytes)].concat()
}

/// Contents that a later version of `docs/client.md` may have, those of this one, and bad ones.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let own = DOOR.with(|door| door.bad[0].list().clone());
    let rank = 1_801_000_000_u64.to_be_bytes();
    let of = |kind, fields: &[(u8, &[u8])], body: &[u8]| content(kind, &own, fields, body);
    let text = [&[9; 16][..], b"text"].concat();
    // Two of one chunk, the second with something of the app's.
    let file = [&[1, 16][..], &[0; 8], &[6; 64]].concat();
    let files = [&[2][..], &file, &[0, 0], &file, &[0, 3], b"app"].concat();
    let mut contents = vec![
        ("text", of(1, &[], &text)),
        ("ranked", of(1, &[(RANK, &rank)], &text)),
        ("asks", of(1, &[(RANK, &rank), (ASKS, &[])], &text)),
        ("again", of(1, &[(RESENT, &[7; 16])], &text)),
        ("copy", of(2, &[], &[&[9; 16][..], b"\x05alice", b"text"].concat())),
        ("request", of(3, &[], &[8; 8 + 48])),
        (
            "requests",
            of(3, &[(ASKS, &[])], &(0..16_000).map(|at| (at / 16) as u8).collect::<Vec<_>>()),
        ),
        ("nothing", of(4, &[], &[])),
        ("no-key", of(5, &[], &[0])),
        ("key", of(5, &[], &[&[1][..], &[5; 32]].concat())),
        ("gone", of(6, &[], &[7; 32])),
        ("mark", of(7, &[], &[&[1][..], &own.account().encode(), b"alice"].concat())),
        ("no-mark", of(7, &[], &[&[0][..], &own.account().encode(), b"alice"].concat())),
        ("scanned", of(8, &[], &[5; 32])),
        ("start", of(9, &[], &[5; 48])),
        ("nonce", of(10, &[], &[5; 48])),
        ("end", of(11, &[], &[1; 17])),
        ("unsupported", of(99, &[], b"later")),
        ("ignored", of(200, &[], b"later")),
        ("unsupported-field", of(1, &[(99, b"later")], &text)),
        ("files", of(1, &[(FILES, &files)], &text)),
        ("later-files", of(1, &[(FILES, &[&[1, 2][..], &files[2..]].concat())], &text)),
        ("ignored-field", of(1, &[(130, b"later")], &text)),
    ];
    for list in DOOR.with(|door| door.lists.clone()) {
        let list = DeviceList::decode(&list).expect("it is genuine");
        let bytes = list.encode();
        contents.push(("list", content(4, &list, &[(DEVICES, &bytes)], &[])));
        contents.push(("text-and-list", content(1, &list, &[(DEVICES, &bytes)], &text)));
        let key = [&[1][..], &[5; 32]].concat();
        contents.push(("key-and-list", content(5, &list, &[(DEVICES, &bytes)], &key)));
    }
    contents
}

/// Frames of `sealed`, and rows of `doors`.
fn sealed() -> Vec<Seed> {
    let text = run(&[&[9; 16][..], b"text"].concat());
    let lie =
        |flags: u8, claim: u8, raw: &[u8]| [&[5, 1, flags, claim][..], &run(raw), &text].concat();
    let tickets = [&[1][..], &[7; 16]].concat();
    let pass = [&1_800_000_001_u32.to_be_bytes()[..], &[7; 16]].concat();
    let frames = [
        ("genuine", vec![4, 12, 20, 28]),
        ("exchanged", vec![2, 0, 1, 10, 0, 2, 18, 0, 0, 4]),
        ("changed", vec![1, 2, 0, 20, 1, 9, 2, 0, 40, 1, 4, 12]),
        ("noise", framed(0, &[9; 80])),
        ("later", vec![4, 3, 255, 255, 12, 3, 255, 255]),
        ("stranger", lie(0, 5, &[])),
        ("as-alice", lie(0, 0, &[])),
        ("as-alice-with-her-certificate", lie(16, 0, &[])),
        ("as-herself", lie(0, 3, &[])),
        ("without-a-sender", lie(8, 0, &[])),
        ("tickets", lie(4, 5, &tickets)),
        ("pass", lie(32, 5, &pass)),
        ("many", [lie(0, 5, &[]), lie(4, 5, &tickets), vec![3, 3, 0], lie(32, 5, &pass)].concat()),
    ];
    let mut seeds: Vec<Seed> =
        frames.into_iter().map(|(name, frames)| ("sealed", name.into(), frames)).collect();
    let mut doors = subrosa::directory::Doors::new();
    for (at, number) in (0..).zip([0_u32, 1_800_000_000, 1_800_000_005]) {
        if number > 0 {
            doors.set(number, &[at; 16], NOW);
        }
        let told = [&pass[..], &[at]].concat();
        seeds.push(("doors", format!("row-{at}"), [&told[..], &doors.encode()].concat()));
    }
    seeds
}

fn envelopes() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (at, (name, content)) in contents().into_iter().enumerate() {
        for who in 0..3 {
            // One that it names and one more with the name of the last.
            let frames = [framed(4 + 8 * who, &content), framed(3 + 8 * who, &content)].concat();
            seeds.push(("receive", format!("{name}-{at}-{who}"), frames));
        }
        seeds.push(("content", format!("{name}-{at}"), content));
    }
    for at in 0..4 {
        seeds.push(("receive", format!("changed-{at}"), vec![1 + 8 * at, 2, 0, 150, 1, 2, 14, 16]));
    }
    seeds
}

/// What devices upload, what a server says it has, and how it keeps that.
fn server() -> Vec<Seed> {
    DESK.with(|desk| {
        let mut seeds: Vec<Seed> = Vec::new();
        for (at, (device, upload)) in desk.uploads.iter().enumerate() {
            for is_new in 0..2 {
                let choice = u8::try_from(2 * device + is_new).expect("it is small");
                seeds.push((
                    "upload",
                    format!("genuine-{at}-{is_new}"),
                    [&[choice][..], upload].concat(),
                ));
            }
        }
        for (at, summary) in desk.summaries.iter().enumerate() {
            seeds.push(("summary", format!("genuine-{at}"), summary.clone()));
        }
        let user = desk.bob.encode_user().expect("bob has uploaded");
        let rows = [1, 2].map(|device| desk.bob.encode_device(device).expect("it has uploaded"));
        for most in 0..=2 {
            let rows = rows[..most].iter().flat_map(|row| run(row));
            let seed = run(&user).into_iter().chain(rows).collect();
            seeds.push(("directory", format!("genuine-{most}"), seed));
        }
        seeds
    })
}

fn stores() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    ROWS.with(|(rows, _)| {
        let mut last = None;
        for (at, (table, _, value)) in rows.iter().enumerate() {
            // Two of each table, all of the account's.
            let name = table.name();
            let before = rows[..at].iter().filter(|row| row.0 == *table).count();
            if before < 2 || name == "account" {
                let place = u16::try_from(at).expect("there are few").to_be_bytes();
                let seed = [&[0][..], &place, &run(value)].concat();
                seeds.push(("rows", format!("{name}-{at}"), seed));
                seeds.push(("rows", format!("{name}-{at}-gone"), [&[4][..], &place].concat()));
                seeds.push((
                    "rows",
                    format!("{name}-{at}-changed"),
                    [&[1][..], &place, &[2, 0, 9, 1]].concat(),
                ));
            }
            if let Some(last) = last.replace(place_of(at)) {
                seeds.push((
                    "rows",
                    format!("exchanged-{at}"),
                    [&[3][..], &place_of(at), &last].concat(),
                ));
            }
        }
    });
    for kind in 0..2 {
        for at in 0..2 {
            let choice = kind + 2 * at;
            seeds.push(("vault", format!("changed-{choice}"), vec![choice, 2, 0, 40, 1]));
            seeds.push(("vault", format!("short-{choice}"), vec![choice, 0, 0, 29]));
        }
        let cost = [0, 0, 32, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        let head = [&[1][..], &[3; 16], &[0, 0, 0, 1, 1, 2 - kind], &cost, &[3; 64]].concat();
        seeds.push(("vault", format!("head-{kind}"), [&[kind + 18][..], &head].concat()));
    }
    seeds
}

fn place_of(at: usize) -> [u8; 2] {
    u16::try_from(at).expect("there are few").to_be_bytes()
}

/// For each length a message in two parts, the number of the first chunk, what the decoder holds,
/// and what comes.
fn chunks() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (choice, length) in (0_u8..).zip([3_u16, 5, 30, 36]) {
        let mut rng = Seeded::new(choice.into(), "erasure");
        let mut some = |length: u16| {
            let mut bytes = vec![0; length.into()];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let message = [&[choice][..], &run(&some(17)), &run(&some(32 * length - 17))].concat();
        let held: Vec<u8> =
            (1..length).flat_map(|at| [&at.to_be_bytes()[..], &some(32)].concat()).collect();
        let (lossy, play) = ([3, 0, 3, 0, 3, 6, 0, 0, 7, 0].repeat(8), some(120));
        for (name, first, held, play) in [
            ("in-order", 0, &[][..], &[][..]),
            ("parity", length, &[], &[]),
            ("around", 65_530, &[], &[]),
            ("lossy", 0, &[], &lossy),
            ("held", 0, &held, &[]),
            ("full", 0, &[&held[..34], &held].concat(), &[]),
            ("twice", 0, &held[..34].repeat(2), &[]),
            ("play", length, &held[..34], &play),
        ] {
            let seed = [&message, &u16::to_be_bytes(first)[..], &run(held), play].concat();
            seeds.push(("erasure", format!("{name}-{length}"), seed));
        }
    }
    seeds
}

fn files() -> Vec<Seed> {
    SEALED.with(|sealed| {
        let descriptor = sealed.descriptor.encode();
        let seed = |name: &str, seed: &[&[u8]]| ("file", name.to_owned(), seed.concat());
        vec![
            seed("descriptor", &[&[0], &descriptor]),
            seed("manifest", &[&[1], &sealed.manifest.encode()]),
            seed("unchanged", &[&[2]]),
            seed("changed", &[&[2, 16, 0, 1, 0xff, 0xff, 3]]),
            seed("blob", &[&[3], &descriptor, &sealed.blob]),
        ]
    })
}

/// What a device gives and writes, what another one has of it, and what a member can seal.
fn groups() -> Vec<Seed> {
    CHAIN.with(|chain| {
        let mut seeds: Vec<Seed> = vec![
            ("group_distribution", "genuine".into(), chain.distribution.clone()),
            ("sender_key_record", "genuine".into(), chain.stored.clone()),
        ];
        for (at, message) in chain.messages.iter().enumerate() {
            let envelope = [&[0][..], message].concat();
            seeds.push(("group_envelope", format!("genuine-{at}"), envelope));
        }
        let text = [&[7; 70][..], &[0x80, 0]].concat();
        for number in [0_u32, 5, 7, 999, 1_000, u32::MAX] {
            let sealed = [&[1][..], &number.to_be_bytes(), &text].concat();
            seeds.push(("group_envelope", format!("sealed-{number}"), sealed));
        }
        seeds
    })
}

/// Frames and signals of a call.
fn calls() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for seed in 0..8 {
        let mut rng = Seeded::new(seed, "frame");
        let play = (0..200).map(|_| u8::try_from(rng.below(256)).expect("a byte")).collect();
        seeds.push(("frame", format!("play-{seed}"), play));
    }
    for case in read("sframe.json")["header"].as_array().expect("a list").iter().step_by(17) {
        let header = bytes(&case["encoded"]);
        let raw = framed(3, &[&header[..], &[0; 16]].concat());
        seeds.push(("frame", format!("header-{}-{}", case["kid"], case["ctr"]), raw));
    }
    let key = [&[0, 5, 0, 0, 0, 1][..], &[7; 32]].concat();
    let bodies = [(6, &key[..]), (7, &[]), (8, &[]), (9, &[]), (1, b"sdp"), (10, b"later")];
    for (at, (kind, rest)) in bodies.into_iter().enumerate() {
        for who in 0..2 {
            let frame = framed(2 * who, &[&[kind, 1][..], &[0, 9], rest].concat());
            let again = [&frame[..], &framed(2 * who + 4, &[8, 1, 0, 10]), &[255, 9]].concat();
            seeds.push(("signal", format!("one-{at}-{who}"), frame));
            seeds.push(("signal", format!("more-{at}-{who}"), again));
        }
    }
    seeds
}

/// Lives of the conversation, of the society and of a network, as a generator chose them.
fn plays() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for seed in 0..12 {
        let all = [
            ("conversation", 250),
            ("society", 160),
            ("assembly", 160),
            ("group_change", 60),
            ("tasks", 120),
        ];
        for (target, length) in all {
            let mut rng = Seeded::new(seed, target);
            let play = (0..length).map(|_| u8::try_from(rng.below(256)).expect("a byte")).collect();
            seeds.push((target, format!("play-{seed}"), play));
        }
    }
    // One side speaks until keys are dropped; then what was lost comes.
    let mut flood = vec![1, 4, 0, 255, 5, 4, 60, 0, 5];
    flood.extend([11, 0, 9, 11, 3, 0, 11, 9, 9, 0x80, 5, 0, 5]);
    seeds.push(("conversation", "flood".into(), flood));
    // Everybody is asked to send again what was sent before the sessions were lost.
    let heal = [
        0, 16, 32, 0x0f, 1, 0x1f, 1, 0x2f, 1, 0, 16, 32, 4, 20, 36, 4, 20, 36, 11, 27, 43, 12, 28,
        44,
    ];
    seeds.push(("society", "heal".into(), heal.to_vec()));
    // A session is lost after the first of many messages that begin it: so many handshakes that
    // some are to come again later.
    let begun = [&[255, 255][..], &[0; 34], &[0xe6, 255, 255, 0xbf, 255]].concat();
    seeds.push(("society", "handshakes".into(), begun));
    // The last client asks the first for what it cannot open, and nothing else is on the way.
    seeds.push(("society", "asks-last".into(), vec![0x00, 0x2f, 0x02, 0x24, 0x14]));
    // Carol is removed, does not hear of it, and writes; she is added, and joins.
    let removed = [0x0e, 2, 0x30, 0x00, 0x03, 0x13, 0x0e, 0, 0x33, 0x33, 0x3e, 7, 0x30, 0x00];
    seeds.push(("assembly", "removed".into(), removed.to_vec()));
    // Bob is an admin, and removes whom Alice adds.
    let against = [0x0e, 3, 0x13, 0x13, 0x0e, 2, 0x1e, 2, 0x0e, 0, 0x1e, 4, 0x0e, 4, 0x20, 0x30];
    seeds.push(("assembly", "against".into(), against.to_vec()));
    assert!(HOUSEHOLD.with(|household| household.post.mail.values().all(|mail| mail.is_empty())));
    seeds
}
