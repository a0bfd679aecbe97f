//! docs/groups.md, section Messages, once more, straight from its formulas and over other crates,
//! to hold the crate against; and what a member can do who does not keep to it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subrosa::group::{Distribution, Envelope, Sender, SenderKeyRecord};
use subrosa::{Address, Error, IdentityKey, UnixTime};

use crate::replay::{array, bytes, hex};

/// A device that sends, with all that it draws.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) group: [u8; 32],
    pub(crate) member: [u8; 16],
    pub(crate) identity: [u8; 32],
    pub(crate) user: String,
    pub(crate) device: u32,
    pub(crate) chain_key: [u8; 32],
    pub(crate) seed: [u8; 32],
    pub(crate) label_key: [u8; 32],
    pub(crate) previous: ([u8; 8], u32),
    pub(crate) list: [u8; 8],
    pub(crate) heads: Vec<[u8; 32]>,
}

/// `H(text)`, cut.
fn drawn<const N: usize>(text: &str) -> [u8; N] {
    Sha256::digest(text)[..N].try_into().unwrap()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn xor<const N: usize>(one: [u8; N], other: &[u8]) -> [u8; N] {
    let mut out = one;
    out.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    out
}

impl Device {
    /// Everything follows from the name.
    pub(crate) fn new(name: &str, user: &str, device: u32) -> Self {
        let of = |what: &str| drawn::<32>(&format!("subrosa group {what} {name}"));
        Self {
            group: of("id"),
            member: of("member")[..16].try_into().unwrap(),
            identity: SigningKey::from_bytes(&of("identity")).verifying_key().to_bytes(),
            user: user.into(),
            device,
            chain_key: of("chain key"),
            seed: of("signing seed"),
            label_key: of("label key"),
            previous: ([0; 8], 0),
            list: of("list")[..8].try_into().unwrap(),
            heads: vec![of("head")],
        }
    }

    pub(crate) fn verifying_key(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.seed).verifying_key().to_bytes()
    }

    pub(crate) fn chain(&self) -> [u8; 8] {
        let parts = [&b"Subrosa v1 group chain"[..], &self.group, &self.verifying_key()].concat();
        Sha256::digest(parts)[..8].try_into().unwrap()
    }

    /// The chain key of message `number`, and the message's key.
    pub(crate) fn keys(&self, number: u32) -> ([u8; 32], [u8; 32]) {
        let chain_key = (0..number).fold(self.chain_key, |key, _| hmac(&key, &[&[2]]));
        (chain_key, hmac(&chain_key, &[&[1]]))
    }

    pub(crate) fn distribution(&self, number: u32) -> Vec<u8> {
        self.distribution_with(number, &self.verifying_key())
    }

    pub(crate) fn distribution_with(&self, number: u32, verifying_key: &[u8; 32]) -> Vec<u8> {
        let (chain_key, _) = if number < 2_000 { self.keys(number) } else { ([7; 32], [7; 32]) };
        [
            &self.group[..],
            &number.to_be_bytes(),
            &chain_key,
            verifying_key,
            &self.label_key,
            &self.previous.0,
            &self.previous.1.to_be_bytes(),
            &self.list,
            &[u8::try_from(self.heads.len()).unwrap()],
            &self.heads.concat(),
        ]
        .concat()
    }

    pub(crate) fn label(&self) -> [u8; 8] {
        hmac(&self.label_key, &[b"label"])[..8].try_into().unwrap()
    }

    /// What an honest device writes.
    pub(crate) fn draft(&self, number: u32, reference: [u8; 16], content: &[u8]) -> Draft {
        Draft {
            version: 1,
            kind: 2,
            reference,
            label: self.label(),
            label_key: self.label_key,
            member: self.member,
            device: self.device,
            chain: self.chain(),
            number,
            message_key: if number < 2_000 { self.keys(number).1 } else { [7; 32] },
            key_reference: reference,
            group: self.group,
            identity: self.identity,
            sent_from: self.device,
            user: self.user.clone(),
            signed: None,
            seed: self.seed,
            content: content.to_vec(),
            padded: None,
        }
    }

    /// For `Sender`.
    pub(crate) fn address(&self) -> Address {
        Address::new(&self.user, self.device)
    }
}

