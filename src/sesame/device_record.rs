//! The sessions with one device of a peer, and which of them is written in.
//!
//! Two devices can have several sessions: both began at once, one lost its store, one could not
//! read something. The rules here decide where a content goes, so that noise, replays and held-back
//! mail never bring an old session back (docs/design.md, "Which session is written in").
//!
//! Sessions are ordered: the higher rank first, then the smaller id. A record holds a place in that
//! order, `closed`, which only rises. A session that is not above it is read and never written in.
//! A session is *heard* once a content without the mark `asks` was opened in it. It is *usable* if
//! it is above `closed` and heard, or *proved*, or begun here and not in order to ask.
//!
//! **The session written in is the highest usable one; where there is none, one is begun.**

use alloc::vec::Vec;
use core::cmp::Reverse;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::at_rest;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::session::SessionId;
use crate::time::UnixTime;

/// What is known of one device of a peer, by its identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRecord {
    #[serde(with = "identity::checked")]
    pub(crate) identity: IdentityKey,
    /// How often this store had been found restored from a copy when the record was last written.
    pub(crate) restorations: u32,
    closed: Option<Closed>,
    /// The highest rank seen.
    floor: u64,
    entries: Vec<SessionEntry>,
    /// The sessions that were dropped last: references that were made in them still hold.
    dropped: Vec<SessionId>,
    /// Envelopes of the device that were opened.
    pub(crate) opened: u64,
    /// Those of them with a text, and the others.
    pub(crate) texts: u64,
    pub(crate) others: u64,
    /// Envelopes that were made for the device.
    pub(crate) made: u64,
    /// Texts for the device in the log.
    pub(crate) logged: u32,
    /// Retry requests to the device in the log.
    pub(crate) requests: u32,
}

/// A session with the device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SessionEntry {
    pub(crate) id: SessionId,
    pub(crate) rank: u64,
    pub(crate) created_at: UnixTime,
    pub(crate) began: Began,
    /// A content without the mark `asks` was opened in it.
    heard: bool,
    /// The peer showed that it cannot use the one before.
    proved: bool,
    /// A retry request was written in it.
    asked: bool,
    /// The number of envelopes made when a first request cast doubt on it.
    doubted_at: Option<u64>,
    /// How many envelopes of the device had been opened when one was in this session.
    used: u64,
}

/// Who began a session, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Began {
    /// This device, to write in it.
    Here,
    /// This device, to ask for what it could not open.
    HereToAsk,
    /// The peer.
    There,
}

/// A place in the order: between sessions, or on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Closed {
    rank: u64,
    id: Reverse<SessionId>,
    /// Whether the session at this place is closed too.
    inclusive: bool,
}

/// Where a retry request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskIn {
    /// This session.
    Session(SessionId),
    /// A session that is to be begun, to write in.
    NewSession,
    /// A session that is to be begun for this.
    NewAsking,
}

/// Where what was asked for goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerIn {
    /// The session of the request.
    Request,
    /// The session written in, or a new one.
    Writing,
}

/// A retry request for one reference.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// The session that the request came in.
    pub(crate) asked_in: SessionId,
    /// The first 8 bytes of the id of the asker's session written in.
    pub(crate) holds: [u8; 8],
    /// The session that the envelope was made in.
    pub(crate) made_in: SessionId,
    /// Its number, if it is young enough to say something of the session.
    pub(crate) evidence: Option<u64>,
}

/// Sessions that are kept beside those begun to ask.
pub(crate) const MAX_SESSIONS: usize = 5;

/// Dropped sessions whose ids are remembered.
const MAX_DROPPED: usize = 16;

/// Seconds for which what cannot be opened is asked for in the first of several asking sessions,
/// how many times as long each is asked in as the one before, and for how long at most.
const YOUNG: u64 = 5 * 60;
const LONGER: u64 = 4;
const MOST_YOUNG: u64 = DAY;

/// Seconds after which an asking session that was not answered is deleted: 7 days. Mail may wait
/// for days on both ways.
const ASKING_AGE: u64 = 7 * DAY;

const DAY: u64 = 24 * 60 * 60;

/// A rank may be this far above the highest one seen and above the time. Ranks are times, so no
/// honest clock comes near it; and a peer that climbs by this much each time needs 2^32 sessions to
/// reach the end.
const MAX_CLIMB: u64 = 1 << 32;

