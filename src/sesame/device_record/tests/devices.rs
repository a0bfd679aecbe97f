//! Two devices, what is on the way between them, and all that can happen to both.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use super::rules::Rules;
use crate::identity::IdentityKey;
use crate::sesame::device_record::{
    AnswerIn, AskIn, Asked, Began, Closed, DeviceRecord, SessionEntry, YOUNG, short,
};
use crate::session::SessionId;
use crate::time::UnixTime;

/// 0 or 1.
pub(super) type Side = usize;

/// A session's number in the order of their beginnings.
pub(super) type Number = usize;

/// The name of an envelope: a number in the order of their being made.
pub(super) type Name = u64;

/// What is wrong.
pub(super) type Violation = &'static str;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Text,
    /// A text or a request again, since it was asked for.
    Answer,
    Request,
}

/// A session, as both together see it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Link {
    by: Side,
    pub(super) rank: u64,
    /// What decides between equal ranks: the first byte of the id.
    pub(super) tie: u8,
    /// The bundle is one that the other device cannot use any more.
    dead: bool,
    /// The other device used up the bundle.
    used: bool,
    /// What these sides write is not opened.
    broken: [bool; 2],
    /// These sides wrote in it since their stores were copied.
    since_copy: [bool; 2],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mail {
    pub(super) name: Name,
    pub(super) from: Side,
    session: Number,
    pub(super) kind: Kind,
    asks: bool,
    /// It may begin the session there.
    initial: bool,
    holds: Option<Number>,
    references: Vec<Name>,
    pub(super) garbled: bool,
}

/// What can be asked for again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Row {
    pub(super) name: Name,
    /// None where its maker does not know it any more.
    pub(super) maker: Option<Side>,
    session: Number,
    kind: Kind,
    references: Vec<Name>,
    /// The text that it holds, by its first envelope.
    pub(super) text: Name,
    since_copy: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Queued {
    session: Number,
    holds: Option<Number>,
    references: Vec<Name>,
}

/// A device. What waits for a bundle is as in the client: what is to be asked for, the requests
/// that are being answered, the texts.
pub(super) struct Device {
    pub(super) record: DeviceRecord,
    /// The sessions in which something was opened.
    answered: BTreeSet<Number>,
    asking: Vec<Name>,
    queue: Vec<Queued>,
    drafts: usize,
    pub(super) wants_bundle: bool,
}

/// A device in a form that is equal where it behaves alike.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Frozen {
    closed: Option<Closed>,
    floor: u64,
    entries: Vec<SessionEntry>,
    dropped: Vec<SessionId>,
    answered: BTreeSet<Number>,
    asking: Vec<Name>,
    queue: Vec<Queued>,
    drafts: usize,
    wants_bundle: bool,
}

/// A copy of a store.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two of them in a state")]
pub(super) enum StoreCopy {
    None,
    /// The device, and the sessions of the other whose bundles it had used up.
    Made(Frozen, BTreeSet<Number>),
    Restored,
}

/// Both devices and all between them, in a form that is equal where it behaves alike.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Frame {
    pub(super) links: Vec<Link>,
    devices: [Frozen; 2],
    pub(super) mails: Vec<Mail>,
    rows: Vec<Row>,
    next: Name,
    pub(super) copies: [StoreCopy; 2],
}

/// How what is left to chance comes out.
#[derive(Clone, Default)]
pub(super) struct Chance {
    /// The choices made, and then the first of each.
    pub(super) picks: Vec<usize>,
    /// How many there were to choose from, in turn.
    pub(super) options: Vec<usize>,
    /// Every choice is this one, or the last one there is.
    pub(super) always: Option<[usize; 2]>,
    /// Bundles that may be dead.
    pub(super) dead: u8,
}

pub(super) struct Devices<'a> {
    rules: &'a dyn Rules,
    pub(super) links: Vec<Link>,
    pub(super) devices: [Device; 2],
    pub(super) mails: Vec<Mail>,
    pub(super) rows: Vec<Row>,
    pub(super) next: Name,
    pub(super) copies: [StoreCopy; 2],
    pub(super) chance: Chance,
    /// Seconds since the meetings began.
    clock: u64,
    /// Bundles come at once.
    pub(super) prompt: bool,
    /// The texts that were opened.
    pub(super) opened: Vec<Name>,
    pub(super) made: u8,
    pub(super) begun: u8,
    pub(super) last_text: Option<Name>,
}

