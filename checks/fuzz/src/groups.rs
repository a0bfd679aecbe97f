//! Group messages: what a server, a member and a store can hand to a receiver.

use subrosa::group::{Distribution, Envelope, Sender, SenderKeyRecord};
use subrosa::{Address, Error, IdentityKey, UnixTime};

use crate::sender_keys::{Device, reference};

/// A device that writes, what another one has of it, and two of its messages.
pub(crate) struct Chain {
    device: Device,
    identity: IdentityKey,
    address: Address,
    pub(crate) stored: Vec<u8>,
    pub(crate) distribution: Vec<u8>,
    pub(crate) messages: [Vec<u8>; 2],
}

thread_local! {
    pub(crate) static CHAIN: Chain = Chain::new();
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).expect("it is plausible")
}

impl Chain {
    fn new() -> Self {
        let device = Device::new("fuzzed", "alice", 1);
        let distribution = device.distribution(3);
        let mut record = SenderKeyRecord::new();
        record.take(Distribution::decode(&distribution).expect("it is genuine"), now());
        let [first, second] = [4, 9].map(|number| {
            device.draft(number, reference(number), &number.to_be_bytes()).envelope()
        });
        let mut chain = Self {
            identity: IdentityKey::decode(&device.identity).expect("it is genuine"),
            address: device.address(),
            stored: Vec::new(),
            distribution,
            messages: [first, second],
            device,
        };
        // Skipped keys are kept.
        let between = chain.device.draft(7, reference(7), b"between").envelope();
        chain.receive(&mut record, &between).expect("it is genuine");
        chain.stored = record.encode().to_vec();
        chain
    }

    fn record(&self) -> SenderKeyRecord {
        SenderKeyRecord::decode(&self.stored).expect("it was stored")
    }

    fn receive(&self, record: &mut SenderKeyRecord, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let envelope = Envelope::decode(bytes)?;
        let hint = record.label_keys().find_map(|key| envelope.hint(key));
        let sender = Sender {
            group: &self.device.group,
            member: &self.device.member,
            identity: &self.identity,
            address: &self.address,
        };
        let opened = record.receive(&envelope, &hint.ok_or(Error::UnknownHeader)?, &sender)?;
        record.commit(opened.step);
        Ok(opened.content)
    }
}

/// After a first byte that is even an envelope as a server has it; else a number and a padded text,
/// which a member who has all keys but the signing key seals. It opens for nobody, unless it is
/// genuine, and changes nothing.
pub fn group_envelope(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    CHAIN.with(|chain| {
        let envelope = if first % 2 == 0 {
            rest.to_vec()
        } else {
            let Some((number, text)) = rest.split_first_chunk() else { return };
            let mut draft = chain.device.draft(5, reference(5), b"");
            draft.number = u32::from_be_bytes(*number);
            if draft.number < 1_000 {
                draft.message_key = chain.device.keys(draft.number).1;
            }
            draft.padded = Some(text.to_vec());
            draft.envelope()
        };
        let mut record = chain.record();
        let opened = chain.receive(&mut record, &envelope);
        if chain.messages.contains(&envelope) {
            opened.expect("it is genuine");
            return;
        }
        opened.expect_err("nobody else can sign");
        assert_eq!(record.encode().as_slice(), chain.stored);
        for genuine in &chain.messages {
            chain.receive(&mut record, genuine).expect("it is genuine");
        }
    });
}

/// What a device gives is taken or changes nothing, and a record stays within its bounds.
pub fn group_distribution(data: &[u8]) {
    CHAIN.with(|chain| {
        let mut record = chain.record();
        // After it the same in which other chains are named: up to 40 of them.
        for count in 0..40_u8 {
            let mut bytes = data.to_vec();
            if let (Some(key), 1..) = (bytes.get_mut(68..100), count) {
                let other = Device::new(&format!("other {count}"), "alice", 1).verifying_key();
                key.copy_from_slice(&other);
            }
            let Ok(distribution) = Distribution::decode(&bytes) else { break };
            assert_eq!(distribution.group[..], data[..32]);
            let id = distribution.chain();
            record.take(distribution, now());
            assert!(record.label_keys().count() <= 3 && record.kept() <= 1_000);
            let stored = record.encode();
            assert!(stored.len() <= 17 * 150 + 3 * 50 + 36_000 + 16);
            let again = SenderKeyRecord::decode(&stored).expect("what was stored loads");
            assert_eq!(again.has(id), record.has(id));
            assert!(again.encode() == stored);
        }
        for genuine in &chain.messages {
            let _whether = chain.receive(&mut record, genuine);
        }
    });
}

/// What decodes as a record goes on: it receives, takes, expires and is stored.
pub fn sender_key_record(data: &[u8]) {
    let Ok(mut record) = SenderKeyRecord::decode(data) else { return };
    let check = |record: &SenderKeyRecord| {
        let stored = record.encode();
        let again = SenderKeyRecord::decode(&stored).expect("what was stored loads");
        assert!(again.encode() == stored);
        stored
    };
    check(&record);
    CHAIN.with(|chain| {
        for genuine in &chain.messages {
            let before = record.encode();
            if chain.receive(&mut record, genuine).is_err() {
                assert!(record.encode() == before, "an error changed the record");
            }
            check(&record);
        }
        record.take(Distribution::decode(&chain.distribution).expect("it is genuine"), now());
        check(&record);
        record.keep(5);
        assert!(record.kept() <= 5);
        if let Some(expiry) = record.next_expiry() {
            record.expire(expiry);
        }
        check(&record);
    });
}
