//! Sessions that this device begins.

use rand_core::CryptoRng;

use super::asking;
use super::heal;
use super::outbox;
use super::telling;
use super::transaction::{Open, Tag};
use super::wants::{self, Want};
use super::{Client, Scope, work};
use crate::address::Address;
use crate::error::Error;
use crate::prekey::Bundle;
use crate::sesame::{AskIn, UserRecord};
use crate::session::Session;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Verifies a bundle of a device and begins a session with it, if one is needed: what waited
    /// for it is encrypted, and what could not be opened is asked for.
    ///
    /// [`Client::complete`] does this for the bundles that a task asks for.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]: the device list says otherwise; fetch it again.
    /// [`Error::DevicesNeeded`], [`Error::IdentityChanged`]. [`Error::StaleBundle`],
    /// [`Error::BadSignature`], [`Error::InvalidKey`], [`Error::Malformed`]: fetch another.
    /// [`Error::FutureBundle`]: check the clock. [`Error::Store`].
    pub fn add_bundle(
        &mut self,
        of: &Address,
        bundle: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| add(open, of, bundle, now, rng)))
    }
}

pub(super) fn add(
    open: &mut Open<'_>,
    of: &Address,
    bundle: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let bundle = Bundle::decode(bundle)?.verify(&open.account.identity, now.as_secs())?;
    let (tag, user) = open.known_user(&of.user)?;
    if user.pending.is_some() {
        return Err(Error::IdentityChanged(of.user.as_str().into()));
    }
    if user.unvouched {
        return Err(Error::DevicesNeeded(of.user.as_str().into()));
    }
    let listed = user.list.get(of.device);
    if listed.is_none_or(|listed| listed.identity != bundle.identity()) {
        return Err(Error::UnknownDevice(of.clone().into()));
    }
    let place = open.place(tag, &bundle.identity());
    let mut record = open.record(place, &bundle.identity())?;
    // A session is begun for a reason: there is none to write in, or something is to be asked for
    // in one of its own.
    let is_asking = asking::any(open, tag, of.device)?
        && heal::to_ask_in(open, place, &mut record, now)?.is_none();
    let is_writing = outbox::writing(open, place, &mut record, now)?.is_some();
    let to_ask = is_writing && is_asking && record.ask_in(now) == AskIn::NewAsking;
    let is_new = !is_writing || to_ask;
    if is_new {
        let session = Session::initiate(&open.identity()?, &bundle, rng)?;
        let dropped = record.begin(session.id(), now, to_ask);
        open.delete_sessions(place, &dropped)?;
        open.put_session(place, &session)?;
        open.put_record(place, &record)?;
    }
    wants::have(open, &Want::Bundle(of.clone()))?;
    wants::want(open, Want::Work(of.clone()), now)?;
    let made = record.made;
    work::go_on(open, of, now, rng)?;
    if is_new && open.is_own(&of.user) {
        introduce(open, (tag, &user, of.device), made, now, rng)?;
    }
    Ok(())
}

/// Tells a device of the account of the account, where nothing did that was written in a session
/// that was begun with it.
fn introduce(
    open: &mut Open<'_>,
    (tag, user, device): (Tag, &UserRecord, u32),
    made: u64,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(listed) = user.list.get(device) else { return Ok(()) };
    match outbox::target(open, tag, user, listed, now)? {
        Some(mut target) if target.record.made == made => {
            telling::post_account(open, &mut target, None, now, rng)
        }
        _ => Ok(()),
    }
}
