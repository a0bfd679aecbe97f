//! openmls: an application message in a group of two, Ed25519 and ChaCha20-Poly1305.
//!
//! Bytes in, bytes out, as ours, its storage in memory. It keeps a few skipped keys of a sender, so
//! 1,000 messages in reverse are not possible.

use std::hint::black_box;

use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, MlsGroup, MlsGroupCreateConfig,
    MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, StagedWelcome,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::group::STEPS;
use crate::timing::{Group, Row, column, figure, steps};

const NAME: &str = "openmls";

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

pub(crate) const ROWS: [Row; 4] = [
    ("group-encrypt-64", |group| encrypt(group, 64)),
    ("group-encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("group-decrypt-64", |group| decrypt(group, 64)),
    ("group-decrypt-64k", |group| decrypt(group, 1 << 16)),
];

struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    group: MlsGroup,
}

fn credential(name: &str) -> (SignatureKeyPair, CredentialWithKey) {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
    let credential = BasicCredential::new(name.into()).into();
    let signature_key = signer.to_public_vec().into();
    (signer, CredentialWithKey { credential, signature_key })
}

/// Both members of a group.
fn pair() -> [Member; 2] {
    let [one, other] = [(); 2].map(|()| OpenMlsRustCrypto::default());
    let (signer, first) = credential("alice");
    let (joiner, second) = credential("bob");
    let package = KeyPackage::builder().build(SUITE, &other, &joiner, second).unwrap();
    let config = MlsGroupCreateConfig::builder().ciphersuite(SUITE).build();
    let mut group = MlsGroup::new(&one, &signer, &config, first).unwrap();
    let package = package.key_package().clone();
    let (_, welcome, _) = group.add_members(&one, &signer, &[package]).unwrap();
    group.merge_pending_commit(&one).unwrap();
    let tree = group.export_ratchet_tree().into();
    let welcome = welcome.tls_serialize_detached().unwrap();
    let welcome = MlsMessageIn::tls_deserialize_exact(welcome).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else { unreachable!("a welcome") };
    let joined = MlsGroupJoinConfig::default();
    let staged = StagedWelcome::new_from_welcome(&other, &joined, welcome, Some(tree)).unwrap();
    let joined = staged.into_group(&other).unwrap();
    [
        Member { provider: one, signer, group },
        Member { provider: other, signer: joiner, group: joined },
    ]
}

fn send(member: &mut Member, content: &[u8]) -> Vec<u8> {
    let Member { provider, signer, group } = member;
    group.create_message(&*provider, &*signer, content).unwrap().tls_serialize_detached().unwrap()
}

fn receive(member: &mut Member, bytes: &[u8]) -> Vec<u8> {
    let message = MlsMessageIn::tls_deserialize_exact(bytes).unwrap();
    let message = message.try_into_protocol_message().unwrap();
    let processed = member.group.process_message(&member.provider, message).unwrap();
    match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(message) => message.into_bytes(),
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

fn decrypt(group: &mut Group<'_>, length: usize) {
    let content = vec![7; length];
    column(group, NAME, |bencher| {
        let make = || {
            let [mut sender, receiver] = pair();
            let messages: Vec<_> = (0..STEPS).map(|_| send(&mut sender, &content)).collect();
            (receiver, messages)
        };
        steps(bencher, STEPS, make, |(receiver, messages), at| receive(receiver, &messages[at]));
    });
}

pub(crate) fn figures() {
    let [mut sender, _] = pair();
    figure("group-overhead", NAME, send(&mut sender, &[7; 64]).len() - 64, "bytes");
}
