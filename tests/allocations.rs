//! Encrypting and decrypting allocate their result, and nothing else; files, a chunk or two.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use allocation_counter::measure;
use subrosa::SystemRng;
use subrosa::protocol::{IdentityKeyPair, Message, Prekeys, Session};

/// Two sessions that have answered each other.
fn pair() -> (Session, Session) {
    let (now, rng) = (1_800_000_000, &mut SystemRng);
    let (alice, bob) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let mut prekeys = Prekeys::generate(1, now, rng).unwrap();
    let bundle = prekeys.publish(&bob).pop_bundle().unwrap();
    let bundle = bundle.verify(&alice.public_key(), now).unwrap();
    let mut to_bob = Session::initiate(&alice, &bundle, rng).unwrap();
    let message = to_bob.encrypt(b"hello", b"", rng).unwrap();
    let (mut to_alice, _) = Session::respond(&bob, &mut prekeys, &message, b"").unwrap();
    let answer = to_alice.encrypt(b"hi", b"", rng).unwrap();
    to_bob.decrypt(&answer, b"").unwrap();
    (to_bob, to_alice)
}

#[test]
fn a_message_on_an_existing_chain_allocates_its_result_alone() {
    let (mut to_bob, mut to_alice) = pair();
    // The first message begins a chain, and the next complete what the post-quantum ratchet has to
    // say for now.
    for _ in 0..5 {
        let message = to_bob.encrypt(b"", b"chat", &mut SystemRng).unwrap();
        to_alice.decrypt(&message, b"chat").unwrap();
    }
    for length in [0, 64, 1024, 65_536] {
        let plaintext = vec![7; length];
        let mut sent = None;
        let encrypting =
            measure(|| sent = to_bob.encrypt(&plaintext, b"chat", &mut SystemRng).ok());
        let sent = sent.unwrap().encode();
        assert_eq!(encrypting.count_total, 1, "{length} bytes");
        assert_eq!(encrypting.bytes_total, u64::try_from(sent.len()).unwrap());

        let mut received = None;
        let decrypting = measure(|| {
            let message = Message::decode(&sent).unwrap();
            received = to_alice.decrypt(&message, b"chat").ok();
        });
        assert_eq!(received.unwrap(), plaintext);
        assert_eq!(decrypting.count_total, 1, "{length} bytes");
        assert!(decrypting.bytes_total < encrypting.bytes_total);
    }
}

#[test]
fn a_forgery_allocates_nothing() {
    let (mut to_bob, mut to_alice) = pair();
    let mut forged = to_bob.encrypt(b"hello", b"", &mut SystemRng).unwrap().encode();
    *forged.get_mut(20).unwrap() ^= 1;
    let refusing = measure(|| {
        let message = Message::decode(&forged).unwrap();
        to_alice.decrypt(&message, b"").unwrap_err();
    });
    assert_eq!(refusing.count_total, 0);
}

/// How much memory a file of this size holds at most while it is written, and while it is read.
#[cfg(feature = "std")]
fn file_peaks(size: u64, chunk_size: subrosa::file::ChunkSize) -> [u64; 2] {
    use std::io::{self, Read};
    use subrosa::file::{Reader, Sealer, Writer};

    let content = || io::repeat(7).take(size);
    let seal = |out: &mut dyn io::Write| {
        let sealer = Sealer::new(size, chunk_size, &mut SystemRng).unwrap();
        let mut writer = Writer::new(out, sealer);
        io::copy(&mut content(), &mut writer).unwrap();
        writer.finish().unwrap().0
    };
    let writing = measure(|| drop(seal(&mut io::sink())));
    let mut blob = Vec::new();
    let descriptor = seal(&mut blob);
    let reading = measure(|| {
        let mut reader = Reader::new(&blob[..], &descriptor);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), size);
    });
    [writing.bytes_max, reading.bytes_max]
}

#[cfg(feature = "std")]
#[test]
fn a_file_of_any_size_takes_the_memory_of_two_chunks() {
    use subrosa::file::ChunkSize;

    for chunk_size in [ChunkSize::DEFAULT, ChunkSize::VOICE] {
        let chunk = u64::try_from(chunk_size.bytes()).unwrap();
        // Beside the chunks: `io::copy` has 8 KiB, the keys are some hundred bytes.
        let most = [chunk + 9_000, 2 * chunk + 9_000];
        for size in [1 << 20, 1 << 24] {
            let peaks = file_peaks(size, chunk_size);
            println!("{size} bytes in chunks of {chunk}: {peaks:?} bytes of memory");
            assert!(peaks.iter().zip(&most).all(|(peak, most)| peak <= most), "{peaks:?}");
        }
    }
}
