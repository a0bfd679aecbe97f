//! Healing: what nothing opens is asked for again, and what is asked for again is sent again.
//!
//! Who cannot open an envelope asks for it in a session that it begins for this. The other side answers in that session, which is the active one
//! from then on: so whatever was wrong with the sessions before, they are not used any more.
//!
//! It never becomes a loop: requests and answers have an allowance for each user, and a message is sent again 32 times at most.

use alloc::collections::BTreeSet;

use rand_core::CryptoRng;

use super::actions::{Actions, Allowance};
use super::receive::{Arrival, Received};
use super::send::{Logged, LoggedBody, Target};
use crate::envelope::{Body, Reference};
use crate::error::Error;
use crate::sesame::{Device, MAX_ASKING, Needed};

/// Requests to the devices of one user.
const REQUESTS: Allowance = Allowance { kind: 2, burst: 1_000, period: 10 };

/// Requests to users of whom no device list is known: whoever can send bytes can make up any number of those.
const STRANGERS: Allowance = Allowance { kind: 3, burst: 64, period: 60 };

/// Messages sent again to the devices of one user.
const ANSWERS: Allowance = Allowance { kind: 4, burst: 1_000, period: 10 };

/// Of what cannot be opened this soon after a session was begun to ask in, it is taken that it was on the way before: so it is
/// asked for in that session too. Later, or where that one is broken as well, another is begun.
const YOUNG: u64 = 5 * 60;

impl Actions<'_> {
    /// Nothing opens an envelope: asks for it, now or once there is a bundle.
    pub(super) fn heal(
        &mut self,
        arrival: Arrival<'_>,
        mut device: Device,
        (reference, error): (Reference, Error),
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        let Arrival { from, place, now } = arrival;
        let can_heal = matches!(
            error,
            Error::UnknownHeader
                | Error::UnknownPrekey
                | Error::TooOld
                | Error::TooFarAhead
                | Error::Duplicate
                | Error::Replay
                | Error::Decrypt
        );
        if !can_heal {
            return Ok(Received::Refused(error));
        }
        let user = self.user(place.tag)?;
        let (allowance, bucket) = match &user {
            Some(_) => (REQUESTS, place.tag.bucket()),
            None => (STRANGERS, [0, 0]),
        };
        if !self.allow(&allowance, bucket, now)? {
            return Ok(Received::Refused(Error::RateLimited));
        }
        if user.as_ref().is_some_and(|user| !user.may_have(place.device)) {
            self.need(&Needed::Devices(from.user.as_str().into()))?;
            return Ok(Received::Refused(Error::UnknownDevice(from.clone().into())));
        }
        let user = user.filter(|user| user.changed.is_none());
        let listed = user.as_ref().and_then(|user| user.list.get(place.device));
        let epoch = self.commit.epoch;
        let healing = listed.and_then(|listed| device.healing(&listed.identity, epoch, now, YOUNG));
        let session = match healing {
            Some(entry) => self.session(place, entry)?,
            None => None,
        };
        if let (Some(session), Some(user)) = (session, user) {
            let (address, known) = (from.clone(), user.number());
            let mut target = Target { address, place, session, known, copy: false };
            self.ask(&mut target, &reference.0, now, rng)?;
            return Ok(Received::AskedAgain);
        }
        device.ask(reference);
        self.put_device(place, &device)?;
        self.need(&Needed::Bundle(from.clone()))?;
        Ok(Received::BundleNeeded(from.clone()))
    }

    /// Posts a retry request. It is logged, since it may itself have to be sent again.
    pub(super) fn ask(
        &mut self,
        target: &mut Target,
        references: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let (_, user) = self.known_user(&target.address.user)?;
        let body = LoggedBody::Retry(references.to_vec());
        let place = self.log(Logged::new(&user, now, body), rng)?;
        self.post(target, Body::Retry(references), (place, None), rng)
    }

    /// Answers a retry request, in the session that it came in: whatever of it was for this device or this user, or is a copy for one's own
    /// device, and is still in the log.
    ///
    /// References travel in the open, so anyone can ask for them: who asks must be who it was for.
    pub(super) fn send_again(
        &mut self,
        arrival: Arrival<'_>,
        references: &[u8],
        reply: &mut Target,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let Arrival { from, place, now } = arrival;
        let is_own = from.user == self.account.user;
        let (_, user) = self.known_user(&from.user)?;
        let (asked, _) = references.as_chunks::<{ Reference::LENGTH }>();
        let mut once = BTreeSet::new();
        for asked in
            asked.iter().take(MAX_ASKING).filter(|asked| once.insert(**asked)).copied().map(Reference)
        {
            let logged_at = asked.place(&self.account.reference_key);
            let Some((number, mut row)) = self.logged(logged_at, now)? else { continue };
            let entitled = is_own || row.to == from.user && row.is_for(&user, &reply.session.peer());
            let [to_user, to_own] = &mut row.left;
            let left = if row.to == from.user { to_user } else { to_own };
            if !entitled || *left == 0 || !self.allow(&ANSWERS, place.tag.bucket(), now)? {
                continue;
            }
            *left = left.saturating_sub(1);
            self.put_logged(number, &row)?;
            let again = (logged_at, Some(asked));
            match &row.body {
                LoggedBody::Message { id, text } if row.to == from.user => {
                    self.post(reply, Body::Message { id: *id, text }, again, rng)?;
                }
                LoggedBody::Message { id, text } => {
                    self.post(reply, Body::Copy { id: *id, to: &row.to, text }, again, rng)?;
                }
                LoggedBody::Retry(references) => self.post(reply, Body::Retry(references), again, rng)?,
                LoggedBody::Account if is_own => self.post_account(reply, again, rng)?,
                LoggedBody::Account => {}
            }
        }
        Ok(())
    }
}
