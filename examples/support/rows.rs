//! The chat's own rows. They are in the store of the client, so that one transaction changes both: a message leaves the inbox when it is in
//! the history, and a draft is gone when it is encrypted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subrosa::{Error, Rows};

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// What was said: [`Line`]s, the newest first.
    History,
    /// What was typed and is not encrypted yet: [`Draft`]s, the oldest first.
    Draft,
    /// What a new device waits for: [`Grant`]s.
    Grant,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Line {
    /// With whom.
    pub(crate) user: String,
    /// Who said it, as it is shown.
    pub(crate) author: String,
    pub(crate) text: String,
    pub(crate) at: u64,
}

impl core::fmt::Display for Line {
    /// A text of several lines cannot look like something that somebody else said.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&format!("{}: {}", self.author, self.text).replace('\n', "\n    "))
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) to: String,
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) grant: Vec<u8>,
}

pub(crate) type Key = Vec<u8>;

impl Kind {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::History => b"history",
            Self::Draft => b"draft",
            Self::Grant => b"grant",
        }
    }
}

/// Adds a row.
pub(crate) fn add(rows: &mut Rows<'_>, kind: Kind, value: &impl Serialize) -> Result<(), Error> {
    let count = rows.get(b"count")?;
    let count = count.and_then(|count| count.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    rows.put(b"count", &count.saturating_add(1).to_be_bytes())?;
    // Rows are found in ascending order.
    let number = if matches!(kind, Kind::History) { !count } else { count };
    let value = postcard::to_allocvec(value).map_err(|_| Error::BadState)?;
    rows.put(&[kind.prefix(), &number.to_be_bytes()].concat(), &value)
}

/// The first rows of a kind.
pub(crate) fn first<T: DeserializeOwned>(
    rows: &mut Rows<'_>,
    kind: Kind,
    most: usize,
) -> Result<Vec<(Key, T)>, Error> {
    let found = rows.scan(kind.prefix(), most)?.into_iter();
    found.map(|(key, value)| Ok((key, postcard::from_bytes(&value).map_err(|_| Error::BadState)?))).collect()
}

pub(crate) fn remove(rows: &mut Rows<'_>, key: &Key) -> Result<(), Error> {
    rows.delete(key)
}
