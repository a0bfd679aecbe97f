//! A member that lies: she has real keys and sessions, and says in them whatever she likes.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signer, SigningKey};
use rand_core::Rng;
use subrosa::group::{
    Change, ChangeId, GroupId, GroupRole, LabelKey, MemberId, Op, Roster, Sender, SenderKey,
};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Address, GroupIntention, Role};

use crate::liar::{Liar, Saying, changes, seed, stamp};
use crate::post::Mail;
use crate::world::{USERS, World};

pub(crate) const LIAR: &str = "mal";
const LIE: &str = "a lie";

/// Devices of hers that have no keys.
const MOST_MADE_UP: usize = 2;

pub(crate) struct Mallory {
    liar: Liar,
    group: GroupId,
    /// Changes that she was told, and her own.
    known: BTreeMap<ChangeId, Change>,
    chain: SenderKey,
    /// Whom she tried to take something from.
    pub(crate) targets: BTreeSet<String>,
    texts: u128,
}

impl Mallory {
    /// A new member of the group.
    pub(crate) fn join(world: &mut World, by: &Address, role: GroupRole) -> Self {
        let liar = Liar::new(world, LIAR);
        world.meet(by, LIAR);
        world.change(by, GroupIntention::Add(LIAR)).unwrap();
        if role == GroupRole::Admin {
            world.change(by, GroupIntention::Promote(LIAR)).unwrap();
        }
        let group = world.group.unwrap();
        let label = LabelKey::random(&mut world.rng);
        let chain = SenderKey::new(group.as_bytes(), label, world.now, &mut world.rng);
        let (known, targets) = (BTreeMap::new(), BTreeSet::new());
        let mut mallory = Self { liar, group, known, chain, targets, texts: 0 };
        world.connect(by, 0);
        mallory.listen(world);
        assert!(mallory.roster(world, 0).is_some(), "she was told");
        mallory
    }

    /// She does something to somebody.
    pub(crate) fn act(&mut self, world: &mut World) {
        if world.rng.chance(700) {
            self.listen(world);
        }
        match world.rng.below(12) {
            0 | 1 => {
                let text = Saying::group_text(self.group, self.id(world), LIE);
                self.say(world, &text);
            }
            2 => self.give(world),
            3 | 4 => self.seal(world),
            5 | 6 => self.change(world),
            7 => self.forge(world),
            8 => {
                let heads = self.heads(world);
                self.say(world, &Saying::raw(15, &[self.group.as_bytes(), &heads[..]].concat()));
            }
            9 => self.ask(world),
            10 => self.make_up_device(world),
            _ => self.babble(world),
        }
    }

    fn listen(&mut self, world: &mut World) {
        let heard = changes(&self.liar.hear_all(world));
        self.known.extend(heard.into_iter().map(|change| (change.id(), change)));
    }

    /// The roster of what she knows, without so many of a thousand changes and what is built on
    /// them.
    fn roster(&self, world: &mut World, without: usize) -> Option<Roster> {
        let known = self.known.values();
        let some = known.filter(|one| one.parents().is_empty() || !world.rng.chance(without));
        Roster::from_changes(some.cloned()).ok()
    }

    fn own_id(&self, roster: &Roster) -> MemberId {
        let own = roster.members().iter().find(|member| *member.user == *LIAR);
        own.map_or(MemberId::from([0; 16]), |member| member.id)
    }

    /// Some device that is there.
    fn somebody(&self, world: &mut World) -> Address {
        let there = world.devices.iter().filter(|(_, device)| !device.gone);
        let all: Vec<Address> = there.map(|(address, _)| address.clone()).collect();
        all[world.rng.below(all.len())].clone()
    }

    fn say(&mut self, world: &mut World, saying: &Saying) {
        let to = self.somebody(world);
        self.say_to(world, &to, saying);
    }

    /// Says something in a session that there is, or in a new one.
    fn say_to(&mut self, world: &mut World, to: &Address, saying: &Saying) {
        let known = self.liar.talks.iter().rposition(|talk| talk.with == *to);
        let talk = match known.filter(|_| !world.rng.chance(50)) {
            Some(talk) => talk,
            None => {
                let now = world.now.as_secs();
                match world.directory(&to.user).bundle(to.device, LIAR, now) {
                    Ok(bundle) => self.liar.begin_with(world, to, bundle),
                    Err(_) => return,
                }
            }
        };
        let envelope = self.liar.say(world, talk, saying);
        self.send(world, to, envelope);
    }

    fn send(&self, world: &mut World, to: &Address, envelope: Vec<u8>) {
        let from = self.liar.address.clone();
        world.post.send(Mail { from, to: to.clone(), envelope, message: None });
    }

    /// The id of a text: a new one, one of hers, or that of somebody else's text.
    fn id(&mut self, world: &mut World) -> u128 {
        match world.rng.below(3) {
            0 if !world.written.is_empty() => {
                let other = &world.written[world.rng.below(world.written.len())].id;
                u128::from_be_bytes(*other.as_bytes())
            }
            1 if self.texts > 0 => 1 + world.rng.below(self.texts as usize) as u128,
            _ => {
                self.texts += 1;
                self.texts
            }
        }
    }

    /// Some changes that she knows, or ids of none.
    fn heads(&self, world: &mut World) -> Vec<u8> {
        let mut heads = BTreeSet::new();
        for id in self.known.keys().filter(|_| world.rng.chance(300)) {
            heads.insert(*id.as_bytes());
        }
        if heads.is_empty() || world.rng.chance(100) {
            let mut none = [0; 32];
            world.rng.fill_bytes(&mut none);
            heads.insert(none);
        }
        heads.into_iter().take(16).collect::<Vec<_>>().concat()
    }