/// An envelope, with each thing that its author can choose.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) reference: [u8; 16],
    pub(crate) label: [u8; 8],
    pub(crate) label_key: [u8; 32],
    pub(crate) member: [u8; 16],
    pub(crate) device: u32,
    pub(crate) chain: [u8; 8],
    pub(crate) number: u32,
    pub(crate) message_key: [u8; 32],
    pub(crate) key_reference: [u8; 16],
    pub(crate) group: [u8; 32],
    pub(crate) identity: [u8; 32],
    pub(crate) sent_from: u32,
    pub(crate) user: String,
    /// What is signed, where it is not what should be.
    pub(crate) signed: Option<Vec<u8>>,
    pub(crate) seed: [u8; 32],
    pub(crate) content: Vec<u8>,
    /// What is sealed, where it is not what should be.
    pub(crate) padded: Option<Vec<u8>>,
}

impl Draft {
    pub(crate) fn front(&self) -> Vec<u8> {
        [&[self.version, self.kind][..], &self.reference, &self.label].concat()
    }

    pub(crate) fn p(&self) -> [u8; 24] {
        let (device, number) = (self.device.to_be_bytes(), self.number.to_be_bytes());
        [&self.member[..8], &device, &self.chain, &number].concat().try_into().unwrap()
    }

    pub(crate) fn check(&self) -> [u8; 8] {
        hmac(&self.label_key, &[b"check", &self.front(), &self.p()])[..8].try_into().unwrap()
    }

    pub(crate) fn hint(&self) -> Vec<u8> {
        let mask = hmac(&self.label_key, &[b"hint", &self.reference, &self.check()]);
        [&self.check()[..], &xor(self.p(), &mask)].concat()
    }

    pub(crate) fn key_and_nonce(&self) -> ([u8; 32], [u8; 12]) {
        let info = [&b"Subrosa v1 group message"[..], &self.key_reference].concat();
        let mut out = [0; 44];
        Hkdf::<Sha256>::new(Some(&[0; 32]), &self.message_key).expand(&info, &mut out).unwrap();
        (out[..32].try_into().unwrap(), out[32..].try_into().unwrap())
    }

    pub(crate) fn associated_data(&self) -> Vec<u8> {
        let device = self.sent_from.to_be_bytes();
        let user = self.user.as_bytes();
        [&self.front()[..], &self.hint(), &self.group, &self.identity, &device, user].concat()
    }

    pub(crate) fn to_sign(&self) -> Vec<u8> {
        [
            &b"Subrosa v1 group message signature"[..],
            &self.associated_data(),
            &self.member,
            &self.p(),
            &Sha256::digest(&self.content),
        ]
        .concat()
    }

    pub(crate) fn signature(&self) -> [u8; 64] {
        let signed = self.signed.clone().unwrap_or_else(|| self.to_sign());
        SigningKey::from_bytes(&self.seed).sign(&signed).to_bytes()
    }

    pub(crate) fn padded(&self) -> Vec<u8> {
        pad(&[&self.content[..], &self.signature()].concat())
    }

    pub(crate) fn envelope(&self) -> Vec<u8> {
        let (key, nonce) = self.key_and_nonce();
        let mut sealed = self.padded.clone().unwrap_or_else(|| self.padded());
        let data = self.associated_data();
        let cipher = ChaCha20Poly1305::new(&key.into());
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &data, sealed.as_mut_slice().into())
            .unwrap();
        [&self.front()[..], &self.hint(), &sealed, &tag].concat()
    }
}

/// `text || 0x80 || zeros`, up to a Padmé length.
pub(crate) fn pad(text: &[u8]) -> Vec<u8> {
    let mut padded = [text, &[0x80]].concat();
    let length = padded.len().max(32);
    let exponent = (0..).take_while(|bit| length >> bit > 1).count();
    let bits = (0..).take_while(|bit| exponent >> bit > 0).count();
    let unit = 1 << (exponent - bits);
    padded.resize((length..).find(|length| length % unit == 0).unwrap(), 0);
    padded
}