impl SessionEntry {
    const fn place(&self, inclusive: bool) -> Closed {
        Closed { rank: self.rank, id: Reverse(self.id), inclusive }
    }

    /// Whether nothing of the peer says that it writes here.
    const fn is_unheard(&self) -> bool {
        !self.heard && !self.proved
    }

    /// Whether it is one of those that only serve to ask.
    fn is_asking(&self) -> bool {
        self.is_unheard() && self.began != Began::Here
    }

    /// The first 8 bytes of its id.
    pub(crate) fn short_id(&self) -> [u8; 8] {
        short(&self.id)
    }
}

/// The first 8 bytes of a session's id.
pub(crate) fn short(id: &SessionId) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    [a, b, c, d, e, f, g, h]
}

impl DeviceRecord {
    pub(crate) const fn new(identity: IdentityKey, restorations: u32) -> Self {
        Self {
            identity,
            restorations,
            closed: None,
            floor: 0,
            entries: Vec::new(),
            dropped: Vec::new(),
            opened: 0,
            texts: 0,
            others: 0,
            made: 0,
            logged: 0,
            requests: 0,
        }
    }

    /// The sessions, the one that was begun last at the end.
    pub(crate) fn sessions(&self) -> &[SessionEntry] {
        &self.entries
    }

    pub(crate) fn entry(&self, id: &SessionId) -> Option<&SessionEntry> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    fn entry_mut(&mut self, id: &SessionId) -> Option<&mut SessionEntry> {
        self.entries.iter_mut().find(|entry| entry.id == *id)
    }

    /// The ids of the sessions that are kept, and of those that were dropped last.
    pub(crate) fn known_ids(&self) -> impl Iterator<Item = &SessionId> {
        self.entries.iter().map(|entry| &entry.id).chain(&self.dropped)
    }

    fn is_open(&self, entry: &SessionEntry) -> bool {
        self.closed.is_none_or(|closed| entry.place(true) > closed)
    }

    /// Whether the peer wrote in a higher session: what comes in this one is from before.
    pub(crate) fn is_old(&self, id: &SessionId) -> bool {
        let place = self.entry(id).map(|entry| entry.place(true));
        self.entries.iter().any(|entry| entry.heard && Some(entry.place(true)) > place)
    }

    fn is_usable(&self, entry: &SessionEntry) -> bool {
        self.is_open(entry) && (!entry.is_unheard() || entry.began == Began::Here)
    }

    /// The session written in.
    pub(crate) fn writing(&self) -> Option<&SessionEntry> {
        let usable = self.entries.iter().filter(|entry| self.is_usable(entry));
        usable.max_by_key(|entry| entry.place(true))
    }

    /// Whether contents in a session carry the mark `asks`.
    pub(crate) fn asks_in(&self, id: &SessionId) -> bool {
        self.writing().is_none_or(|entry| entry.id != *id)
    }

    fn close_at(&mut self, place: Closed) {
        self.closed = self.closed.max(Some(place));
    }

    /// Closes a session and all below it: nothing is written there any more.
    pub(crate) fn close(&mut self, id: &SessionId) {
        if let Some(place) = self.entry(id).map(|entry| entry.place(true)) {
            self.close_at(place);
        }
    }

    /// Closes every session that there is or was: after a reset, or where the store proved to be
    /// restored from a copy.
    pub(crate) fn close_all(&mut self) {
        let known = self.entries.iter().map(|entry| entry.rank).max();
        let rank = known.map_or(self.floor, |rank| rank.max(self.floor));
        self.close_at(Closed { rank, id: Reverse(SessionId::MIN), inclusive: true });
    }

    /// Applies what time does: a session written in that nobody answered for `expiry` seconds is
    /// closed, and asking sessions that nobody answered for 7 days go. Returns those.
    pub(crate) fn age(&mut self, now: UnixTime, expiry: u64) -> Vec<SessionId> {
        // A session that a fast clock began in the future would never grow old.
        for entry in &mut self.entries {
            if entry.created_at.since(now) > DAY {
                entry.created_at = now;
            }
        }
        let expired = self
            .writing()
            .filter(|entry| entry.is_unheard() && now.since(entry.created_at) > expiry);
        if let Some(id) = expired.map(|entry| entry.id) {
            self.close(&id);
        }
        let old = |entry: &SessionEntry| {
            entry.began == Began::HereToAsk
                && entry.is_unheard()
                && now.since(entry.created_at) > ASKING_AGE
        };
        self.drop_where(old)
    }

