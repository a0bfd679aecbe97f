//! The sessions that the rows are timed on.

use rand_core::Rng;
use subrosa::SystemRng;
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};

/// Seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A device with a signed prekey, a last-resort key and some one-time sets.
pub(crate) struct Device {
    pub(crate) identity: IdentityKeyPair,
    pub(crate) prekeys: Prekeys,
}

impl Device {
    pub(crate) fn new(one_time: usize) -> Self {
        let identity = IdentityKeyPair::generate(&mut SystemRng);
        Self { identity, prekeys: Prekeys::generate(one_time, NOW, &mut SystemRng).unwrap() }
    }

    /// A bundle with one-time prekeys, as the server hands it out.
    pub(crate) fn bundle(&self) -> Vec<u8> {
        self.prekeys.publish(&self.identity).pop_bundle().unwrap().encode()
    }
}

/// The initiator's session, from the bytes of a bundle.
pub(crate) fn initiate(identity: &IdentityKeyPair, bundle: &[u8]) -> Session {
    let bundle = Bundle::decode(bundle).unwrap().verify(&identity.public_key(), NOW).unwrap();
    Session::initiate(identity, &bundle, &mut SystemRng).unwrap()
}

/// Both ends of a conversation.
pub(crate) struct Pair {
    pub(crate) initiator: Session,
    pub(crate) responder: Session,
}

impl Pair {
    /// The initiator's first message has arrived, and the answer to it.
    pub(crate) fn answered() -> Self {
        let (device, mut peer) = (IdentityKeyPair::generate(&mut SystemRng), Device::new(1));
        let mut initiator = initiate(&device, &peer.bundle());
        let first = encrypt(&mut initiator, b"first");
        let first = Message::decode(&first).unwrap();
        let (responder, _) =
            Session::respond(&peer.identity, &mut peer.prekeys, &first, b"").unwrap();
        let mut pair = Self { initiator, responder };
        pair.answer();
        pair
    }

    /// Seven messages to and fro: the initiator's second chain is open at both ends, and the
    /// post-quantum ratchet is in its longest phase, in which it sends the 36 chunks of the
    /// encapsulation key. Chunk 0 has arrived.
    pub(crate) fn midway() -> Self {
        let mut pair = Self::answered();
        for _ in 0..2 {
            pair.ask();
            pair.answer();
        }
        pair.ask();
        pair
    }

    pub(crate) fn ask(&mut self) {
        deliver(&mut self.initiator, &mut self.responder);
    }

    pub(crate) fn answer(&mut self) {
        deliver(&mut self.responder, &mut self.initiator);
    }

    /// `count` messages of the initiator, none of which has arrived.
    pub(crate) fn send(&mut self, count: usize, plaintext: &[u8]) -> Vec<Vec<u8>> {
        (0..count).map(|_| encrypt(&mut self.initiator, plaintext)).collect()
    }
}

pub(crate) fn deliver(from: &mut Session, to: &mut Session) {
    let message = encrypt(from, &[7; 64]);
    decrypt(to, &message);
}

pub(crate) fn encrypt(session: &mut Session, plaintext: &[u8]) -> Vec<u8> {
    session.encrypt(plaintext, b"", &mut SystemRng).unwrap().encode()
}

pub(crate) fn decrypt(session: &mut Session, message: &[u8]) -> Vec<u8> {
    session.decrypt(&Message::decode(message).unwrap(), b"").unwrap()
}

/// Sessions are no `Clone`; a bench may.
pub(crate) fn copy(session: &Session) -> Session {
    Session::decode(&session.encode()).unwrap()
}

/// What somebody without keys can make: the layout of a message of 64 bytes, and noise.
pub(crate) fn forged() -> Vec<u8> {
    let mut noise = [0; 204];
    SystemRng.fill_bytes(&mut noise);
    [&[1, 1], noise.as_slice()].concat()
}
