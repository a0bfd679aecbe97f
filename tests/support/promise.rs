//! Who is owed which message, kept by the test itself: the rules are at the head of `devices.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use subrosa::{Address, Incoming, MessageId, Received};

/// A message, and for whom it was encrypted.
pub(crate) struct Written {
    id: MessageId,
    from: Address,
    to: String,
    /// When, by the count of the world's steps.
    step: usize,
    /// Its sender was restored from a backup that is older.
    forgotten: bool,
    due: BTreeMap<Address, Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its envelope has not left its sender's outbox.
    Waiting,
    /// The transport has the envelope.
    Sent,
    /// The envelope came, and nothing opened it: the device asks for the message again.
    Asked,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    stage: Stage,
    owed: bool,
}

/// What a device's app remembers: it goes into a backup with the store, and comes back with it.
#[derive(Clone, Default)]
pub(crate) struct Life {
    opened: BTreeSet<usize>,
    shown: BTreeSet<usize>,
}

#[derive(Default)]
pub(crate) struct Promise {
    pub(crate) written: Vec<Written>,
    /// The envelopes of each message, by what is in their head.
    envelopes: HashMap<[u8; 16], (usize, Address)>,
    lives: BTreeMap<Address, Life>,
    gone: BTreeSet<Address>,
    /// What left each device, by its header's nonce.
    nonces: HashMap<(Address, [u8; 12]), Vec<u8>>,
    /// Restored from a backup without the hint: these use keys a second time.
    unaware: BTreeSet<Address>,
    pub(crate) shown: usize,
}

impl Promise {
    /// A device wrote a message; `rows` are the envelopes that this put into its outbox, and `entitled` whom it was for as far
    /// as the device knew.
    pub(crate) fn wrote(
        &mut self,
        (id, from, to): (MessageId, &Address, &str),
        entitled: BTreeSet<Address>,
        rows: Vec<(Address, Vec<u8>)>,
        step: usize,
    ) {
        let index = self.written.len();
        let addressed: Vec<&Address> = rows.iter().map(|row| &row.0).collect();
        assert_eq!(rows.len(), entitled.len(), "#{index}: to {addressed:?}, for {entitled:?}");
        for (to, envelope) in rows {
            assert!(entitled.contains(&to), "#{index} to {to}, for {entitled:?}");
            self.envelopes.insert(reference(&envelope), (index, to));
        }
        let gone = self.gone.contains(from);
        let due = |to: Address| {
            let owed = !gone && !self.gone.contains(&to);
            (to, Due { stage: Stage::Waiting, owed })
        };
        let due = entitled.into_iter().map(due).collect();
        self.written.push(Written { id, from: from.clone(), to: to.into(), step, forgotten: false, due });
    }

    /// The transport has an envelope.
    pub(crate) fn left(&mut self, from: &Address, envelope: &[u8]) {
        if let Some((index, to)) = self.envelopes.get(&reference(envelope)) {
            let due = self.written[*index].due.get_mut(to).unwrap();
            if due.stage == Stage::Waiting {
                due.stage = Stage::Sent;
            }
        }
        if self.unaware.contains(from) {
            return;
        }
        let initial = envelope[19] == 2;
        let at = 18 + 2 + if initial { 1644 } else { 0 };
        let nonce = (from.clone(), envelope[at..at + 12].try_into().unwrap());
        let first = self.nonces.entry(nonce).or_insert_with(|| envelope.to_vec());
        assert!(first == envelope, "{from} used the key of a header twice");
    }

    /// What became of a genuine envelope.
    pub(crate) fn delivered(&mut self, to: &Address, envelope: &[u8], received: &Received) {
        if let Received::Message(incoming) = received {
            let index = index_of(incoming);
            let first = self.lives.entry(to.clone()).or_default().opened.insert(index);
            assert!(first, "#{index} comes a second time to {to}");
            return;
        }
        let Some((index, addressee)) = self.envelopes.get(&reference(envelope)) else { return };
        assert_eq!(addressee, to);
        let opened = self.lives.get(to).is_some_and(|life| life.opened.contains(index));
        match received {
            Received::Duplicate => assert!(opened, "#{index} is called a duplicate by {to}"),
            Received::AskedAgain | Received::BundleNeeded(_) if !opened => {
                let written = &mut self.written[*index];
                let due = written.due.get_mut(to).unwrap();
                due.stage = Stage::Asked;
                due.owed &= !written.forgotten;
            }
            _ => {}
        }
    }

    /// The app of a device shows a message.
    pub(crate) fn showed(&mut self, at: &Address, incoming: &Incoming) {
        let index = index_of(incoming);
        let written = &self.written[index];
        assert!(written.due.contains_key(at), "#{index} is not for {at}: {incoming:?}");
        assert_eq!((incoming.message, &incoming.from), (written.id, &written.from), "#{index}");
        let copy_to = (written.to != at.user).then(|| written.to.clone());
        assert_eq!(incoming.copy_to, copy_to, "#{index}");
        let first = self.lives.entry(at.clone()).or_default().shown.insert(index);
        assert!(first, "#{index} is shown a second time on {at}");
        self.shown += 1;
    }

    pub(crate) fn is_gone(&self, device: &Address) -> bool {
        self.gone.contains(device)
    }

    /// A device was removed: what has not come to it, or from it, by now, may or may not.
    pub(crate) fn removed(&mut self, device: &Address) {
        self.gone.insert(device.clone());
        for written in &mut self.written {
            let by_it = written.from == *device;
            for (to, due) in &mut written.due {
                due.owed &= !by_it && to != device;
            }
        }
    }

    pub(crate) fn life(&self, device: &Address) -> Life {
        self.lives.get(device).cloned().unwrap_or_default()
    }

    /// A device was restored from a backup that was made at `step`, with what its app remembered then.
    pub(crate) fn restored(&mut self, device: &Address, life: Life, step: usize, hint: bool) {
        if !hint {
            self.unaware.insert(device.clone());
        }
        let before = self.lives.insert(device.clone(), life).unwrap_or_default();
        let lives = &self.lives;
        for (index, written) in self.written.iter_mut().enumerate() {
            let by_it = written.from == *device;
            written.forgotten |= by_it && written.step > step;
            for (to, due) in &mut written.due {
                let opened = lives.get(to).is_some_and(|life| life.opened.contains(&index));
                let undone = to == device && before.opened.contains(&index) && !opened;
                let asked = (by_it || to == device) && !opened && due.stage == Stage::Asked;
                let unsent = written.forgotten && due.stage == Stage::Waiting;
                due.owed &= !(undone || asked || unsent);
            }
        }
    }

    /// How much is owed in all, and the messages that are owed and were not shown, with their devices.
    pub(crate) fn missing(&self) -> (usize, Vec<String>) {
        let (mut owed, mut missing) = (0, Vec::new());
        for (index, written) in self.written.iter().enumerate() {
            for (to, due) in written.due.iter().filter(|(_, due)| due.owed) {
                owed += 1;
                if !self.lives.get(to).is_some_and(|life| life.shown.contains(&index)) {
                    missing.push(format!("#{index} from {} to {to} ({:?})", written.from, due.stage));
                }
            }
        }
        (owed, missing)
    }
}

/// The reference in an envelope's head.
fn reference(envelope: &[u8]) -> [u8; 16] {
    envelope[2..18].try_into().unwrap()
}

/// A text is the message's number.
fn index_of(incoming: &Incoming) -> usize {
    std::str::from_utf8(&incoming.text).unwrap().parse().unwrap()
}
