//! Deletes what is over: texts in the log, and what is known of removed devices.

use super::log::{self, TextKey};
use super::messages;
use super::timers::{self, Kind};
use super::transaction::{Open, Tag};
use super::trust;
use crate::error::Error;
use crate::time::UnixTime;

/// Seconds after which a draft is looked at again.
const DAY: u64 = 24 * 60 * 60;

/// Does what is due, at most `most` of each kind.
pub(super) fn run(open: &mut Open<'_>, now: UnixTime, most: usize) -> Result<(), Error> {
    for due in timers::due(open, Kind::Text, now, most)? {
        timers::done(open, &due)?;
        let Some(key) = TextKey::read(due.subject()) else { continue };
        let Some(text) = log::text(open, &key)? else { continue };
        // A draft is kept until it has left, or is given up.
        let is_draft = messages::get(open, text.id)?.is_some_and(|row| row.is_draft);
        if is_draft && text.keep.is_none() {
            timers::set_text(open, now.after(DAY), key.as_bytes())?;
        } else {
            log::remove(open, &key)?;
        }
    }
    for due in timers::due(open, Kind::Removed, now, most)? {
        if let Some(tag) = due.subject().try_into().ok().map(Tag)
            && let Some(mut user) = open.user(tag)?
        {
            for identity in user.forget_gone(now) {
                trust::forget_device(open, open.place(tag, &identity), &identity)?;
            }
            open.put_user(tag, &user)?;
        }
        timers::done(open, &due)?;
    }
    Ok(())
}
