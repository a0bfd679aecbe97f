//! Users with their devices, and a seeded network between them on which nobody should rely.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use subrosa::store::Memory;
use subrosa::{Address, Bundle, Client, Error, IdentityKey, Needed, NewDevice, Policy, Received, Trust};

use super::network::{NOW, Seeded};
use super::promise::{Life, Promise};
use super::server::{Server, take};

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

const USERS: [&str; 6] = ["ada", "bea", "cyd", "dot", "eve", "fay"];
const MOST_DEVICES: usize = 4;
const MOST_ROUNDS: usize = 40;

/// A device, and what its app has.
struct Device {
    address: Address,
    client: Option<Client<Memory>>,
    /// Kept where no backup reaches.
    generation: u64,
    on: bool,
    backups: Vec<Backup>,
    /// When it renewed the account key.
    renewed: usize,
}

struct Backup {
    store: Memory,
    life: Life,
    step: usize,
}

#[derive(Clone)]
struct Letter {
    from: Address,
    to: Address,
    envelope: Vec<u8>,
}

/// What happened in a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) written: usize,
    pub(crate) owed: usize,
    pub(crate) shown: usize,
    pub(crate) delivered: usize,
    pub(crate) asked: usize,
    pub(crate) duplicate: usize,
    pub(crate) forged: usize,
    pub(crate) linked: usize,
    pub(crate) removed: usize,
    pub(crate) managers_removed: usize,
    pub(crate) restored: [usize; 2],
    pub(crate) rounds: usize,
}