    /// The rank of a session that is begun now.
    pub(crate) fn next_rank(&self, now: UnixTime) -> u64 {
        self.floor.saturating_add(1).max(now.as_secs())
    }

    /// Adds a session that this device began. Returns those that make room for it.
    pub(crate) fn begin(&mut self, id: SessionId, now: UnixTime, to_ask: bool) -> Vec<SessionId> {
        let rank = self.next_rank(now);
        let began = if to_ask { Began::HereToAsk } else { Began::Here };
        let former = |entry: &SessionEntry| entry.began == Began::HereToAsk && entry.is_unheard();
        let mut dropped = if to_ask { self.drop_former(former) } else { Vec::new() };
        self.insert(id, rank, now, began);
        dropped.extend(self.evict());
        dropped
    }

    /// Adds a session that the peer began, with a content that `asks` or does not. Returns those
    /// that make room for it.
    ///
    /// # Errors
    /// [`Error::Malformed`]: its rank is out of reach.
    pub(crate) fn accept(
        &mut self,
        id: SessionId,
        rank: u64,
        now: UnixTime,
        asks: bool,
    ) -> Result<Vec<SessionId>, Error> {
        if rank == 0 || rank > self.floor.max(now.as_secs()).saturating_add(MAX_CLIMB) {
            return Err(Error::Malformed);
        }
        let former = |entry: &SessionEntry| entry.began == Began::There && entry.is_unheard();
        let dropped = if asks { self.drop_former(former) } else { Vec::new() };
        self.insert(id, rank, now, Began::There);
        Ok(dropped)
    }

    fn insert(&mut self, id: SessionId, rank: u64, created_at: UnixTime, began: Began) {
        self.floor = self.floor.max(rank);
        let (heard, proved, asked, doubted_at, used) = (false, false, false, None, self.opened);
        let entry =
            SessionEntry { id, rank, created_at, began, heard, proved, asked, doubted_at, used };
        self.entries.push(entry);
    }

    /// Notes that a content was opened in a session. Returns those that make room where it counts
    /// from now on, and those in which none of the last `idle` envelopes was: what is still held
    /// back of them would come after it was forgotten that it was shown.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the content names another rank than before.
    pub(crate) fn opened(
        &mut self,
        id: &SessionId,
        asks: bool,
        rank: Option<u64>,
        idle: u64,
    ) -> Result<Vec<SessionId>, Error> {
        let opened = self.opened;
        let entry = self.entry_mut(id).ok_or(Error::BadState)?;
        if rank.is_some_and(|rank| rank != entry.rank) {
            return Err(Error::Malformed);
        }
        entry.used = opened;
        entry.heard |= !asks;
        let below = entry.place(false);
        if !asks {
            self.close_at(below);
        }
        let mut dropped = self.evict();
        let writing = self.writing().map(|entry| entry.id);
        dropped.extend(self.drop_where(|entry| {
            Some(entry.id) != writing && opened.saturating_sub(entry.used) > idle
        }));
        Ok(dropped)
    }

    /// Where to ask for what could not be opened.
    pub(crate) fn ask_in(&self, now: UnixTime) -> AskIn {
        if let Some(id) = self.young_asking(now) {
            return AskIn::Session(id);
        }
        match self.writing() {
            None => AskIn::NewSession,
            // Once: it may be one that the peer cannot open, and then no request comes through in
            // it.
            Some(entry) if entry.began != Began::There && !entry.heard && !entry.asked => {
                AskIn::Session(entry.id)
            }
            Some(_) => AskIn::NewAsking,
        }
    }

    /// The highest session that this device began to ask in, while it is young. The peer may not be
    /// able to open it, so another one follows. But two are kept, and answers may be under way for
    /// long: each is asked in several times as long as the one before it was.
    fn young_asking(&self, now: UnixTime) -> Option<SessionId> {
        let is_for_it = |entry: &&SessionEntry| {
            entry.began == Began::HereToAsk && !entry.heard && self.is_open(entry)
        };
        let asking = || self.entries.iter().filter(is_for_it);
        let highest = asking().max_by_key(|entry| entry.place(true))?;
        let former = asking().filter(|entry| entry.id != highest.id);
        let former = former.max_by_key(|entry| entry.place(true));
        let used = former.map_or(0, |former| highest.created_at.since(former.created_at));
        let young = used.saturating_mul(LONGER).clamp(YOUNG, MOST_YOUNG);
        (now.apart(highest.created_at) < young).then_some(highest.id)
    }

