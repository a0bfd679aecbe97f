//! Rosters of groups (docs/groups.md, 1): histories with conflicts and their one outcome, and
//! changes that nobody may take in.

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use subrosa::Error;
use subrosa::group::{Change, GroupRole, MemberId, Op, Roster};
use subrosa::protocol::IdentityKeyPair;

use super::{Stream, hex};

const USERS: [&str; 5] = ["ann", "ben", "cid", "dee", "eli"];

/// All that is written of rosters for a seed: cases, and refusals by name.
pub(crate) fn rosters(seed: u64) -> Result<(Value, Vec<(String, Value)>), Error> {
    let mut cast = Cast::new(seed);
    let mut cases = told(&cast)?;
    for number in 0..24 {
        cases.push(cast.at_random(number)?);
    }
    let accounts: Vec<Value> = cast
        .accounts
        .iter()
        .zip(USERS)
        .map(|((seed, account), user)| {
            json!({ "user": user, "seed": seed, "account": hex(&account.public_key().encode()) })
        })
        .collect();
    let refused = faults(&cast)?;
    Ok((json!({ "accounts": accounts, "cases": cases }), refused))
}

/// The users, with the seeds of their account keys.
struct Cast {
    accounts: Vec<(String, IdentityKeyPair)>,
    choices: Stream,
}

/// What makes the group of a founder unlike any other.
fn drawn(founder: &str) -> Stream {
    Stream::new(format!("subrosa-v1/own/roster/group of {founder}"))
}

impl Cast {
    fn new(seed: u64) -> Self {
        let account = |user: &str| {
            let mut rng = Stream::new(format!("subrosa-v1/own/{seed}/roster/{user}"));
            let account = IdentityKeyPair::generate(&mut rng);
            (rng.taken().concat(), account)
        };
        let choices = Stream::new(format!("subrosa-v1/own/{seed}/roster/choices"));
        Self { accounts: USERS.map(account).into(), choices }
    }

    fn account(&self, user: usize) -> Result<&IdentityKeyPair, Error> {
        self.accounts.get(user).map(|(_, account)| account).ok_or(Error::Malformed)
    }

    fn add(&self, user: usize, role: GroupRole) -> Result<Op, Error> {
        let name = USERS.get(user).ok_or(Error::Malformed)?;
        let account = self.account(user)?.public_key();
        Ok(Op::Add { user: (*name).into(), account, role })
    }

    /// Ann's group: ben and cid are admins too, dee is a member, eli is not in.
    fn group(&self) -> Result<Roster, Error> {
        let others = [
            self.add(1, GroupRole::Admin)?,
            self.add(2, GroupRole::Admin)?,
            self.add(3, GroupRole::Member)?,
            Op::Settings(b"roses".to_vec()),
        ];
        Roster::found("ann", &others, self.account(0)?, &mut drawn("ann"))
    }

    /// A change by the first id of a user that is in.
    fn sign(&self, roster: &Roster, user: usize, ops: &[Op]) -> Result<Change, Error> {
        roster.sign(id_of(roster, user)?, ops, self.account(user)?)
    }

    /// A history with the same rules as those that are told: three copies of the group, of which
    /// each is changed by anybody, and learns of some of what the others did.
    fn at_random(&mut self, number: usize) -> Result<Value, Error> {
        let group = self.group()?;
        let mut copies = [group.clone(), group.clone(), group];
        for step in 0_u8..14 {
            let (at, from) = (self.choices.below(3), self.choices.below(3));
            let known: Vec<Change> = copies
                .get(from)
                .map(|roster| roster.changes().cloned().collect())
                .unwrap_or_default();
            let (user, what) = (self.choices.below(5), self.choices.below(7));
            let target = self.choices.below(5);
            let Some(roster) = copies.get(at) else { continue };
            let op = match what {
                0 | 1 => id_of(roster, target).map(Op::Remove),
                2 | 3 => id_of(roster, target).map(Op::Demote),
                4 => id_of(roster, target).map(Op::Promote),
                5 => self.add(target, GroupRole::Admin),
                _ => Ok(Op::Settings(vec![step])),
            };
            let change = op.and_then(|op| self.sign(roster, user, &[op]));
            let Some(roster) = copies.get_mut(at) else { continue };
            // What is not allowed is not made, and one copy in three learns something.
            roster.merge(change.ok());
            if self.choices.below(3) == 0 {
                roster.merge(known);
            }
        }
        let [mut all, one, other] = copies;
        all.merge(one.changes().cloned().collect::<Vec<_>>());
        all.merge(other.changes().cloned().collect::<Vec<_>>());
        case(&format!("at random, {number}"), &all)
    }
}

