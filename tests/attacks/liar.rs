//! A device that lies: its keys are its own and its sessions are real, and it says in them whatever
//! it likes. Its contents and envelopes are written here from the documents, not by the crate.

use rand_core::Rng;
use subrosa::directory::{Mode, Upload};
use subrosa::group::{Change, GroupId};
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
use subrosa::{Address, DeviceList};

use crate::post::Mail;
use crate::world::World;

/// The device.
pub(crate) struct Liar {
    pub(crate) account: IdentityKeyPair,
    pub(crate) identity: IdentityKeyPair,
    pub(crate) prekeys: Prekeys,
    pub(crate) list: DeviceList,
    pub(crate) address: Address,
    pub(crate) talks: Vec<Talk>,
    uploads: u64,
}

/// A session of the device.
pub(crate) struct Talk {
    pub(crate) session: Session,
    pub(crate) with: Address,
    pub(crate) rank: u64,
}

/// A content.
#[derive(Clone, Default)]
pub(crate) struct Saying {
    kind: u8,
    /// `version:u64 || digest:8`
    list: Option<[u8; 16]>,
    known: [u8; 16],
    /// Those that stand in the place of what an honest device would say.
    fields: Vec<(u8, Vec<u8>)>,
    is_bare: bool,
    body: Vec<u8>,
}

/// What the device opened.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) kind: u8,
    pub(crate) fields: Vec<(u8, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) reference: [u8; 16],
    pub(crate) talk: usize,
}

pub(crate) const RANK: u8 = 1;
pub(crate) const ASKS: u8 = 2;
pub(crate) const RESENT: u8 = 3;
pub(crate) const DEVICES: u8 = 4;
pub(crate) const SENDER: u8 = 11;

impl Saying {
    pub(crate) fn raw(kind: u8, body: &[u8]) -> Self {
        Self { kind, body: body.to_vec(), ..Self::default() }
    }

    pub(crate) fn text(id: u128, text: &str) -> Self {
        Self::raw(1, &[&id.to_be_bytes()[..], text.as_bytes()].concat())
    }

    pub(crate) fn copy(id: u128, to: &str, text: &str) -> Self {
        Self::raw(
            2,
            &[&id.to_be_bytes()[..], &[to.len() as u8], to.as_bytes(), text.as_bytes()].concat(),
        )
    }

    pub(crate) fn request(holds: [u8; 8], references: &[[u8; 16]]) -> Self {
        Self::raw(3, &[&holds[..], references.as_flattened()].concat())
    }

    pub(crate) fn devices() -> Self {
        Self::raw(4, &[])
    }

    pub(crate) fn account(key: &IdentityKeyPair) -> Self {
        Self::raw(5, &[&[1][..], &seed(key)].concat())
    }

    pub(crate) fn gone(references: &[[u8; 16]]) -> Self {
        Self::raw(6, references.as_flattened())
    }

    /// Changes of a group.
    pub(crate) fn changes<'c>(group: GroupId, all: impl IntoIterator<Item = &'c Change>) -> Self {
        let mut body = group.as_bytes().to_vec();
        for change in all {
            let bytes = change.encode();
            body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            body.extend_from_slice(bytes);
        }
        Self::raw(13, &body)
    }

    /// A text to a group, which its envelope did not bring.
    pub(crate) fn group_text(group: GroupId, id: u128, text: &str) -> Self {
        Self::raw(12, &[group.as_bytes(), &id.to_be_bytes()[..], text.as_bytes()].concat())
    }

    pub(crate) fn field(mut self, tag: u8, value: &[u8]) -> Self {
        self.fields.push((tag, value.to_vec()));
        self
    }

    pub(crate) fn asks(self) -> Self {
        self.field(ASKS, &[])
    }

    pub(crate) fn rank(self, rank: u64) -> Self {
        self.field(RANK, &rank.to_be_bytes())
    }

    pub(crate) fn resent(self, reference: &[u8; 16]) -> Self {
        self.field(RESENT, reference)
    }

    pub(crate) fn with(mut self, list: &DeviceList) -> Self {
        self.list = Some(stamp(list));
        self.field(DEVICES, &list.encode())
    }

    /// The list of the receiver is known.
    pub(crate) fn knowing(mut self, list: &DeviceList) -> Self {
        self.known = stamp(list);
        self
    }

    pub(crate) fn claiming(mut self, list: [u8; 16]) -> Self {
        self.list = Some(list);
        self
    }

    /// A sealed one that names its sender.
    pub(crate) fn claiming_sender(self, sender: &Address) -> Self {
        let value = [&sender.device.to_be_bytes()[..], sender.user.as_bytes()].concat();
        self.field(SENDER, &value)
    }

    /// With no field but those that it has.
    pub(crate) fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    fn encode(&self, liar: &Liar, talk: &Talk) -> Vec<u8> {
        let mut fields = self.fields.clone();
        let mut default = |tag: u8, value: Vec<u8>| {
            if !self.is_bare && fields.iter().all(|(has, _)| *has != tag) {
                fields.push((tag, value));
            }
        };
        if !talk.session.is_answered() {
            default(RANK, talk.rank.to_be_bytes().to_vec());
            default(DEVICES, liar.list.encode());
        }
        fields.sort();
        let list = self.list.unwrap_or_else(|| stamp(&liar.list));
        let mut bytes = [&[self.kind][..], &list, &self.known].concat();
        for (tag, value) in fields {
            bytes.push(tag);
            bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&value);
        }
        bytes.push(0);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The changes of groups that the device was told.
