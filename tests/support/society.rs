//! Users with their devices, and a seeded network between them on which nobody should rely.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use subrosa::directory::Summary;
use subrosa::store::Memory;
use subrosa::{
    Action, Address, Client, Completed, Delivery, DeviceList, Error, IdentityKey, Item, NewDevice,
    Policy, Progress, Received, Role, Task, Trust, UnixTime, UserTrust,
};

use super::network::{NOW, Seeded};
use super::post::{Mail, Post, Reply, take};
use super::promise::{Life, Promise};

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

const USERS: [&str; 6] = ["ada", "bea", "cyd", "dot", "eve", "fay"];
const MOST_DEVICES: usize = 4;

/// What failed comes again within 6 hours: then it is quiet.
const PAUSE: u64 = 30 * MINUTE;
const QUIET_ROUNDS: usize = 13;

/// What nobody answers is asked for again after a day, and once more two days later: what was
/// tampered with, or what its sender forgot. In a world with many such requests, some device may
/// speak every few hours until then. 180 rounds are three days and 18 hours.
const MOST_ROUNDS: usize = 180;

/// More batches of tasks than a device ever has at once.
const MOST_BATCHES: usize = 200;

/// A device, and what its app has.
struct Device {
    address: Address,
    client: Option<Client<Memory>>,
    on: bool,
    backups: Vec<Backup>,
    /// Answers that are late.
    late: Vec<(Task, Reply)>,
    /// What the server said of it when the backup was made that it was restored from: it says so
    /// once more.
    stale_summary: Option<Vec<u8>>,
    /// When it renewed the account key.
    renewed: usize,
    /// By how many seconds its clock is fast.
    is_off_by: i64,
}

struct Backup {
    store: Memory,
    life: Life,
    step: usize,
    /// What the server had of the device.
    summary: Vec<u8>,
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
    pub(crate) excused: usize,
    pub(crate) late: usize,
    pub(crate) restored: [usize; 2],
    pub(crate) rounds: usize,
}

pub(crate) struct World {
    seed: u64,
    rng: Seeded,
    keys: Seeded,
    now: UnixTime,
    step: usize,
    policy: Policy,
    /// How much time may pass at once, and in all.
    pace: (u64, u64),
    chaos: bool,
    /// Whether backups may come back without the server saying so.
    unaware: bool,
    devices: Vec<Device>,
    post: Post,
    bundles: BTreeMap<Address, Vec<Vec<u8>>>,
    promise: Promise,
    pub(crate) tally: Tally,
    events: VecDeque<String>,
    most_events: usize,
}

impl World {
    pub(crate) fn new(seed: u64, delivery: Delivery) -> Self {
        let mut rng = Seeded::new(seed, "society");
        let mut policy = Policy::default();
        (policy.prekeys_low, policy.prekeys_target) = (2, 5);
        policy.delivery = delivery;
        let is_long = rng.chance(400);
        if is_long {
            policy.log_age = 90 * DAY;
        }
        let pace = if is_long { (4 * DAY, 50 * DAY) } else { (6 * HOUR, 5 * DAY) };
        let unaware = rng.chance(400);
        let mut world = Self {
            seed,
            rng,
            keys: Seeded::new(seed, "keys"),
            now: UnixTime::from_secs(NOW).unwrap(),
            step: 0,
            policy,
            pace,
            chaos: true,
            unaware,
            devices: Vec::new(),
            post: Post::default(),
            bundles: BTreeMap::new(),
            promise: Promise::default(),
            tally: Tally::default(),
            events: VecDeque::new(),
            most_events: std::env::var("SUBROSA_EVENTS")
                .map_or(MOST_EVENTS, |most| most.parse().unwrap()),
        };
        for user in &USERS[..4 + world.rng.below(3)] {
            let first = Client::create(Memory::new(), user, world.now, &mut world.keys).unwrap();
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
            870..880 => self.replay(at),
            880..892 => self.reset(at),
            892..900 => self.set_clock(at),
            900..920 => self.devices[at].on = false,
            920..935 => self.link(&user),
            935..947 => self.remove(&user),
            947..976 => self.back_up(at),
            976..988 => self.restore(at, true),
            988..992 if self.unaware => self.restore(at, false),
            _ => self.meet(at),
        }
    }

