//! The chat's own rows: its history. They are in the store of the client, so that one transaction
//! changes both: a message leaves the inbox when it is in the history, and is in the history when
//! it is written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subrosa::{Error, MessageId, Rows};

/// Something that was said or that happened.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// With whom, or about whom.
    pub(crate) user: String,
    pub(crate) author: Author,
    pub(crate) text: Vec<u8>,
    /// Seconds since the Unix epoch.
    pub(crate) at: u64,
    /// The name of the text, where it is one.
    pub(crate) message: Option<MessageId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Author {
    /// This device.
    Here(Mark),
    /// Another device of this account.
    OtherDevice(u32),
    User,
    /// A device that the user has removed.
    RemovedDevice(u32),
    /// This program: it says what happened.
    Chat,
}

/// How far a message is that was written here.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mark {
    Waiting,
    /// The relay has it, for every device.
    Sent,
    Withdrawn,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) grant: Vec<u8>,
}

pub(crate) type Key = Vec<u8>;

/// Lines, the newest first.
const HISTORY: &[u8] = b"history";
/// From a message's name to the number of its line.
const MESSAGE: &[u8] = b"message";
/// What new devices wait for: [`Grant`]s.
const GRANT: &[u8] = b"grant";
/// How many lines and grants there ever were.
const COUNT: &[u8] = b"count";

/// Adds a line, and returns its number.
pub(crate) fn add(rows: &mut Rows<'_>, line: &Line) -> Result<u64, Error> {
    let number = next(rows)?;
    put(rows, &line_key(number), line)?;
    if let Some(message) = line.message {
        rows.put(&[MESSAGE, message.as_bytes()].concat(), &number.to_be_bytes())?;
    }
    Ok(number)
}

/// The number of a message's line.
pub(crate) fn number(rows: &mut Rows<'_>, message: MessageId) -> Result<Option<u64>, Error> {
    let number = rows.get(&[MESSAGE, message.as_bytes()].concat())?;
    Ok(number.and_then(|number| number.as_slice().try_into().ok()).map(u64::from_be_bytes))
}

/// The line of a number.
pub(crate) fn line(rows: &mut Rows<'_>, number: u64) -> Result<Option<Line>, Error> {
    rows.get(&line_key(number))?.map(|row| decode(&row)).transpose()
}

/// Marks a message that was written here, and returns its line.
pub(crate) fn mark(
    rows: &mut Rows<'_>,
    message: MessageId,
    mark: Mark,
) -> Result<Option<(u64, Line)>, Error> {
    let Some(number) = number(rows, message)? else { return Ok(None) };
    let Some(mut line) = line(rows, number)? else { return Ok(None) };
    line.author = Author::Here(mark);
    put(rows, &line_key(number), &line)?;
    Ok(Some((number, line)))
}

/// The newest lines first, with their numbers.
pub(crate) fn history(rows: &mut Rows<'_>, most: usize) -> Result<Vec<(u64, Line)>, Error> {
    let number = |key: &[u8]| Some(!u64::from_be_bytes(key.get(HISTORY.len()..)?.try_into().ok()?));
    let found = rows.scan(HISTORY, most)?.into_iter();
    found.map(|(key, row)| Ok((number(&key).ok_or(Error::BadState)?, decode(&row)?))).collect()
}

pub(crate) fn add_grant(rows: &mut Rows<'_>, grant: &Grant) -> Result<(), Error> {
    let number = next(rows)?;
    put(rows, &[GRANT, &number.to_be_bytes()].concat(), grant)
}

pub(crate) fn grants(rows: &mut Rows<'_>) -> Result<Vec<(Key, Grant)>, Error> {
    rows.scan(GRANT, 10)?.into_iter().map(|(key, row)| Ok((key, decode(&row)?))).collect()
}

pub(crate) fn remove(rows: &mut Rows<'_>, key: &Key) -> Result<(), Error> {
    rows.delete(key)
}

fn next(rows: &mut Rows<'_>) -> Result<u64, Error> {
    let count = rows.get(COUNT)?;
    let count =
        count.and_then(|count| count.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    let count = count.saturating_add(1);
    rows.put(COUNT, &count.to_be_bytes())?;
    Ok(count)
}

/// Rows are found in ascending order.
fn line_key(number: u64) -> Key {
    [HISTORY, &(!number).to_be_bytes()].concat()
}

fn put(rows: &mut Rows<'_>, key: &[u8], value: &impl Serialize) -> Result<(), Error> {
    rows.put(key, &postcard::to_allocvec(value).map_err(|_| Error::BadState)?)
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, Error> {
    postcard::from_bytes(row).map_err(|_| Error::BadState)
}