pub(crate) fn changes(heard: &[Heard]) -> Vec<Change> {
    let mut all = Vec::new();
    for one in heard.iter().filter(|one| one.kind == 13) {
        let mut rest = &one.body[32..];
        while let Some((length, more)) = rest.split_first_chunk() {
            let (change, more) = more.split_at(u32::from_be_bytes(*length) as usize);
            all.push(Change::decode(change).unwrap());
            rest = more;
        }
    }
    all
}

/// `version:u64 || digest:8`
pub(crate) fn stamp(list: &DeviceList) -> [u8; 16] {
    [list.version().to_be_bytes(), list.digest()].concat().try_into().unwrap()
}

/// The seed of a key pair.
pub(crate) fn seed(key: &IdentityKeyPair) -> [u8; 32] {
    key.encode()[2..].try_into().unwrap()
}

/// `device:u32 || length:u8 || user || device:u32 || user`, the sender first.
fn bound_to(head: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let (sender, receiver) = (from.user.as_bytes(), to.user.as_bytes());
    let (from, to) = (from.device.to_be_bytes(), to.device.to_be_bytes());
    [head, &from, &[sender.len() as u8], sender, &to, receiver].concat()
}

impl Liar {
    /// A new user, whom the server knows.
    pub(crate) fn new(world: &mut World, user: &str) -> Self {
        let rng = &mut world.rng;
        let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let list = DeviceList::first(&account, identity.public_key());
        let mut liar = Self::posing(world, user, 1, account, identity, list);
        liar.upload(world);
        liar
    }

    /// A device that somebody makes of keys that it has, whatever the server says of it.
    pub(crate) fn posing(
        world: &mut World,
        user: &str,
        device: u32,
        account: IdentityKeyPair,
        identity: IdentityKeyPair,
        list: DeviceList,
    ) -> Self {
        let prekeys = Prekeys::generate(20, world.now.as_secs(), &mut world.rng).unwrap();
        let address = Address::new(user, device);
        Self { account, identity, prekeys, list, address, talks: Vec::new(), uploads: 0 }
    }

    pub(crate) fn upload(&mut self, world: &mut World) {
        self.uploads += 1;
        let prekeys = self.prekeys.publish(&self.identity);
        let upload =
            Upload::new(&self.identity, self.uploads, self.list.clone(), prekeys, Mode::Replace)
                .unwrap();
        let directory = world.directory(&self.address.user);
        drop(directory.re_register(self.address.device, &upload.encode()).unwrap());
    }

    /// A bundle of its own, made by `pop_bundle`.
    pub(crate) fn bundle(&self) -> Bundle {
        self.prekeys.publish(&self.identity).pop_bundle().unwrap()
    }

    /// Begins a session with a device. Returns which of its sessions that is.
    pub(crate) fn begin(&mut self, world: &mut World, with: &Address) -> usize {
        let (now, asker) = (world.now.as_secs(), self.address.user.clone());
        let bundle = world.directory(&with.user).bundle(with.device, &asker, now).unwrap();
        self.begin_with(world, with, bundle)
    }

