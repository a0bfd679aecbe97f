//! `Debug` shows no secret, of whatever holds one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::collections::HashSet;
use std::fmt::Debug;

use subrosa::file::{self, ChunkSize, Manifest, ManifestBuilder, Opener, Sealer};
use subrosa::group::{Distribution, Envelope, LabelKey, Sender, SenderKey, SenderKeyRecord};
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
use subrosa::{Address, UnixTime};

#[path = "support/network.rs"]
mod network;

use network::{ASSOCIATED_DATA, NOW, Pair, Party, Side};

/// So many bytes of a secret in a row are a leak. Fewer would be found by chance.
const WINDOW: usize = 8;

/// Stored state, in which some runs of bytes are public.
struct Secrets {
    windows: HashSet<[u8; WINDOW]>,
}

impl Secrets {
    fn new(stored: &[&[u8]], public: &[&[u8]]) -> Self {
        let mut windows: HashSet<_> = stored.iter().flat_map(|bytes| windows_of(bytes)).collect();
        for window in public.iter().flat_map(|bytes| windows_of(bytes)) {
            windows.remove(&window);
        }
        // Lengths and small numbers repeat; keys do not.
        windows.retain(|window| window.iter().collect::<HashSet<_>>().len() > WINDOW / 2);
        assert!(windows.len() >= 24, "a key at least is in there");
        Self { windows }
    }

    /// A window that the text shows, in hexadecimal or as a list of numbers.
    fn shown_in(&self, text: &str) -> Option<[u8; WINDOW]> {
        let text = text.split_whitespace().collect::<String>().to_lowercase();
        let digits = |at| {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let digits = text.as_bytes().get(at..at + 2 * WINDOW)?;
            let digits = digits.iter().map(digit).collect::<Option<Vec<u32>>>()?;
            let bytes = digits.chunks(2).map(|pair| u8::try_from(16 * pair[0] + pair[1]).unwrap());
            bytes.collect::<Vec<u8>>().try_into().ok()
        };
        let runs = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ',');
        let lists = runs.flat_map(|run| {
            [10, 16].map(|radix| {
                run.split(',').map(|number| u8::from_str_radix(number, radix).ok()).collect()
            })
        });
        let in_lists = lists.flat_map(|list: Vec<Option<u8>>| {
            let bytes = |window: &[Option<u8>]| window.iter().copied().collect::<Option<Vec<u8>>>();
            list.windows(WINDOW).filter_map(bytes).collect::<Vec<_>>()
        });
        let in_lists = in_lists.map(|bytes| bytes.try_into().unwrap());
        let mut shown = (0..text.len()).filter_map(digits).chain(in_lists);
        shown.find(|window| self.windows.contains(window))
    }

    fn are_not_in(&self, value: &impl Debug) {
        for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}")] {
            assert_eq!(self.shown_in(&text), None, "{text}");
        }
    }
}

fn windows_of(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> + '_ {
    bytes.windows(WINDOW).map(|window| window.try_into().unwrap())
}

#[test]
fn a_leak_would_be_noticed() {
    let key: Vec<u8> = (100..132).collect();
    let secrets = Secrets::new(&[&key], &[]);
    let hex: String = key[20..].iter().map(|byte| format!("{byte:02X}")).collect();
    for text in [format!("{key:?}"), format!("{key:#?}"), format!("{:x?}", &key[5..20]), hex] {
        assert!(secrets.shown_in(&text).is_some(), "{text}");
    }
    assert_eq!(secrets.shown_in(&format!("{:?}", &key[..7])), None);
}

#[test]
fn an_identity_shows_its_public_half() {
    let identity = Party::new(1, "a party").identity;
    let public = identity.public_key();
    assert_eq!(format!("{identity:?}"), format!("IdentityKeyPair(IdentityKey({public}))"));
    assert_eq!(public.to_string().len(), 64);
    Secrets::new(&[&*identity.encode()], &[&public.encode()]).are_not_in(&identity);
}

#[test]
fn prekeys_show_how_many_they_are() {
    let Party { prekeys, .. } = Party::new(2, "a party");
    let shown = "Prekeys { signed: 1, one_time: 2, one_time_kem: 2, last_resort: 1, .. }";
    assert_eq!(format!("{prekeys:?}"), shown);
    assert_eq!(
        format!("{:?}", Prekeys::new()),
        "Prekeys { signed: 0, one_time: 0, one_time_kem: 0, last_resort: 0, .. }"
    );
    Secrets::new(&[&prekeys.encode()], &[]).are_not_in(&prekeys);
}