/// `H("subrosa group content" || 0:u64) || H(.. || 1:u64) || ..`, cut off.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|number| {
        Sha256::digest([&b"subrosa group content"[..], &number.to_be_bytes()].concat()).to_vec()
    });
    blocks.take(length).collect()
}

/// `H("subrosa group reference" || number)`, cut.
pub(crate) fn reference(number: u32) -> [u8; 16] {
    drawn(&format!("subrosa group reference {number}"))
}

/// The known answers of tests/vectors/group.json.
pub(crate) fn answers() -> Value {
    let first = Device::new("first", "alice", 1);
    let mut next = Device::new("next", "ålice in a long name", 0x0102_0304);
    next.previous = (first.chain(), 17);
    next.heads = (0..16).map(|number| drawn(&format!("subrosa group head {number}"))).collect();
    next.heads.sort_unstable();
    let cases = [
        (first, vec![(0, 0), (1, 1), (2, 64), (3, 100), (7, 3_000)]),
        (next, vec![(0, 31), (999, 65_536)]),
    ];
    let cases = cases.map(|(device, messages)| {
        let messages =
            messages.into_iter().map(|(number, length)| message(&device, number, length));
        json!({
            "group": hex(&device.group), "member": hex(&device.member),
            "identity": hex(&device.identity), "user": device.user, "device": device.device,
            "chain_key": hex(&device.chain_key), "seed": hex(&device.seed),
            "label_key": hex(&device.label_key), "list": hex(&device.list),
            "previous": (device.previous != ([0; 8], 0)).then(|| json!({
                "chain": hex(&device.previous.0), "end": device.previous.1,
            })),
            "heads": device.heads.iter().map(|head| hex(head)).collect::<Vec<_>>(),
            "verifying_key": hex(&device.verifying_key()), "chain": hex(&device.chain()),
            "label": hex(&device.label()), "distribution": hex(&device.distribution(0)),
            "messages": messages.collect::<Vec<_>>(),
        })
    });
    json!({ "cases": cases })
}

fn message(device: &Device, number: u32, length: usize) -> Value {
    let draft = device.draft(number, reference(number), &content(length));
    let (key, nonce) = draft.key_and_nonce();
    let envelope = draft.envelope();
    let mut message = json!({
        "number": number, "reference": hex(&draft.reference), "content_length": length,
        "mk": hex(&draft.message_key), "K": hex(&key), "N": hex(&nonce),
        "p": hex(&draft.p()), "hint": hex(&draft.hint()),
        "signed": hex(&draft.to_sign()), "signature": hex(&draft.signature()),
        "envelope_length": envelope.len(), "envelope_sha256": hex(&Sha256::digest(&envelope)),
    });
    if envelope.len() < 1_000 {
        message["envelope"] = hex(&envelope).into();
    }
    message
}

/// The files of tests/vectors/reject: name and what is in it.
pub(crate) fn faults() -> Vec<(String, Value)> {
    envelope_faults().into_iter().chain(distribution_faults()).collect()
}

/// What a receiver that has the chain from message 5 on says of an envelope.
pub(crate) fn receive(case: &Value) -> Result<(), Error> {
    let (record, group, member, identity, address) = receiver(case);
    let sender = Sender { group: &group, member: &member, identity: &identity, address: &address };
    let bytes = bytes(&case["bytes"]);
    let envelope = Envelope::decode(&bytes)?;
    let hint = record.label_keys().find_map(|key| envelope.hint(key));
    record.receive(&envelope, &hint.ok_or(Error::UnknownHeader)?, &sender).map(drop)
}

pub(crate) fn receiver(
    case: &Value,
) -> (SenderKeyRecord, [u8; 32], [u8; 16], IdentityKey, Address) {
    let mut record = SenderKeyRecord::new();
    let now = UnixTime::from_secs(1_800_000_000).unwrap();
    record.take(Distribution::decode(&bytes(&case["distribution"])).unwrap(), now);
    let address = Address::new(
        case["user"].as_str().unwrap(),
        case["device"].as_u64().unwrap().try_into().unwrap(),
    );
    let identity = IdentityKey::decode(&bytes(&case["identity"])).unwrap();
    (record, array(&case["group"]), array(&case["member"]), identity, address)
}

