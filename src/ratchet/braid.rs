//! The ML-KEM Braid: a slow, chunked, alternating exchange of ML-KEM-768 keys (spqr.md, 3, 4 and
//! 7).
//!
//! Each *epoch* the EK side sends a public key and the CT side a ciphertext to it, 32 bytes with
//! each message, in any order, with losses; at its end both hold one more secret and the sides
//! swap. Epochs count from 1.
//!
//! ```text
//! EK side                                        CT side
//! KeysUnsampled                                  NoHeaderReceived
//!   | send                                         | header complete
//! KeysSampled         --- Hdr (header, MAC) -->  HeaderReceived
//!   | first Ct1                                    | send: the secret is known here
//! HeaderSent          <-- Ct1 ----------------   Ct1Sampled ----------- EK complete --+
//!   | ct1 complete    --- Ek ---------------->     | ct1 acknowledged                 |
//! Ct1Received         --- EkCt1Ack ---------->   Ct1Acknowledged   EkReceivedCt1Sampled
//!   | first Ct2                                    | EK complete     | ct1 acknowledged
//! EkSentCt1Received   --- Ct1Ack ------------>   Ct2Sampled <----------+
//!   | ct2 complete    <-- Ct2 (v, MAC) -------     | any message of the next epoch
//! NoHeaderReceived                               KeysUnsampled
//! ```

use alloc::boxed::Box;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::erasure::{self, Chunk, Decoder, Emitter, Encoder};
use crate::crypto::kdf::{self, HmacKey, NO_SALT};
use crate::crypto::kem::halves::{
    CT1_LENGTH, CT2_LENGTH, Encapsulation, HEADER_LENGTH, SecretKey, VECTOR_LENGTH,
};
use crate::crypto::mark;
use crate::crypto::secret::Secret;

/// Header and MAC: 96 bytes.
const HEADER: usize = 3;
/// The vector of the encapsulation key: 1,152 bytes.
const EK: usize = 36;
/// The first part of the ciphertext: 960 bytes.
const CT1: usize = 30;
/// Its second part and the MAC: 160 bytes.
const CT2: usize = 5;

/// What one message of the braid carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing to say.
    None,
    Hdr(Chunk),
    Ek(Chunk),
    /// A chunk of the key, and: all of ct1 arrived.
    EkCt1Ack(Chunk),
    /// All of ct1 arrived.
    Ct1Ack,
    Ct1(Chunk),
    Ct2(Chunk),
}

/// Why a message was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The MAC of a header or of a ciphertext does not hold.
    Mac,
    /// The message is of an epoch that cannot have begun.
    Epoch,
    /// The encapsulation key is not the one its header names, or fails FIPS 203's check.
    Key,
}

/// One side of the braid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Braid {
    epoch: u64,
    authenticator: Authenticator,
    state: State,
}

