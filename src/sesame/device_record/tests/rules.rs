//! The rules, and the same with one fault each.

use crate::sesame::device_record::{
    AnswerIn, AskIn, Asked, Began, DeviceRecord, SessionEntry, YOUNG,
};
use crate::session::SessionId;
use crate::time::UnixTime;

/// What the simulator asks of the rules.
pub(super) trait Rules: Sync {
    fn begin(&self, record: &mut DeviceRecord, id: SessionId, now: UnixTime, to_ask: bool) {
        drop(record.begin(id, now, to_ask));
    }

    fn opened(&self, record: &mut DeviceRecord, id: &SessionId, asks: bool, rank: Option<u64>) {
        drop(record.opened(id, asks, rank, u64::MAX).unwrap());
    }

    fn ask_in(&self, record: &DeviceRecord, now: UnixTime) -> AskIn {
        record.ask_in(now)
    }

    fn asked(&self, record: &mut DeviceRecord, asked: &Asked) -> AnswerIn {
        record.asked(asked)
    }

    /// A request named something that this device did not make.
    fn not_ours(&self, _: &mut DeviceRecord, _asked_in: &SessionId) {}

    fn age(&self, record: &mut DeviceRecord, now: UnixTime) {
        drop(record.age(now, EXPIRY));
    }

    fn lose(&self, record: &mut DeviceRecord, id: &SessionId) {
        record.lose(id);
    }
}

/// Seconds for which a session is written in without an answer: 30 days.
const EXPIRY: u64 = 30 * 24 * 60 * 60;

/// As they are.
pub(super) struct Right;

/// A first request closes a session already.
pub(super) struct OneStrike;

/// A session that only serves to ask is judged as one that is written in.
pub(super) struct EvidenceOnAsking;

/// A session begun to ask in is written in from its birth.
pub(super) struct HealDisplaces;

/// The session that opened something last is written in.
pub(super) struct LastWins;

/// A session that expired is passed over, and one before it is written in again.
pub(super) struct ExpiryBack;

/// A session begun to ask in takes the place of the one before, in which answers may be under way.
pub(super) struct OneAsking;

/// What cannot be opened is asked for in a new session whenever the last one is five minutes old.
pub(super) struct EachAsShort;

/// Nothing is closed when a later one is heard or lost.
pub(super) struct NoClose;

/// A request for what this device did not make counts.
pub(super) struct AnyEvidence;

impl Rules for Right {}

impl Rules for OneStrike {
    fn asked(&self, record: &mut DeviceRecord, asked: &Asked) -> AnswerIn {
        if let Some(entry) = record.entry_mut(&asked.made_in) {
            entry.doubted_at = Some(0);
        }
        record.asked(asked)
    }
}

impl Rules for EvidenceOnAsking {
    fn asked(&self, record: &mut DeviceRecord, asked: &Asked) -> AnswerIn {
        let was_proved = record.entry(&asked.made_in).is_some_and(|entry| entry.proved);
        if let Some(entry) = record.entry_mut(&asked.made_in) {
            entry.proved = true;
        }
        let answer = record.asked(asked);
        if let Some(entry) = record.entry_mut(&asked.made_in) {
            entry.proved = was_proved;
        }
        answer
    }
}

impl Rules for HealDisplaces {
    fn begin(&self, record: &mut DeviceRecord, id: SessionId, now: UnixTime, _to_ask: bool) {
        drop(record.begin(id, now, false));
    }
}

impl Rules for LastWins {
    fn opened(&self, record: &mut DeviceRecord, id: &SessionId, _asks: bool, _rank: Option<u64>) {
        let rank = record.floor + 1;
        record.floor = rank;
        let entry = record.entry_mut(id).unwrap();
        (entry.heard, entry.rank) = (true, rank);
    }
}

impl Rules for ExpiryBack {
    fn age(&self, record: &mut DeviceRecord, now: UnixTime) {
        let (closed, writing) = (record.closed, record.writing().map(|entry| entry.id));
        drop(record.age(now, EXPIRY));
        if record.closed != closed {
            record.closed = closed;
            record.entry_mut(&writing.unwrap()).unwrap().began = Began::HereToAsk;
        }
    }
}

impl Rules for OneAsking {
    fn begin(&self, record: &mut DeviceRecord, id: SessionId, now: UnixTime, to_ask: bool) {
        if to_ask {
            let former =
                |entry: &SessionEntry| entry.began == Began::HereToAsk && entry.is_unheard();
            drop(record.drop_where(former));
        }
        drop(record.begin(id, now, to_ask));
    }
}

impl Rules for EachAsShort {
    fn ask_in(&self, record: &DeviceRecord, now: UnixTime) -> AskIn {
        let is_old = |entry: &SessionEntry| {
            entry.began == Began::HereToAsk && now.since(entry.created_at) >= YOUNG
        };
        match record.ask_in(now) {
            AskIn::Session(id) if record.entry(&id).is_some_and(is_old) => AskIn::NewAsking,
            elsewhere => elsewhere,
        }
    }
}

impl Rules for NoClose {
    fn opened(&self, record: &mut DeviceRecord, id: &SessionId, asks: bool, rank: Option<u64>) {
        let closed = record.closed;
        drop(record.opened(id, asks, rank, u64::MAX).unwrap());
        record.closed = closed;
    }

    fn lose(&self, record: &mut DeviceRecord, id: &SessionId) {
        drop(record.drop_where(|entry| entry.id == *id));
    }
}

impl Rules for AnyEvidence {
    fn not_ours(&self, record: &mut DeviceRecord, asked_in: &SessionId) {
        let Some(writing) = record.writing().map(|entry| entry.id).filter(|id| id != asked_in)
        else {
            return;
        };
        record.close(&writing);
        if record.entry(asked_in).is_some_and(|entry| record.is_open(entry)) {
            record.entry_mut(asked_in).unwrap().proved = true;
        }
    }
}