fn file_name(what: &str, fault: &str) -> String {
    let words =
        format!("{what} {fault}").replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase();
    format!("{words}.json")
}

/// The one that sends what is rejected.
pub(crate) fn rejected() -> Device {
    Device::new("rejected", "mallory", 3)
}

/// Each fault of an envelope, and the error.
#[expect(clippy::too_many_lines, reason = "one list of faults")]
fn envelope_faults() -> Vec<(String, Value)> {
    let device = rejected();
    let other = Device::new("other", "eve", 4);
    let honest = device.draft(6, reference(6), b"rejected");
    let sealed = honest.envelope();
    let flipped = |at: usize| {
        let mut bytes = sealed.clone();
        bytes[at] ^= 1;
        bytes
    };
    let made = |change: &dyn Fn(&mut Draft)| {
        let mut draft = honest.clone();
        change(&mut draft);
        draft.envelope()
    };
    let signed = |change: &dyn Fn(&mut Draft)| {
        let mut draft = honest.clone();
        change(&mut draft);
        Draft { signed: Some(draft.to_sign()), ..honest.clone() }.envelope()
    };
    let numbered = |number| device.draft(number, reference(number), b"rejected").envelope();
    let text = [&b"rejected"[..], &honest.signature()].concat();
    let signed_text = |signature: [u8; 64]| {
        let text = [&b"rejected"[..], &signature].concat();
        made(&|draft| draft.padded = Some(pad(&text)))
    };
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("empty", "Malformed", vec![]),
        ("version 2", "UnsupportedVersion", made(&|draft| draft.version = 2)),
        ("kind 1", "UnsupportedVersion", made(&|draft| draft.kind = 1)),
        ("its head alone", "Malformed", sealed[..58].to_vec()),
        ("shorter than an empty content", "Malformed", sealed[..138].to_vec()),
        ("a flipped bit in the reference", "UnknownHeader", flipped(2)),
        ("a flipped bit in the label", "UnknownHeader", flipped(18)),
        ("a flipped bit in the check", "UnknownHeader", flipped(26)),
        ("a flipped bit in the number", "UnknownHeader", flipped(57)),
        ("a hint under another label key", "UnknownHeader", {
            made(&|draft| draft.label_key = other.label_key)
        }),
        ("the hint of another envelope", "UnknownHeader", {
            [&sealed[..26], &numbered(7)[26..58], &sealed[58..]].concat()
        }),
        ("a hint of another device", "Decrypt", made(&|draft| draft.device = 4)),
        ("a hint of another member", "Decrypt", made(&|draft| draft.member[0] ^= 1)),
        ("another chain", "UnknownHeader", made(&|draft| draft.chain = other.chain())),
        ("number 4 of a chain from 5 on", "TooOld", numbered(4)),
        ("number 1000", "TooFarAhead", numbered(1_000)),
        ("number 24633", "TooFarAhead", numbered(24_633)),
        ("number 4294967295", "TooFarAhead", numbered(u32::MAX)),
        ("a flipped bit in the sealed text", "Decrypt", flipped(60)),
        ("a flipped bit in the tag", "Decrypt", flipped(sealed.len() - 1)),
        ("a byte less", "Decrypt", sealed[..sealed.len() - 1].to_vec()),
        ("a byte more", "Decrypt", [&sealed[..], &[0]].concat()),
        ("the key of another number", "Decrypt", {
            made(&|draft| draft.message_key = device.keys(7).1)
        }),
        ("the key of another reference", "Decrypt", {
            made(&|draft| draft.key_reference = reference(7))
        }),
        ("bound to another group", "Decrypt", made(&|draft| draft.group = other.group)),
        ("bound to another identity", "Decrypt", made(&|draft| draft.identity = other.identity)),
        ("bound to another device", "Decrypt", made(&|draft| draft.sent_from = 4)),
        ("bound to another user", "Decrypt", made(&|draft| draft.user = "mallor".into())),
        ("padding without a mark", "Decrypt", made(&|draft| draft.padded = Some(vec![0; 80]))),
        ("padding with another mark", "Decrypt", {
            made(&|draft| draft.padded = Some([&text[..], &[0x81; 8]].concat()))
        }),
        ("no room for a signature", "Decrypt", {
            made(&|draft| draft.padded = Some([&text[..63], &[0x80], &[0; 16]].concat()))
        }),
        ("no signature", "BadSignature", signed_text([0; 64])),
        ("a flipped bit in the signature", "BadSignature", {
            let mut signature = honest.signature();
            signature[0] ^= 1;
            signed_text(signature)
        }),
        ("a signature with S plus L", "BadSignature", signed_text(malleated(honest.signature()))),
        ("signed by another member", "BadSignature", made(&|draft| draft.seed = other.seed)),
        ("signed for another content", "BadSignature", {
            signed(&|draft| draft.content = b"accepted".into())
        }),
        ("signed for another reference", "BadSignature", {
            signed(&|draft| draft.reference = reference(7))
        }),
        ("signed for another number", "BadSignature", signed(&|draft| draft.number = 7)),
        ("signed for another group", "BadSignature", {
            signed(&|draft| draft.group = other.group)
        }),
        ("signed as another member", "BadSignature", {
            // Of whose id the first half, which is in the hint, is the same.
            signed(&|draft| draft.member[15] ^= 1)
        }),
        ("signed under another label", "BadSignature", {
            let to_sign = honest.to_sign();
            made(&|draft| draft.signed = Some(to_sign[8..].to_vec()))
        }),
    ];
    let cases = cases.into_iter().map(|(fault, error, bytes)| {
        let case = json!({
            "what": "group envelope", "fault": fault, "error": error, "bytes": hex(&bytes),
            "distribution": hex(&device.distribution(5)), "group": hex(&device.group),
            "member": hex(&device.member), "identity": hex(&device.identity),
            "user": device.user, "device": device.device,
        });
        (file_name("group envelope", fault), case)
    });
    cases.collect()
}