#[test]
fn what_is_published_shows_nothing_that_is_not() {
    let Party { identity, prekeys, mut rng } = Party::new(3, "a party");
    let mut published = prekeys.publish(&identity);
    let bytes = published.encode();
    let secrets = Secrets::new(&[&*identity.encode(), &prekeys.encode()], &[&bytes]);
    secrets.are_not_in(&published);
    let bundle = published.pop_bundle().unwrap();
    secrets.are_not_in(&bundle);
    let own = IdentityKeyPair::generate(&mut rng).public_key();
    secrets.are_not_in(&Bundle::decode(&bundle.encode()).unwrap().verify(&own, NOW).unwrap());
}

#[test]
fn a_session_shows_its_id_and_its_peer() {
    let mut pair = Pair::new(4);
    let identities = Side::BOTH.map(|side| pair.end(side).party.identity.public_key());
    // The handshake, with the ephemeral key; the id.
    let first = pair.turn(Side::Initiator);
    let id = *pair.initiator.session().id().as_bytes();
    let public = [&first.bytes, &id[..], &identities[0].encode(), &identities[1].encode()];
    let mut shown = Vec::new();
    // Through every phase of the post-quantum ratchet, with a skipped message now and then.
    for n in 0..200 {
        for side in Side::BOTH {
            if n % 20 == 5 {
                drop(pair.send(side));
            }
            pair.turn(side);
            let session = pair.end(side).session();
            Secrets::new(&[&session.encode()], &public).are_not_in(session);
            shown.push(format!("{session:?}"));
        }
    }
    let id = pair.initiator.session().id();
    assert_eq!(format!("{id:?}"), format!("SessionId({id})"));
    for (at, shown) in shown.iter().enumerate() {
        let peer = identities[1 - at % 2];
        assert_eq!(
            *shown,
            format!("Session {{ id: SessionId({id}), peer: IdentityKey({peer}), .. }}")
        );
    }
}

#[test]
fn a_message_shows_what_is_on_the_wire() {
    let mut pair = Pair::settled(5);
    for kind in ["Regular", "Initial"] {
        if kind == "Initial" {
            pair = Pair::new(5);
        }
        let session = pair.initiator.session().encode();
        let plaintext = b"nobody else needs to know that";
        let letter = pair.send_text(Side::Initiator, plaintext.to_vec());
        let after = pair.initiator.session().encode();
        let message = Message::decode(&letter.bytes).unwrap();
        let secrets =
            Secrets::new(&[&session, &after, plaintext, ASSOCIATED_DATA], &[&letter.bytes]);
        secrets.are_not_in(&message);
        assert_eq!(
            format!("{message:?}"),
            format!("Message {{ bytes: {:?}, kind: {kind} }}", letter.bytes)
        );
    }
}

#[cfg(feature = "std")]
#[test]
fn an_archive_shows_whose_it_is_and_what_opens_it_shows_nothing() {
    use subrosa::DeviceList;
    use subrosa::UnixTime;
    use subrosa::archive::{
        Archive, ArchiveKind, Argon2Cost, Info, Lock, Passphrase, RecoveryCode, Writer,
    };

    let Party { mut rng, identity, .. } = Party::new(8, "a party");
    let (key, code) = (IdentityKeyPair::generate(&mut rng), RecoveryCode::generate(&mut rng));
    let passphrase = Passphrase::generate(6, &mut rng);
    assert_eq!(format!("{passphrase:?} {code:?}"), "Passphrase RecoveryCode");
    let lock_key = [7; 32];
    let locks = [Lock::Key(&lock_key), Lock::Generated(&passphrase), Lock::Code(&code)];
    assert_eq!(format!("{locks:?}"), "[Lock::Key, Lock::Passphrase, Lock::Code]");
    let list = DeviceList::first(&key, identity.public_key());
    let info = Info::new("rosa", UnixTime::from_secs(NOW).unwrap(), list).unwrap();
    let before = rng.draws.len();
    let cost = Argon2Cost::new(8, 1);
    let kind = ArchiveKind::Backup;
    let mut writer = Writer::new(Vec::new(), kind, &locks, cost, info, &mut rng).unwrap();
    writer.account(&key).unwrap();
    let text = b"nobody else needs to know that";
    writer.app(text).unwrap();
    let shown = format!("{writer:?}");
    let file = writer.finish().unwrap();
    let seed = key.encode();
    let secrets = Secrets::new(&[&rng.draws[before + 1], &seed, text], &[&file]);
    secrets.are_not_in(&shown);
    let mut archive = Archive::open(std::io::Cursor::new(file), locks[0]).unwrap();
    let frames = [archive.next_frame().unwrap(), archive.next_frame().unwrap()];
    secrets.are_not_in(&(&archive, frames));
}