fn id_of(roster: &Roster, user: usize) -> Result<MemberId, Error> {
    let name = USERS.get(user).ok_or(Error::Malformed)?;
    let member = roster.members().iter().find(|member| &*member.user == *name);
    member.map(|member| member.id).ok_or(Error::NotPermitted)
}

/// A history and its outcome. Changes come with their parents before them.
fn case(name: &str, roster: &Roster) -> Result<Value, Error> {
    let changes: Vec<Value> = roster
        .changes()
        .map(|change| {
            let id = change.id();
            json!({
                "bytes": hex(change.encode()),
                "id": hex(id.as_bytes()),
                "counts": roster.counts(&id),
            })
        })
        .collect();
    let members: Vec<Value> = roster
        .members()
        .iter()
        .map(|member| {
            json!({
                "id": hex(member.id.as_bytes()),
                "user": member.user,
                "account": hex(&member.account.encode()),
                "admin": member.role == GroupRole::Admin,
                "suspended": member.suspended,
            })
        })
        .collect();
    let heads: Vec<String> = roster.heads().iter().map(|id| hex(id.as_bytes())).collect();
    Ok(json!({
        "name": name,
        "group": hex(roster.group().as_bytes()),
        "changes": changes,
        "members": members,
        "settings": roster.settings().map(hex),
        "continues": roster.continues().map(|group| hex(group.as_bytes())),
        "heads": heads,
    }))
}

/// Histories that are told: who does what, and who knows of it.
fn told(cast: &Cast) -> Result<Vec<Value>, Error> {
    let group = cast.group()?;
    let [ann, ben, cid, dee] = [0, 1, 2, 3].map(|user| id_of(&group, user));
    let told = Told { cast, group, ann: ann?, ben: ben?, cid: cid?, dee: dee? };
    Ok([told.simple()?, told.removals()?, told.demotions()?, told.others()?].concat())
}

struct Told<'a> {
    cast: &'a Cast,
    group: Roster,
    ann: MemberId,
    ben: MemberId,
    cid: MemberId,
    dee: MemberId,
}

/// Who makes a change, which of the earlier ones the author knows of, and what it does.
type Act<'a> = (usize, &'a [usize], &'a [Op]);

impl Told<'_> {
    /// One history.
    fn play(&self, name: &str, acts: &[Act<'_>]) -> Result<Value, Error> {
        let mut made: Vec<Change> = Vec::new();
        for (user, knows, ops) in acts {
            let mut roster = self.group.clone();
            let known: Vec<Change> = knows.iter().filter_map(|at| made.get(*at)).cloned().collect();
            roster.merge(known);
            made.push(self.cast.sign(&roster, *user, ops)?);
        }
        let mut all = self.group.clone();
        let merged = all.merge(made);
        if merged.accepted.len() != acts.len() {
            return Err(Error::NotPermitted);
        }
        case(name, &all)
    }

    fn eli(&self) -> Result<Op, Error> {
        self.cast.add(4, GroupRole::Member)
    }

    fn simple(&self) -> Result<Vec<Value>, Error> {
        let next = [Op::Continues(self.group.group()), self.cast.add(2, GroupRole::Admin)?];
        let next = Roster::found("dee", &next, self.cast.account(3)?, &mut drawn("dee"))?;
        Ok(vec![
            case("founded", &self.group)?,
            self.play("ben adds eli", &[(1, &[], &[self.eli()?])])?,
            self.play("dee leaves", &[(3, &[], &[Op::Remove(self.dee)])])?,
            self.play(
                "dee leaves, and ben confirms it",
                &[(3, &[], &[Op::Remove(self.dee)]), (1, &[0], &[Op::Remove(self.dee)])],
            )?,
            self.play("ann, who alone can, leaves", &[(0, &[], &[Op::Remove(self.ann)])])?,
            case("dee founds a successor", &next)?,
        ])
    }

    fn removals(&self) -> Result<Vec<Value>, Error> {
        let [ben, cid, dee] = [self.ben, self.cid, self.dee].map(Op::Remove);
        let (eli, both) = ([self.eli()?], [cid.clone(), dee.clone()]);
        let (ben, cid, dee) = ([ben], [cid], [dee]);
        Ok(vec![
            self.play(
                "ann removes ben, who adds eli at the same time",
                &[(0, &[], &ben), (1, &[], &eli)],
            )?,
            self.play("ann removes ben, who had added eli", &[(1, &[], &eli), (0, &[0], &ben)])?,
            self.play("ben removes cid, who removes dee", &[(1, &[], &cid), (2, &[], &dee)])?,
            self.play(
                "ann removes ben, who removes cid and dee",
                &[(0, &[], &ben), (1, &[], &both)],
            )?,
            self.play(
                "the same, and ann knows of it",
                &[(0, &[], &ben), (1, &[], &both), (0, &[0, 1], &[])],
            )?,
            self.play(
                "ann removes ben, who removes cid, who removes dee",
                &[(0, &[], &ben), (1, &[], &cid), (2, &[], &dee)],
            )?,
        ])
    }

    fn demotions(&self) -> Result<Vec<Value>, Error> {
        let (eli, down) = ([self.eli()?], [Op::Demote(self.ben)]);
        let out = [Op::Remove(self.ben)];
        Ok(vec![
            self.play(
                "ann demotes ben, who promotes dee",
                &[(0, &[], &down), (1, &[], &[Op::Promote(self.dee)])],
            )?,
            self.play(
                "ben demotes cid, who steps down at the same time",
                &[(1, &[], &[Op::Demote(self.cid)]), (2, &[], &[Op::Demote(self.cid)])],
            )?,
            self.play(
                "ben steps down, cid removes ben, and ben adds eli, back-dated",
                &[(1, &[], &down), (2, &[0], &out), (1, &[], &eli)],
            )?,
            self.play(
                "the same, and ann confirms without knowing of eli",
                &[(1, &[], &down), (2, &[0], &out), (1, &[], &eli), (0, &[0, 1], &down)],
            )?,
        ])
    }

    fn others(&self) -> Result<Vec<Value>, Error> {
        let set = |bytes: &[u8]| [Op::Settings(bytes.to_vec())];
        let again = [Op::Remove(self.dee), self.cast.add(3, GroupRole::Member)?];
        Ok(vec![
            self.play(
                "three set the settings at the same time",
                &[(0, &[], &set(b"ann's")), (1, &[], &set(b"ben's")), (2, &[], &set(b"cid's"))],
            )?,
            self.play(
                "ben removes dee and adds her again, while cid promotes her",
                &[(1, &[], &again), (2, &[], &[Op::Promote(self.dee)])],
            )?,
            self.play(
                "ben and cid add eli at the same time: two ids of one user",
                &[(1, &[], &[self.eli()?]), (2, &[], &[self.eli()?])],
            )?,
        ])
    }
}