/// The signature with the order of the group added to S: who does not look at S takes it.
fn malleated(mut signature: [u8; 64]) -> [u8; 64] {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        carry = sum >> 8;
        *byte = sum.to_le_bytes()[0];
    }
    signature
}

/// Each fault of a distribution, and the error.
fn distribution_faults() -> Vec<(String, Value)> {
    let device = rejected();
    let honest = device.distribution(5);
    let heads = |numbers: &[u8]| {
        let heads = numbers.iter().map(|number| [*number; 32]).collect();
        Device { heads, ..device.clone() }.distribution(5)
    };
    let after = |chain, end| Device { previous: (chain, end), ..device.clone() }.distribution(5);
    let key = |first: u8, rest: u8, last: u8| {
        let mut key = [rest; 32];
        (key[0], key[31]) = (first, last);
        device.distribution_with(5, &key)
    };
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("empty", "Malformed", vec![]),
        ("a byte less", "Malformed", honest[..184].to_vec()),
        ("a byte more", "Malformed", [&honest[..], &[0]].concat()),
        ("without heads", "Malformed", heads(&[])),
        ("17 heads", "Malformed", heads(&(0..17).collect::<Vec<_>>())),
        ("descending heads", "Malformed", heads(&[2, 1])),
        ("a head twice", "Malformed", heads(&[1, 1])),
        ("another number of heads", "Malformed", {
            let mut bytes = heads(&[1, 2]);
            bytes[152] = 1;
            bytes
        }),
        ("number 1000", "Malformed", device.distribution(1_000)),
        ("number 4294967295", "Malformed", device.distribution(u32::MAX)),
        ("an end of 1001", "Malformed", after([1; 8], 1_001)),
        ("an end of no chain", "Malformed", after([0; 8], 1)),
        ("a key of small order", "InvalidKey", key(1, 0, 0)),
        ("a key that is no point", "InvalidKey", key(2, 0, 0)),
        ("a key that is not canonical", "InvalidKey", key(0xee, 0xff, 0x7f)),
    ];
    let cases = cases.into_iter().map(|(fault, error, bytes)| {
        let case = json!({
            "what": "group distribution", "fault": fault, "error": error, "bytes": hex(&bytes),
        });
        (file_name("group distribution", fault), case)
    });
    cases.collect()
}
