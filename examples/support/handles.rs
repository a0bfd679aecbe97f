//! What groups are called here. Two groups may have one title, and a title may be any bytes at all:
//! so each group gets a handle on this device, which begins with a mark that no name of a user has.
//!
//! ```text
//! &roses      the first group with the title "Roses"
//! &roses-2    the second one
//! &group      one whose title has none of the letters of a name
//! ```
//!
//! A handle stays what it is when the title changes, so that nobody makes a group look like another
//! one. It is in the history, in the place of a user's name.

use subrosa::group::GroupId;
use subrosa::{Client, Error, Open};

use crate::names::is_name;
use crate::rows;
use crate::screen::visible;

/// What a handle begins with.
pub(crate) const MARK: char = '&';

/// The longest one, without the mark and a number.
const MAX_STEM: usize = 20;

/// Letters of a title that are shown.
const MAX_SHOWN: usize = 60;

/// What a group is called here.
pub(crate) enum Handle {
    Known(String),
    /// From now on.
    New(String),
}

impl Handle {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Known(handle) | Self::New(handle) => handle,
        }
    }
}

/// What a group is called here. One that is not called anything yet gets a handle by its title.
pub(crate) fn of(client: &mut Client<Open<'_>>, group: GroupId) -> Result<Handle, Error> {
    if let Some(handle) = rows::handle(&mut client.rows(), group)? {
        return Ok(Handle::Known(handle));
    }
    let title = match client.group(group) {
        Ok(info) => info.settings,
        Err(Error::UnknownGroup) => Vec::new(),
        Err(error) => return Err(error),
    };
    let stem = format!("{MARK}{}", stem(&title));
    let mut handle = stem.clone();
    for number in 2_u32.. {
        if rows::group(&mut client.rows(), &handle)?.is_none() {
            break;
        }
        handle = format!("{stem}-{number}");
    }
    rows::put_handle(&mut client.rows(), &handle, group)?;
    Ok(Handle::New(handle))
}

/// Whether this is a group's handle, and no user's name.
pub(crate) fn is_handle(word: &str) -> bool {
    word.starts_with(MARK)
}

/// `red-roses` of "Red roses!"
fn stem(title: &[u8]) -> String {
    let title = String::from_utf8_lossy(title).to_ascii_lowercase();
    let is_in_name = |letter: char| is_name(letter.encode_utf8(&mut [0; 4]));
    let words: Vec<_> = title
        .split(|letter: char| !is_in_name(letter) || letter == '-')
        .filter(|word| !word.is_empty())
        .collect();
    let stem: String = words.join("-").chars().take(MAX_STEM).collect();
    let stem = stem.trim_matches(['-', '.', '_']);
    if stem.is_empty() { "group".into() } else { stem.into() }
}

/// A title as it may be shown: in quotes that it cannot end.
pub(crate) fn title(settings: &[u8]) -> String {
    let shown = visible(settings).replace('"', "\\\"");
    let mut letters = shown.chars();
    let shown: String = letters.by_ref().take(MAX_SHOWN).collect();
    let more = if letters.next().is_some() { "..." } else { "" };
    format!("\"{shown}{more}\"")
}
