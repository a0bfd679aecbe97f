//! Until when an app may sleep.

use super::backoff::Earliest;
use super::group_outs;
use super::group_rows;
use super::group_send;
use super::outbox;
use super::tasks::Check;
use super::timers;
use super::transaction::Open;
use super::upload;
use super::wants;
use super::{Client, Scope};
use crate::error::Error;
use crate::time::UnixTime;

/// Seconds after which an app looks again in any case.
const MOST: u64 = 60 * 60;

impl<S: Scope> Client<S> {
    /// When to call [`Client::tasks`] again, if nothing is written or received before: the next
    /// time at which something that waits is due. It is later than `now`, and at most an hour
    /// later. Ask once [`Client::tasks`] has returned nothing.
    ///
    /// Some tasks come later on purpose: what failed is tried again after a while, and what a
    /// sealed envelope brings about is asked of the server up to ten minutes later, so that it
    /// does not learn whose envelope it was.
    ///
    /// What waits for a person, or for an answer that is under way, has no time.
    ///
    /// ```
    /// # use subrosa::{Answer, Client, Error, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
    /// let tasks = client.tasks(100, now, rng)?;
    /// for task in &tasks {
    ///     // The server is away.
    ///     client.complete(&task.id, Answer::Failed, now, rng)?;
    /// }
    /// assert!(client.tasks(100, now, rng)?.is_empty());
    ///
    /// let next = client.next_due(now)?;
    /// assert!(next > now && next <= now.after(60 * 60));
    /// assert_eq!(client.tasks(100, next, rng)?.len(), tasks.len());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn next_due(&mut self, now: UnixTime) -> Result<UnixTime, Error> {
        let check = self.check;
        self.run(|open| next_due(open, check, now))
    }
}

fn next_due(open: &mut Open<'_>, check: Check, now: UnixTime) -> Result<UnixTime, Error> {
    let mut next = Earliest::within(MOST, now);
    timers::next_due(open, &mut next)?;
    match open.linked() {
        Ok(_) => {}
        // A device that was removed has nothing else to do.
        Err(Error::Unlinked) => return Ok(next.get()),
        Err(error) => return Err(error),
    }
    // Nothing else comes before the server was asked what it holds.
    if let Check::Until(until) = check {
        next.take(until);
        return Ok(next.get());
    }
    wants::next_due(open, &mut next)?;
    upload::next_due(open, &mut next)?;
    outbox::next_due(open, &mut next)?;
    group_rows::next_due(open, &mut next, group_send::MOST_GROUPS)?;
    group_outs::next_due(open, &mut next)?;
    Ok(next.get())
}