    /// Gives her chain, a new one perhaps, to one device.
    fn give(&mut self, world: &mut World) {
        if world.rng.chance(400) {
            let label = LabelKey::random(&mut world.rng);
            let (now, rng) = (world.now, &mut world.rng);
            self.chain = self.chain.renewed(self.group.as_bytes(), label, now, rng);
        }
        let heads = self.heads(world);
        let heads: Vec<[u8; 32]> =
            heads.chunks_exact(32).map(|head| head.try_into().unwrap()).collect();
        let given = self.chain.distribution(self.group.as_bytes(), &[0; 8], &heads).unwrap();
        self.say(world, &Saying::raw(14, &given));
    }

    /// An envelope for the group, as herself or as another member, with a text or anything else.
    fn seal(&mut self, world: &mut World) {
        let Some(roster) = self.roster(world, 0) else { return };
        let members = roster.members();
        let member = match world.rng.chance(800) {
            true => self.own_id(&roster),
            false => members[world.rng.below(members.len())].id,
        };
        let (kind, body) = match world.rng.chance(700) {
            true => (1, [&self.id(world).to_be_bytes()[..], LIE.as_bytes()].concat()),
            false => self.anything(world),
        };
        let content = [&[kind][..], &stamp(&self.liar.list), &[0; 16], &[0], &body].concat();
        let sender = Sender {
            group: self.group.as_bytes(),
            member: member.as_bytes(),
            identity: &self.liar.identity.public_key(),
            address: &self.liar.address,
        };
        let Ok(sealed) = self.chain.seal(&sender, &content, &mut world.rng) else { return };
        for _ in 0..3 {
            let to = self.somebody(world);
            self.send(world, &to, sealed.envelope.clone());
        }
    }

    /// A change on all that she knows or on a part of it, which one device is told.
    fn change(&mut self, world: &mut World) {
        let without = if world.rng.chance(500) { 300 } else { 0 };
        let Some(roster) = self.roster(world, without) else { return };
        let members = roster.members();
        let target = &members[world.rng.below(members.len())];
        let op = match world.rng.below(6) {
            0 => Op::Settings(b"lies".to_vec()),
            1 => Op::Promote(target.id),
            2 => Op::Demote(target.id),
            3 => Op::Remove(target.id),
            _ => {
                let user = USERS[world.rng.below(USERS.len())];
                let account = world.post.list(user).unwrap().account();
                let role = [GroupRole::Member, GroupRole::Admin][world.rng.below(2)];
                Op::Add { user: user.into(), account, role }
            }
        };
        let Ok(change) =
            roster.sign(self.own_id(&roster), core::slice::from_ref(&op), &self.liar.account)
        else {
            return;
        };
        match op {
            Op::Demote(_) | Op::Remove(_) => drop(self.targets.insert((*target.user).into())),
            Op::Add { user, .. } => drop(self.targets.insert(user.into())),
            _ => {}
        }
        self.known.insert(change.id(), change.clone());
        let saying = match world.rng.chance(500) {
            true => Saying::changes(self.group, [&change]),
            false => Saying::changes(self.group, self.known.values()),
        };
        self.say(world, &saying);
    }

    /// A change of which a byte is another one, which she signs.
    fn forge(&mut self, world: &mut World) {
        if self.known.is_empty() {
            return;
        }
        let change = self.known.values().nth(world.rng.below(self.known.len())).unwrap();
        let mut bytes = change.encode()[..change.encode().len() - 64].to_vec();
        let at = world.rng.below(bytes.len());
        bytes[at] ^= 1 << world.rng.below(8);
        let signed = [b"Subrosa v1 group change", &bytes[..]].concat();
        let signature = SigningKey::from_bytes(&seed(&self.liar.account)).sign(&signed);
        bytes.extend_from_slice(&signature.to_bytes());
        let length = (bytes.len() as u32).to_be_bytes();
        let body = [self.group.as_bytes(), &length[..], &bytes].concat();
        self.say(world, &Saying::raw(13, &body));
    }

    /// Asks for envelopes, or says that some are gone.
    fn ask(&mut self, world: &mut World) {
        let mut references = Vec::new();
        for _ in 0..world.rng.below(20) {
            let past = &world.post.past;
            let at = world.rng.below(past.len());
            references.push(past[at].envelope[2..18].try_into().unwrap());
        }
        let saying = match world.rng.chance(700) {
            true => Saying::request([0; 8], &references),
            false => Saying::gone(&references),
        };
        self.say(world, &saying);
    }

    /// Her list has a device more, which nobody can write to.
    fn make_up_device(&mut self, world: &mut World) {
        if self.liar.list.devices().len() > MOST_MADE_UP {
            return;
        }
        let identity = IdentityKeyPair::generate(&mut world.rng).public_key();
        let (list, _) = self.liar.list.with(&self.liar.account, identity, Role::Device).unwrap();
        self.liar.list = list.clone();
        self.liar.upload(world);
        self.say(world, &Saying::devices().with(&list));
    }

    /// Any content at all, of a list that there may not be.
    fn babble(&mut self, world: &mut World) {
        let (kind, body) = self.anything(world);
        let mut saying = Saying::raw(kind, &body);
        if world.rng.chance(300) {
            let mut list = stamp(&self.liar.list);
            list[7] = list[7].saturating_add(1);
            saying = saying.claiming(list);
        }
        self.say(world, &saying);
    }

    fn anything(&self, world: &mut World) -> (u8, Vec<u8>) {
        let kind = world.rng.below(26) as u8;
        let mut body = vec![0; world.rng.below(200)];
        world.rng.fill_bytes(&mut body);
        // Of this group, as often as not.
        if matches!(kind, 12..=16) && body.len() > 32 && world.rng.chance(500) {
            body[..32].copy_from_slice(self.group.as_bytes());
        }
        (kind, body)
    }
}