    pub(crate) fn begin_with(
        &mut self,
        world: &mut World,
        with: &Address,
        bundle: Bundle,
    ) -> usize {
        let now = world.now.as_secs();
        let bundle = bundle.verify(&self.identity.public_key(), now).unwrap();
        let session = Session::initiate(&self.identity, &bundle, &mut world.rng).unwrap();
        let rank = self.talks.iter().map(|talk| talk.rank + 1).max().unwrap_or(0).max(now);
        self.talks.push(Talk { session, with: with.clone(), rank });
        self.talks.len() - 1
    }

    /// Says something in a session. Returns the envelope.
    pub(crate) fn say(&mut self, world: &mut World, talk: usize, saying: &Saying) -> Vec<u8> {
        let mut reference = [0; 16];
        world.rng.fill_bytes(&mut reference);
        self.say_as(world, talk, saying, reference)
    }

    pub(crate) fn say_as(
        &mut self,
        world: &mut World,
        talk: usize,
        saying: &Saying,
        reference: [u8; 16],
    ) -> Vec<u8> {
        let content = saying.encode(self, &self.talks[talk]);
        let head = [&[1, 1][..], &reference].concat();
        let bound = bound_to(&head, &self.address, &self.talks[talk].with);
        let session = &mut self.talks[talk].session;
        let message = session.encrypt(&content, &bound, &mut world.rng).unwrap();
        [&head[..], message.as_bytes()].concat()
    }

    /// Says something in a sealed envelope, which shows this ticket. In a session that was not
    /// answered it names its sender, if the saying has no other.
    pub(crate) fn say_sealed(
        &mut self,
        world: &mut World,
        talk: usize,
        saying: &Saying,
        ticket: [u8; 16],
    ) -> Vec<u8> {
        let mut head = [&[1, 3][..], &[0; 16], &ticket].concat();
        world.rng.fill_bytes(&mut head[2..18]);
        let (with, is_initial) =
            (self.talks[talk].with.clone(), !self.talks[talk].session.is_answered());
        let mut saying = saying.clone();
        if is_initial && saying.fields.iter().all(|(tag, _)| *tag != SENDER) {
            saying = saying.claiming_sender(&self.address);
        }
        let content = saying.encode(self, &self.talks[talk]);
        let nobody = Address::new("", 0);
        let bound = bound_to(&head, if is_initial { &nobody } else { &self.address }, &with);
        let session = &mut self.talks[talk].session;
        let message = session.encrypt(&content, &bound, &mut world.rng).unwrap();
        [&head[..], message.as_bytes()].concat()
    }

    /// Opens what a device wrote.
    pub(crate) fn hear(&mut self, mail: &Mail) -> Option<Heard> {
        let (head, message) = mail.envelope.split_at_checked(18)?;
        let bound = bound_to(head, &mail.from, &self.address);
        let message = Message::decode(message).ok()?;
        let opened =
            self.talks.iter_mut().enumerate().find_map(|(index, talk)| {
                Some((index, talk.session.decrypt(&message, &bound).ok()?))
            });
        let (talk, content) = match opened {
            Some(opened) => opened,
            None => {
                let responded =
                    Session::respond(&self.identity, &mut self.prekeys, &message, &bound);
                let (session, content) = responded.ok()?;
                self.talks.push(Talk { session, with: mail.from.clone(), rank: 0 });
                (self.talks.len() - 1, content)
            }
        };
        let (mut fields, mut rest) = (Vec::new(), &content[33..]);
        while rest[0] != 0 {
            let length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
            fields.push((rest[0], rest[3..3 + length].to_vec()));
            rest = &rest[3 + length..];
        }
        let (kind, body) = (content[0], rest[1..].to_vec());
        Some(Heard { kind, fields, body, reference: head[2..].try_into().unwrap(), talk })
    }

    /// Opens everything that the server has for it.
    pub(crate) fn hear_all(&mut self, world: &mut World) -> Vec<Heard> {
        let mail = world.post.take(&self.address);
        mail.iter().filter_map(|mail| self.hear(mail)).collect()
    }
}

/// Bytes that open nowhere, as long as a short regular message.
pub(crate) fn noise(world: &mut World) -> Vec<u8> {
    let mut bytes = vec![0; 184];
    world.rng.fill_bytes(&mut bytes);
    bytes[..2].copy_from_slice(&[1, 1]);
    // The message: its version, and that it is a regular one (protocol.md, 8).
    bytes[18..20].copy_from_slice(&[1, 1]);
    bytes
}
