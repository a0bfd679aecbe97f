//! vodozemac, Olm: the Double Ratchet without encrypted headers and without a post-quantum part.
//!
//! Bytes in, bytes out, as ours. What it cannot do: it keeps 40 skipped keys of each of 5 chains,
//! so 1,000 messages in reverse, a jump after which the skipped messages still open, 2,000 held
//! keys, 16 skipped chains and a stored session with 1,000 of them are not possible. Its handshake
//! (3DH, in place of PQXDH) verifies no signature and encapsulates nothing, and its tags are of 8
//! bytes.

use std::hint::black_box;

use criterion::BatchSize;
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig, SessionPickle};

use crate::ratchet::ROUND_TRIPS;
use crate::timing::{Group, Row, column, figure, steps};

const NAME: &str = "vodozemac";

pub(crate) const ROWS: [Row; 13] = [
    ("prekeys-100", prekeys),
    ("handshake-initiator", initiator),
    ("handshake-responder", responder),
    ("encrypt-64", |group| encrypt(group, 64)),
    ("encrypt-1k", |group| encrypt(group, 1 << 10)),
    ("encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("decrypt-64", |group| decrypt(group, 64)),
    ("decrypt-1k", |group| decrypt(group, 1 << 10)),
    ("decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("ping-pong", ping_pong),
    ("reject-1", |group| reject(group, 1)),
    ("reject-5-sessions", |group| reject(group, 5)),
    ("store-fresh", store),
];

/// As many messages from one copy of a session as of ours.
const STEPS: u64 = 32;

/// A message as it travels.
type Parts = (usize, Vec<u8>);

fn send(session: &mut Session, plaintext: &[u8]) -> Parts {
    session.encrypt(plaintext).unwrap().to_parts()
}

fn receive(session: &mut Session, (kind, bytes): &Parts) -> Vec<u8> {
    session.decrypt(&OlmMessage::from_parts(*kind, bytes).unwrap()).unwrap()
}

fn deliver(from: &mut Session, to: &mut Session) {
    let message = send(from, &[7; 64]);
    receive(to, &message);
}

fn outbound(account: &Account, to: &Account) -> Session {
    let one_time = *to.one_time_keys().values().next().unwrap();
    account
        .create_outbound_session(SessionConfig::version_1(), to.curve25519_key(), one_time)
        .unwrap()
}

/// An account with 100 one-time keys.
fn account() -> Account {
    let mut account = Account::new();
    account.generate_one_time_keys(100);
    account
}

fn inbound(account: &mut Account, from: &Account, (kind, bytes): &Parts) -> (Session, Vec<u8>) {
    let OlmMessage::PreKey(message) = OlmMessage::from_parts(*kind, bytes).unwrap() else {
        unreachable!("the first message")
    };
    let created = account
        .create_inbound_session(SessionConfig::version_1(), from.curve25519_key(), &message)
        .unwrap();
    (created.session, created.plaintext)
}

/// Both ends, after seven messages, the initiator's turn.
fn midway() -> [Session; 2] {
    let (initiator, mut responder) = (Account::new(), account());
    let mut one = outbound(&initiator, &responder);
    let first = send(&mut one, b"first");
    let (mut other, _) = inbound(&mut responder, &initiator, &first);
    for _ in 0..3 {
        deliver(&mut other, &mut one);
        deliver(&mut one, &mut other);
    }
    [one, other]
}

/// 100 X25519 keys, each signed as Matrix has it, without the JSON around it.
fn prekeys(group: &mut Group<'_>) {
    column(group, NAME, |bencher| {
        let make = |mut account: Account| {
            account.generate_one_time_keys(100);
            let keys = account.one_time_keys();
            let signatures: Vec<_> =
                keys.values().map(|key| account.sign(key.to_base64())).collect();
            (account, keys, signatures)
        };
        bencher.iter_batched(Account::new, make, BatchSize::PerIteration);
    });
}

fn initiator(group: &mut Group<'_>) {
    let (initiator, responder) = (Account::new(), account());
    column(group, NAME, |bencher| {
        let make = |()| {
            let mut session = outbound(&initiator, black_box(&responder));
            let message = send(&mut session, &[7; 64]);
            (session, message)
        };
        bencher.iter_batched(|| (), make, BatchSize::SmallInput);
    });
}

fn responder(group: &mut Group<'_>) {
    let (initiator, responder) = (Account::new(), account());
    let message = send(&mut outbound(&initiator, &responder), &[7; 64]);
    column(group, NAME, |bencher| {
        let answer = |mut account: Account| {
            let answered = inbound(&mut account, &initiator, black_box(&message));
            (answered, account)
        };
        bencher.iter_batched(
            || Account::from_pickle(responder.pickle()),
            answer,
            BatchSize::SmallInput,
        );
    });
}

fn encrypt(group: &mut Group<'_>, length: usize) {
    let plaintext = vec![7; length];
    let [session, _] = midway();
    column(group, NAME, |bencher| {
        let setup = || Session::from_pickle(session.pickle());
        steps(bencher, STEPS, setup, |session, _| send(session, black_box(&plaintext)));
    });
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    let [mut sender, receiver] = midway();
    let messages: Vec<_> = (0..STEPS).map(|_| send(&mut sender, &vec![7; length])).collect();
    column(group, NAME, |bencher| {
        let setup = || Session::from_pickle(receiver.pickle());
        steps(bencher, STEPS, setup, |session, at| receive(session, black_box(&messages[at])));
    });
}

fn ping_pong(group: &mut Group<'_>) {
    let [mut one, mut other] = midway();
    column(group, NAME, |bencher| {
        bencher.iter(|| {
            for _ in 0..ROUND_TRIPS {
                deliver(&mut other, &mut one);
                deliver(&mut one, &mut other);
            }
        });
    });
}

/// Forged by somebody without keys: a ratchet key, a ciphertext and a tag of noise. As its header
/// is not encrypted, it takes a ratchet step to find out.
fn reject(group: &mut Group<'_>, count: usize) {
    let mut sessions: Vec<_> =
        (0..count).map(|_| midway()[1].pickle()).map(Session::from_pickle).collect();
    let (kind, mut bytes) = send(&mut midway()[0], &[7; 64]);
    // version:u8 || 0x0a 32 ratchet key || 0x10 index:u8 || 0x22 80 ciphertext || tag
    bytes[3..35].copy_from_slice(Account::new().curve25519_key().as_bytes());
    bytes[39..].fill(9);
    column(group, NAME, |bencher| {
        bencher.iter(|| {
            let message = OlmMessage::from_parts(kind, black_box(&bytes)).unwrap();
            for session in &mut sessions {
                assert!(session.decrypt(&message).is_err());
            }
        });
    });
}

/// A session of which one message went each way.
fn fresh() -> Session {
    let (initiator, mut responder) = (Account::new(), account());
    let mut one = outbound(&initiator, &responder);
    let first = send(&mut one, b"first");
    let (mut other, _) = inbound(&mut responder, &initiator, &first);
    deliver(&mut other, &mut one);
    one
}

/// As the JSON that it encrypts for storage.
fn store(group: &mut Group<'_>) {
    let session = fresh();
    column(group, NAME, |bencher| {
        let turn = |()| {
            let bytes = serde_json::to_vec(&black_box(&session).pickle()).unwrap();
            let session =
                Session::from_pickle(serde_json::from_slice::<SessionPickle>(&bytes).unwrap());
            (bytes, session)
        };
        bencher.iter_batched(|| (), turn, BatchSize::NumIterations(8));
    });
}

pub(crate) fn figures() {
    let [mut session, _] = midway();
    let mut first = outbound(&Account::new(), &account());
    figure("overhead-regular", NAME, send(&mut session, &[7; 64]).1.len() - 64, "bytes");
    figure("overhead-initial", NAME, send(&mut first, &[7; 64]).1.len() - 64, "bytes");
    figure("session-fresh", NAME, serde_json::to_vec(&fresh().pickle()).unwrap().len(), "bytes");
}