    // ---- What a device does.

    fn add(&mut self, client: Client<Memory>) {
        let client = client.with_policy(self.policy.clone());
        let address = client.address().clone();
        let device = Device {
            address,
            client: Some(client),
            on: true,
            backups: Vec::new(),
            late: Vec::new(),
            stale_summary: None,
            renewed: 0,
            is_off_by: 0,
        };
        self.devices.push(device);
        self.connect_for_sure(self.devices.len() - 1);
    }

    fn with<T>(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Client<Memory>, UnixTime, &mut Seeded) -> T,
    ) -> T {
        let now = self.clock(at);
        let client = self.devices[at].client.as_mut().unwrap();
        let done = work(client, now, &mut self.keys);
        self.note_readers(at);
        done
    }

    /// What time a device takes it to be.
    fn clock(&self, at: usize) -> UnixTime {
        let now = self.now.as_secs().checked_add_signed(self.devices[at].is_off_by).unwrap();
        UnixTime::from_secs(now).unwrap()
    }

    /// Somebody sets the clock of a device, well or badly.
    fn set_clock(&mut self, at: usize) {
        const HOURS: [i64; 6] = [0, 0, 0, 1, 20, -20];
        let hours = HOURS[self.rng.below(HOURS.len())];
        self.devices[at].is_off_by = hours * HOUR as i64;
        let address = self.address(at);
        self.note(|| format!("the clock of {address} is off by {hours} hours"));
    }

    /// Somebody resets the sessions with a device.
    fn reset(&mut self, at: usize) {
        let [address, with] = [at, self.rng.below(self.devices.len())].map(|at| self.address(at));
        if with != address {
            let done = self.with(at, |client, _, _| client.reset(&with));
            self.note(|| format!("{address} resets its sessions with {with}: {done:?}"));
        }
    }

    /// For whom texts are of which that was not known.
    fn note_readers(&mut self, at: usize) {
        let address = self.address(at);
        for (index, to) in self.promise.open_of(&address) {
            if let Some(entitled) = self.known_devices(at, &to) {
                self.promise.is_for(index, entitled, self.step);
            }
        }
    }

    fn address(&self, at: usize) -> Address {
        self.devices[at].address.clone()
    }

    fn write_to_anyone(&mut self, at: usize) {
        let to = self.devices[self.rng.below(self.devices.len())].address.user.clone();
        self.write(at, &to);
        if self.rng.chance(700) {
            self.work(at);
        }
        if self.rng.chance(100) {
            self.meet(at);
        }
    }

    fn write(&mut self, at: usize, to: &str) {
        let (from, index) = (self.address(at), self.promise.written.len());
        let known = self.known_devices(at, to);
        let text = index.to_string().into_bytes();
        let now = self.clock(at);
        let client = self.devices[at].client.as_mut().unwrap();
        match client.write(to, &text, now, &mut self.keys) {
            Ok(id) => {
                self.note(|| format!("{from} wrote #{index} to {to}, for {known:?}"));
                self.promise.wrote((id, &from, to), known, (self.step, self.now));
            }
            Err(Error::Unlinked) => assert!(self.promise.is_gone(&from), "{from} is unlinked"),
            Err(error) => panic!("{from} writes to {to}: {error}"),
        }
    }

    /// Whom a text is for, as far as a device knows; none where it waits for a list or for a
    /// person. What somebody claims whom nobody vouches for is no list to write by.
    fn known_devices(&mut self, at: usize, to: &str) -> Option<BTreeSet<Address>> {
        let own = self.address(at);
        let client = self.devices[at].client.as_mut().unwrap();
        let is_waiting = client
            .trust(to)
            .unwrap()
            .is_none_or(|known| known.new_account.is_some() || known.trust == Trust::Unvouched);
        if is_waiting && to != own.user {
            return None;
        }
        let mut all = BTreeSet::new();
        for user in [to, &own.user] {
            if let Some(list) = client.devices(user).unwrap() {
                all.extend(list.devices().iter().map(|listed| Address::new(user, listed.device)));
            }
        }
        all.remove(&own);
        Some(all)
    }

    /// Does the tasks of a device, on a network that fails. Says whether anything was to be sent:
    /// what cannot be had is asked for again and again, and so is what the server holds.
    fn work(&mut self, at: usize) -> bool {
        let mut any = false;
        for batch in 0.. {
            assert!(batch < MOST_BATCHES, "{} has tasks without end", self.address(at));
            let most = if self.chaos { 1 + self.rng.below(20) } else { 100 };
            let mut tasks =
                self.with(at, |client, now, keys| client.tasks(most, now, keys).unwrap());
            assert!(tasks.len() <= most);
            if tasks.is_empty() || self.chaos && self.rng.chance(30) {
                // Whoever goes away now leaves the tasks that were handed out.
                tasks.iter().for_each(|task| self.see(at, task));
                break;
            }
            any |= tasks
                .iter()
                .any(|task| matches!(task.action, Action::Send { .. } | Action::SendSealed { .. }));
            if self.chaos && self.rng.chance(300) {
                self.shuffle(&mut tasks);
            }
            for task in tasks {
                self.see(at, &task);
                self.perform(at, task);
            }
        }
        any
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.rng.below(last + 1));
        }
    }

    /// An envelope is handed out: from now on, anybody may have it.
    fn see(&mut self, at: usize, task: &Task) {
        if let Action::Send { to, envelope, message }
        | Action::SendSealed { to, envelope, message, .. } = &task.action
        {
            let from = self.address(at);
            self.promise.handed_out(&from, (to, envelope, *message));
        }
    }

    fn perform(&mut self, at: usize, task: Task) {
        let kind = if self.chaos { self.rng.below(1000) } else { 1000 };
        match kind {
            // The request is lost, and nobody says so.
            0..50 => return,
            50..100 => return self.complete(at, &task, &Reply::Failed),
            _ => {}
        }
        let reply = self.serve(at, &task.action);
        match kind {
            // The answer is lost.
            100..140 => {}
            140..180 => self.complete(at, &task, &Reply::Failed),
            180..240 => self.devices[at].late.push((task, reply)),
            240..300 => {
                self.complete(at, &task, &reply);
                self.complete(at, &task, &reply);
            }
            _ => self.complete(at, &task, &reply),
        }
    }

    fn complete(&mut self, at: usize, task: &Task, reply: &Reply) {
        let address = self.address(at);
        let unvouched = self.unvouched(at, &task.action);
        let completed = self.with(at, |client, now, keys| {
            client.complete(&task.id, reply.answer(), now, keys).unwrap()
        });
        if let Some((user, account)) = unvouched {
            let known = self.with(at, |client, _, _| client.trust(&user).unwrap());
            let is_theirs =
                |known: UserTrust| known.account == account || known.new_account == Some(account);
            if !known.is_some_and(is_theirs) {
                let list = self.with(at, |client, _, _| client.devices(&user).unwrap());
                self.promise.disowned(&address, &user, list.as_ref());
            }
        }
        self.note(|| {
            let reply = match reply {
                Reply::Devices(bytes) => {
                    format!("list {}", DeviceList::decode(bytes).unwrap().version())
                }
                other => format!("{other:?}").chars().take(10).collect(),
            };
            format!("{address} did {:?}: {reply}: {completed:?}", task.action)
        });
        self.promise.completed(&address, &completed);
        match completed {
            Completed::Sent(id) => {
                let progress = self.with(at, |client, _, _| client.progress(id).unwrap());
                assert_eq!(progress, Progress::Sent);
            }
            Completed::Rejected(error) => {
                let may_be = matches!(
                    error,
                    Error::UnknownDevice(_)
                        | Error::DevicesNeeded(_)
                        | Error::IdentityChanged(_)
                        // By a clock that is wrong.
                        | Error::FutureBundle
                );
                assert!(may_be, "{address} does not take {reply:?}: {error}");
            }
            _ => {}
        }
    }

    /// The user whom a device asks the server about and nobody vouches for, and the account key that
    /// is claimed.
    fn unvouched(&mut self, at: usize, action: &Action) -> Option<(String, IdentityKey)> {
        let Action::FetchDevices(user) = action else { return None };
        let known = self.with(at, |client, _, _| client.trust(user).unwrap())?;
        (known.trust == Trust::Unvouched).then(|| (user.clone(), known.account))
    }

    /// What the server says. In bad times it is behind, silent, or hands out a bundle that it has
    /// handed out before.
    fn serve(&mut self, at: usize, action: &Action) -> Reply {
        let own = self.address(at);
        match action {
            Action::FetchSummary => {
                if let Some(stale) = self.devices[at].stale_summary.take() {
                    return Reply::Summary(stale);
                }
            }
            Action::FetchDevices(user) if self.chaos && self.rng.chance(150) => {
                let past = &self.post.past_lists[user];
                return Reply::Devices(past[self.rng.below(past.len())].encode());
            }
            Action::FetchBundle(of) if self.chaos => {
                if self.rng.chance(50) {
                    return Reply::Missing;
                }
                let past = self.bundles.get(of).map_or(0, Vec::len);
                if past > 0 && self.rng.chance(150) {
                    return Reply::Bundle(self.bundles[of][self.rng.below(past)].clone());
                }
            }
            _ => {}
        }
        let reply = self.post.serve(&own, action, self.now);
        match (action, &reply) {
            (Action::FetchBundle(of), Reply::Bundle(bundle)) => {
                self.bundles.entry(of.clone()).or_default().push(bundle.clone());
            }
            (Action::Send { envelope, .. } | Action::SendSealed { envelope, .. }, Reply::Done) => {
                self.promise.left(envelope);
            }
            _ => {}
        }
        reply
    }

    /// Sends, receives, shows. Says whether anything was to be done.
    fn sync(&mut self, at: usize) -> bool {
        let mut any = false;
        if !self.chaos || self.rng.chance(700) {
            any |= self.work(at);
        }
        any |= self.receive_all(at);
        if !self.chaos || self.rng.chance(800) {
            self.show(at);
        }
        if !self.chaos || self.rng.chance(700) {
            any |= self.work(at);
        }
        self.answer_late(at);
        any
    }

    /// Some of the answers that are late come now.
    fn answer_late(&mut self, at: usize) {
        for (task, reply) in std::mem::take(&mut self.devices[at].late) {
            if self.chaos && self.rng.chance(500) {
                self.devices[at].late.push((task, reply));
            } else {
                self.tally.late += 1;
                self.complete(at, &task, &reply);
            }
        }
    }

    fn receive_all(&mut self, at: usize) -> bool {
        let address = self.address(at);
        let mut mail = self.post.take(&address);
        let mut kept = VecDeque::new();
        let any = !mail.is_empty();
        if self.chaos && self.rng.chance(500) {
            self.shuffle(&mut mail);
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
        self.post.mail.entry(address).or_default().extend(kept);
        any
    }

    /// Whether the app is done with the envelope.
    fn receive(&mut self, at: usize, letter: &Mail) -> bool {
        let address = self.address(at);
        let Mail { from, envelope, .. } = letter;
        let received = self.deliver(at, from, envelope);
        self.tally.delivered += 1;
        if received == Received::Duplicate {
            self.note_opened(at);
        }
        let is_readable = received == Received::SetAside
            && self.promise.is_forgotten(envelope)
            && self.could_read(at, letter);
        self.promise.delivered(&address, envelope, (&received, is_readable));
        match received {
            Received::Incoming(incoming) => {
                let list =
                    self.with(at, |client, _, _| client.devices(&from.user).unwrap()).unwrap();
                let is_listed = list.get(from.device).is_some();
                assert!(
                    is_listed || matches!(incoming.item, Item::Late(_) | Item::Event(_)),
                    "{from} is not in the list of {address}"
                );
            }
            Received::Duplicate => self.tally.duplicate += 1,
            Received::AskedAgain(_) => self.tally.asked += 1,
            Received::Refused(Error::RateLimited) => return false,
            Received::Refused(error) => {
                // A device that was restored to before it knew the sender takes a regular message
                // for noise of a stranger.
                // A sealed first message that does not open says to nobody whom to ask.
                let unasked = envelope.starts_with(&[1, 3])
                    && matches!(error, Error::UnknownPrekey | Error::Replay);
                // After it was restored, another prekey may have the same number.
                let other_prekey = envelope.starts_with(&[1, 3]) && error == Error::Decrypt;
                let was_restored = (error == Error::UnknownHeader || unasked || other_prekey)
                    && self.promise.refused(&address, envelope);
                let unknown = was_restored || unasked;
                let gone = self.promise.is_gone(from) || self.promise.is_gone(&address);
                assert!(gone || unknown, "{address} refuses what {from} sent: {error}");
            }
            _ => {}
        }
        true
    }

    /// Whether a device would show what it set aside if it had the list that the server has.
    fn could_read(&mut self, at: usize, letter: &Mail) -> bool {
        let Mail { from, envelope, .. } = letter;
        let named = Some(from).filter(|_| !letter.is_sealed());
        let list = self.post.list(&from.user).unwrap().clone();
        let store = self.devices[at].client.take().unwrap().into_store();
        self.open(at, store.clone());
        let mut copy = Client::open(store).unwrap().with_policy(self.policy.clone());
        let mut keys = Seeded::new(self.seed, "copy");
        let now = self.clock(at);
        drop(copy.update_devices(&from.user, &list.encode(), now, &mut keys));
        drop(copy.accept_new_key(&from.user, &list.account(), now, &mut keys));
        let received = copy.receive(named, envelope, now, &mut keys).unwrap();
        matches!(received, Received::Incoming(_))
    }

    fn deliver(&mut self, at: usize, from: &Address, envelope: &[u8]) -> Received {
        // Of sealed mail, the server does not know where it is from.
        let named = Some(from).filter(|_| !envelope.starts_with(&[1, 3]));
        let received =
            self.with(at, |client, now, keys| client.receive(named, envelope, now, keys).unwrap());
        let address = self.address(at);
        let name = u32::from_be_bytes(envelope[2..6].try_into().unwrap());
        self.note(|| match &received {
            Received::Incoming(incoming) => match &incoming.item {
                Item::Text(text) | Item::Late(text) => {
                    format!("{address} < {from} {name:x}: #{}", String::from_utf8_lossy(&text.text))
                }
                other => format!("{address} < {from} {name:x}: {other:?}"),
            },
            other => format!("{address} < {from} {name:x}: {other:?}"),
        });
        received
    }

    fn show(&mut self, at: usize) {
        let address = self.address(at);
        for incoming in self.with(at, |client, _, _| take(client)) {
            if let Item::Event(event) = &incoming.item {
                self.note(|| format!("{address} is told: {event:?}"));
            }
            self.promise.showed(&address, &incoming.item);
        }
    }

    /// What was set aside may have been opened meanwhile.
    fn note_opened(&mut self, at: usize) {
        let address = self.address(at);
        let mut all = self.with(at, |client, _, _| client.inbox(100_000).unwrap());
        for user in USERS {
            all.extend(self.with(at, |client, _, _| client.held(user, 100_000).unwrap()));
        }
        for incoming in all {
            if let Item::Text(text) | Item::Late(text) = &incoming.item {
                self.promise.waits(&address, text);
            }
        }
    }

    /// People meet, and compare what their devices say of the others' keys: they know the true
    /// ones, and accept no other.
    fn meet(&mut self, at: usize) {
        for user in self.post.users.keys().cloned().collect::<Vec<_>>() {
            let server = self.post.list(&user).unwrap();
            let (truth, list) = (server.account(), server.encode());
            let trust = self.with(at, |client, now, keys| {
                let trust = client.trust(&user).unwrap();
                if trust.as_ref().is_some_and(|trust| trust.new_account.is_some()) {
                    // The app looks which key the server has by now.
                    drop(client.update_devices(&user, &list, now, keys));
                }
                client.trust(&user).unwrap()
            });
            let Some(trust) = trust else { continue };
            let accept: IdentityKey = match trust.new_account {
                Some(new) if new == truth => new,
                // What is known is right, and whatever was shown instead of it is not.
                Some(_) if trust.account == truth => trust.account,
                _ => continue,
            };
            let done =
                self.with(at, |client, now, keys| client.accept_new_key(&user, &accept, now, keys));
            let address = self.address(at);
            self.note(|| format!("{address} accepts the key of {user}: {done:?}"));
            done.unwrap();
        }
    }

    // ---- What happens to a device.

    fn connect(&mut self, at: usize) {
        self.with(at, |client, _, _| client.connected().unwrap());
        self.work(at);
    }

    /// Until the server has the list of the device.
    fn connect_for_sure(&mut self, at: usize) {
        let chaos = std::mem::replace(&mut self.chaos, false);
        let address = self.address(at);
        for _ in 0..10 {
            self.work(at);
            let own = self.with(at, |client, _, _| client.devices(&address.user).unwrap());
            if own.as_ref() == self.post.list(&address.user) {
                break;
            }
            // A request that was lost is forgotten after a minute.
            self.now = self.now.after(MINUTE + 1);
        }
        self.chaos = chaos;
    }

    fn restart(&mut self, at: usize) {
        let store = self.devices[at].client.take().unwrap().into_store();
        self.open(at, store);
    }

    fn open(&mut self, at: usize, store: Memory) {
        let client = Client::open(store).unwrap().with_policy(self.policy.clone());
        let device = &mut self.devices[at];
        device.client = Some(client);
        device.late.clear();
    }

    fn back_up(&mut self, at: usize) {
        self.note_opened(at);
        let address = self.address(at);
        let store = self.devices[at].client.take().unwrap().into_store();
        let life = self.promise.life(&address);
        let summary = self.post.users[&address.user].summary(address.device).encode();
        let backup = Backup { store: store.clone(), life, step: self.step, summary };
        self.devices[at].backups.push(backup);
        self.open(at, store);
        self.note(|| format!("{address} is backed up"));
    }

    fn restore(&mut self, at: usize, is_honest: bool) {
        // Its app throws away what does not have the account key that it renewed.
        let renewed = self.devices[at].renewed;
        self.devices[at].backups.retain(|backup| backup.step >= renewed);
        if self.devices[at].backups.is_empty() {
            return;
        }
        self.note_opened(at);
        let address = self.address(at);
        let which = self.rng.below(self.devices[at].backups.len());
        // Those made later are of a life that never was.
        self.devices[at].backups.truncate(which + 1);
        let Backup { store, life, step, summary } = &self.devices[at].backups[which];
        let (store, life, step, summary) = (store.clone(), life.clone(), *step, summary.clone());
        // What was uploaded since is what the copy is known by.
        let stamp = |summary: &[u8]| {
            let summary = Summary::decode(summary).unwrap();
            summary.prekeys.map(|prekeys| prekeys.stamp)
        };
        let there = self.post.users[&address.user].summary(address.device).encode();
        let there = stamp(&there);
        // The server forgets the stamp of a device that is removed.
        let is_noticed = is_honest && there.is_some() && there != stamp(&summary);
        self.devices[at].stale_summary = (!is_honest).then_some(summary);
        self.open(at, store);
        self.promise.restored(&address, life, step, is_noticed);
        self.tally.restored[usize::from(is_noticed)] += 1;
        self.note(|| format!("{address} is restored from step {step}, noticed: {is_noticed}"));
    }

    /// A device that holds the account's key and knows the list that the server has.
    fn manager(&mut self, user: &str) -> Option<usize> {
        let newest = self.post.list(user)?.clone();
        (0..self.devices.len()).find(|at| {
            let Device { address, on, .. } = &self.devices[*at];
            let listed = newest.get(address.device);
            let may = *on
                && address.user == user
                && listed.is_some_and(|listed| listed.role == Role::Manager);
            may && self.with(*at, |client, _, _| {
                let is_certain =
                    client.trust(user).unwrap().is_some_and(|own| own.new_account.is_none());
                is_certain && client.devices(user).unwrap().as_ref() == Some(&newest)
            })
        })
    }

    fn link(&mut self, user: &str) {
        if self.post.list(user).unwrap().devices().len() >= MOST_DEVICES {
            return;
        }
        let Some(by) = self.manager(user) else { return };
        let role = if self.rng.chance(500) { Role::Manager } else { Role::Device };
        let new = NewDevice::generate(&mut self.keys);
        let grant =
            match self.with(by, |client, now, keys| client.link(&new.code(), role, now, keys)) {
                Ok(grant) => grant,
                // Another manager renewed the key, and has not told it yet.
                Err(Error::NotPermitted) => return,
                Err(error) => panic!("{} links: {error}", self.address(by)),
            };
        self.connect_for_sure(by);
        let joined = Client::join(Memory::new(), &new, &grant, self.now, &mut self.keys).unwrap();
        self.add(joined);
        self.tally.linked += 1;
        let (by, new) = (self.address(by), self.devices.last().unwrap().address.clone());
        self.note(|| format!("{by} linked {new}, {role:?}"));
    }

    fn remove(&mut self, user: &str) {
        let Some(by) = self.manager(user) else { return };
        let own = self.address(by);
        let list = self.post.list(user).unwrap().clone();
        let others: Vec<_> =
            list.devices().iter().filter(|listed| listed.device != own.device).collect();
        if others.is_empty() {
            return;
        }
        let gone = others[self.rng.below(others.len())];
        match self.with(by, |client, now, keys| client.remove_device(gone.device, now, keys)) {
            Ok(()) => {}
            Err(Error::NotPermitted) => return,
            Err(error) => panic!("{own} removes: {error}"),
        }
        let address = Address::new(user, gone.device);
        self.promise.removed(&address);
        self.connect_for_sure(by);
        self.tally.removed += 1;
        if gone.role == Role::Manager {
            self.tally.managers_removed += 1;
            self.promise.renewed(user);
            self.devices[by].renewed = self.step;
        }
        self.note(|| format!("{own} removed {address}, role: {:?}", gone.role));
    }

    // ---- What the network does.

    fn time_passes(&mut self) {
        let (most, all) = self.pace;
        let most = [MINUTE, 10 * MINUTE, HOUR, most][self.rng.below(4)];
        let passes = 1 + self.rng.below(usize::try_from(most).unwrap()) as u64;
        let latest = UnixTime::from_secs(NOW + all).unwrap();
        self.now = self.now.after(passes).min(latest.max(self.now));
        self.note(|| format!("{passes} seconds pass"));
    }

    /// Some letter to this device.
    fn any_letter(&mut self, at: usize) -> Option<Mail> {
        let address = self.address(at);
        let waiting = self.post.mail.get(&address).into_iter().flatten();
        let past = self.post.past.iter().rev().filter(|letter| letter.to == address).take(50);
        let all: Vec<&Mail> = waiting.chain(past).collect();
        if all.is_empty() { None } else { Some(all[self.rng.below(all.len())].clone()) }
    }

    fn replay(&mut self, at: usize) {
        if let Some(letter) = self.any_letter(at) {
            self.receive(at, &letter);
        }
    }

    fn forge(&mut self, at: usize) {
        let Some(Mail { mut from, mut envelope, .. }) = self.any_letter(at) else { return };
        let (byte, length) = (self.rng.below(envelope.len()), envelope.len());
        let genuine = (from.clone(), envelope.clone());
        let kind = self.rng.below(8);
        self.note(|| format!("a forgery of kind {kind}, byte {byte} of {length}"));
        match kind {
            0 => envelope.truncate(byte.max(6)),
            1 => envelope.push(0),
            2 if envelope.starts_with(&[1, 3]) => {
                // With the ticket of another one.
                let Some(other) = self.any_letter(at) else { return };
                if other.envelope[18..34] == envelope[18..34] {
                    return;
                }
                envelope[18..34].copy_from_slice(&other.envelope[18..34]);
            }
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
        let taken = matches!(received, Received::Incoming(_) | Received::Handled | Received::Held);
        assert!(!taken, "a forgery was taken: {received:?}");
    }

    // ---- At last.

    fn recover(&mut self) {
        self.chaos = false;
        let promise = &self.promise;
        self.devices.retain(|device| !promise.is_gone(&device.address));
        self.devices.iter_mut().for_each(|device| device.is_off_by = 0);
        self.note(|| "the network recovers, and all clocks are right".into());
        for at in 0..self.devices.len() {
            self.with(at, |client, _, _| client.connected().unwrap());
        }
        self.settle();
        for _ in 0..2 {
            self.write_to_all();
        }
        let checked = self.promise.written.len();
        // Of sealed mail, what may have been tampered with is asked for along with the next text;
        // and a request in a first message that does not open is made again after a day.
        if self.policy.delivery == Delivery::Sealed {
            self.write_to_all();
            self.now = self.now.after(DAY);
            self.settle();
        }
        let (mut owed, missing) = self.promise.missing(checked, None);
        assert!(missing.is_empty(), "not shown: {missing:#?}");
        if self.policy.delivery == Delivery::Sealed {
            owed = self.end_silence();
        }
        // What failed comes again by now, and requests that nobody answered are made again. What is
        // left after that would come without end.
        self.now = self.now.after(6 * HOUR + MINUTE);
        self.settle();
        (0..self.devices.len()).for_each(|at| self.check_device(at));
        self.tally.owed = owed;
        self.tally.written = self.promise.written.len();
        self.tally.shown = self.promise.shown;
        self.tally.excused = self.promise.excused;
    }

    /// Two devices of which each wrote to a prekey that was gone know nothing of each other, until
    /// one begins a session anew (docs/sealed.md, 5). Returns how much is owed then.
    fn end_silence(&mut self) -> usize {
        // At the earliest it notices, and up to 13 hours later it does so.
        for passes in [self.policy.log_age / 7 * 4 + HOUR, 14 * HOUR] {
            self.now = self.now.after(passes);
            self.settle();
        }
        // Texts that were written before are not kept.
        let since = self.now.as_secs() - self.policy.log_age;
        let since = UnixTime::from_secs(since).unwrap();
        let (owed, missing) = self.promise.missing(self.promise.written.len(), Some(since));
        assert!(missing.is_empty(), "not shown in the end: {missing:#?}");
        owed
    }

    /// Each device writes to everybody.
    fn write_to_all(&mut self) {
        for at in 0..self.devices.len() {
            for user in self.post.users.keys().cloned().collect::<Vec<_>>() {
                self.write(at, &user);
            }
        }
        self.settle();
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..MOST_ROUNDS {
            self.now = self.now.after(PAUSE);
            self.tally.rounds += 1;
            let mut any = false;
            for at in 0..self.devices.len() {
                self.meet(at);
                any |= self.sync(at);
            }
            quiet = if any { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn check_device(&mut self, at: usize) {
        let address = self.address(at);
        assert_eq!(self.with(at, |client, _, _| client.inbox(10).unwrap()), []);
        for written in &self.promise.written {
            if written.from == address && !written.forgotten {
                let client = self.devices[at].client.as_mut().unwrap();
                assert_eq!(
                    client.progress(written.id).unwrap(),
                    Progress::Sent,
                    "{address}: {}",
                    written.id
                );
            }
        }
        for (user, directory) in &self.post.users {
            let client = self.devices[at].client.as_mut().unwrap();
            let known = client.devices(user).unwrap();
            assert_eq!(known.as_ref(), directory.list(), "what {address} knows of {user}");
            assert_eq!(
                client.trust(user).unwrap().unwrap().new_account,
                None,
                "{address} of {user}"
            );
            assert_eq!(client.held(user, 10).unwrap(), [], "{address} of {user}");
        }
        let tasks = self.with(at, |client, now, keys| client.tasks(10, now, keys).unwrap());
        let may_be = |task: &Task| match &task.action {
            Action::FetchSummary | Action::Upload(_) => true,
            Action::FetchBundle(of) => self.promise.is_gone(of),
            _ => false,
        };
        assert!(tasks.iter().all(may_be), "{address}: {tasks:?}");
    }

    fn note(&mut self, event: impl FnOnce() -> String) {
        if self.events.len() >= self.most_events {
            self.events.pop_front();
        }
        let event = format!("{:>4} {}", self.step, event());
        self.events.push_back(event);
    }
}

/// Events that a world which fails shows, without `SUBROSA_EVENTS`.
const MOST_EVENTS: usize = 60;

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
            let seed = self.seed;
            eprintln!(
                "{}\nfailed with the seed {seed}; SUBROSA_SEED={seed} repeats it",
                events.join("\n")
            );
        }
    }
}
