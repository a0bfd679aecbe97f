//! Who is owed which text, kept by the test itself: the rules are at the head of `devices.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use subrosa::{
    Address, Completed, DeviceList, EnvelopeId, Event, Item, MessageId, Received, Text, UnixTime,
};

/// A text, and for whom it was written.
pub(crate) struct Written {
    pub(crate) id: MessageId,
    pub(crate) from: Address,
    pub(crate) to: String,
    /// When, by the count of the world's steps, and by the clock.
    step: usize,
    at: UnixTime,
    /// Its sender was restored from a backup that is older.
    pub(crate) forgotten: bool,
    /// The sender did not know the devices of the user yet, or waits for somebody to accept a key.
    pub(crate) is_open: bool,
    /// The step at which it was known for whom it is.
    known: usize,
    due: BTreeMap<Address, Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its envelope has not left its sender.
    Waiting,
    /// The transport has the envelope.
    Sent,
    /// The device set the envelope aside.
    Aside,
    /// The envelope came, and nothing opened it: the device asks for the text again.
    Asked,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    stage: Stage,
    owed: bool,
    /// The device refused it, and does not know whom to ask for it: it comes by itself, as long as
    /// its sender has it.
    is_unasked: bool,
}

/// A device that was restored from a copy.
#[derive(Clone, Copy, Default)]
struct Restored {
    /// How often.
    lives: usize,
    /// The first text that was written since.
    since: usize,
}

/// What a device's app remembers: it goes into a backup with the store, and comes back with it.
#[derive(Clone, Default)]
pub(crate) struct Life {
    opened: BTreeSet<usize>,
    shown: BTreeSet<usize>,
    /// Texts that the server has whole, as the app was told.
    marked: BTreeSet<usize>,
    /// Those that are said not to be their user's, and may come as such.
    disowned: BTreeSet<usize>,
}

#[derive(Default)]
pub(crate) struct Promise {
    pub(crate) written: Vec<Written>,
    ids: HashMap<MessageId, usize>,
    /// The envelopes of each text, by what is in their head.
    envelopes: HashMap<[u8; 16], (usize, Address)>,
    /// The one envelope of a text for a device, in the life that the sender has.
    firsts: HashMap<(usize, Address), [u8; 16]>,
    lives: BTreeMap<Address, Life>,
    gone: BTreeSet<Address>,
    /// What each device handed out, by its header's nonce.
    nonces: HashMap<(Address, [u8; 12]), Vec<u8>>,
    /// Restored from a backup, and not told so by the server: these use keys a second time.
    unaware: BTreeSet<Address>,
    restored: BTreeMap<Address, Restored>,
    /// Who handed out each envelope, and in which life.
    makers: HashMap<[u8; 16], (Address, usize)>,
    /// Of a writer and a reader, the texts before which something came that the reader wrote before
    /// it was restored.
    late: BTreeMap<(Address, Address), usize>,
    renewed: BTreeSet<String>,
    /// What a device calls the envelopes that it asked for, and the text in each.
    asked: HashMap<(Address, EnvelopeId), usize>,
    /// How often a device asked for envelopes of another one.
    requests: HashMap<(Address, Address), usize>,
    pub(crate) shown: usize,
    pub(crate) excused: usize,
}

impl Promise {
    /// A device wrote a text for these devices; none where it does not know for which.
    pub(crate) fn wrote(
        &mut self,
        (id, from, to): (MessageId, &Address, &str),
        entitled: Option<BTreeSet<Address>>,
        (step, at): (usize, UnixTime),
    ) {
        let index = self.written.len();
        assert!(self.ids.insert(id, index).is_none(), "#{index} has the name of another");
        self.written.push(Written {
            id,
            from: from.clone(),
            to: to.into(),
            step,
            at,
            forgotten: false,
            is_open: true,
            known: step,
            due: BTreeMap::new(),
        });
        if let Some(entitled) = entitled {
            self.is_for(index, entitled, step);
        }
    }

    /// It is known now for whom a text is.
    pub(crate) fn is_for(&mut self, index: usize, entitled: BTreeSet<Address>, step: usize) {
        let written = &mut self.written[index];
        (written.is_open, written.known) = (false, step);
        let gone = self.gone.contains(&written.from);
        for to in entitled {
            let owed = !gone && !self.gone.contains(&to);
            let new = Due { stage: Stage::Waiting, owed, is_unasked: false };
            let due = written.due.entry(to).or_insert(new);
            due.owed |= owed && due.stage == Stage::Waiting;
        }
    }

