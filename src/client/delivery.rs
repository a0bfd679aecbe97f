//! What waits to be sent is made anew: since it may not leave as it is, or should not.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::events::Event;
use super::group_texts;
use super::heal;
use super::inbox;
use super::messages;
use super::outbox::{self, OutboxRow};
use super::send;
use super::tickets;
use super::transaction::Open;
use super::{Client, Delivery, Scope};
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Says how mail to a user is delivered from now on, where the policy is to seal it
    /// ([`Policy::delivery`](super::Policy)): openly, which tells the server who writes to the
    /// user; or sealed again. What waits to be sent to the user is encrypted anew for that.
    ///
    /// It is the one way in which anything leaves openly in the place of sealed mail: ask a person.
    /// The account's other devices get their copies sealed in any case, and are not told.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`], [`Error::BadState`]
    pub fn deliver(
        &mut self,
        user: &str,
        delivery: Delivery,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.tag(user)?;
                let is_open = delivery == Delivery::Open;
                tickets::set_open(open, tag, is_open)?;
                make_anew(open, now, rng, |row| {
                    row.to.user == user && envelope::is_sealed(&row.envelope) == is_open
                })?;
                send::note_drafts(open, Some(tag), now)
            })
        })
    }
}

/// The policy asks for sealed mail: what waits, is open, and is not to be, is encrypted anew.
pub(super) fn seal(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut users = BTreeMap::new();
    for waiting in outbox::waiting_for(open, |_| true)? {
        let tag = open.tag(&waiting.to.user)?;
        if tickets::seals(open, tag)? {
            users.insert(waiting.to.user, tag);
        }
    }
    make_anew(open, now, rng, |row| {
        users.contains_key(&row.to.user) && !envelope::is_sealed(&row.envelope)
    })?;
    users.into_values().try_for_each(|tag| send::note_drafts(open, Some(tag), now))
}

/// Throws away the envelopes that wait and that `is_meant` names. Texts become drafts again, and
/// requests and answers are made as if the device they are for had asked for them.
pub(super) fn make_anew(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
    is_meant: impl Fn(&OutboxRow) -> bool,
) -> Result<(), Error> {
    let mut asked = Vec::new();
    for name in outbox::names(open, usize::MAX)? {
        let Some(row) = outbox::row(open, &name)?.filter(&is_meant) else { continue };
        match row.message {
            Some(id) => {
                if let Some(message) = messages::get(open, id)? {
                    let tag = open.tag(&message.to)?;
                    messages::encrypt_again(open, tag, id, &name)?;
                } else if !group_texts::encrypt_again(open, id, &name)? {
                    let (to, device) = (row.to.user, Some(row.to.device));
                    inbox::tell(open, Event::Undelivered { message: id, to, device }, now, rng)?;
                }
            }
            None => asked.push((row.to, Envelope::decode(&row.envelope)?.reference)),
        }
        outbox::remove(open, &name)?;
    }
    heal::withdrawn(open, asked, now, rng)
}
