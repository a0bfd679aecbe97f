//! Writes known answers of this crate, so that another implementation can check itself against it:
//! `cargo run --example vectors -- SEED > file.json`
//!
//! `handshake` and `conversation` are as `tests/vectors/README.md` describes the files of these
//! names, as far as the public API shows it: what goes in and what comes out, without the values on
//! the way; `rosters` is as `group-roster.json` is. A seed always gives the same file.

#[path = "vectors/rosters.rs"]
pub(crate) mod rosters;

use std::convert::Infallible;
use std::io;

use hkdf::Hkdf;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};
use sha2::Sha256;
use subrosa::Error;
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};

const NOW: u64 = 1_800_000_000;
/// Enough for the post-quantum ratchet to go through some epochs.
const STEPS: usize = 1_000;

#[allow(dead_code, reason = "a test plays what `vectors` gives, as a module")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).ok_or("vectors SEED")?.parse()?;
    serde_json::to_writer_pretty(io::stdout().lock(), &vectors(seed)?)?;
    Ok(())
}

/// All that is written for a seed.
pub(crate) fn vectors(seed: u64) -> Result<Value, Error> {
    let mut cases = Vec::new();
    for (number, (opk, kem)) in [
        (true, Kem::OneTime),
        (true, Kem::LastResort),
        (false, Kem::OneTime),
        (false, Kem::LastResort),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pair = Pair::new(&format!("subrosa-v1/own/{seed}/handshake/{number}"), opk, kem)?;
        pair.send(Party::A, b"first words", b"bound")?;
        pair.receive(Party::B, 0);
        pair.send(Party::B, b"an answer", b"")?;
        pair.receive(Party::A, 1);
        cases.push(pair.finish());
    }
    let mut pair = Pair::new(&format!("subrosa-v1/own/{seed}/conversation"), true, Kem::OneTime)?;
    pair.talk(&mut Stream::new(format!("subrosa-v1/own/{seed}/choices")))?;
    Ok(json!({
        "protocol": "subrosa 1",
        "label": "subrosa-v1",
        "seed": seed,
        "handshake": { "cases": cases },
        "conversation": pair.finish(),
        "rosters": rosters::rosters(seed)?.0,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    A,
    B,
}

impl Party {
    const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kem {
    OneTime,
    LastResort,
}

/// Both parties, and what they did.
struct Pair {
    rngs: [Stream; 2],
    alice: Session,
    bob: Option<Session>,
    bobs_identity: IdentityKeyPair,
    bobs_prekeys: Prekeys,
    setup: Value,
    handshake: Value,
    sent: Vec<Sent>,
    events: Vec<Value>,
}

struct Sent {
    message: Vec<u8>,
    app_ad: Vec<u8>,
}

impl Pair {
    fn new(name: &str, opk: bool, kem: Kem) -> Result<Self, Error> {
        let [mut a, mut b] = ["A", "B"].map(|party| Stream::new(format!("{name}/{party}")));
        let alice = IdentityKeyPair::generate(&mut a);
        let bob = IdentityKeyPair::generate(&mut b);
        let setup_a = json!({ "stream": a.name, "identity_seed": a.taken().concat() });
        let mut setup_b =
            json!({ "stream": b.name, "identity_seed": b.taken().concat(), "opk": null });

        let mut prekeys = Prekeys::new();
        let id = prekeys.add_signed(NOW, &mut b)?;
        insert(&mut setup_b, "spk", prekey(1, id, NOW, &mut b));
        let (kind, id) = match kem {
            Kem::OneTime => (2, prekeys.add_one_time_kem(NOW, &mut b)?),
            Kem::LastResort => (3, prekeys.add_last_resort(NOW, &mut b)?),
        };
        insert(&mut setup_b, "kem", prekey(kind, id, NOW, &mut b));
        if opk {
            let id = prekeys.add_one_time(0, &mut b)?;
            insert(&mut setup_b, "opk", prekey(0, id, 0, &mut b));
        }

        let bundle = prekeys.publish(&bob).pop_bundle().expect("there are prekeys").encode();
        let verified = Bundle::decode(&bundle)?.verify(&alice.public_key(), NOW)?;
        let session = Session::initiate(&alice, &verified, &mut a)?;
        let handshake = json!({ "draws": a.taken(), "T": hex(session.id().as_bytes()) });
        Ok(Self {
            rngs: [a, b],
            alice: session,
            bob: None,
            bobs_identity: bob,
            bobs_prekeys: prekeys,
            setup: json!({ "A": setup_a, "B": setup_b, "now": NOW, "bundle": hex(&bundle) }),
            handshake,
            sent: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Encrypts, where the party has a session; the id of the message.
    fn send(
        &mut self,
        party: Party,
        plaintext: &[u8],
        app_ad: &[u8],
    ) -> Result<Option<usize>, Error> {
        let [a, b] = &mut self.rngs;
        let (session, rng) = match party {
            Party::A => (Some(&mut self.alice), a),
            Party::B => (self.bob.as_mut(), b),
        };
        let Some(session) = session else { return Ok(None) };
        let message = session.encrypt(plaintext, app_ad, rng)?.encode();
        let id = self.sent.len();
        self.events.push(json!({
            "op": "send",
            "party": party.name(),
            "id": id,
            "plaintext": hex(plaintext),
            "app_ad": hex(app_ad),
            "draws": rng.taken(),
            "message": hex(&message),
        }));
        self.sent.push(Sent { message, app_ad: app_ad.to_vec() });
        Ok(Some(id))
    }

    /// Decrypts a message; B's first makes the session.
    fn receive(&mut self, party: Party, id: usize) {
        let Some(Sent { message, app_ad }) = self.sent.get(id) else { return };
        let (op, result) = match (party, &mut self.bob) {
            (Party::B, None) => {
                let made = respond(&self.bobs_identity, &mut self.bobs_prekeys, message, app_ad);
                let result = made.map(|session| self.bob = Some(session));
                ("accept", result)
            }
            (Party::B, Some(session)) => ("receive", decrypt(session, message, app_ad)),
            (Party::A, _) => ("receive", decrypt(&mut self.alice, message, app_ad)),
        };
        self.events
            .push(json!({ "op": op, "party": party.name(), "id": id, "result": name(&result) }));
    }

    /// A conversation over a link that loses, reorders and repeats.
    fn talk(&mut self, choices: &mut Stream) -> Result<(), Error> {
        let (mut under_way, mut arrived) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            match choices.below(16) {
                step @ 0..8 => {
                    let party = if step < 4 { Party::A } else { Party::B };
                    let length = choices.below(200);
                    let plaintext = choices.bytes(length);
                    let app_ad: &[u8] = if choices.below(4) == 0 { b"bound" } else { b"" };
                    let id = self.send(party, &plaintext, app_ad)?;
                    under_way.extend(id.map(|id| (party.other(), id)));
                }
                8 => drop(take(&mut under_way, choices)),
                9 => {
                    let again = arrived.get(choices.below(arrived.len()));
                    again.into_iter().for_each(|(party, id)| self.receive(*party, *id));
                }
                _ => {
                    let Some((party, id)) = take(&mut under_way, choices) else { continue };
                    self.receive(party, id);
                    arrived.push((party, id));
                }
            }
        }
        under_way.into_iter().for_each(|(party, id)| self.receive(party, id));
        Ok(())
    }

    fn finish(mut self) -> Value {
        let again = self.sent.first().map(|Sent { message, app_ad }| {
            name(&respond(&self.bobs_identity, &mut self.bobs_prekeys, message, app_ad))
        });
        json!({
            "setup": self.setup,
            "handshake": self.handshake,
            "events": self.events,
            "accept_again_without_session": again,
        })
    }
}

fn respond(
    identity: &IdentityKeyPair,
    prekeys: &mut Prekeys,
    message: &[u8],
    app_ad: &[u8],
) -> Result<Session, Error> {
    let (session, _) = Session::respond(identity, prekeys, &Message::decode(message)?, app_ad)?;
    Ok(session)
}

fn decrypt(session: &mut Session, message: &[u8], app_ad: &[u8]) -> Result<(), Error> {
    session.decrypt(&Message::decode(message)?, app_ad).map(drop)
}

fn name<T>(result: &Result<T, Error>) -> String {
    result.as_ref().map_or_else(|error| format!("{error:?}"), |_| "ok".into())
}

fn prekey(kind: u8, id: u32, created: u64, rng: &mut Stream) -> Value {
    json!({ "kind": kind, "id": id, "created": created, "secret": rng.taken().concat() })
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.into(), value);
    }
}

/// Any of them.
fn take<T>(list: &mut Vec<T>, choices: &mut Stream) -> Option<T> {
    let at = choices.below(list.len());
    (at < list.len()).then(|| list.remove(at))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The streams of `tests/vectors/README.md`. What is drawn is written down.
struct Stream {
    name: String,
    number: u64,
    draws: Vec<String>,
}

impl Stream {
    const fn new(name: String) -> Self {
        Self { name, number: 0, draws: Vec::new() }
    }

    /// What was drawn since the last time.
    fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.draws)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let Ok(()) = self.try_fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        let Ok(number) = self.try_next_u32();
        usize::try_from(number).ok().and_then(|number| number.checked_rem(end)).unwrap_or(0)
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let ikm = [self.name.as_bytes(), &self.number.to_be_bytes()].concat();
        let stream = Hkdf::<Sha256>::new(Some(&[0; 32]), &ikm);
        stream.expand(b"subrosa-kat", out).expect("shorter than 8 KB");
        self.number = self.number.saturating_add(1);
        self.draws.push(hex(out));
        Ok(())
    }
}

impl TryCryptoRng for Stream {}