    /// Texts of a device of which it was not known for whom they are.
    pub(crate) fn open_of(&self, from: &Address) -> Vec<(usize, String)> {
        let all = self.written.iter().enumerate();
        all.filter(|(_, written)| written.is_open && !written.forgotten && written.from == *from)
            .map(|(index, written)| (index, written.to.clone()))
            .collect()
    }

    /// A device hands out an envelope to be sent.
    pub(crate) fn handed_out(
        &mut self,
        from: &Address,
        (to, envelope, message): (&Address, &[u8], Option<MessageId>),
    ) {
        let life = self.restored.get(from).map_or(0, |restored| restored.lives);
        self.makers.entry(reference(envelope)).or_insert_with(|| (from.clone(), life));
        if let Some(message) = message {
            let index = self.ids[&message];
            let written = &self.written[index];
            assert_eq!(written.from, *from, "#{index}");
            assert!(to.user == written.to || to.user == from.user, "#{index} goes to {to}");
            let reference = reference(envelope);
            self.envelopes.insert(reference, (index, to.clone()));
            let first = *self.firsts.entry((index, to.clone())).or_insert(reference);
            let is_one = first == reference || self.restored.contains_key(from);
            assert!(is_one, "#{index} is encrypted for {to} a second time");
        }
        if self.unaware.contains(from) {
            return;
        }
        // A sealed envelope has a ticket before its message.
        let head = if envelope[1] == 3 { 34 } else { 18 };
        let initial = envelope[head + 1] == 2;
        let at = head + 2 + if initial { 1660 } else { 0 };
        let nonce = (from.clone(), envelope[at..at + 12].try_into().unwrap());
        let first = self.nonces.entry(nonce).or_insert_with(|| envelope.to_vec());
        assert!(first == envelope, "{from} used the key of a header twice");
    }

    /// The server has an envelope.
    pub(crate) fn left(&mut self, envelope: &[u8]) {
        if let Some((index, to)) = self.envelopes.get(&reference(envelope))
            && let Some(due) = self.written[*index].due.get_mut(to)
            && due.stage == Stage::Waiting
        {
            due.stage = Stage::Sent;
        }
    }

    /// What came of a task.
    pub(crate) fn completed(&mut self, at: &Address, completed: &Completed) {
        if let Completed::Sent(message) = completed {
            let index = self.ids[message];
            assert_eq!(self.written[index].from, *at, "#{index}");
            let first = self.lives.entry(at.clone()).or_default().marked.insert(index);
            assert!(first, "#{index} is marked as sent a second time");
        }
    }

    /// Whether an envelope has a text that its sender does not know of any more.
    pub(crate) fn is_forgotten(&self, envelope: &[u8]) -> bool {
        let text = self.envelopes.get(&reference(envelope));
        text.is_some_and(|(index, _)| self.written[*index].forgotten)
    }

    /// What became of a genuine envelope. What was set aside `is_readable` or not.
    pub(crate) fn delivered(
        &mut self,
        to: &Address,
        envelope: &[u8],
        (received, is_readable): (&Received, bool),
    ) {
        self.came_late(to, envelope, received);
        if let Received::AskedAgain(_) = received
            && let Some((maker, _)) = self.makers.get(&reference(envelope))
        {
            *self.requests.entry((to.clone(), maker.clone())).or_default() += 1;
        }
        if let Received::Incoming(incoming) = received {
            let (Item::Text(text) | Item::Late(text)) = &incoming.item else { return };
            let index = index_of(text);
            let life = self.lives.entry(to.clone()).or_default();
            let is_right = life.opened.insert(index) || life.disowned.contains(&index);
            assert!(is_right, "#{index} comes a second time to {to}");
            return;
        }
        let Some((index, addressee)) = self.envelopes.get(&reference(envelope)) else { return };
        assert_eq!(addressee, to);
        if let Received::AskedAgain(envelope) = received {
            self.asked.insert((to.clone(), *envelope), *index);
        }
        let opened = self.lives.get(to).is_some_and(|life| life.opened.contains(index));
        let stage = match received {
            Received::Duplicate => {
                assert!(opened, "#{index} is called a duplicate by {to}");
                return;
            }
            Received::AskedAgain(_) if !opened => Stage::Asked,
            Received::SetAside if !opened => Stage::Aside,
            _ => return,
        };
        let written = &mut self.written[*index];
        if let Some(due) = written.due.get_mut(to) {
            due.stage = stage;
            due.owed &= !written.forgotten || stage == Stage::Aside && is_readable;
        }
    }