/// A time for all that is compared with the age of sessions.
const NOW: u64 = 2_000_000_000;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW).unwrap()
}

fn old() -> UnixTime {
    UnixTime::from_secs(NOW - 2 * YOUNG).unwrap()
}

fn id(number: Number, tie: u8) -> SessionId {
    let mut bytes = [0; 33];
    bytes[..3].copy_from_slice(&[32, tie, u8::try_from(number).unwrap()]);
    postcard::from_bytes(&bytes).unwrap()
}

fn number(id: &SessionId) -> Number {
    id.as_bytes()[1].into()
}

fn identity() -> IdentityKey {
    static KEY: std::sync::OnceLock<IdentityKey> = std::sync::OnceLock::new();
    *KEY.get_or_init(|| {
        crate::identity::IdentityKeyPair::generate(&mut crate::testing::Replay::counting())
            .public_key()
    })
}

impl Chance {
    fn pick(&mut self, options: usize) -> usize {
        let turn = self.options.len();
        self.options.push(options);
        self.picks.get(turn).copied().unwrap_or(0)
    }

    fn clock(&mut self) -> usize {
        self.always.map_or_else(|| self.pick(2), |[clock, _]| clock)
    }

    fn tie(&mut self) -> usize {
        self.always.map_or_else(|| self.pick(2), |[_, tie]| tie)
    }

    fn is_dead(&mut self) -> bool {
        let is_dead = self.always.is_none() && self.dead > 0 && self.pick(2) == 1;
        self.dead -= u8::from(is_dead);
        is_dead
    }
}

impl Device {
    pub(super) fn new() -> Self {
        Self {
            record: DeviceRecord::new(identity(), 0),
            answered: BTreeSet::new(),
            asking: Vec::new(),
            queue: Vec::new(),
            drafts: 0,
            wants_bundle: false,
        }
    }

    fn freeze(&self) -> Frozen {
        Frozen {
            closed: self.record.closed,
            floor: self.record.floor,
            entries: self.record.entries.clone(),
            dropped: self.record.dropped.clone(),
            answered: self.answered.clone(),
            asking: self.asking.clone(),
            queue: self.queue.clone(),
            drafts: self.drafts,
            wants_bundle: self.wants_bundle,
        }
    }
}

impl Frozen {
    fn thaw(&self, made: Name) -> Device {
        let mut device = Device::new();
        device.record.closed = self.closed;
        device.record.floor = self.floor;
        device.record.entries.clone_from(&self.entries);
        device.record.dropped.clone_from(&self.dropped);
        device.record.made = made;
        device.answered.clone_from(&self.answered);
        device.asking.clone_from(&self.asking);
        device.queue.clone_from(&self.queue);
        device.drafts = self.drafts;
        device.wants_bundle = self.wants_bundle;
        device
    }

    /// With the ids and the names that others have.
    fn renamed(&self, id: impl Fn(&SessionId) -> SessionId, name: impl Fn(Name) -> Name) -> Self {
        let mut new = self.clone();
        for entry in &mut new.entries {
            entry.id = id(&entry.id);
            entry.doubted_at = entry.doubted_at.map(&name);
        }
        new.entries.sort_by_key(|entry| number(&entry.id));
        new.dropped = new.dropped.iter().map(id_of(&id)).collect();
        new.dropped.sort();
        new.dropped.dedup();
        if let Some(closed) = &mut new.closed
            && closed.id.0 != SessionId::MIN
        {
            closed.id = Reverse(id(&closed.id.0));
        }
        new.asking = new.asking.iter().map(|one| name(*one)).collect();
        for queued in &mut new.queue {
            queued.references = queued.references.iter().map(|one| name(*one)).collect();
        }
        new
    }
}

fn id_of(id: &impl Fn(&SessionId) -> SessionId) -> impl Fn(&SessionId) -> SessionId + '_ {
    move |one| id(one)
}

impl Frame {
    pub(super) fn empty() -> Self {
        let device = Device::new().freeze();
        Self {
            links: Vec::new(),
            devices: [device.clone(), device],
            mails: Vec::new(),
            rows: Vec::new(),
            next: 0,
            copies: [StoreCopy::None, StoreCopy::None],
        }
    }