/// Changes that are refused, each with one fault.
fn faults(cast: &Cast) -> Result<Vec<(String, Value)>, Error> {
    let group = cast.group()?;
    let good = cast.sign(&group, 1, &[Op::Promote(id_of(&group, 3)?)])?;
    let mut faults = Faults { group, all: Vec::new() };
    faults.in_bytes(good.encode());
    faults.signed(cast)?;
    faults.settled(cast)?;
    Ok(faults.all)
}

struct Faults {
    group: Roster,
    all: Vec<(String, Value)>,
}

impl Faults {
    fn add(&mut self, fault: &str, bytes: &[u8]) {
        let error = match Change::decode(bytes) {
            Err(error) => format!("{error:?}"),
            Ok(change) => {
                let merged = self.group.clone().merge([change]);
                let other = if merged.waiting.is_empty() { "taken" } else { "waits" };
                let refused = merged.refused.first().map(|(_, error)| format!("{error:?}"));
                refused.unwrap_or_else(|| other.into())
            }
        };
        let base: Vec<String> = self.group.changes().map(|change| hex(change.encode())).collect();
        let case = json!({
            "what": "group change",
            "fault": fault,
            "changes": base,
            "bytes": hex(bytes),
            "error": error,
        });
        let name: String =
            fault.chars().filter(|letter| *letter != ',').collect::<String>().replace(' ', "-");
        self.all.push((format!("group-roster-{name}.json"), case));
    }

    /// A good change, of which something is another.
    fn in_bytes(&mut self, bytes: &[u8]) {
        let (front, back) = (bytes.get(..37), bytes.get(70..));
        let orphan = [front.unwrap_or_default(), &[0], back.unwrap_or_default()].concat();
        let end = bytes.len().saturating_sub(1);
        self.add("nothing", &[]);
        self.add("version 2", &flipped(bytes, 0, 3));
        self.add("a byte less", bytes.get(..end).unwrap_or_default());
        self.add("a byte more", &[bytes, &[0]].concat());
        self.add("another group", &flipped(bytes, 1, 1));
        self.add("another height", &flipped(bytes, 36, 1));
        self.add("a parent that is not here", &flipped(bytes, 38, 1));
        self.add("another author", &flipped(bytes, 70, 1));
        self.add("another state", &flipped(bytes, 86, 1));
        self.add("an op of no kind", &flipped(bytes, 119, 4));
        self.add("another signature", &flipped(bytes, end, 1));
        self.add("no parents", &orphan);
    }

