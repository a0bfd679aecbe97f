//! History for a device that was linked lately: offered in a message, and taken from a blob.

use rand_core::CryptoRng;

use super::admission::Sender;
use super::allowances::{self, OFFERS, Party};
use super::events::Event;
use super::inbox::{self, Incoming, Item};
use super::linked;
use super::offer::HistoryOffer;
use super::outbox;
use super::transaction::Open;
use super::{Client, Scope};
use crate::address::Address;
use crate::content::{Body, History};
use crate::error::Error;
use crate::file::Descriptor;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Offers the account's history to one of its devices, which was linked less than 24 hours ago:
    /// `descriptor` is that of the blob that the archive of `export_history` is in, `key` what
    /// opens it, `location` where the blob is, in at most 1,024 bytes that only the app
    /// understands.
    ///
    /// The other device is told by [`Event::History`]. Delete the blob once it has it, or after a
    /// day.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: the device was linked earlier, or is this one.
    /// [`Error::BundlesNeeded`]: there is no session with it yet, and [`Client::add_bundle`] begins
    /// one. [`Error::UnknownDevice`], [`Error::TooLong`], [`Error::Unlinked`], [`Error::Store`].
    pub fn offer_history(
        &mut self,
        device: u32,
        descriptor: &Descriptor,
        key: &[u8; 32],
        location: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        let encoded = descriptor.encode();
        let descriptor = encoded.first_chunk().ok_or(Error::TooLong)?;
        let history = History { key, descriptor, location };
        self.run(|open| open.whole(|open| offer(open, device, &history, now, rng)))
    }
}

fn offer(
    open: &mut Open<'_>,
    device: u32,
    history: &History<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if history.location.len() > History::MAX_LOCATION {
        return Err(Error::TooLong);
    }
    let own = open.linked()?;
    let address = Address::new(&own.user.name, device);
    let listed =
        own.user.list.get(device).ok_or_else(|| Error::UnknownDevice(address.clone().into()))?;
    if device == open.account.device || !linked::is_new(open, &listed.identity, now)? {
        return Err(Error::NotPermitted);
    }
    let Some(mut target) = outbox::target(open, own.tag, &own.user, listed, now)? else {
        return Err(Error::BundlesNeeded([address].into()));
    };
    outbox::tell(open, &mut target, Body::History(*history), None, now, rng).map(drop)
}

/// A device of the account offers its history. The app hears of it while this device is new, and
/// not without end.
pub(super) fn offered(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    history: &History<'_>,
    (number, now): (u64, UnixTime),
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    let Ok(offer) = HistoryOffer::read(history) else { return Ok(None) };
    let is_wanted = linked::is_new_here(open, now)?
        && allowances::take(open, &OFFERS, Party::Contact(sender.tag), 1, now)?;
    if !is_wanted {
        return Ok(None);
    }
    let event = Event::History { from: sender.address.clone(), offer: offer.into() };
    inbox::add(open, Item::Event(event), number, now, rng).map(Some)
}