#[test]
fn what_a_group_is_encrypted_with_shows_where_its_chains_stand() {
    let Party { identity, mut rng, .. } = Party::new(8, "a party");
    let (now, group) = (UnixTime::from_secs(NOW).unwrap(), [1; 32]);
    let address = Address::new("alice", 1);
    let sender = Sender {
        group: &group,
        member: &[2; 16],
        identity: &identity.public_key(),
        address: &address,
    };
    let label_key = LabelKey::random(&mut rng);
    let mut key = SenderKey::new(&group, label_key.clone(), now, &mut rng);
    let given = key.distribution(&group, &[3; 8], &[group]).unwrap();
    // The verifying key.
    let public = given[68..100].to_vec();
    let text = b"nobody else needs to know that";
    let sealed: Vec<_> = (0..3).map(|_| key.seal(&sender, text, &mut rng).unwrap()).collect();
    let mut record = SenderKeyRecord::new();
    record.take(Distribution::decode(&given).unwrap(), now);
    let envelope = Envelope::decode(&sealed[2].envelope).unwrap();
    let hint = envelope.hint(&label_key).unwrap();
    let opened = record.receive(&envelope, &hint, &sender).unwrap();
    let chain = key.chain();
    let public = [&public[..], chain.as_bytes(), &sealed[2].envelope];
    let before = [&given[..], &key.encode(), &record.encode(), text].map(<[u8]>::to_vec);
    let before = before.each_ref().map(Vec::as_slice);
    let secrets = Secrets::new(&before, &public);
    secrets.are_not_in(&(&key, &record, Distribution::decode(&given).unwrap(), &label_key));
    secrets.are_not_in(&(&opened, &sealed[2], hint, envelope));
    record.commit(opened.step);
    Secrets::new(&[&record.encode()], &public).are_not_in(&record);
    assert_eq!(format!("{key:?}"), format!("SenderKey(SendingChain({chain:?}, 3))"));
    let shown = format!("[(ReceivingChain({chain:?}, 3), Current)]");
    assert_eq!(format!("{record:?}"), shown);
    assert_eq!(format!("{label_key:?}"), "LabelKey(Secret<32>)");
}

#[test]
fn a_file_shows_the_length_of_its_blob() {
    let Party { mut rng, .. } = Party::new(7, "a party");
    let text = b"nobody else needs to know that".repeat(200);
    let (descriptor, blob) = file::seal(&text, ChunkSize::VOICE, &mut rng).unwrap();
    assert_eq!(format!("{descriptor:?}"), "Descriptor { blob_length: 6176, .. }");
    let opener = Opener::new(&descriptor);
    let secrets = Secrets::new(&[&descriptor.encode(), &text], &[]);
    secrets.are_not_in(&(&descriptor, &opener, opener.verifier()));
    #[cfg(feature = "std")]
    {
        let mut reader = file::Reader::new(&blob[..], &descriptor);
        std::io::Read::read_exact(&mut reader, &mut [0; 10]).unwrap();
        let mut seeking = file::SeekReader::new(std::io::Cursor::new(&blob), &descriptor).unwrap();
        std::io::Read::read_exact(&mut seeking, &mut [0; 10]).unwrap();
        secrets.are_not_in(&(&reader, &seeking));
    }

    let mut builder = ManifestBuilder::new(6_000, ChunkSize::VOICE, &mut rng).unwrap();
    builder.add(&text[..4_096]).unwrap();
    let half = format!("{builder:?}");
    builder.add(&text[4_096..]).unwrap();
    let manifest = builder.finish().unwrap();
    let secrets = Secrets::new(&[&manifest.encode(), &text], &[]);
    secrets.are_not_in(&(half, &manifest));
    let sealer = Sealer::resume(Manifest::clone(&manifest), 1).unwrap();
    assert_eq!(format!("{sealer:?}"), "Sealer { blob_length: 6176, next: 1, .. }");
    #[cfg(feature = "std")]
    {
        let mut writer = file::Writer::new(Vec::new(), sealer);
        std::io::Write::write_all(&mut writer, &text[4_096..5_000]).unwrap();
        secrets.are_not_in(&writer);
    }
    assert!(blob.len() == 6_176);
}

#[test]
fn a_failure_shows_the_error_alone() {
    let mut pair = Pair::settled(6);
    let mut letter = pair.send(Side::Initiator);
    *letter.bytes.last_mut().unwrap() ^= 1;
    let message = Message::decode(&letter.bytes).unwrap();
    let opened = pair.responder.session_mut().decrypt(&message, ASSOCIATED_DATA);
    assert_eq!(format!("{opened:?}"), "Err(Decrypt)");
    assert_eq!(format!("{:?}", Session::decode(b"").map(drop)), "Err(BadState)");
}