    /// Changes with a signature that holds.
    fn signed(&mut self, cast: &Cast) -> Result<(), Error> {
        let [ann, ben, dee] = [0, 1, 3].map(|user| id_of(&self.group, user));
        let (ann, ben, dee) = (ann?, ben?, dee?);
        let (by_ben, by_dee) = (cast.account(1)?, cast.account(3)?);
        let remove = |id: MemberId| [&[1][..], id.as_bytes()].concat();
        let promote = |id: MemberId| [&[2][..], id.as_bytes()].concat();
        let eli = [&[0, 3][..], b"eli", &cast.account(4)?.public_key().encode(), &[0]].concat();
        let no_key = [&[0, 3][..], b"eli", &[2; 32], &[0]].concat();
        let role_2 = flipped(&eli, eli.len().saturating_sub(1), 2);
        let long = [&[4, 0x10, 1][..], &[0; 4_097]].concat();
        let many: Vec<u8> = (0..65).flat_map(|at| remove(MemberId::from([at; 16]))).collect();
        let nobody = MemberId::from([9; 16]);
        for (fault, author, key, ops, count) in [
            ("ben removes ann, who is more senior", ben, by_ben, remove(ann), 1),
            ("dee, who is no admin, adds eli", dee, by_dee, eli.clone(), 1),
            ("dee promotes herself", dee, by_dee, promote(dee), 1),
            ("dee signs as ann", ann, by_dee, remove(ben), 1),
            ("nobody adds eli", nobody, by_dee, eli.clone(), 1),
            ("ben promotes an admin", ben, by_ben, promote(ben), 1),
            ("two ops about dee", ben, by_ben, [remove(dee), remove(dee)].concat(), 2),
            ("eli twice", ben, by_ben, [eli.clone(), eli].concat(), 2),
            ("a later change that continues a group", ben, by_ben, vec![5; 33], 1),
            ("settings of 4097 bytes", ben, by_ben, long, 1),
            ("65 ops", ben, by_ben, many, 65),
            ("role 2", ben, by_ben, role_2, 1),
            ("an account that is no key", ben, by_ben, no_key, 1),
        ] {
            let bytes = raw(&self.group, author, &ops, count, key);
            self.add(fault, &bytes);
        }
        Ok(())
    }

    /// Changes about what others have decided.
    fn settled(&mut self, cast: &Cast) -> Result<(), Error> {
        let [ann, ben, cid, dee] = [0, 1, 2, 3].map(|user| id_of(&self.group, user));
        let (ann, ben, cid, dee) = (ann?, ben?, cid?, dee?);
        for (user, op) in [(2, Op::Demote(cid)), (3, Op::Remove(dee)), (0, Op::Remove(dee))] {
            let change = cast.sign(&self.group, user, &[op])?;
            self.group.merge([change]);
        }
        let (by_ann, by_ben) = (cast.account(0)?, cast.account(1)?);
        let about = |kind: u8, id: MemberId| [&[kind][..], id.as_bytes()].concat();
        let again = [&[0, 3][..], b"cid", &cast.account(2)?.public_key().encode(), &[0]].concat();
        for (fault, author, key, op) in [
            ("ben removes dee, who left, and whom ann removed", ben, by_ben, about(1, dee)),
            ("ann promotes cid, who stepped down", ann, by_ann, about(2, cid)),
            ("ann adds cid, who is in", ann, by_ann, again),
        ] {
            let bytes = raw(&self.group, author, &op, 1, key);
            self.add(fault, &bytes);
        }
        Ok(())
    }
}

fn flipped(bytes: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= mask;
    }
    bytes
}

/// A change of a group on all that is known, with anything in it, and a signature that holds.
fn raw(
    roster: &Roster,
    author: MemberId,
    ops: &[u8],
    count: u8,
    account: &IdentityKeyPair,
) -> Vec<u8> {
    let heads = roster.heads();
    let heights = heads.iter().filter_map(|id| roster.get(id)).map(Change::height);
    let height = heights.max().unwrap_or(0).saturating_add(1).to_be_bytes();
    let mut bytes = [&[1][..], roster.group().as_bytes(), &height].concat();
    bytes.push(u8::try_from(heads.len()).unwrap_or(u8::MAX));
    heads.iter().for_each(|parent| bytes.extend_from_slice(parent.as_bytes()));
    bytes.extend_from_slice(author.as_bytes());
    bytes.extend_from_slice(&[0; 32]);
    bytes.push(count);
    bytes.extend_from_slice(ops);
    let signed = [b"Subrosa v1 group change", &bytes[..]].concat();
    let seed = account.encode();
    if let Some(seed) = seed.last_chunk() {
        bytes.extend_from_slice(&SigningKey::from_bytes(seed).sign(&signed).to_bytes());
    }
    bytes
}