    pub(super) fn thaw<'a>(
        &self,
        rules: &'a dyn Rules,
        prompt: bool,
        chance: Chance,
    ) -> Devices<'a> {
        Devices {
            rules,
            links: self.links.clone(),
            devices: [0, 1].map(|side| self.devices[side].thaw(self.next)),
            mails: self.mails.clone(),
            rows: self.rows.clone(),
            next: self.next,
            copies: self.copies.clone(),
            chance,
            clock: 0,
            prompt,
            opened: Vec::new(),
            made: 0,
            begun: 0,
            last_text: None,
        }
    }
}

impl Devices<'_> {
    /// The same once more, with all names as they are.
    pub(super) fn again<'a>(&self, rules: &'a dyn Rules) -> Devices<'a> {
        let frame = Frame {
            links: self.links.clone(),
            devices: [0, 1].map(|side: Side| self.devices[side].freeze()),
            mails: self.mails.clone(),
            rows: self.rows.clone(),
            next: self.next,
            copies: self.copies.clone(),
        };
        frame.thaw(rules, self.prompt, self.chance.clone())
    }

    /// As it is now, without what nothing refers to, and with numbers that are as small as they can
    /// be.
    pub(super) fn freeze(&self) -> Frame {
        let mut live: BTreeSet<Name> = self.mails.iter().map(|mail| mail.name).collect();
        live.extend(self.mails.iter().flat_map(|mail| &mail.references));
        for device in &self.devices {
            live.extend(&device.asking);
            live.extend(device.queue.iter().flat_map(|queued| &queued.references));
        }
        loop {
            let before = live.len();
            let rows = self.rows.iter().filter(|row| live.contains(&row.name));
            let more: Vec<Name> = rows.flat_map(|row| row.references.iter().copied()).collect();
            live.extend(more);
            if live.len() == before {
                break;
            }
        }
        let rows: Vec<&Row> = self.rows.iter().filter(|row| live.contains(&row.name)).collect();
        live.extend(rows.iter().map(|row| row.text));
        let frozen = [0, 1].map(|side| self.devices[side].freeze());
        let copied = self.copies.iter().filter_map(|copy| match copy {
            StoreCopy::Made(frozen, _) => Some(frozen),
            StoreCopy::None | StoreCopy::Restored => None,
        });
        let doubts = frozen.iter().chain(copied).flat_map(|device| &device.entries);
        live.extend(doubts.filter_map(|entry| entry.doubted_at));
        let names: Vec<Name> = live.into_iter().collect();
        let name = |old: Name| Name::try_from(names.binary_search(&old).unwrap()).unwrap();
        let all = |old: &[Name]| old.iter().map(|old| name(*old)).collect::<Vec<_>>();

        let mut links = self.links.clone();
        for (link, old) in links.iter_mut().zip(&self.links) {
            let lower =
                self.links.iter().filter(|other| other.rank == old.rank && other.tie < old.tie);
            link.tie = 128 + u8::try_from(lower.count()).unwrap();
        }
        let new_id = |old: &SessionId| id(number(old), links[number(old)].tie);
        let device = |old: &Frozen| old.renamed(new_id, name);
        let mut mails: Vec<Mail> = self.mails.clone();
        for mail in &mut mails {
            mail.name = name(mail.name);
            mail.references = all(&mail.references);
        }
        mails.sort_by_key(|mail| mail.name);
        let rows = rows.into_iter().map(|row| Row {
            name: name(row.name),
            references: all(&row.references),
            text: name(row.text),
            ..row.clone()
        });
        let rows = rows.collect();
        let copies = [0, 1].map(|side: Side| match &self.copies[side] {
            StoreCopy::Made(copy, used) => StoreCopy::Made(device(copy), used.clone()),
            copy => copy.clone(),
        });
        let devices = [0, 1].map(|side: Side| device(&frozen[side]));
        Frame { devices, mails, rows, next: Name::try_from(names.len()).unwrap(), copies, links }
    }

    fn id(&self, session: Number) -> SessionId {
        id(session, self.links[session].tie)
    }

    /// The place of a session in the order.
    pub(super) fn place(&self, session: Number) -> (u64, Reverse<u8>) {
        (self.links[session].rank, Reverse(self.links[session].tie))
    }

    pub(super) fn writing(&self, side: Side) -> Option<Number> {
        self.devices[side].record.writing().map(|entry| number(&entry.id))
    }

    /// Whether both write in one session, and both heard the other there.
    pub(super) fn healthy(&self) -> Option<Number> {
        let session = self.writing(0)?;
        let is_heard =
            |side: Side| self.devices[side].record.writing().is_some_and(|entry| entry.heard);
        (self.writing(1) == Some(session) && is_heard(0) && is_heard(1)).then_some(session)
    }

    fn begin(&mut self, side: Side, to_ask: bool) {
        let top = self.links.iter().map(|link| link.rank).max().unwrap_or(0);
        let low = UnixTime::MIN;
        let record = &mut self.devices[side].record;
        let high = record.floor.max(top).saturating_add(1);
        let high = UnixTime::from_secs(high).unwrap_or(UnixTime::MIN);
        // The clock says nothing, or it is ahead of all.
        let is_same = record.next_rank(low) == record.next_rank(high);
        let now = if is_same || self.chance.clock() == 0 { low } else { high };
        let rank = record.next_rank(now);
        let ties = || self.links.iter().filter(|link| link.rank == rank).map(|link| link.tie);
        let tie = match (ties().min(), ties().max()) {
            (Some(min), Some(max)) => [min - 1, max + 1][self.chance.tie()],
            _ => 128,
        };
        let dead = self.chance.is_dead();
        let session = self.links.len();
        let (broken, since_copy) = ([false; 2], [false; 2]);
        self.links.push(Link { by: side, rank, tie, dead, used: false, broken, since_copy });
        let (id, created_at) = (self.id(session), self.now());
        let record = &mut self.devices[side].record;
        self.rules.begin(record, id, now, to_ask);
        record.entry_mut(&id).unwrap().created_at = created_at;
        self.begun += 1;
    }

    fn post(
        &mut self,
        side: Side,
        session: Number,
        row: (Kind, Vec<Name>),
        of: Option<Name>,
    ) -> Result<(), Violation> {
        let id = self.id(session);
        let device = &mut self.devices[side];
        let asks = device.record.asks_in(&id);
        let entry = device.record.entry(&id).ok_or("written in a session that is gone")?;
        if !device.record.is_open(entry) {
            return Err("written in a closed session");
        }
        let (kind, references) = row;
        if kind == Kind::Text && asks {
            return Err("a text outside the session written in");
        }
        let initial = entry.began != Began::There && !device.answered.contains(&session);
        let holds = device.record.writing().map(|entry| number(&entry.id));
        let since_copy = matches!(self.copies[side], StoreCopy::Made(..));
        self.links[session].since_copy[side] |= since_copy;
        let name = self.next;
        self.next += 1;
        device.record.made = self.next;
        self.made += 1;
        let text = of.unwrap_or(name);
        if kind == Kind::Request {
            device.record.requested(&id);
        }
        if kind == Kind::Text {
            self.last_text = Some(name);
        }
        let row = Row {
            name,
            maker: Some(side),
            session,
            kind,
            references: references.clone(),
            text,
            since_copy,
        };
        self.rows.push(row);
        self.mails.push(Mail {
            name,
            from: side,
            session,
            kind,
            asks,
            initial,
            holds,
            references,
            garbled: false,
        });
        Ok(())
    }

    /// Somebody writes a text.
    pub(super) fn write(&mut self, side: Side) -> Result<(), Violation> {
        match self.writing(side) {
            Some(session) => self.post(side, session, (Kind::Text, Vec::new()), None)?,
            None => {
                self.devices[side].drafts += 1;
                self.devices[side].wants_bundle = true;
            }
        }
        self.bundles()
    }

    /// The bundles that are wanted come, where they come at once.
    pub(super) fn bundles(&mut self) -> Result<(), Violation> {
        for _ in 0..16 {
            let wants = [0, 1].into_iter().find(|side| self.devices[*side].wants_bundle);
            match wants {
                Some(side) if self.prompt => self.bundle(side)?,
                _ => return Ok(()),
            }
        }
        Err("no end of bundles")
    }

    /// A bundle comes.
    pub(super) fn bundle(&mut self, side: Side) -> Result<(), Violation> {
        let now = self.now();
        let device = &mut self.devices[side];
        device.wants_bundle = false;
        let is_writing = device.record.writing().is_some();
        let to_ask = is_writing
            && !device.asking.is_empty()
            && self.rules.ask_in(&device.record, now) == AskIn::NewAsking;
        if !is_writing || to_ask {
            self.begin(side, to_ask);
        }
        self.go_on(side)
    }

    fn go_on(&mut self, side: Side) -> Result<(), Violation> {
        if !self.devices[side].asking.is_empty() {
            self.ask(side, false)?;
        }
        if self.devices[side].queue.is_empty() && self.devices[side].drafts == 0 {
            return Ok(());
        }
        if self.writing(side).is_some() {
            self.answer(side)?;
        }
        let Some(session) = self.writing(side) else {
            self.devices[side].wants_bundle = true;
            return Ok(());
        };
        for _ in 0..core::mem::take(&mut self.devices[side].drafts) {
            self.post(side, session, (Kind::Text, Vec::new()), None)?;
        }
        Ok(())
    }

    /// Something comes that nothing opens.
    pub(super) fn unreadable(
        &mut self,
        side: Side,
        name: Name,
        header_opened: bool,
    ) -> Result<(), Violation> {
        self.devices[side].asking.insert(0, name);
        self.ask(side, header_opened)?;
        self.bundles()
    }

    fn ask(&mut self, side: Side, header_opened: bool) -> Result<(), Violation> {
        let now = self.now();
        let device = &mut self.devices[side];
        let AskIn::Session(id) = self.rules.ask_in(&device.record, now) else {
            device.wants_bundle = true;
            return Ok(());
        };
        let references = core::mem::take(&mut device.asking);
        self.post(side, number(&id), (Kind::Request, references), None)?;
        if header_opened && let Some(mail) = self.mails.last_mut() {
            mail.holds = None;
        }
        Ok(())
    }

    /// An envelope comes.
    pub(super) fn deliver(&mut self, index: usize) -> Result<(), Violation> {
        let mail = self.mails.remove(index);
        let (from, to) = (mail.from, 1 - mail.from);
        if mail.garbled {
            return self.unreadable(to, mail.name, false);
        }
        let (session, id, now) = (mail.session, self.id(mail.session), self.now());
        let link = &mut self.links[session];
        let record = &mut self.devices[to].record;
        if record.entry(&id).is_none() {
            if link.by == to || !mail.initial || link.dead || link.used {
                return self.unreadable(to, mail.name, false);
            }
            link.used = true;
            record.accept(id, link.rank, now, mail.asks).map_err(|_| "a rank is refused")?;
        } else if link.broken[from] {
            // The keys are used up, or the chains differ.
            let header_opened = match self.chance.always {
                Some([clock, _]) => clock == 1,
                None => self.chance.pick(2) == 1,
            };
            return self.unreadable(to, mail.name, header_opened);
        }
        let rank = mail.initial.then_some(link.rank);
        self.rules.opened(record, &id, mail.asks, rank);
        self.devices[to].answered.insert(session);
        if mail.kind == Kind::Request {
            let queued = Queued { session, holds: mail.holds, references: mail.references };
            self.devices[to].queue.push(queued);
            match self.writing(to) {
                Some(_) => self.answer(to)?,
                None => self.devices[to].wants_bundle = true,
            }
        } else {
            let text = self.rows.iter().find(|row| row.name == mail.name).map(|row| row.text);
            self.opened.extend(text);
        }
        self.bundles()
    }

    fn answer(&mut self, side: Side) -> Result<(), Violation> {
        while let Some(queued) = self.devices[side].queue.first().cloned() {
            for (index, reference) in queued.references.iter().enumerate() {
                if !self.answer_one(side, &queued, *reference)? {
                    self.devices[side].queue[0].references.drain(..index);
                    self.devices[side].wants_bundle = true;
                    return Ok(());
                }
            }
            self.devices[side].queue.remove(0);
        }
        Ok(())
    }

    /// False where there is no session to answer in.
    fn answer_one(
        &mut self,
        side: Side,
        queued: &Queued,
        reference: Name,
    ) -> Result<bool, Violation> {
        let asked_in = self.id(queued.session);
        let row =
            self.rows.iter().find(|row| row.name == reference && row.maker == Some(side)).cloned();
        let row = row.map(|row| (self.id(row.session), row));
        let holds = queued.holds.map_or([0; 8], |holds| short(&self.id(holds)));
        let record = &mut self.devices[side].record;
        let Some((made_in, row)) =
            row.filter(|(id, _)| record.known_ids().any(|known| known == id))
        else {
            self.rules.not_ours(record, &asked_in);
            return Ok(true);
        };
        let asked = Asked { asked_in, holds, made_in, evidence: Some(reference) };
        let session = match self.rules.asked(record, &asked) {
            AnswerIn::Request => queued.session,
            AnswerIn::Writing => match self.writing(side) {
                Some(session) => session,
                None => return Ok(false),
            },
        };
        let kind = if row.kind == Kind::Request { Kind::Request } else { Kind::Answer };
        self.post(side, session, (kind, row.references), Some(row.text))?;
        Ok(true)
    }

    /// A device loses its store, and begins anew with the same identity.
    pub(super) fn lose(&mut self, side: Side) {
        self.devices[side] = Device::new();
        self.devices[side].record.made = self.next;
        for row in self.rows.iter_mut().filter(|row| row.maker == Some(side)) {
            row.maker = None;
        }
    }

    pub(super) fn has_sessions(&self, side: Side) -> bool {
        !self.devices[side].record.entries.is_empty()
    }

    /// A device's store is copied.
    pub(super) fn copy(&mut self, side: Side) {
        let used = (0..self.links.len()).filter(|one| self.links[*one].used).collect();
        let mut device = self.devices[side].freeze();
        (device.asking, device.queue, device.drafts, device.wants_bundle) =
            (vec![], vec![], 0, false);
        self.copies[side] = StoreCopy::Made(device, used);
    }

    /// The copy takes the place of the store. `broken`: what these sides write in the sessions of
    /// the copy is not opened any more; none where the device notices.
    pub(super) fn restore(&mut self, side: Side, broken: Option<[bool; 2]>) {
        let copy = core::mem::replace(&mut self.copies[side], StoreCopy::Restored);
        let StoreCopy::Made(copy, used) = copy else { return };
        let mut device = copy.thaw(self.next);
        for (session, link) in self.links.iter_mut().enumerate() {
            if link.by != side && !used.contains(&session) {
                link.used = false;
            }
        }
        if broken.is_none() {
            device.record.close_all();
        }
        for entry in &device.record.entries {
            let is_there = self.devices[1 - side].record.entry(&entry.id).is_some();
            let link = &mut self.links[number(&entry.id)];
            match broken {
                Some(broken) if link.since_copy[side] && is_there => {
                    link.broken = [0, 1].map(|side: Side| link.broken[side] || broken[side]);
                }
                None if link.since_copy[side] => link.broken = [true; 2],
                Some(_) | None => {}
            }
        }
        self.devices[side] = device;
        for row in self.rows.iter_mut().filter(|row| row.maker == Some(side) && row.since_copy) {
            row.maker = None;
        }
    }

    /// The session written in gets old without an answer. False where that changes nothing.
    pub(super) fn expire(&mut self, side: Side) -> bool {
        let record = &mut self.devices[side].record;
        let Some(id) = record.writing().filter(|entry| entry.is_unheard()).map(|entry| entry.id)
        else {
            return false;
        };
        record.entry_mut(&id).unwrap().created_at = UnixTime::MIN;
        self.rules.age(record, now());
        record.entry_mut(&id).unwrap().created_at = old();
        true
    }

    /// The sessions that only ask get older: than five minutes, than a day. False where there are
    /// none.
    pub(super) fn age(&mut self, side: Side) -> bool {
        let record = &mut self.devices[side].record;
        let is_asking =
            |entry: &&mut SessionEntry| entry.began == Began::HereToAsk && entry.is_unheard();
        let Some(entry) = record.entries.iter_mut().find(is_asking) else { return false };
        if entry.created_at == now() {
            entry.created_at = old();
        } else {
            entry.created_at = UnixTime::MIN;
            self.rules.age(record, now());
        }
        true
    }

    fn now(&self) -> UnixTime {
        now().after(self.clock)
    }

    /// Ten minutes pass.
    pub(super) fn wait(&mut self) {
        self.clock += 2 * YOUNG;
    }

    pub(super) fn reset(&mut self, side: Side) {
        self.devices[side].record.close_all();
    }

    /// The row of the session written in cannot be read.
    pub(super) fn corrupt(&mut self, side: Side) {
        if let Some(id) = self.devices[side].record.writing().map(|entry| entry.id) {
            self.rules.lose(&mut self.devices[side].record, &id);
        }
    }
}
