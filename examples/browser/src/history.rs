//! The app's own rows. They are among the client's, so that one transaction changes both: a text
//! leaves the inbox when it is in the history, and is in the history when it is written.

use serde::{Deserialize, Serialize};
use subrosa::{Error, Event, GroupText, MessageId, Rows, SasEnd, Text, UnixTime};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::files::Attached;

/// A line of a conversation.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Whether this user wrote it.
    pub mine: bool,
    /// What was written, or what happened.
    pub text: String,
    /// When, in seconds since the Unix epoch.
    pub at: f64,
    /// Whether it waits to be encrypted.
    pub waiting: bool,
    /// Whether a device wrote it that its user has removed.
    pub late: bool,
    /// Whether nobody wrote it: something happened.
    pub notice: bool,
    /// The files that came with it.
    pub files: Vec<Attached>,
    /// Its number: a later line has a higher one.
    #[serde(skip)]
    pub number: f64,
    /// Who wrote it, in a group. It is stored beside the rest.
    #[serde(skip)]
    pub by: String,
    /// The text, where this device wrote it.
    #[wasm_bindgen(skip)]
    pub message: Option<MessageId>,
}

const COUNT: &[u8] = b"count";
const HISTORY: &[u8] = b"history";

/// What is about no conversation: it is shown in all.
const EVERYWHERE: &str = "";

impl Line {
    /// Of this user.
    pub(crate) fn written(text: String, message: MessageId, at: UnixTime) -> Self {
        Self { mine: true, message: Some(message), ..Self::new(text, at) }
    }

    /// That came.
    pub(crate) fn text(text: &Text, at: UnixTime) -> Self {
        let words = String::from_utf8_lossy(&text.text).into_owned();
        let files = text.files.iter().filter_map(Attached::of).collect();
        Self { mine: text.copy_to.is_some(), files, ..Self::new(words, at) }
    }

    /// As [`Line::text`], of a group.
    pub(crate) fn group_text(text: &GroupText, me: &str, at: UnixTime) -> Self {
        let by = text.text.from.user.clone();
        Self { mine: by == me, late: text.is_late, by, ..Self::text(&text.text, at) }
    }

    /// What this page says.
    pub(crate) fn said(words: String, at: UnixTime) -> Self {
        Self { notice: true, ..Self::new(words, at) }
    }

    /// That something happened.
    pub(crate) fn notice(event: &Event, at: UnixTime) -> Self {
        Self::said(words(event), at)
    }

    fn new(text: String, at: UnixTime) -> Self {
        let at = u32::try_from(at.as_secs()).map_or(0.0, f64::from);
        let (files, by, message) = (Vec::new(), String::new(), None);
        let (mine, waiting, late, notice) = (false, false, false, false);
        Self { mine, text, at, waiting, late, notice, files, number: 0.0, by, message }
    }
}

/// Which conversation an event is about. What is about this user is shown in all.
pub(crate) fn about<'e>(event: &'e Event, me: &str) -> &'e str {
    let with = match event {
        Event::DeviceAdded { user, .. }
        | Event::KeyChanged { user, .. }
        | Event::VerifiedElsewhere { user, .. }
        | Event::CodeScanned { user }
        | Event::SasAsked { user }
        | Event::SasReady { user }
        | Event::SasEnded { user, .. }
        | Event::Held { user }
        | Event::HeldGone { user, .. } => user,
        Event::Lost { by: from, .. }
        | Event::NotReadable { by: from, .. }
        | Event::Unsupported { from } => &from.user,
        Event::Undelivered { to, .. } => to,
        _ => EVERYWHERE,
    };
    if with == me { EVERYWHERE } else { with }
}

fn words(event: &Event) -> String {
    match event {
        Event::DeviceAdded { user, device } => format!("{user} has a new device, number {device}"),
        Event::KeyChanged { user, .. } => {
            format!("{user} has a new key: compare it before you accept it")
        }
        Event::VerifiedElsewhere { user, verified: true } => {
            format!("you verified {user} on another device")
        }
        Event::VerifiedElsewhere { user, .. } => format!("{user} is not verified any more"),
        Event::CodeScanned { user } => {
            format!("{user} scanned your code: look at the other screen, and say what you see")
        }
        Event::SasAsked { user } => format!("{user} wants to compare emoji with you"),
        Event::SasReady { user } => format!("there are emoji to compare with {user}"),
        Event::SasEnded { user, why } => ended(user, *why),
        Event::Held { user } => format!("{user} wrote under the new key: accept it to read that"),
        Event::HeldGone { user, texts } => {
            format!("{texts} held under a key that {user} has replaced are gone")
        }
        Event::Lost { by, .. } => format!("a message of {} is lost", by.user),
        Event::NotReadable { by, .. } => {
            format!("a device of {} cannot read one of your messages", by.user)
        }
        Event::Undelivered { to, .. } => {
            format!("a message could not be delivered to a device of {to}")
        }
        Event::Unsupported { from } => {
            format!("{} wrote something that a newer page can show", from.user)
        }
        Event::Restored => {
            "this account was restored from a copy: some messages may be missing".into()
        }
        Event::Unlinked => "this device was removed from the account".into(),
        _ => "something happened that a newer page can show".into(),
    }
}