    /// A device takes what it showed of a user for somebody else's, but for what these devices sent.
    pub(crate) fn disowned(&mut self, at: &Address, user: &str, known: Option<&DeviceList>) {
        let Some(life) = self.lives.get_mut(at) else { return };
        for index in &life.opened {
            let from = &self.written[*index].from;
            if from.user == user && known.is_none_or(|list| list.get(from.device).is_none()) {
                life.disowned.insert(*index);
            }
        }
    }

    /// Something that a device wrote before it was restored may end the silence of whoever reads it.
    fn came_late(&mut self, writer: &Address, envelope: &[u8], received: &Received) {
        let before = match received {
            Received::Refused(_) | Received::AskedAgain(_) => return,
            // It may be opened at any time.
            Received::SetAside => usize::MAX,
            _ => self.written.len(),
        };
        let Some((reader, life)) = self.makers.get(&reference(envelope)) else { return };
        if self.restored.get(reader).is_none_or(|restored| restored.lives <= *life) {
            return;
        }
        let late = self.late.entry((writer.clone(), reader.clone())).or_default();
        *late = before.max(*late);
        for written in self.written.iter_mut().filter(|written| written.from == *writer) {
            if let Some(due) = written.due.get_mut(reader) {
                due.owed &= !due.is_unasked;
            }
        }
    }

    /// A device refused a genuine envelope, since it does not know whose it is: says whether it was
    /// restored, which is why it does not.
    pub(crate) fn refused(&mut self, to: &Address, envelope: &[u8]) -> bool {
        let restored = self.restored.get(to);
        if let Some((index, _)) = self.envelopes.get(&reference(envelope)) {
            let written = &mut self.written[*index];
            let late = self.late.get(&(written.from.clone(), to.clone()));
            let since = restored.map_or(0, |restored| restored.since).max(late.map_or(0, |at| *at));
            if let Some(due) = written.due.get_mut(to)
                && due.stage != Stage::Aside
            {
                due.is_unasked = true;
                due.owed &= !written.forgotten && since <= *index && !self.unaware.contains(to);
            }
        }
        restored.is_some()
    }

    /// What waits in the inbox of a device, or is held there, was opened.
    pub(crate) fn waits(&mut self, at: &Address, text: &Text) {
        self.lives.entry(at.clone()).or_default().opened.insert(index_of(text));
    }

    /// The app of a device shows something.
    pub(crate) fn showed(&mut self, at: &Address, item: &Item) {
        match item {
            Item::Text(text) => self.showed_text(at, text),
            Item::Late(text) => {
                // Where the account key was renewed, a server may show the old list as a new one,
                // which does not have the newest devices.
                let may_be =
                    self.gone.contains(&text.from) || self.renewed.contains(&text.from.user);
                assert!(may_be, "{} is not late at {at}", text.from);
                self.showed_text(at, text);
            }
            Item::Event(event) => self.told(at, event),
            other => panic!("{other:?}"),
        }
    }

    fn showed_text(&mut self, at: &Address, text: &Text) {
        let index = index_of(text);
        let written = &self.written[index];
        let is_for =
            written.due.contains_key(at) || at.user == written.to || at.user == written.from.user;
        assert!(is_for && *at != written.from, "#{index} is not for {at}: {text:?}");
        assert_eq!((text.message, &text.from), (written.id, &written.from), "#{index}");
        let copy_to = (written.to != at.user).then(|| written.to.clone());
        assert_eq!(text.copy_to, copy_to, "#{index}");
        let life = self.lives.entry(at.clone()).or_default();
        life.opened.insert(index);
        let is_right = life.shown.insert(index) || life.disowned.remove(&index);
        assert!(is_right, "#{index} is shown a second time on {at}");
        self.shown += 1;
    }

