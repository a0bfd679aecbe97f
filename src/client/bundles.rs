//! Sessions that this device begins.

use rand_core::CryptoRng;

use super::asking;
use super::heal;
use super::outbox;
use super::transaction::Open;
use super::wants::{self, Want};
use super::{Client, Scope, work};
use crate::address::Address;
use crate::error::Error;
use crate::prekey::Bundle;
use crate::sesame::AskIn;
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
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| add(open, of, bundle, now, rng)))
    }
}

pub(super) fn add(
    open: &mut Open<'_>,
    of: &Address,
    bundle: &[u8],
    now: UnixTime,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let bundle = Bundle::decode(bundle)?.verify(&open.account.identity, now.as_secs())?;
    let (tag, user) = open.known_user(&of.user)?;
    if user.pending.is_some() {
        return Err(Error::IdentityChanged(of.user.as_str().into()));
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
    if !is_writing || to_ask {
        let session = Session::initiate(&open.identity()?, &bundle, rng)?;
        let dropped = record.begin(session.id(), now, to_ask);
        open.delete_sessions(place, &dropped)?;
        open.put_session(place, &session)?;
        open.put_record(place, &record)?;
    }
    wants::have(open, &Want::Bundle(of.clone()))?;
    wants::want(open, Want::Work(of.clone()), now)?;
    work::go_on(open, of, now, rng)
}