/// Why there is nothing to compare any more.
fn ended(user: &str, why: SasEnd) -> String {
    let because = match why {
        SasEnd::Mismatch => {
            return format!(
                "{user} says that the emoji differ: somebody may be in between. Compare again, and \
                 if they differ again, write nothing that others must not read"
            );
        }
        SasEnd::Forged => {
            return format!(
                "somebody tried to make emoji agree that do not: nobody who is {user} does that"
            );
        }
        SasEnd::Cancelled => "stopped",
        SasEnd::Taken => "compares on another device",
        SasEnd::Busy => "compares with somebody else",
        SasEnd::Expired => "took too long",
        SasEnd::KeyChanged => "has a new key",
        _ => "has to begin again",
    };
    format!("nothing to compare any more: {user} {because}")
}

/// Adds a line to a conversation.
pub(crate) fn add_line(rows: &mut Rows<'_>, with: &str, line: &Line) -> Result<(), Error> {
    // The newest first, since rows are found in ascending order.
    let number = (!next_number(rows)?).to_be_bytes();
    put_line(rows, &[&conversation(with), number.as_slice()].concat(), line)
}

/// Writes the line that is at `key`.
pub(crate) fn put_line(rows: &mut Rows<'_>, key: &[u8], line: &Line) -> Result<(), Error> {
    // Where nobody is named, it is as it was before there were groups.
    let row = match line.by.is_empty() {
        true => postcard::to_allocvec(line),
        false => postcard::to_allocvec(&(line, &line.by)),
    };
    rows.put(key, &row.map_err(|_| Error::BadState)?)
}

/// The last lines of a conversation with their keys, the oldest first.
pub(crate) fn lines(
    rows: &mut Rows<'_>,
    with: &str,
    most: usize,
) -> Result<Vec<(Vec<u8>, Line)>, Error> {
    let mut found = Vec::new();
    for with in [with, EVERYWHERE] {
        for (key, line) in rows.scan(&conversation(with), most)? {
            let mut line = line_of(&line)?;
            let number = key.last_chunk().map_or(0, |number| !u64::from_be_bytes(*number));
            line.number = u32::try_from(number).map_or(f64::INFINITY, f64::from);
            found.push((key, line));
        }
    }
    found.sort_by_key(|(key, _): &(Vec<u8>, Line)| key.last_chunk::<8>().copied());
    found.truncate(most);
    found.reverse();
    Ok(found)
}

/// Every line with what it is in, in the order in which they were added.
pub(crate) fn all(rows: &mut Rows<'_>) -> Result<Vec<(String, Line)>, Error> {
    let mut found = Vec::new();
    for (key, row) in rows.scan(HISTORY, usize::MAX)? {
        let with = key.get(HISTORY.len()..key.len().saturating_sub(9)).unwrap_or_default();
        let with = std::str::from_utf8(with).map_err(|_| Error::BadState)?;
        let line = line_of(&row)?;
        found.push((key.last_chunk::<8>().copied(), (with.to_string(), line)));
    }
    // The newest have the lowest numbers.
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ok(found.into_iter().map(|(_, line)| line).collect())
}

fn line_of(row: &[u8]) -> Result<Line, Error> {
    let (mut line, rest): (Line, &[u8]) =
        postcard::take_from_bytes(row).map_err(|_| Error::BadState)?;
    if !rest.is_empty() {
        line.by = postcard::from_bytes(rest).map_err(|_| Error::BadState)?;
    }
    Ok(line)
}

fn conversation(with: &str) -> Vec<u8> {
    // No UTF-8 text has this byte, so no name begins as another one with what follows.
    [HISTORY, with.as_bytes(), &[0xff]].concat()
}

fn next_number(rows: &mut Rows<'_>) -> Result<u64, Error> {
    let count = rows.get(COUNT)?;
    let count =
        count.and_then(|count| count.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    rows.put(COUNT, &count.saturating_add(1).to_be_bytes())?;
    Ok(count)
}
