//! vodozemac, Megolm: sender keys with a signature over the whole ciphertext, which every server
//! sees.
//!
//! Bytes in, bytes out, as ours, in the version that it has by default (a MAC of 8 bytes). It keeps
//! no skipped keys: it walks again from the first key that it was given, which opens every message
//! for ever, and each as often as it comes.

use std::hint::black_box;

use criterion::BatchSize;
use vodozemac::megolm::{GroupSession, InboundGroupSession, MegolmMessage, SessionConfig};

use crate::group::STEPS;
use crate::timing::{Group, Row, column, figure, steps};

const NAME: &str = "vodozemac";

pub(crate) const ROWS: [Row; 7] = [
    ("group-encrypt-64", |group| encrypt(group, 64)),
    ("group-encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("group-decrypt-64", |group| decrypt(group, 64)),
    ("group-decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("group-reverse-1000", |group| all(group, true, 1_000)),
    ("group-jump-999", jump),
    ("group-backlog-64", |group| all(group, false, 64)),
];

fn session() -> GroupSession {
    GroupSession::new(SessionConfig::version_1())
}

fn send(session: &mut GroupSession, content: &[u8]) -> Vec<u8> {
    session.encrypt(content).to_bytes()
}

fn receive(session: &mut InboundGroupSession, bytes: &[u8]) -> Vec<u8> {
    session.decrypt(&MegolmMessage::from_bytes(bytes).unwrap()).unwrap().plaintext
}

/// What another device has, and messages to it.
fn given(count: usize, length: usize) -> (InboundGroupSession, Vec<Vec<u8>>) {
    let mut session = session();
    let inbound = InboundGroupSession::new(&session.session_key(), SessionConfig::version_1());
    let content = vec![7; length];
    (inbound, (0..count).map(|_| send(&mut session, &content)).collect())
}

fn copy(session: &InboundGroupSession) -> InboundGroupSession {
    InboundGroupSession::from_pickle(session.pickle())
}

fn encrypt(group: &mut Group<'_>, length: usize) {
    let content = vec![7; length];
    column(group, NAME, |bencher| {
        steps(bencher, STEPS, session, |session, _| send(session, black_box(&content)));
    });
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    let (session, messages) = given(usize::try_from(STEPS).unwrap(), length);
    column(group, NAME, |bencher| {
        let setup = || copy(&session);
        steps(bencher, STEPS, setup, |session, at| receive(session, black_box(&messages[at])));
    });
}

fn all(group: &mut Group<'_>, reverse: bool, count: usize) {
    let (session, mut messages) = given(count, 64);
    if reverse {
        messages.reverse();
    }
    column(group, NAME, |bencher| {
        let all = |session: &mut InboundGroupSession| {
            messages.iter().for_each(|message| drop(black_box(receive(session, message))));
        };
        bencher.iter_batched_ref(|| copy(&session), all, BatchSize::PerIteration);
    });
}

fn jump(group: &mut Group<'_>) {
    let (session, messages) = given(1_000, 64);
    column(group, NAME, |bencher| {
        let one = |session: &mut InboundGroupSession| receive(session, black_box(&messages[999]));
        bencher.iter_batched_ref(|| copy(&session), one, BatchSize::PerIteration);
    });
}

pub(crate) fn figures() {
    figure("group-overhead", NAME, send(&mut session(), &[7; 64]).len() - 64, "bytes");
}