    /// Notes that a retry request was written in a session.
    pub(crate) fn requested(&mut self, id: &SessionId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.asked = true;
        }
    }

    /// What a request for one reference says of the sessions, and where the answer goes.
    pub(crate) fn asked(&mut self, asked: &Asked) -> AnswerIn {
        let Asked { asked_in, holds, made_in, evidence } = asked;
        let Some(number) = *evidence else { return AnswerIn::Writing };
        let usable = self.entry(made_in).filter(|entry| self.is_usable(entry));
        let Some(doubted_at) = usable.map(|entry| entry.doubted_at) else {
            return AnswerIn::Writing;
        };
        let renewed = doubted_at.is_some_and(|doubted_at| number >= doubted_at);
        if short(made_in) == *holds && !renewed {
            let made = self.made;
            if let Some(entry) = self.entry_mut(made_in) {
                entry.doubted_at.get_or_insert(made);
            }
            let is_open = self.entry(asked_in).is_some_and(|entry| self.is_open(entry));
            return if is_open { AnswerIn::Request } else { AnswerIn::Writing };
        }
        self.close(made_in);
        if self.entry(asked_in).is_some_and(|entry| self.is_open(entry))
            && let Some(entry) = self.entry_mut(asked_in)
        {
            entry.proved = true;
        }
        AnswerIn::Writing
    }

    /// Drops the lowest sessions above the limit, never the one written in. Those that only ask are
    /// bounded on their own: two of each side.
    fn evict(&mut self) -> Vec<SessionId> {
        let mut dropped = Vec::new();
        loop {
            let writing = self.writing().map(|entry| entry.id);
            let kept = self.entries.iter().filter(|entry| !entry.is_asking());
            if kept.clone().count() <= MAX_SESSIONS {
                return dropped;
            }
            let lowest = kept
                .filter(|entry| Some(entry.id) != writing)
                .min_by_key(|entry| entry.place(true));
            let Some(lowest) = lowest.map(|entry| entry.id) else { return dropped };
            dropped.extend(self.drop_where(|entry| entry.id == lowest));
        }
    }

    /// Drops a session whose row cannot be read. Where it is the one written in, nothing below it
    /// is written in again; another one, which may be above that, takes nothing with it.
    pub(crate) fn lose(&mut self, id: &SessionId) {
        if !self.asks_in(id) {
            self.close(id);
        }
        self.drop_where(|entry| entry.id == *id);
    }

    /// Drops every session.
    pub(crate) fn drop_all(&mut self) -> Vec<SessionId> {
        self.close_all();
        self.drop_where(|_| true)
    }

    fn drop_where(&mut self, gone: impl Fn(&SessionEntry) -> bool) -> Vec<SessionId> {
        let mut dropped = Vec::new();
        self.entries.retain(|entry| {
            if gone(entry) {
                dropped.push(entry.id);
            }
            !gone(entry)
        });
        self.dropped.extend(&dropped);
        self.dropped.drain(..self.dropped.len().saturating_sub(MAX_DROPPED)).for_each(drop);
        dropped
    }

    /// Makes room for one more session of a side that only asks: of those before, the highest
    /// stays, since answers in it may be under way.
    fn drop_former(&mut self, is_former: impl Fn(&SessionEntry) -> bool) -> Vec<SessionId> {
        let former = self.entries.iter().filter(|entry| is_former(entry));
        let highest = former.max_by_key(|entry| entry.place(true)).map(|entry| entry.id);
        self.drop_where(|entry| is_former(entry) && Some(entry.id) != highest)
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let sessions = self.entries.len().saturating_mul(80);
        let dropped = self.dropped.len().saturating_mul(33);
        at_rest::state::encode(1, self, sessions.saturating_add(dropped).saturating_add(192))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        at_rest::state::decode(1, bytes)
    }
}

#[cfg(test)]
mod tests;
