//! age (0.11) with one X25519 recipient: ChaCha20-Poly1305 over chunks of 64 KiB, and no hash over
//! all of them. It seals and opens on one thread, and takes its place in the rows on two as well.
#![allow(clippy::unwrap_used, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::io::{Read, Write};

use age::x25519::Identity;
use age::{Decryptor, Encryptor};

use crate::file::{LONG, SHORT, prepare};
use crate::timing::{Group, Row, column};

pub(crate) const ROWS: [Row; 8] = [
    ("seal-4m", |group| seal(group, SHORT)),
    ("open-4m", |group| open(group, SHORT)),
    ("seal-4m-2", |group| seal(group, SHORT)),
    ("open-4m-2", |group| open(group, SHORT)),
    ("seal-256m", |group| seal(group, LONG)),
    ("open-256m", |group| open(group, LONG)),
    ("seal-256m-2", |group| seal(group, LONG)),
    ("open-256m-2", |group| open(group, LONG)),
];

fn seal(group: &mut Group<'_>, size: usize) {
    prepare(group, size);
    let (content, key) = (vec![7; size], Identity::generate());
    column(group, "age", |bencher| bencher.iter(|| sealed(&key, black_box(&content))));
}

fn open(group: &mut Group<'_>, size: usize) {
    prepare(group, size);
    let key = Identity::generate();
    let blob = sealed(&key, &vec![7; size]);
    column(group, "age", |bencher| {
        bencher.iter(|| {
            let decryptor = Decryptor::new(black_box(&blob[..])).unwrap();
            let mut content = Vec::with_capacity(size);
            let key: &dyn age::Identity = &key;
            decryptor.decrypt([key].into_iter()).unwrap().read_to_end(&mut content).unwrap();
            content
        });
    });
}

fn sealed(key: &Identity, content: &[u8]) -> Vec<u8> {
    let recipient = key.to_public();
    let recipient: &dyn age::Recipient = &recipient;
    let encryptor = Encryptor::with_recipients([recipient].into_iter()).unwrap();
    let mut blob = Vec::with_capacity(content.len().saturating_add(1 << 17));
    let mut writer = encryptor.wrap_output(&mut blob).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap();
    blob
}
