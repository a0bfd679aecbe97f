//! A server in memory, as an app would have one, and what an app does with it.
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, VecDeque};

use rand_core::CryptoRng;
use subrosa::store::Store;
use subrosa::{
    Address, Client, DeviceList, Error, Incoming, MessageId, Needed, PublishedPrekeys, Received, Upload,
};

/// Device lists, prekeys, and mailboxes. It sees ciphertext alone.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) devices: BTreeMap<String, DeviceList>,
    /// Every list that it ever had, the oldest first.
    pub(crate) past_devices: BTreeMap<String, Vec<DeviceList>>,
    pub(crate) prekeys: BTreeMap<Address, PublishedPrekeys>,
    pub(crate) mail: BTreeMap<Address, VecDeque<(Address, Vec<u8>)>>,
    /// Every envelope that ever went out.
    pub(crate) wire: Vec<(Address, Address, Vec<u8>)>,
}

impl Server {
    pub(crate) fn upload(&mut self, from: &Address, upload: Upload) {
        match self.devices.get(&from.user) {
            Some(known) if known.number() >= upload.devices.number() => {}
            _ => {
                self.past_devices.entry(from.user.clone()).or_default().push(upload.devices.clone());
                self.devices.insert(from.user.clone(), upload.devices);
            }
        }
        match self.prekeys.get_mut(from) {
            Some(known) => known.merge(upload.prekeys),
            None => drop(self.prekeys.insert(from.clone(), upload.prekeys)),
        }
    }

    pub(crate) fn one_time_count(&self, of: &Address) -> usize {
        self.prekeys.get(of).map_or(0, PublishedPrekeys::one_time_count)
    }

    pub(crate) fn bundle(&mut self, of: &Address) -> Option<Vec<u8>> {
        Some(self.prekeys.get_mut(of)?.take_bundle()?.encode())
    }

    pub(crate) fn send(&mut self, from: &Address, to: &Address, envelope: Vec<u8>) {
        self.wire.push((from.clone(), to.clone(), envelope.clone()));
        self.mail.entry(to.clone()).or_default().push_back((from.clone(), envelope));
    }
}

/// Uploads what is due.
pub(crate) fn connect<S: Store>(
    client: &mut Client<S>,
    server: &mut Server,
    now: u64,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let address = client.address().clone();
    if let Some(upload) = client.upload(server.one_time_count(&address), now, rng)? {
        server.upload(&address, upload.clone());
        client.uploaded(&upload)?;
    }
    Ok(())
}

/// Encrypts, fetching what it takes.
pub(crate) fn write<S: Store>(
    client: &mut Client<S>,
    server: &mut Server,
    (to, text): (&str, &[u8]),
    now: u64,
    rng: &mut impl CryptoRng,
) -> Result<MessageId, Error> {
    for _ in 0..4 {
        match client.encrypt(to, text, now, rng) {
            Err(Error::DevicesNeeded(user)) => fetch_devices(client, server, &user)?,
            Err(Error::BundlesNeeded(addresses)) => {
                for address in addresses {
                    if !fetch_bundle(client, server, &address, now, rng)? {
                        return Ok(client.encrypt_to_reachable(to, text, now, rng)?.id);
                    }
                }
            }
            done => return done,
        }
    }
    client.encrypt(to, text, now, rng)
}

pub(crate) fn fetch_devices<S: Store>(
    client: &mut Client<S>,
    server: &Server,
    user: &str,
) -> Result<(), Error> {
    match server.devices.get(user) {
        Some(list) => match client.take_devices(user, &list.encode()) {
            // One's own new account key comes by way of one's own devices.
            Err(Error::IdentityChanged(_)) => client.give_up(&Needed::Devices(user.into())),
            Err(Error::StaleDeviceList) => client.give_up(&Needed::Devices(user.into())),
            done => done,
        },
        None => client.give_up(&Needed::Devices(user.into())),
    }
}

/// Whether there is a session now.
pub(crate) fn fetch_bundle<S: Store>(
    client: &mut Client<S>,
    server: &mut Server,
    of: &Address,
    now: u64,
    rng: &mut impl CryptoRng,
) -> Result<bool, Error> {
    let Some(bundle) = server.bundle(of) else { return Ok(false) };
    match client.take_bundle(of, &bundle, now, rng) {
        Ok(()) => Ok(true),
        // The list may have changed: then the bundle is of a device that is not known yet, or not any more.
        Err(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) => {
            fetch_devices(client, server, &of.user)?;
            match client.take_bundle(of, &bundle, now, rng) {
                Err(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) => Ok(false),
                done => done.map(|()| true),
            }
        }
        Err(error) => Err(error),
    }
}

/// Hands the outbox to the server.
pub(crate) fn flush<S: Store>(client: &mut Client<S>, server: &mut Server) -> Result<(), Error> {
    let from = client.address().clone();
    loop {
        let batch = client.outbox(100)?;
        if batch.is_empty() {
            return Ok(());
        }
        for outgoing in batch {
            server.send(&from, &outgoing.to, outgoing.envelope);
            client.sent(outgoing.id)?;
        }
    }
}

/// Receives the mail, fetches what is needed then, and sends what that makes.
pub(crate) fn sync<S: Store>(
    client: &mut Client<S>,
    server: &mut Server,
    now: u64,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Received>, Error> {
    let address = client.address().clone();
    let (mut all, mut later) = (Vec::new(), Vec::new());
    while let Some((from, envelope)) = server.mail.get_mut(&address).and_then(VecDeque::pop_front) {
        let mut received = client.receive(&from, &envelope, now, rng)?;
        if let Received::Refused(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = received {
            fetch_devices(client, server, &from.user)?;
            received = client.receive(&from, &envelope, now, rng)?;
        }
        if received == Received::Refused(Error::RateLimited) {
            later.push((from, envelope));
        }
        all.push(received);
    }
    // Not acknowledged: it comes again.
    server.mail.entry(address).or_default().extend(later);
    for needed in client.needed(1_000)? {
        let had = match &needed {
            Needed::Devices(user) => fetch_devices(client, server, user).map(|()| true)?,
            Needed::Bundle(of) => fetch_bundle(client, server, of, now, rng)?,
            _ => false,
        };
        if !had {
            client.give_up(&needed)?;
        }
    }
    flush(client, server)?;
    Ok(all)
}

/// Takes all messages out of the inbox.
pub(crate) fn take<S: Store>(client: &mut Client<S>) -> Result<Vec<Incoming>, Error> {
    let mut all = Vec::new();
    loop {
        let batch = client.inbox(100)?;
        if batch.is_empty() {
            return Ok(all);
        }
        for incoming in batch {
            client.done(incoming.id)?;
            all.push(incoming);
        }
    }
}
