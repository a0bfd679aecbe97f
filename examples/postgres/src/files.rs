//! Files of texts: each has its blob in the database, which cannot read it.

use std::collections::BTreeMap;

use subrosa::file::{self, ChunkSize};
use subrosa::{Attachment, SystemRng, Text};
use tokio_postgres::Client as Connection;

use crate::Result;

/// All blobs, by what they are called.
pub(crate) type Blobs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the file with a text has in it.
fn content(text: &[u8]) -> Vec<u8> {
    text.repeat(100)
}

/// Makes the file that goes with a text. Its blob is there before the text is.
pub(crate) async fn put(connection: &Connection, text: &[u8]) -> Result<(Attachment, Vec<u8>)> {
    let (descriptor, blob) = file::seal(&content(text), ChunkSize::DEFAULT, &mut SystemRng)?;
    let insert = "insert into blobs (blob) values ($1) returning id";
    let id: i64 = connection.query_one(insert, &[&blob]).await?.try_get(0)?;
    Ok((Attachment::new(descriptor, &id.to_be_bytes())?, blob))
}

/// Opens the file of a text, which has to be the one that goes with it.
pub(crate) async fn get(connection: &Connection, text: &Text) -> Result<()> {
    let [file] = &text.files[..] else { return Err("a text has one file".into()) };
    let id = i64::from_be_bytes(file.info().try_into()?);
    let row = connection.query_one("select blob from blobs where id = $1", &[&id]).await?;
    compare(text, file, &row.try_get::<_, Vec<u8>>(0)?)
}

/// As [`get`], of a blob that was fetched.
pub(crate) fn check(text: &Text, blobs: &Blobs) -> Result<()> {
    let [file] = &text.files[..] else { return Err("a text has one file".into()) };
    compare(text, file, blobs.get(file.info()).ok_or("there is no such blob")?)
}

fn compare(text: &Text, file: &Attachment, blob: &[u8]) -> Result<()> {
    match *file::open(file.descriptor(), blob)? == content(&text.text) {
        true => Ok(()),
        false => Err("it is another file".into()),
    }
}

/// Fetches all blobs.
pub(crate) async fn all(connection: &Connection) -> Result<Blobs> {
    let rows = connection.query("select id, blob from blobs", &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get::<_, i64>(0)?.to_be_bytes().to_vec(), row.try_get(1)?)))
        .collect()
}
