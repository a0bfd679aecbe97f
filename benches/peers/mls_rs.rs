//! mls-rs: an application message in a group of two, Ed25519 and ChaCha20-Poly1305.
//!
//! Bytes in, bytes out, as ours.

use std::hint::black_box;

use criterion::BatchSize;
use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ReceivedMessage;
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::{CipherSuite, CipherSuiteProvider, Client, CryptoProvider, MlsMessage};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use crate::group::STEPS;
use crate::timing::{Group, Row, column, figure, steps};

const NAME: &str = "mls-rs";

const SUITE: CipherSuite = CipherSuite::CURVE25519_CHACHA;

pub(crate) const ROWS: [Row; 6] = [
    ("group-encrypt-64", |group| encrypt(group, 64)),
    ("group-encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("group-decrypt-64", |group| decrypt(group, 64)),
    ("group-decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("group-reverse-1000", |group| all(group, true, 1_000)),
    ("group-backlog-64", |group| all(group, false, 64)),
];

fn client(name: &str) -> Client<impl MlsConfig> {
    let provider = RustCryptoProvider::default();
    let suite = provider.cipher_suite_provider(SUITE).unwrap();
    let (secret, public) = suite.signature_key_generate().unwrap();
    let credential = BasicCredential::new(name.into()).into_credential();
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(provider)
        .signing_identity(SigningIdentity::new(credential, public), secret, SUITE)
        .build()
}

/// Both members of a group.
fn pair() -> [mls_rs::Group<impl MlsConfig>; 2] {
    let (alice, bob) = (client("alice"), client("bob"));
    let mut group = alice.group_builder().unwrap().build().unwrap();
    let builder = bob.generate_key_package_message(Default::default(), Default::default(), None);
    let commit = group.commit_builder().add_member(builder.unwrap()).unwrap().build().unwrap();
    group.apply_pending_commit().unwrap();
    let (joined, _) = bob.join_group(None, &commit.welcome_messages[0], None).unwrap();
    [group, joined]
}

fn send(group: &mut mls_rs::Group<impl MlsConfig>, content: &[u8]) -> Vec<u8> {
    group.encrypt_application_message(content, Vec::new()).unwrap().to_bytes().unwrap()
}

fn receive(group: &mut mls_rs::Group<impl MlsConfig>, bytes: &[u8]) -> Vec<u8> {
    let message = MlsMessage::from_bytes(bytes).unwrap();
    match group.process_incoming_message(message).unwrap() {
        ReceivedMessage::ApplicationMessage(message) => message.data().to_vec(),
        _ => unreachable!("an application message"),
    }
}

fn encrypt(group: &mut Group<'_>, length: usize) {
    let content = vec![7; length];
    column(group, NAME, |bencher| {
        let make = || {
            let [sender, _] = pair();
            sender
        };
        steps(bencher, STEPS, make, |sender, _| send(sender, black_box(&content)));
    });
}

/// A receiver, and messages to it.
fn given(count: usize, length: usize) -> (mls_rs::Group<impl MlsConfig>, Vec<Vec<u8>>) {
    let content = vec![7; length];
    let [mut sender, receiver] = pair();
    (receiver, (0..count).map(|_| send(&mut sender, &content)).collect())
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    column(group, NAME, |bencher| {
        let make = || given(usize::try_from(STEPS).unwrap(), length);
        steps(bencher, STEPS, make, |(receiver, messages), at| receive(receiver, &messages[at]));
    });
}

fn all(group: &mut Group<'_>, reverse: bool, count: usize) {
    group.sample_size(10);
    column(group, NAME, |bencher| {
        let make = || {
            let (receiver, mut messages) = given(count, 64);
            if reverse {
                messages.reverse();
            }
            (receiver, messages)
        };
        bencher.iter_batched(
            make,
            |(mut receiver, messages)| {
                messages.iter().for_each(|message| {
                    black_box(receive(&mut receiver, message));
                });
            },
            BatchSize::PerIteration,
        );
    });
}

pub(crate) fn figures() {
    let [mut sender, _] = pair();
    figure("group-overhead", NAME, send(&mut sender, &[7; 64]).len() - 64, "bytes");
}
