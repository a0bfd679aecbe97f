//! Verifications under way: what this device remembers of each for ten minutes.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::timers;
use super::transaction::{Open, Tag};
use crate::at_rest;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::sas::Sas;
use crate::store::Table;
use crate::time::UnixTime;

/// What a verification is about, and since when it is under way.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) since: UnixTime,
    #[serde(with = "identity::checked")]
    pub(super) own: IdentityKey,
    #[serde(with = "identity::checked")]
    pub(super) other: IdentityKey,
}

/// A comparison.
#[derive(Serialize, Deserialize)]
pub(super) struct SasRow {
    pub(super) keys: Keys,
    pub(super) sas: Sas,
    pub(super) waiting: Vec<Waiting>,
}

/// A code that this device shows.
#[derive(Serialize, Deserialize)]
pub(super) struct CodeRow {
    pub(super) keys: Keys,
    pub(super) secret: Secret<16>,
    pub(super) is_scanned: bool,
}

/// The answer to a code that this device scanned.
#[derive(Serialize, Deserialize)]
pub(super) struct AnswerRow {
    pub(super) keys: Keys,
    #[serde(with = "at_rest::array")]
    pub(super) answer: [u8; 32],
    pub(super) waiting: Vec<Waiting>,
}

/// A device that there was no session with to tell it something.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting(#[serde(with = "identity::checked")] pub(super) IdentityKey);

impl Keys {
    /// Whether ten minutes are over. A time too far ahead was set by a clock that was, and is not
    /// believed.
    pub(super) fn are_over(&self, now: UnixTime) -> bool {
        now.apart(self.since) > TIME
    }
}

/// Seconds that a verification may take: ten minutes.
pub(super) const TIME: u64 = 600;

/// The first byte of these rows in the table of tasks: `kind || tag:16`.
const SAS: u8 = 0x30;
const CODE: u8 = 0x31;
const ANSWER: u8 = 0x32;

fn key(kind: u8, tag: Tag) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&tag.0);
    key
}

pub(super) fn sas(open: &mut Open<'_>, tag: Tag) -> Result<Option<SasRow>, Error> {
    open.get_as(Table::Task, &key(SAS, tag))
}

pub(super) fn put_sas(open: &mut Open<'_>, tag: Tag, row: &SasRow) -> Result<(), Error> {
    open.put_as(Table::Task, &key(SAS, tag), row, 1_536)
}

pub(super) fn remove_sas(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete(Table::Task, &key(SAS, tag))
}

pub(super) fn code(open: &mut Open<'_>, tag: Tag) -> Result<Option<CodeRow>, Error> {
    open.get_as(Table::Task, &key(CODE, tag))
}

pub(super) fn put_code(open: &mut Open<'_>, tag: Tag, row: &CodeRow) -> Result<(), Error> {
    open.put_as(Table::Task, &key(CODE, tag), row, 128)
}

pub(super) fn remove_code(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete(Table::Task, &key(CODE, tag))
}

pub(super) fn answer(open: &mut Open<'_>, tag: Tag) -> Result<Option<AnswerRow>, Error> {
    open.get_as(Table::Task, &key(ANSWER, tag))
}

pub(super) fn put_answer(open: &mut Open<'_>, tag: Tag, row: &AnswerRow) -> Result<(), Error> {
    open.put_as(Table::Task, &key(ANSWER, tag), row, 1_280)
}

pub(super) fn remove_answer(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete(Table::Task, &key(ANSWER, tag))
}

/// What is under way with a user is looked at once its time is over.
pub(super) fn set_timer(open: &mut Open<'_>, tag: Tag, since: UnixTime) -> Result<(), Error> {
    timers::set_verification(open, since.after(TIME.saturating_add(1)), tag)
}

/// The users with whom a comparison is under way.
pub(super) fn all_sas(open: &mut Open<'_>) -> Result<Vec<Tag>, Error> {
    let rows = open.scan(Table::Task, &[SAS], usize::MAX)?;
    let tag = |key: &[u8]| key.get(1..).and_then(|tag| tag.try_into().ok()).map(Tag);
    rows.iter().map(|(key, _)| tag(key).ok_or(Error::BadState)).collect()
}

/// No code is shown any more, and none that was scanned is answered.
pub(super) fn forget_codes(open: &mut Open<'_>) -> Result<(), Error> {
    open.delete_all(Table::Task, &[CODE])?;
    open.delete_all(Table::Task, &[ANSWER])
}

/// Forgets what is under way with a user.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    for kind in [SAS, CODE, ANSWER] {
        open.delete(Table::Task, &key(kind, tag))?;
    }
    Ok(())
}
