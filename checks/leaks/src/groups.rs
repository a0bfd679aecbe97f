//! A device that writes in a group, another one that reads over a bad link, and forgeries.

use subrosa::group::{Distribution, Envelope, LabelKey, Sender, SenderKey, SenderKeyRecord};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Address, Error, UnixTime, Zeroizing};

use crate::sessions::Tally;
use crate::{Drawn, NOW};

const GROUP: [u8; 32] = [1; 32];

/// So many messages: some come late, some never, some changed or twice. The chain is renewed after
/// each 90, both sides are stored and loaded again now and then, and what is old expires.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell(messages: usize, rng: &mut Drawn) -> Result<Tally, Error> {
    let start = UnixTime::from_secs(NOW)?;
    let (identity, address) =
        (IdentityKeyPair::generate(rng).public_key(), Address::new("alice", 1));
    let sender = Sender { group: &GROUP, member: &[2; 16], identity: &identity, address: &address };
    let mut key = SenderKey::new(&GROUP, LabelKey::random(rng), start, rng);
    let mut record = SenderKeyRecord::new();
    let mut tally = Tally::default();
    let mut late = Vec::new();
    for number in 0..messages {
        let now = start.after(u64::try_from(number).unwrap_or(0) * 3_600);
        if number % 90 == 0 {
            let label_key = LabelKey::random(rng);
            key = key.renewed(&GROUP, label_key, now, rng);
            let given = key.distribution(&GROUP, &[3; 8], &[GROUP])?;
            record.take(Distribution::decode(&given)?, now);
        }
        let length = [0, 1, 31, 64, 150, 300, 1_000, 5_000][rng.below(8)];
        let text = Zeroizing::new(rng.text(length));
        let envelope = key.seal(&sender, &text, rng)?.envelope;
        match rng.below(8) {
            0 => {}
            1 => late.push(envelope),
            2 => {
                let mut forged = envelope.clone();
                let at = 2 + rng.below(forged.len() - 2);
                forged[at] ^= 1;
                open(&mut record, &sender, &forged, &mut tally)?;
                open(&mut record, &sender, &envelope, &mut tally)?;
                open(&mut record, &sender, &envelope, &mut tally)?;
            }
            _ => open(&mut record, &sender, &envelope, &mut tally)?,
        }
        if late.len() > 20 {
            for envelope in late.drain(..).rev() {
                open(&mut record, &sender, &envelope, &mut tally)?;
            }
        }
        if number % 16 == 0 {
            key = SenderKey::decode(&key.encode())?;
            record = SenderKeyRecord::decode(&record.encode())?;
            record.expire(now);
        }
    }
    Ok(tally)
}

fn open(
    record: &mut SenderKeyRecord,
    sender: &Sender<'_>,
    envelope: &[u8],
    tally: &mut Tally,
) -> Result<(), Error> {
    let envelope = Envelope::decode(envelope)?;
    let hint = record.label_keys().rev().find_map(|key| envelope.hint(key));
    match hint.and_then(|hint| record.receive(&envelope, &hint, sender).ok()) {
        Some(opened) => {
            record.commit(opened.step);
            drop(Zeroizing::new(opened.content));
            tally.opened += 1;
        }
        None => tally.refused += 1,
    }
    Ok(())
}