pub(crate) struct World {
    seed: u64,
    rng: Seeded,
    keys: Seeded,
    now: u64,
    step: usize,
    policy: Policy,
    /// How much time may pass at once, and in all.
    pace: (u64, u64),
    chaos: bool,
    /// Whether backups may come back without the hint.
    unaware: bool,
    devices: Vec<Device>,
    server: Server,
    bundles: BTreeMap<Address, Vec<Vec<u8>>>,
    mail: BTreeMap<Address, VecDeque<Letter>>,
    past: Vec<Letter>,
    promise: Promise,
    pub(crate) tally: Tally,
    events: VecDeque<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Seeded::new(seed, "society");
        let mut policy = Policy::default();
        (policy.prekeys_low, policy.prekeys_target) = (2, 5);
        let is_long = rng.chance(400);
        if is_long {
            policy.log_age = 90 * DAY;
        }
        let pace = if is_long { (4 * DAY, 50 * DAY) } else { (6 * HOUR, 6 * DAY) };
        let unaware = rng.chance(400);
        let mut world = Self {
            seed,
            rng,
            keys: Seeded::new(seed, "keys"),
            now: NOW,
            step: 0,
            policy,
            pace,
            chaos: true,
            unaware,
            devices: Vec::new(),
            server: Server::default(),
            bundles: BTreeMap::new(),
            mail: BTreeMap::new(),
            past: Vec::new(),
            promise: Promise::default(),
            tally: Tally::default(),
            events: VecDeque::new(),
        };
        for user in &USERS[..4 + world.rng.below(3)] {
            let first = Client::create(Memory::new(), user, NOW, &mut world.keys).unwrap();
            world.add(first);
            for _ in 0..world.rng.below(3) {
                world.link(user);
            }
        }
        world
    }

    /// So many things happen; then the network recovers, and the promise must have been kept.
    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step += 1;
            self.happen();
        }
        self.recover();
    }

    fn happen(&mut self) {
        let at = self.rng.below(self.devices.len());
        let user = self.devices[at].address.user.clone();
        if !self.devices[at].on && !self.rng.chance(60) {
            return;
        }
        self.devices[at].on = true;
        match self.rng.below(1000) {
            0..350 => self.write_to_anyone(at),
            350..700 => _ = self.sync(at),
            700..760 => self.time_passes(),
            760..800 => self.connect(at),
            800..840 => self.restart(at),
            840..870 => self.forge(at),
            870..900 => self.replay(at),
            900..920 => self.devices[at].on = false,
            920..935 => self.link(&user),
            935..947 => self.remove(&user),
            947..980 => self.back_up(at),
            980..994 => self.restore(at, true),
            _ if self.unaware => self.restore(at, false),
            _ => {}
        }
    }

    // ---- What a device does.

    fn add(&mut self, client: Client<Memory>) {
        let mut client = client.with_policy(self.policy.clone());
        let address = client.address().clone();
        let generation = client.generation().unwrap();
        let device =
            Device { address, client: Some(client), generation, on: true, backups: Vec::new(), renewed: 0 };
        self.devices.push(device);
        self.connect_for_sure(self.devices.len() - 1);
    }

    fn with<T>(&mut self, at: usize, work: impl FnOnce(&mut Client<Memory>, u64, &mut Seeded) -> T) -> T {
        let device = &mut self.devices[at];
        let client = device.client.as_mut().unwrap();
        let done = work(client, self.now, &mut self.keys);
        device.generation = client.generation().unwrap();
        done
    }

    fn address(&self, at: usize) -> Address {
        self.devices[at].address.clone()
    }

    fn write_to_anyone(&mut self, at: usize) {
        let to = self.devices[self.rng.below(self.devices.len())].address.user.clone();
        self.write(at, &to);
        if self.rng.chance(700) {
            self.flush(at);
        }
    }

    /// Whether it could be written.
    fn write(&mut self, at: usize, to: &str) -> bool {
        let (from, index) = (self.address(at), self.promise.written.len());
        for turn in 0..8 {
            let reachable = turn == 7 || self.chaos && self.rng.chance(50);
            let before: BTreeSet<_> = self.outbox(at).iter().map(|row| row.id).collect();
            let known = self.known_devices(at, to);
            let text = index.to_string().into_bytes();
            let done = self.with(at, |client, now, keys| {
                if reachable {
                    let reached = client.encrypt_to_reachable(to, &text, now, keys)?;
                    Ok((reached.id, reached.missed))
                } else {
                    Ok((client.encrypt(to, &text, now, keys)?, Vec::new()))
                }
            });
            match done {
                Ok((id, missed)) => {
                    let known = known.into_iter().filter(|address| !missed.contains(address)).collect();
                    self.note(|| format!("{from} wrote #{index} to {to}, for {known:?}"));
                    let rows = self.outbox(at).into_iter().filter(|row| !before.contains(&row.id));
                    let rows = rows.map(|row| (row.to, row.envelope)).collect();
                    self.promise.wrote((id, &from, to), known, rows, self.step);
                    return true;
                }
                Err(Error::DevicesNeeded(user)) => self.fetch_devices(at, &user),
                Err(Error::BundlesNeeded(of)) => {
                    for of in &of {
                        self.fetch_bundle(at, of);
                    }
                }
                Err(Error::IdentityChanged(user)) => self.compare_keys(at, &user),
                Err(Error::Unlinked) => return false,
                Err(error) => panic!("{from} writes to {to}: {error}"),
            }
        }
        self.note(|| format!("{from} could not write to {to}"));
        false
    }

    /// Whom a message is for, as far as a device knows.
    fn known_devices(&mut self, at: usize, to: &str) -> BTreeSet<Address> {
        let own = self.address(at);
        let mut all = BTreeSet::new();
        for user in [to, &own.user] {
            if let Some(list) = self.with(at, |client, _, _| client.devices(user).unwrap()) {
                all.extend(list.devices().iter().map(|listed| Address::new(user, listed.device)));
            }
        }
        all.remove(&own);
        all
    }

    fn outbox(&mut self, at: usize) -> Vec<subrosa::Outgoing> {
        self.with(at, |client, _, _| client.outbox(100_000).unwrap())
    }

    fn flush(&mut self, at: usize) {
        let from = self.address(at);
        for outgoing in self.outbox(at) {
            if self.chaos && self.rng.chance(100) {
                if self.rng.chance(200) {
                    return;
                }
                continue;
            }
            self.promise.left(&from, &outgoing.envelope);
            let (to, envelope) = (outgoing.to, outgoing.envelope);
            let letter = Letter { from: from.clone(), to: to.clone(), envelope };
            self.past.push(letter.clone());
            self.mail.entry(to).or_default().push_back(letter);
            // Where the server's word of it is lost, it goes out again.
            if !self.chaos || !self.rng.chance(60) {
                self.with(at, |client, _, _| client.sent(outgoing.id).unwrap());
            }
        }
    }

    /// Sends, receives, shows, and fetches what is needed. Says whether anything came.
    fn sync(&mut self, at: usize) -> bool {
        self.flush(at);
        let any = self.receive_all(at);
        if !self.chaos || self.rng.chance(800) {
            self.show(at);
        }
        if !self.chaos || self.rng.chance(700) {
            self.fetch_needed(at);
        }
        self.flush(at);
        any
    }

    fn receive_all(&mut self, at: usize) -> bool {
        let address = self.address(at);
        let mut mail: Vec<Letter> = self.mail.remove(&address).unwrap_or_default().into();
        let mut kept = VecDeque::new();
        let any = !mail.is_empty();
        if self.chaos && self.rng.chance(500) {
            for last in (1..mail.len()).rev() {
                mail.swap(last, self.rng.below(last + 1));
            }
        }
        let late = if self.chaos { [0, 0, 100, 500][self.rng.below(4)] } else { 0 };
        for letter in mail {
            if self.chaos && self.rng.chance(late) {
                kept.push_back(letter);
                continue;
            }
            if self.chaos && self.rng.chance(30) {
                kept.push_back(letter.clone());
            }
            if !self.receive(at, &letter) {
                kept.push_back(letter);
            }
        }
        self.mail.entry(address).or_default().extend(kept);
        any
    }

    /// Whether the app is done with the envelope.
    fn receive(&mut self, at: usize, letter: &Letter) -> bool {
        let address = self.address(at);
        let Letter { from, envelope, .. } = letter;
        let mut received = self.deliver(at, from, envelope);
        if let Received::Refused(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = received {
            self.fetch_devices(at, &from.user);
            received = self.deliver(at, from, envelope);
        }
        self.tally.delivered += 1;
        self.promise.delivered(&address, envelope, &received);
        match received {
            Received::Message(incoming) => {
                let list = self.with(at, |client, _, _| client.devices(&from.user).unwrap()).unwrap();
                let is_listed = list.get(from.device).is_some();
                assert!(
                    is_listed || incoming.trust == Trust::Changed,
                    "{from} is not in the list of {address}"
                );
            }
            Received::Duplicate => self.tally.duplicate += 1,
            Received::AskedAgain | Received::BundleNeeded(_) => self.tally.asked += 1,
            Received::Refused(error) => {
                let gone = self.promise.is_gone(from) || self.promise.is_gone(&address);
                match error {
                    _ if gone => {}
                    Error::UnknownDevice(_) | Error::DevicesNeeded(_) | Error::RateLimited => return false,
                    _ => panic!("{address} refuses what {from} sent: {error}"),
                }
            }
            _ => {}
        }
        true
    }

    fn deliver(&mut self, at: usize, from: &Address, envelope: &[u8]) -> Received {
        let received = self.with(at, |client, now, keys| client.receive(from, envelope, now, keys).unwrap());
        let address = self.address(at);
        let name = u32::from_be_bytes(envelope[2..6].try_into().unwrap());
        self.note(|| match &received {
            Received::Message(incoming) => {
                format!("{address} < {from} {name:x}: #{}", String::from_utf8_lossy(&incoming.text))
            }
            other => format!("{address} < {from} {name:x}: {other:?}"),
        });
        received
    }

    fn show(&mut self, at: usize) {
        let address = self.address(at);
        for incoming in self.with(at, |client, _, _| take(client).unwrap()) {
            self.promise.showed(&address, &incoming);
        }
    }

    fn fetch_needed(&mut self, at: usize) {
        for needed in self.with(at, |client, _, _| client.needed(1_000).unwrap()) {
            match &needed {
                Needed::Devices(user) => self.fetch_devices(at, user),
                Needed::Bundle(of) => {
                    if !self.fetch_bundle(at, of) && self.promise.is_gone(of) {
                        self.with(at, |client, _, _| client.give_up(&needed).unwrap());
                    }
                }
                _ => unreachable!(),
            }
        }
    }

    fn fetch_devices(&mut self, at: usize, user: &str) {
        let past = &self.server.past_devices[user];
        let stale = self.chaos && self.rng.chance(150);
        let list = if stale { &past[self.rng.below(past.len())] } else { past.last().unwrap() }.clone();
        let done = self.with(at, |client, _, _| client.take_devices(user, &list.encode()));
        let address = self.address(at);
        self.note(|| format!("{address} is given list {} of {user}: {done:?}", list.number()));
        match done {
            Ok(()) => {}
            // One's own new account key comes from one's own devices.
            Err(Error::StaleDeviceList | Error::IdentityChanged(_)) => {
                let needed = Needed::Devices(user.into());
                self.with(at, |client, _, _| client.give_up(&needed).unwrap());
            }
            Err(error) => panic!("{address} refuses the list of {user}: {error}"),
        }
    }

    /// Whether there is a session now.
    fn fetch_bundle(&mut self, at: usize, of: &Address) -> bool {
        let address = self.address(at);
        for _ in 0..3 {
            let Some(bundle) = self.bundle(of) else { return false };
            let done = self.with(at, |client, now, keys| client.take_bundle(of, &bundle, now, keys));
            self.note(|| format!("{address} is given a bundle of {of}: {done:?}"));
            match done {
                Ok(()) => return true,
                Err(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) => self.fetch_devices(at, &of.user),
                Err(Error::IdentityChanged(user)) => self.compare_keys(at, &user),
                Err(error) => panic!("{address} refuses a bundle of {of}: {error}"),
            }
        }
        false
    }

    /// In bad times the server is silent, or hands out a bundle that it has handed out before.
    fn bundle(&mut self, of: &Address) -> Option<Vec<u8>> {
        if self.chaos && self.rng.chance(50) {
            return None;
        }
        let past = self.bundles.entry(of.clone()).or_default();
        if self.chaos && !past.is_empty() && self.rng.chance(150) {
            return Some(past[self.rng.below(past.len())].clone());
        }
        let bundle = self.server.bundle(of)?;
        Bundle::decode(&bundle).unwrap();
        past.push(bundle.clone());
        Some(bundle)
    }

    /// People meet: they know the true key, and accept no other.
    fn compare_keys(&mut self, at: usize, user: &str) {
        let truth = self.server.devices[user].account();
        self.fetch_devices(at, user);
        let safety = self.with(at, |client, _, _| client.safety(user).unwrap()).unwrap();
        let accept: IdentityKey = match safety.changed_to {
            Some(changed) if changed == truth => changed,
            // What is known is right, and whatever was shown instead of it is not.
            Some(_) if safety.account == truth => safety.account,
            _ => return,
        };
        let done = self.with(at, |client, _, _| client.accept(user, &accept));
        let address = self.address(at);
        self.note(|| format!("{address} accepts the key of {user}: {done:?}"));
        done.unwrap();
    }

    // ---- What happens to a device.

    fn connect(&mut self, at: usize) {
        if self.rng.chance(100) {
            // It does not reach the server.
            let on_server = self.server.one_time_count(&self.address(at));
            drop(self.with(at, |client, now, keys| client.upload(on_server, now, keys)));
        } else {
            self.connect_for_sure(at);
        }
    }

    fn connect_for_sure(&mut self, at: usize) {
        let address = self.address(at);
        let on_server = self.server.one_time_count(&address);
        match self.with(at, |client, now, keys| client.upload(on_server, now, keys)) {
            Ok(Some(upload)) => {
                self.server.upload(&address, upload.clone());
                self.with(at, |client, _, _| client.uploaded(&upload).unwrap());
            }
            Ok(None) | Err(Error::Unlinked) => {}
            Err(error) => panic!("{address} uploads: {error}"),
        }
        // Nobody else may know that it changed, where the device that changed it was restored.
        self.fetch_devices(at, &address.user);
    }

    fn restart(&mut self, at: usize) {
        let generation = self.devices[at].generation;
        let store = self.devices[at].client.take().unwrap().into_store();
        let (now, hint) = (self.now, self.rng.chance(500));
        let client = if hint {
            let (client, restored) = Client::open_after(store, generation, now, &mut self.keys).unwrap();
            assert!(!restored);
            client
        } else {
            Client::open(store).unwrap()
        };
        self.devices[at].client = Some(client.with_policy(self.policy.clone()));
    }

    fn back_up(&mut self, at: usize) {
        let store = self.devices[at].client.take().unwrap().into_store();
        let life = self.promise.life(&self.devices[at].address);
        self.devices[at].backups.push(Backup { store: store.clone(), life, step: self.step });
        let client = Client::open(store).unwrap().with_policy(self.policy.clone());
        self.devices[at].client = Some(client);
        let address = self.address(at);
        self.note(|| format!("{address} is backed up"));
    }

    fn restore(&mut self, at: usize, hint: bool) {
        // Its app throws away what does not have the account key that it renewed.
        let renewed = self.devices[at].renewed;
        self.devices[at].backups.retain(|backup| backup.step >= renewed);
        if self.devices[at].backups.is_empty() {
            return;
        }
        let address = self.address(at);
        let which = self.rng.below(self.devices[at].backups.len());
        // Those made later are of a life that never was.
        self.devices[at].backups.truncate(which + 1);
        let Backup { store, life, step } = &self.devices[at].backups[which];
        let (store, life, step) = (store.clone(), life.clone(), *step);
        let client = if hint {
            let generation = self.devices[at].generation;
            Client::open_after(store, generation, self.now, &mut self.keys).unwrap().0
        } else {
            Client::open(store).unwrap()
        };
        self.devices[at].client = Some(client.with_policy(self.policy.clone()));
        self.with(at, |_, _, _| ());
        self.promise.restored(&address, life, step, hint);
        self.tally.restored[usize::from(hint)] += 1;
        self.note(|| format!("{address} is restored from step {step}, hint: {hint}"));
        if hint {
            self.connect_for_sure(at);
        }
    }

    /// A device that holds the account's key and knows the list that the server has.
    fn manager(&mut self, user: &str) -> Option<usize> {
        let newest = self.server.devices.get(user)?.clone();
        (0..self.devices.len()).find(|at| {
            let Device { address, on, .. } = &self.devices[*at];
            let listed = newest.get(address.device);
            let may = *on && address.user == user && listed.is_some_and(|listed| listed.manager);
            may && self.with(*at, |client, _, _| client.devices(user).unwrap()) == Some(newest.clone())
        })
    }

    fn link(&mut self, user: &str) {
        if self.server.devices[user].devices().len() >= MOST_DEVICES {
            return;
        }
        let Some(by) = self.manager(user) else { return };
        let manager = self.rng.chance(500);
        let new = NewDevice::generate(&mut self.keys);
        let grant = self.with(by, |client, now, keys| client.link(&new.code(), manager, now, keys)).unwrap();
        self.connect_for_sure(by);
        let joined = Client::join(Memory::new(), &new, &grant, self.now, &mut self.keys).unwrap();
        self.add(joined);
        self.tally.linked += 1;
        let (by, new) = (self.address(by), self.devices.last().unwrap().address.clone());
        self.note(|| format!("{by} linked {new}, manager: {manager}"));
    }

    fn remove(&mut self, user: &str) {
        let Some(by) = self.manager(user) else { return };
        let own = self.address(by);
        let list = self.server.devices[user].clone();
        let others: Vec<_> = list.devices().iter().filter(|listed| listed.device != own.device).collect();
        if others.is_empty() {
            return;
        }
        let gone = others[self.rng.below(others.len())];
        self.with(by, |client, now, keys| client.remove_device(gone.device, now, keys)).unwrap();
        self.connect_for_sure(by);
        let address = Address::new(user, gone.device);
        self.promise.removed(&address);
        self.tally.removed += 1;
        if gone.manager {
            self.tally.managers_removed += 1;
            self.devices[by].renewed = self.step;
        }
        self.note(|| format!("{own} removed {address}, manager: {}", gone.manager));
    }

    // ---- What the network does.

    fn time_passes(&mut self) {
        let (most, all) = self.pace;
        let most = [MINUTE, 10 * MINUTE, HOUR, most][self.rng.below(4)];
        let passes = 1 + self.rng.below(usize::try_from(most).unwrap()) as u64;
        self.now = (self.now + passes).min(NOW + all);
        self.note(|| format!("{passes} seconds pass"));
    }

    /// Some letter to this device.
    fn any_letter(&mut self, at: usize) -> Option<Letter> {
        let address = self.address(at);
        let waiting = self.mail.get(&address).into_iter().flatten();
        let past = self.past.iter().rev().filter(|letter| letter.to == address).take(50);
        let all: Vec<&Letter> = waiting.chain(past).collect();
        if all.is_empty() { None } else { Some(all[self.rng.below(all.len())].clone()) }
    }

    fn replay(&mut self, at: usize) {
        if let Some(letter) = self.any_letter(at) {
            self.receive(at, &letter);
        }
    }

    fn forge(&mut self, at: usize) {
        let Some(Letter { mut from, mut envelope, .. }) = self.any_letter(at) else { return };
        let (byte, length) = (self.rng.below(envelope.len()), envelope.len());
        let genuine = (from.clone(), envelope.clone());
        let kind = self.rng.below(8);
        self.note(|| format!("a forgery of kind {kind}, byte {byte} of {length}"));
        match kind {
            0 => envelope.truncate(byte.max(6)),
            1 => envelope.push(0),
            2 => {
                // From somebody else, as the transport says.
                let other = self.devices[self.rng.below(self.devices.len())].address.clone();
                if other == from || other == self.address(at) {
                    return;
                }
                from = other;
            }
            3 => envelope[2 + byte % 16] ^= 1,
            4 => envelope[18 + byte % 2] ^= 3,
            5 => envelope[length - 1 - byte % 16] ^= 1 << (byte % 8),
            _ => envelope[byte] ^= 1 << (byte % 8),
        }
        self.tally.forged += 1;
        assert!((&from, &envelope) != (&genuine.0, &genuine.1));
        let received = self.deliver(at, &from, &envelope);
        let taken = matches!(received, Received::Message(_) | Received::Handled);
        assert!(!taken, "a forgery was taken: {received:?}");
    }

    // ---- At last.

    fn recover(&mut self) {
        self.chaos = false;
        let promise = &self.promise;
        self.devices.retain(|device| !promise.is_gone(&device.address));
        self.note(|| "the network recovers".into());
        self.settle();
        for _ in 0..2 {
            for at in 0..self.devices.len() {
                for user in self.server.devices.keys().cloned().collect::<Vec<_>>() {
                    let written = self.write(at, &user);
                    assert!(written, "{} cannot write to {user}", self.devices[at].address);
                }
            }
            self.settle();
        }
        let (owed, missing) = self.promise.missing();
        assert!(missing.is_empty(), "not shown: {missing:#?}");
        (0..self.devices.len()).for_each(|at| self.check_device(at));
        self.tally.owed = owed;
        self.tally.written = self.promise.written.len();
        self.tally.shown = self.promise.shown;
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..MOST_ROUNDS {
            self.now += 10 * MINUTE;
            self.tally.rounds += 1;
            let mut quiet = true;
            for at in 0..self.devices.len() {
                self.connect_for_sure(at);
                quiet &= !self.sync(at);
            }
            if quiet {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn check_device(&mut self, at: usize) {
        let address = self.address(at);
        assert!(self.outbox(at).is_empty());
        assert_eq!(self.with(at, |client, _, _| client.inbox(10).unwrap()), []);
        assert_eq!(self.with(at, |client, _, _| client.needed(10).unwrap()), [], "{address}");
        for (user, newest) in self.server.devices.clone() {
            let known = self.with(at, |client, _, _| client.devices(&user).unwrap()).unwrap();
            assert_eq!(known, newest, "what {address} knows of {user}");
            let safety = self.with(at, |client, _, _| client.safety(&user).unwrap()).unwrap();
            assert_eq!(safety.changed_to, None, "{address} of {user}");
        }
    }

    fn note(&mut self, event: impl FnOnce() -> String) {
        if self.events.len() >= MOST_EVENTS {
            self.events.pop_front();
        }
        let event = format!("{:>4} {}", self.step, event());
        self.events.push_back(event);
    }
}

const MOST_EVENTS: usize = 60;

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
            let seed = self.seed;
            eprintln!("{}\nfailed with the seed {seed}; SUBROSA_SEED={seed} repeats it", events.join("\n"));
        }
    }
}
