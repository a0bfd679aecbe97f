//! The chat's own rows: its history. They are in the store of the client, so that one transaction
//! changes both: a message leaves the inbox when it is in the history, and is in the history when
//! it is written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subrosa::group::GroupId;
use subrosa::{Error, MessageId, Rows};

use crate::attached::Attached;
use crate::fetching::Download;
use crate::sending::Upload;

/// Something that was said or that happened.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// With whom, or about whom: a user's name, or the handle of a group (`handles.rs`).
    pub(crate) user: String,
    pub(crate) author: Author,
    pub(crate) text: Vec<u8>,
    /// Seconds since the Unix epoch.
    pub(crate) at: u64,
    /// The name of the text, where it is one. A file that is written here has none until the relay
    /// has its blob.
    pub(crate) message: Option<MessageId>,
    pub(crate) files: Vec<Attached>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Somebody who says that they are the user. Nobody vouched for that when it came.
    Unvouched,
    /// Somebody in a group.
    Member(Member),
    /// This program: from here on, this group is called so.
    Group(GroupId),
}

/// Who wrote to a group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) user: String,
    pub(crate) device: u32,
    pub(crate) standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    In,
    /// Somebody who says that they are the user, as in [`Author::Unvouched`].
    Unvouched,
    /// The device is no member's any more.
    Gone,
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

impl Line {
    /// Who wrote it, where somebody else did.
    pub(crate) fn sender(&self) -> &str {
        match &self.author {
            Author::Member(member) => &member.user,
            _ => &self.user,
        }
    }
}

pub(crate) type Key = Vec<u8>;

/// Lines, the newest first.
const HISTORY: &[u8] = b"history";
/// From a message's name to the number of its line.
const MESSAGE: &[u8] = b"message";
/// What new devices wait for: [`Grant`]s.
const GRANT: &[u8] = b"grant";
/// From the number of a line to what is sent: an [`Upload`].
const UPLOAD: &[u8] = b"upload";
/// From the number of a line and that of a file in it to what is fetched: a [`Download`].
const DOWNLOAD: &[u8] = b"download";
/// The key that the relay signs certificates with.
const ISSUER: &[u8] = b"issuer";
/// From the handle of a group to the group.
const HANDLE: &[u8] = b"handle";
/// From a group to its handle.
const GROUP: &[u8] = b"group";
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
    Ok(mark_line(rows, number, mark)?.map(|line| (number, line)))
}

/// As [`mark`], by the number of the line.
pub(crate) fn mark_line(
    rows: &mut Rows<'_>,
    number: u64,
    mark: Mark,
) -> Result<Option<Line>, Error> {
    let Some(mut line) = line(rows, number)? else { return Ok(None) };
    line.author = Author::Here(mark);
    put(rows, &line_key(number), &line)?;
    Ok(Some(line))
}

/// A line has become this message.
pub(crate) fn set_message(
    rows: &mut Rows<'_>,
    number: u64,
    message: MessageId,
) -> Result<Option<Line>, Error> {
    let Some(mut line) = line(rows, number)? else { return Ok(None) };
    line.message = Some(message);
    put(rows, &line_key(number), &line)?;
    rows.put(&[MESSAGE, message.as_bytes()].concat(), &number.to_be_bytes())?;
    Ok(Some(line))
}

pub(crate) fn put_upload(rows: &mut Rows<'_>, number: u64, upload: &Upload) -> Result<(), Error> {
    put(rows, &upload_key(number), upload)
}

/// The oldest file that is not with the relay yet, and the number of its line.
pub(crate) fn upload(rows: &mut Rows<'_>) -> Result<Option<(u64, Upload)>, Error> {
    let Some((key, row)) = rows.scan(UPLOAD, 1)?.into_iter().next() else { return Ok(None) };
    let number = key.get(UPLOAD.len()..).and_then(|number| number.try_into().ok());
    Ok(Some((number.map(u64::from_be_bytes).ok_or(Error::BadState)?, decode(&row)?)))
}

/// Whether it was there.
pub(crate) fn remove_upload(rows: &mut Rows<'_>, number: u64) -> Result<bool, Error> {
    let is_there = rows.get(&upload_key(number))?.is_some();
    rows.delete(&upload_key(number))?;
    Ok(is_there)
}

/// What a [`Download`] is called: the number of the line, and of the file in it.
pub(crate) fn download_key(number: u64, file: u8) -> Key {
    [DOWNLOAD, &number.to_be_bytes(), &[file]].concat()
}

pub(crate) fn put_download(
    rows: &mut Rows<'_>,
    key: &Key,
    download: &Download,
) -> Result<(), Error> {
    put(rows, key, download)
}

/// Whether something of a line is being fetched.
pub(crate) fn is_wanted(rows: &mut Rows<'_>, number: u64) -> Result<bool, Error> {
    Ok(!rows.scan(&[DOWNLOAD, &number.to_be_bytes()].concat(), 1)?.is_empty())
}

/// The oldest file that is not fetched yet.
pub(crate) fn download(rows: &mut Rows<'_>) -> Result<Option<(Key, Download)>, Error> {
    let row = rows.scan(DOWNLOAD, 1)?.into_iter().next();
    row.map(|(key, row)| Ok((key, decode(&row)?))).transpose()
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

/// What a group is called here.
pub(crate) fn handle(rows: &mut Rows<'_>, group: GroupId) -> Result<Option<String>, Error> {
    rows.get(&[GROUP, group.as_bytes()].concat())?.map(|row| decode(&row)).transpose()
}

/// The group that has a handle.
pub(crate) fn group(rows: &mut Rows<'_>, handle: &str) -> Result<Option<GroupId>, Error> {
    rows.get(&[HANDLE, handle.as_bytes()].concat())?.map(|row| decode(&row)).transpose()
}

pub(crate) fn put_handle(rows: &mut Rows<'_>, handle: &str, group: GroupId) -> Result<(), Error> {
    put(rows, &[HANDLE, handle.as_bytes()].concat(), &group)?;
    put(rows, &[GROUP, group.as_bytes()].concat(), &handle)
}

pub(crate) fn issuer(rows: &mut Rows<'_>) -> Result<Option<Vec<u8>>, Error> {
    Ok(rows.get(ISSUER)?.map(|issuer| issuer.to_vec()))
}

pub(crate) fn put_issuer(rows: &mut Rows<'_>, issuer: &[u8]) -> Result<(), Error> {
    rows.put(ISSUER, issuer)
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

fn upload_key(number: u64) -> Key {
    [UPLOAD, &number.to_be_bytes()].concat()
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