    /// A person hears of a loss only where the world made it one.
    fn told(&mut self, at: &Address, event: &Event) {
        match event {
            Event::Lost { envelope, .. } => {
                let Some(index) = self.asked.get(&(at.clone(), *envelope)) else { return };
                let opened = self.lives.get(at).is_some_and(|life| life.opened.contains(index));
                let due = self.written[*index].due.get(at);
                let owed = due.is_some_and(|due| due.owed && !due.is_unasked);
                assert!(opened || !owed, "#{index} is said to be lost at {at}");
                self.excused += 1;
            }
            Event::NotReadable { by, message: Some(message) } => {
                let index = self.ids[message];
                let opened = self.lives.get(by).is_some_and(|life| life.opened.contains(&index));
                let due = self.written[index].due.get(by);
                let owed = due.is_some_and(|due| due.owed && !due.is_unasked);
                // It is sent again so often that it may be told while the last one is under way.
                let times = self.requests.get(&(by.clone(), at.clone())).copied().unwrap_or(0);
                assert!(
                    opened || !owed || times >= MANY_REQUESTS,
                    "#{index} is said not to be readable by {by}"
                );
                self.excused += 1;
            }
            Event::Undelivered { message, to, device } => {
                let index = self.ids[message];
                let address = device.map(|device| Address::new(to, device));
                let is_gone = address.as_ref().is_some_and(|address| self.gone.contains(address));
                assert!(is_gone, "#{index} is given up for {to}, {device:?}");
                self.excused += 1;
            }
            Event::Restored => {
                assert!(self.restored.contains_key(at), "{at} takes itself for a copy")
            }
            Event::Unlinked => assert!(self.gone.contains(at), "{at} takes itself for removed"),
            Event::Unsupported { .. } => panic!("{at} cannot show something: {event:?}"),
            _ => {}
        }
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

    /// The account key of a user was renewed.
    pub(crate) fn renewed(&mut self, user: &str) {
        self.renewed.insert(user.into());
    }

    pub(crate) fn life(&self, device: &Address) -> Life {
        self.lives.get(device).cloned().unwrap_or_default()
    }

    /// A device was restored from a backup that was made at `step`, with what its app remembered
    /// then.
    pub(crate) fn restored(&mut self, device: &Address, life: Life, step: usize, is_noticed: bool) {
        if !is_noticed {
            self.unaware.insert(device.clone());
        }
        let restored = self.restored.entry(device.clone()).or_default();
        *restored = Restored { lives: restored.lives + 1, since: self.written.len() };
        let before = self.lives.insert(device.clone(), life).unwrap_or_default();
        let lives = &self.lives;
        for (index, written) in self.written.iter_mut().enumerate() {
            let by_it = written.from == *device;
            written.forgotten |= by_it && written.step > step;
            // It is for the devices that the copy's lists name.
            let is_open_again = by_it && !written.forgotten && written.known > step;
            written.is_open |= is_open_again;
            for (to, due) in &mut written.due {
                let opened = lives.get(to).is_some_and(|life| life.opened.contains(&index));
                let undone = to == device && before.opened.contains(&index) && !opened;
                let in_between = matches!(due.stage, Stage::Asked | Stage::Aside) || due.is_unasked;
                let asked = (by_it || to == device) && !opened && in_between;
                let unsent = (written.forgotten || is_open_again) && due.stage == Stage::Waiting;
                due.owed &= !(undone || asked || unsent);
            }
        }
    }

    /// How much of the first texts is owed in all, and what of it was not shown, with the devices.
    /// What comes by itself is counted where it is from after a time.
    pub(crate) fn missing(&self, first: usize, since: Option<UnixTime>) -> (usize, Vec<String>) {
        let (mut owed, mut missing) = (0, Vec::new());
        for (index, written) in self.written.iter().enumerate().take(first) {
            let comes = since.is_some_and(|since| written.at > since);
            let is_due = |due: &Due| due.owed && (comes || !due.is_unasked);
            for (to, due) in written.due.iter().filter(|(_, due)| is_due(due)) {
                owed += 1;
                if !self.lives.get(to).is_some_and(|life| life.shown.contains(&index)) {
                    missing
                        .push(format!("#{index} from {} to {to} ({:?})", written.from, due.stage));
                }
            }
        }
        (owed, missing)
    }
}

/// After so many requests of a device, a text that it asked for may have been sent again 16 times,
/// the most that a client does.
const MANY_REQUESTS: usize = 16;

/// The reference in an envelope's head.
fn reference(envelope: &[u8]) -> [u8; 16] {
    envelope[2..18].try_into().unwrap()
}

/// A text is its number.
fn index_of(text: &Text) -> usize {
    std::str::from_utf8(&text.text).unwrap().parse().unwrap()
}
