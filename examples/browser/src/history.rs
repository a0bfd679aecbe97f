//! The app's own rows. They are among the client's, so that one transaction changes both: a message leaves the inbox when it is in the history,
//! and a draft is gone when it is encrypted.

use serde::{Deserialize, Serialize};
use subrosa::{Error, Rows};
use wasm_bindgen::prelude::wasm_bindgen;

/// A line of a conversation.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Whether this user wrote it.
    pub mine: bool,
    /// What was written.
    pub text: String,
    /// When, in seconds since the Unix epoch.
    pub at: f64,
    /// Whether it has not been encrypted yet.
    pub waiting: bool,
}

/// What was typed and is not encrypted yet.
#[derive(Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) to: String,
    pub(crate) line: Line,
}

const COUNT: &[u8] = b"count";
const DRAFT: &[u8] = b"draft";
const HISTORY: &[u8] = b"history";

/// Adds a line to a conversation.
pub(crate) fn add_line(rows: &mut Rows<'_>, with: &str, line: &Line) -> Result<(), Error> {
    // The newest first, since rows are found in ascending order.
    let number = (!next_number(rows)?).to_be_bytes();
    rows.put(&[&conversation(with), number.as_slice()].concat(), &encode(line)?)
}

/// The last lines of a conversation, the oldest first.
pub(crate) fn lines(rows: &mut Rows<'_>, with: &str, most: usize) -> Result<Vec<Line>, Error> {
    let found = rows.scan(&conversation(with), most)?;
    found.iter().rev().map(|(_, line)| decode(line)).collect()
}

pub(crate) fn add_draft(rows: &mut Rows<'_>, draft: &Draft) -> Result<(), Error> {
    let number = next_number(rows)?.to_be_bytes();
    rows.put(&[DRAFT, &number].concat(), &encode(draft)?)
}

/// The drafts with their keys, the oldest first.
pub(crate) fn drafts(rows: &mut Rows<'_>) -> Result<Vec<(Vec<u8>, Draft)>, Error> {
    rows.scan(DRAFT, 1_000)?.into_iter().map(|(key, draft)| Ok((key, decode(&draft)?))).collect()
}

fn conversation(with: &str) -> Vec<u8> {
    // No UTF-8 text has this byte, so no name begins as another one with what follows.
    [HISTORY, with.as_bytes(), &[0xff]].concat()
}

fn next_number(rows: &mut Rows<'_>) -> Result<u64, Error> {
    let count = rows.get(COUNT)?;
    let count = count.and_then(|count| count.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    rows.put(COUNT, &count.saturating_add(1).to_be_bytes())?;
    Ok(count)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    postcard::to_allocvec(value).map_err(|_| Error::BadState)
}

fn decode<'a, T: Deserialize<'a>>(row: &'a [u8]) -> Result<T, Error> {
    postcard::from_bytes(row).map_err(|_| Error::BadState)
}
