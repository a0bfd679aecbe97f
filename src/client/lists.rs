//! Whose device it is: device lists, as they come with messages and from the server.

use alloc::boxed::Box;

use rand_core::CryptoRng;

use super::Trust;
use super::actions::{Actions, Allowance};
use super::receive::{Arrival, Genuine};
use super::send::{NOT_LOGGED, Target};
use crate::envelope::Body;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sesame::devices::DeviceList;
use crate::sesame::{Changed, Needed, Place, Tag, User};

impl Actions<'_> {
    /// The user that a device belongs to, and what is known of them. The inner error says why it belongs to nobody.
    pub(super) fn admit(
        &mut self,
        arrival: Arrival<'_>,
        known: Option<User>,
        identity: &IdentityKey,
        list: Option<&[u8]>,
    ) -> Result<Result<(User, Trust), Error>, Error> {
        let Arrival { from, place, .. } = arrival;
        let is_known = |bytes: &&[u8]| known.as_ref().is_some_and(|user| user.list.encode() == **bytes);
        let enclosed = match list.filter(|bytes| !is_known(bytes)).map(DeviceList::decode).transpose() {
            Ok(enclosed) => enclosed,
            Err(error) => return Ok(Err(error)),
        };
        let is_listed =
            |list: &DeviceList| list.device_of(identity).is_some_and(|listed| listed.device == from.device);
        let user = match (known, enclosed) {
            (None, None) => {
                self.need(&Needed::Devices(from.user.as_str().into()))?;
                return Ok(Err(Error::DevicesNeeded(from.user.as_str().into())));
            }
            (None, Some(list)) if is_listed(&list) => {
                let user = User::new(&from.user, list);
                self.put_user(place.tag, &user)?;
                user
            }
            (None, Some(_)) => return Ok(Err(Error::UnknownDevice(Box::new(from.clone())))),
            (Some(user), None) => user,
            // Only a list that the sender is in is the sender's to bring, and one's own new account key comes by another way.
            (Some(user), Some(list)) if is_listed(&list) && !self.is_own_new_key(&user, &list) => {
                match self.learn(place.tag, user, list)? {
                    Ok(user) => user,
                    // Two managers changed it at once, say. The list that is known says whether the sender is one of theirs.
                    Err(_) => {
                        self.need(&Needed::Devices(from.user.as_str().into()))?;
                        self.user(place.tag)?.ok_or(Error::BadState)?
                    }
                }
            }
            (Some(user), Some(_)) => user,
        };
        let trust = Trust::of(&user);
        if is_listed(&user.list) {
            Ok(Ok((user, trust)))
        } else if user.changed.as_ref().is_some_and(|changed| is_listed(&changed.0)) {
            Ok(Ok((user, Trust::Changed)))
        } else {
            self.need(&Needed::Devices(from.user.as_str().into()))?;
            Ok(Err(Error::UnknownDevice(Box::new(from.clone()))))
        }
    }

    fn is_own_new_key(&self, user: &User, list: &DeviceList) -> bool {
        user.name == self.account.user && user.list.account() != list.account()
    }

    /// Takes in a list of a user who is known. An older one changes nothing. The inner error says why it is refused.
    pub(super) fn learn(
        &mut self,
        tag: Tag,
        mut user: User,
        list: DeviceList,
    ) -> Result<Result<User, Error>, Error> {
        if list.account() == user.list.account() {
            match list.replaces(&user.list) {
                Ok(true) => self.adopt(tag, &mut user, list)?,
                Ok(false) | Err(Error::StaleDeviceList) => {}
                Err(error) => return Ok(Err(error)),
            }
            return Ok(Ok(user));
        }
        if user.has_replaced(&list.account()) {
            return Ok(Ok(user));
        }
        // One's own account key changes only at the hands of one's own devices.
        if self.is_own_new_key(&user, &list) {
            return Ok(Err(Error::IdentityChanged(user.name.as_str().into())));
        }
        let newer = match &user.changed {
            Some(Changed(known)) if known.account() == list.account() => list.replaces(known),
            _ => Ok(true),
        };
        match newer {
            Ok(true) => {
                user.changed = Some(Changed(list));
                self.put_user(tag, &user)?;
            }
            Ok(false) | Err(Error::StaleDeviceList) => {}
            Err(error) => return Ok(Err(error)),
        }
        Ok(Ok(user))
    }

    /// Puts a list in the place of the one known, and ends the sessions with the devices that are not in it.
    pub(super) fn adopt(&mut self, tag: Tag, user: &mut User, list: DeviceList) -> Result<(), Error> {
        for gone in user.list.devices() {
            if list.device_of(&gone.identity).is_none() {
                self.end_sessions(Place { tag, device: gone.device })?;
            }
        }
        user.replace(list);
        self.put_user(tag, user)
    }

    /// Where one of the two knows an older list of the other: fetches it, or sends it.
    pub(super) fn compare_lists(
        &mut self,
        genuine: &Genuine<'_>,
        reply: &mut Target,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let Genuine { arrival, content, trust, own_number } = genuine;
        if *trust == Trust::Changed {
            return Ok(());
        }
        if content.number > reply.known && content.list.is_none() {
            self.need(&Needed::Devices(arrival.from.user.as_str().into()))?;
        }
        let is_own = arrival.from.user == self.account.user;
        let is_behind = content.known < *own_number;
        // A new account key is told by one's own devices alone: they learn from this that it is not known here.
        let asks = is_own && content.number > reply.known && !content.body.is_about_devices();
        if !(is_behind || asks) || !self.allow(&LISTS, arrival.place.tag.bucket(), arrival.now)? {
            Ok(())
        } else if is_own && is_behind {
            self.post_account(reply, (NOT_LOGGED, None), rng)
        } else {
            self.post(reply, Body::Devices, (NOT_LOGGED, None), rng)
        }
    }
}

/// How often a user is told of one's devices, unasked.
const LISTS: Allowance = Allowance { kind: 5, burst: 32, period: 60 };