/// Each in a box of its own: where an enum has room to spare there would be what the stack held
/// before, old keys too.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum State {
    KeysUnsampled,
    KeysSampled(Box<KeysSampled>),
    HeaderSent(Box<HeaderSent>),
    Ct1Received(Box<Ct1Received>),
    EkSentCt1Received(Box<EkSentCt1Received>),
    NoHeaderReceived(Box<Decoder<HEADER>>),
    HeaderReceived(Box<Header>),
    Ct1Sampled(Box<Ct1Sampled>),
    EkReceivedCt1Sampled(Box<EkReceivedCt1Sampled>),
    Ct1Acknowledged(Box<Ct1Acknowledged>),
    Ct2Sampled(Box<Encoder<CT2>>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeysSampled {
    key: SecretKey,
    header: Encoder<HEADER>,
    ek: Emitter<EK>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct HeaderSent {
    key: SecretKey,
    ek: Emitter<EK>,
    ct1: Decoder<CT1>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ct1Received {
    key: SecretKey,
    ek: Emitter<EK>,
    ct1: Ct1,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EkSentCt1Received {
    key: SecretKey,
    ct1: Ct1,
    ct2: Decoder<CT2>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ct1Sampled {
    encapsulation: Encapsulation,
    ct1: Emitter<CT1>,
    ek: Decoder<EK>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EkReceivedCt1Sampled {
    encapsulation: Encapsulation,
    ct1: Emitter<CT1>,
    ek: Ek,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ct1Acknowledged {
    encapsulation: Encapsulation,
    ek: Decoder<EK>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header(#[serde(with = "crate::at_rest::array")] [u8; HEADER_LENGTH]);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ek(#[serde(with = "erasure::boxed")] Box<erasure::Message<EK>>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ct1(#[serde(with = "erasure::boxed")] Box<erasure::Message<CT1>>);

/// What receiving a message changes. Nothing does before [`Braid::commit`].
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    /// One more chunk of what is being received.
    Add(Chunk),
    Become(Box<Braid>),
}

impl Braid {
    /// The side that begins as the EK side: the session's initiator.
    pub(crate) fn initiator(auth_key: &Secret<32>) -> Self {
        Self::new(auth_key, State::KeysUnsampled)
    }

    /// The side that begins as the CT side: the session's responder.
    pub(crate) fn responder(auth_key: &Secret<32>) -> Self {
        Self::new(auth_key, State::NoHeaderReceived(Box::new(Decoder::new())))
    }

    fn new(auth_key: &Secret<32>, state: State) -> Self {
        Self { epoch: 1, authenticator: Authenticator::new(auth_key), state }
    }

    /// The epoch that messages are sent in.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        self.epoch >= 1
            && match &self.state {
                State::HeaderSent(state) => state.ct1.is_sound(),
                State::EkSentCt1Received(state) => state.ct2.is_sound(),
                State::NoHeaderReceived(header) => header.is_sound(),
                State::Ct1Sampled(state) => state.ek.is_sound(),
                State::Ct1Acknowledged(state) => state.ek.is_sound(),
                _ => true,
            }
    }

    /// The next thing to say, and the secret of the epoch where this is the moment it becomes
    /// known.
    ///
    /// Draws 64 bytes where a key is generated, 32 where a secret is encapsulated, else nothing.
    pub(crate) fn send(&mut self, rng: &mut dyn CryptoRng) -> (Payload, Option<Secret<32>>) {
        let payload = match &mut self.state {
            State::KeysUnsampled => self.sample_keys(rng),
            State::HeaderReceived(header) => {
                let encapsulation = Encapsulation::new(header.0, rng);
                return self.sample_ct1(encapsulation);
            }
            State::KeysSampled(state) => Payload::Hdr(state.header.emit()),
            State::HeaderSent(state) => Payload::Ek(state.ek.emit(|| ek_message(&state.key))),
            State::Ct1Received(state) => {
                Payload::EkCt1Ack(state.ek.emit(|| ek_message(&state.key)))
            }
            State::EkSentCt1Received(_) => Payload::Ct1Ack,
            State::NoHeaderReceived(_) | State::Ct1Acknowledged(_) => Payload::None,
            State::Ct1Sampled(state) => {
                Payload::Ct1(state.ct1.emit(|| ct1_message(&state.encapsulation)))
            }
            State::EkReceivedCt1Sampled(state) => {
                Payload::Ct1(state.ct1.emit(|| ct1_message(&state.encapsulation)))
            }
            State::Ct2Sampled(ct2) => Payload::Ct2(ct2.emit()),
        };
        (payload, None)
    }

    fn sample_keys(&mut self, rng: &mut dyn CryptoRng) -> Payload {
        let key = SecretKey::generate(rng);
        let (header, vector) = key.public_key();
        let mac = self.authenticator.mac_header(self.epoch, &header);
        let mut header = Encoder::new(erasure::message(&[&header, &mark::public(*mac.expose())]));
        let chunk = header.emit();
        let ek = Emitter::new(erasure::message(&[&*vector]));
        self.state = State::KeysSampled(Box::new(KeysSampled { key, header, ek }));
        Payload::Hdr(chunk)
    }

    fn sample_ct1(&mut self, encapsulation: Encapsulation) -> (Payload, Option<Secret<32>>) {
        let (ct1, shared) = encapsulation.first();
        let secret = epoch_secret(self.epoch, &shared);
        self.authenticator = self.authenticator.update(self.epoch, &secret);
        let message = erasure::message(&[&*ct1]);
        let mut ct1 = Emitter::new(message);
        let chunk = ct1.emit(|| ct1_message(&encapsulation));
        let state = Ct1Sampled { encapsulation, ct1, ek: Decoder::new() };
        self.state = State::Ct1Sampled(Box::new(state));
        (Payload::Ct1(chunk), Some(secret))
    }

    /// Takes a message in: what it changes, and the secret of the epoch where it completes it.
    pub(crate) fn receive(
        &self,
        epoch: u64,
        payload: &Payload,
    ) -> Result<(Step, Option<Secret<32>>), Refusal> {
        if epoch < self.epoch {
            return Ok((Step::Nothing, None));
        }
        if epoch > self.epoch {
            return match &self.state {
                State::Ct2Sampled(_) if Some(epoch) == self.epoch.checked_add(1) => {
                    let authenticator = self.authenticator.clone();
                    Ok((Self { epoch, authenticator, state: State::KeysUnsampled }.step(), None))
                }
                _ => Err(Refusal::Epoch),
            };
        }
        match payload {
            Payload::Ct2(chunk) => self.receive_ct2(chunk),
            Payload::Hdr(chunk) => self.receive_header(chunk).map(|step| (step, None)),
            Payload::Ct1(chunk) => Ok((self.receive_ct1(chunk), None)),
            Payload::Ek(chunk) => self.receive_ek(Some(chunk), false).map(|step| (step, None)),
            Payload::EkCt1Ack(chunk) => self.receive_ek(Some(chunk), true).map(|step| (step, None)),
            Payload::Ct1Ack => self.receive_ek(None, true).map(|step| (step, None)),
            Payload::None => Ok((Step::Nothing, None)),
        }
    }

    pub(crate) fn commit(&mut self, step: Step) {
        match step {
            Step::Nothing => {}
            // A swap: what is moved out of a box stays behind in it, and the box wipes what it
            // holds.
            Step::Become(mut braid) => core::mem::swap(self, &mut braid),
            Step::Add(chunk) => match &mut self.state {
                State::HeaderSent(state) => state.ct1.add(&chunk),
                State::EkSentCt1Received(state) => state.ct2.add(&chunk),
                State::NoHeaderReceived(header) => header.add(&chunk),
                State::Ct1Sampled(state) => state.ek.add(&chunk),
                State::Ct1Acknowledged(state) => state.ek.add(&chunk),
                _ => {}
            },
        }
    }

    /// The step to another state of the same epoch.
    fn to(&self, state: State) -> Step {
        Self { epoch: self.epoch, authenticator: self.authenticator.clone(), state }.step()
    }

    fn step(self) -> Step {
        Step::Become(Box::new(self))
    }

    fn receive_header(&self, chunk: &Chunk) -> Result<Step, Refusal> {
        let State::NoHeaderReceived(header) = &self.state else { return Ok(Step::Nothing) };
        let Some(message) = header.complete(chunk) else { return Ok(Step::Add(*chunk)) };
        let [one, two, mac] = *message;
        let mut header = [0; HEADER_LENGTH];
        header[..32].copy_from_slice(&one);
        header[32..].copy_from_slice(&two);
        if self.authenticator.mac_header(self.epoch, &header) == Secret::new(mac) {
            Ok(self.to(State::HeaderReceived(Box::new(Header(header)))))
        } else {
            Err(Refusal::Mac)
        }
    }

    fn receive_ct1(&self, chunk: &Chunk) -> Step {
        match &self.state {
            State::KeysSampled(state) => {
                let mut ct1 = Decoder::new();
                ct1.add(chunk);
                let state = HeaderSent { key: state.key.clone(), ek: state.ek.clone(), ct1 };
                self.to(State::HeaderSent(Box::new(state)))
            }
            State::HeaderSent(state) => match state.ct1.complete(chunk) {
                None => Step::Add(*chunk),
                Some(message) => {
                    let (key, ek) = (state.key.clone(), state.ek.clone());
                    self.to(State::Ct1Received(Box::new(Ct1Received {
                        key,
                        ek,
                        ct1: Ct1(message),
                    })))
                }
            },
            _ => Step::Nothing,
        }
    }

    fn receive_ct2(&self, chunk: &Chunk) -> Result<(Step, Option<Secret<32>>), Refusal> {
        match &self.state {
            State::Ct1Received(state) => {
                let mut ct2 = Decoder::new();
                ct2.add(chunk);
                let state =
                    EkSentCt1Received { key: state.key.clone(), ct1: state.ct1.clone(), ct2 };
                Ok((self.to(State::EkSentCt1Received(Box::new(state))), None))
            }
            State::EkSentCt1Received(state) => match state.ct2.complete(chunk) {
                None => Ok((Step::Add(*chunk), None)),
                Some(message) => {
                    self.decapsulate(&state.key, erasure::flat(&state.ct1.0), &message)
                }
            },
            _ => Ok((Step::Nothing, None)),
        }
    }

    fn decapsulate(
        &self,
        key: &SecretKey,
        ct1: &[u8; CT1_LENGTH],
        ct2_and_mac: &erasure::Message<CT2>,
    ) -> Result<(Step, Option<Secret<32>>), Refusal> {
        let [ct2 @ .., mac] = ct2_and_mac;
        let ct2 = erasure::flat(ct2);
        let secret = epoch_secret(self.epoch, &key.decapsulate(ct1, ct2));
        let authenticator = self.authenticator.update(self.epoch, &secret);
        if authenticator.mac_ciphertext(self.epoch, ct1, ct2) != Secret::new(*mac) {
            return Err(Refusal::Mac);
        }
        let epoch = self.epoch.checked_add(1).ok_or(Refusal::Epoch)?;
        let state = State::NoHeaderReceived(Box::new(Decoder::new()));
        Ok((Self { epoch, authenticator, state }.step(), Some(secret)))
    }

    /// A chunk of the encapsulation key, an acknowledgement of ct1, or both.
    fn receive_ek(&self, chunk: Option<&Chunk>, acknowledged: bool) -> Result<Step, Refusal> {
        match (&self.state, chunk) {
            (State::Ct1Sampled(state), Some(chunk)) => {
                let Ct1Sampled { encapsulation, ct1, ek } = &**state;
                match (ek.complete(chunk), acknowledged) {
                    (None, false) => Ok(Step::Add(*chunk)),
                    (None, true) => {
                        let (encapsulation, mut ek) = (encapsulation.clone(), ek.clone());
                        ek.add(chunk);
                        Ok(self.to(State::Ct1Acknowledged(Box::new(Ct1Acknowledged {
                            encapsulation,
                            ek,
                        }))))
                    }
                    (Some(ek), false) => {
                        encapsulation.check(erasure::flat(&ek)).map_err(|_| Refusal::Key)?;
                        let (encapsulation, ct1) = (encapsulation.clone(), ct1.clone());
                        let state = EkReceivedCt1Sampled { encapsulation, ct1, ek: Ek(ek) };
                        Ok(self.to(State::EkReceivedCt1Sampled(Box::new(state))))
                    }
                    (Some(ek), true) => self.sample_ct2(encapsulation, erasure::flat(&ek)),
                }
            }
            (State::EkReceivedCt1Sampled(state), _) if acknowledged => {
                self.sample_ct2(&state.encapsulation, erasure::flat(&state.ek.0))
            }
            (State::Ct1Acknowledged(state), Some(chunk)) => match state.ek.complete(chunk) {
                None => Ok(Step::Add(*chunk)),
                Some(ek) => self.sample_ct2(&state.encapsulation, erasure::flat(&ek)),
            },
            _ => Ok(Step::Nothing),
        }
    }

    fn sample_ct2(
        &self,
        encapsulation: &Encapsulation,
        ek: &[u8; VECTOR_LENGTH],
    ) -> Result<Step, Refusal> {
        let (ct1, ct2) = encapsulation.both(ek).map_err(|_| Refusal::Key)?;
        let mac = self.authenticator.mac_ciphertext(self.epoch, &ct1, &ct2);
        let message = erasure::message(&[&ct2, &mark::public(*mac.expose())]);
        Ok(self.to(State::Ct2Sampled(Box::new(Encoder::new(message)))))
    }
}

fn ct1_message(encapsulation: &Encapsulation) -> Box<erasure::Message<CT1>> {
    erasure::message(&[&*encapsulation.first().0])
}

fn ek_message(key: &SecretKey) -> Box<erasure::Message<EK>> {
    let (_, vector) = key.public_key();
    erasure::message(&[&*vector])
}

/// `HKDF(0, shared, "..:SCKA Key" || epoch:u64, 32)` (spqr.md, K4)
fn epoch_secret(epoch: u64, shared: &Secret<32>) -> Secret<32> {
    let info: [&[u8]; 2] = [b"Signal_PQCKA_V1_MLKEM768:SCKA Key", &epoch.to_be_bytes()];
    let [secret] = kdf::hkdf(&NO_SALT, &[shared.expose()], &info);
    secret
}

/// Authenticates the header and the ciphertext of each epoch under the secrets of all epochs before
/// (spqr.md, 3).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Authenticator {
    root: Secret<32>,
    mac_key: Secret<32>,
}

impl Authenticator {
    fn new(auth_key: &Secret<32>) -> Self {
        Self { root: Secret::new([0; 32]), mac_key: Secret::new([0; 32]) }.update(1, auth_key)
    }

    /// `HKDF(0, root || secret, "..:Authenticator Update" || epoch:u64, 64) = root || mac_key`
    /// (spqr.md, K5)
    fn update(&self, epoch: u64, secret: &Secret<32>) -> Self {
        let info: [&[u8]; 2] =
            [b"Signal_PQCKA_V1_MLKEM768:Authenticator Update", &epoch.to_be_bytes()];
        let [root, mac_key] = kdf::hkdf(&NO_SALT, &[self.root.expose(), secret.expose()], &info);
        Self { root, mac_key }
    }

    /// `HMAC(mac_key, "..:ekheader" || epoch:u64 || header)` (spqr.md, M1)
    fn mac_header(&self, epoch: u64, header: &[u8; HEADER_LENGTH]) -> Secret<32> {
        self.mac(b"Signal_PQCKA_V1_MLKEM768:ekheader", epoch, [header, &[]])
    }

    /// `HMAC(mac_key, "..:ciphertext" || epoch:u64 || ct1 || ct2)` (spqr.md, M2)
    fn mac_ciphertext(
        &self,
        epoch: u64,
        ct1: &[u8; CT1_LENGTH],
        ct2: &[u8; CT2_LENGTH],
    ) -> Secret<32> {
        self.mac(b"Signal_PQCKA_V1_MLKEM768:ciphertext", epoch, [ct1, ct2])
    }

    fn mac(&self, label: &[u8], epoch: u64, [one, two]: [&[u8]; 2]) -> Secret<32> {
        HmacKey::new(&self.mac_key).mac(&[label, &epoch.to_be_bytes(), one, two])
    }
}

#[cfg(test)]
impl Braid {
    /// The name of the state, as spqr.md has it.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.state {
            State::KeysUnsampled => "KeysUnsampled",
            State::KeysSampled(_) => "KeysSampled",
            State::HeaderSent(_) => "HeaderSent",
            State::Ct1Received(_) => "Ct1Received",
            State::EkSentCt1Received(_) => "EkSentCt1Received",
            State::NoHeaderReceived(_) => "NoHeaderReceived",
            State::HeaderReceived(_) => "HeaderReceived",
            State::Ct1Sampled(_) => "Ct1Sampled",
            State::EkReceivedCt1Sampled(_) => "EkReceivedCt1Sampled",
            State::Ct1Acknowledged(_) => "Ct1Acknowledged",
            State::Ct2Sampled(_) => "Ct2Sampled",
        }
    }

    /// The authenticator's root and MAC key.
    pub(crate) fn authenticator(&self) -> [&Secret<32>; 2] {
        [&self.authenticator.root, &self.authenticator.mac_key]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replay, array, bytes, vectors};

    #[test]
    fn the_authenticator() {
        let case = &vectors("spqr.json")["authenticator"];
        let secret = |name: &str| Secret::new(array(&case[name]));
        let authenticator = Authenticator::new(&secret("auth_key"));
        assert_eq!(authenticator.root, secret("auth_root"));
        assert_eq!(authenticator.mac_key, secret("mac_key"));
        assert_eq!(authenticator.mac_header(1, &array(&case["header"])), secret("M1"));
        let epoch_secret = epoch_secret(1, &secret("ss"));
        assert_eq!(epoch_secret, secret("K4"));
        let updated = authenticator.update(1, &epoch_secret);
        assert_eq!(updated.root, secret("auth_root_1"));
        assert_eq!(updated.mac_key, secret("mac_key_1"));
        let ciphertext = match case.get("ciphertext") {
            Some(given) => bytes(given),
            None => (0..1088_u32).map(|at| (at % 251).to_le_bytes()[0]).collect(),
        };
        let (ct1, ct2) = ciphertext.split_first_chunk().unwrap();
        assert_eq!(updated.mac_ciphertext(1, ct1, ct2.try_into().unwrap()), secret("M2"));
    }

    #[test]
    fn an_encapsulation_key_that_is_not_the_headers_is_refused_as_soon_as_it_is_whole() {
        let auth_key = Secret::new([7; 32]);
        let (mut alice, mut bob) = (Braid::initiator(&auth_key), Braid::responder(&auth_key));
        let rng = &mut Replay::counting();
        let mut chunks = 0;
        // Alice gets one chunk of ct1, so that she sends the key, and no more, so that she
        // acknowledges nothing.
        while chunks < EK {
            let mut payload = alice.send(rng).0;
            if let Payload::Ek(chunk) = &mut payload {
                chunks += 1;
                chunk.data[0] ^= u8::from(chunks == 1);
            }
            match bob.receive(1, &payload) {
                Ok((step, _)) if chunks < EK => bob.commit(step),
                Ok(_) => panic!("the key is whole and was taken"),
                Err(refusal) => assert_eq!((refusal, chunks), (Refusal::Key, EK)),
            }
            let answer = bob.send(rng).0;
            if alice.state_name() == "KeysSampled" && bob.state_name() == "Ct1Sampled" {
                let (step, _) = alice.receive(1, &answer).unwrap();
                alice.commit(step);
            }
        }
        assert_eq!(bob.state_name(), "Ct1Sampled");
    }
}
