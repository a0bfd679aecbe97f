//! In, of groups: a history that is longer than one content, as it comes to somebody who was added.
//! Its parts are kept until they make a group that this user is in (docs/groups.md, 4).

use alloc::vec::Vec;

use super::group_serve;
use super::transaction::{Open, Tag};
use crate::crypto::kdf;
use crate::error::Error;
use crate::store::Table;
use crate::time::UnixTime;

/// `PART || user's tag:16 || group's tag:16 || tag of H(content):16`: `since:u64 || content`.
const PART: u8 = 21;

/// Parts that are kept of one history, which has 17 MB at most, and of all.
const MOST_OF_ONE: usize = 17;
const MOST: usize = 32;

/// Seconds for which a part is kept.
const KEPT_FOR: u64 = 24 * 60 * 60;

/// More than the longest change has: one that adds 63 users and sets the settings.
const LONGEST_CHANGE: usize = 24 * 1_024;

/// Whether a content had no room for another change, so that more contents may come.
pub(super) const fn is_full(content: &[u8]) -> bool {
    content.len().saturating_add(LONGEST_CHANGE) > group_serve::MOST_CHANGES
}

/// Whether a user's devices sent something of a group before.
pub(super) fn any(open: &mut Open<'_>, user: Tag, group: Tag) -> Result<bool, Error> {
    Ok(!open.scan(Table::Group, &key(user, group), 1)?.is_empty())
}

/// What they sent: contents, in no order.
pub(super) fn of(open: &mut Open<'_>, user: Tag, group: Tag) -> Result<Vec<Vec<u8>>, Error> {
    let rows = open.scan(Table::Group, &key(user, group), MOST)?;
    let content = |row: &[u8]| row.get(8..).map(<[u8]>::to_vec);
    rows.iter().map(|(_, row)| content(row).ok_or(Error::BadState)).collect()
}

/// Keeps a content, if there is room.
pub(super) fn keep(
    open: &mut Open<'_>,
    (user, group): (Tag, Tag),
    content: &[u8],
    now: UnixTime,
) -> Result<(), Error> {
    let (mut kept, mut of_one) = (0_usize, 0_usize);
    let prefix = key(user, group);
    for (key, row) in open.scan(Table::Group, &[PART], MOST)? {
        let since = row.first_chunk().map(|since| u64::from_be_bytes(*since));
        let since = UnixTime::from_secs(since.ok_or(Error::BadState)?);
        if now.apart(since.map_err(|_| Error::BadState)?) > KEPT_FOR {
            open.delete(Table::Group, &key)?;
        } else {
            kept = kept.saturating_add(1);
            of_one = of_one.saturating_add(usize::from(key.starts_with(&prefix)));
        }
    }
    if content.is_empty() || kept >= MOST || of_one >= MOST_OF_ONE {
        return Ok(());
    }
    let name = open.group_tag(&kdf::hash(&[content]));
    let key = [&prefix[..], &name.0].concat();
    let row = [&now.as_secs().to_be_bytes()[..], content].concat();
    open.put(Table::Group, &key, &row)
}

/// The group is whole.
pub(super) fn done(open: &mut Open<'_>, user: Tag, group: Tag) -> Result<(), Error> {
    open.delete_all(Table::Group, &key(user, group))
}

/// Forgets what a user's devices sent.
pub(super) fn forget(open: &mut Open<'_>, user: Tag) -> Result<(), Error> {
    open.delete_all(Table::Group, &[&[PART][..], &user.0].concat())
}

fn key(user: Tag, group: Tag) -> Vec<u8> {
    [&[PART][..], &user.0, &group.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::store::Memory;
    use crate::testing::Replay;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn parts_that_never_make_a_group_take_bounded_room_for_a_day() {
        let (now, rng) = (UnixTime::from_secs(NOW).unwrap(), &mut Replay::counting());
        let mut client = Client::create(Memory::new(), "ada", now, rng).unwrap();
        client
            .run(|open| {
                let count = |open: &mut Open<'_>| {
                    Ok::<_, Error>(open.scan(Table::Group, &[PART], usize::MAX)?.len())
                };
                for at in 0..40_u8 {
                    let (user, group) =
                        (open.tag(&"u".repeat(1 + usize::from(at)))?, Tag([at; 16]));
                    keep(open, (user, group), &[at; 100], now)?;
                    // The same again is one.
                    keep(open, (user, group), &[at; 100], now)?;
                }
                assert_eq!(count(open)?, MOST);
                let later = now.after(KEPT_FOR + 1);
                let user = open.tag("bea")?;
                for at in 0..40_u8 {
                    keep(open, (user, Tag([1; 16])), &[at; 100], later)?;
                }
                assert_eq!(count(open)?, MOST_OF_ONE);
                forget(open, user)?;
                assert_eq!(count(open)?, 0);
                Ok(())
            })
            .unwrap();
    }
}
