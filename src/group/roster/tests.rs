//! Small histories of changes, all of them, and random larger ones: in whatever order the changes
//! come, there is one outcome, and it is the one of docs/groups.md, section 1.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use std::time::Instant;

use super::*;
use crate::group::history::ActKind;
use crate::testing::Replay;
use oracle::{Member, Oracle};

mod oracle;

/// Keys are drawn once: the histories are not signed.
struct Cast {
    key: IdentityKeyPair,
    first: Change,
}

fn add(user: &str, key: &IdentityKeyPair, role: GroupRole) -> Op {
    Op::Add { user: user.into(), account: key.public_key(), role }
}

/// Three admins, a member and an outsider, who is user "o".
fn cast() -> Cast {
    let key = IdentityKeyPair::generate(&mut Replay::counting());
    let others = [
        add("a", &key, GroupRole::Admin),
        add("b", &key, GroupRole::Admin),
        add("c", &key, GroupRole::Admin),
        add("m", &key, GroupRole::Member),
    ];
    let first = Change::unsigned(Place::First([0; 16]), [0; 32], others.to_vec()).unwrap();
    Cast { key, first }
}

impl Cast {
    fn roster(&self) -> Roster {
        let mut roster = Roster::begun(self.first.clone());
        roster.refresh();
        roster
    }

    /// A change by `author` on these changes.
    fn change(&self, roster: &Roster, author: MemberId, parents: &[usize], ops: Vec<Op>) -> Change {
        let of = |at: &usize| &roster.history.entry(*at).change;
        let height = parents.iter().map(|at| of(at).height()).max().unwrap() + 1;
        let mut ids: Vec<ChangeId> = parents.iter().map(|at| of(at).id()).collect();
        ids.sort();
        let place = Place::Later { group: roster.group, height, parents: ids, author };
        Change::unsigned(place, [0; 32], ops).unwrap()
    }

    /// What anybody could try, on these changes.
    fn attempts(&self, roster: &Roster, parents: &[usize]) -> Vec<Change> {
        let ids: Vec<(MemberId, &str)> =
            roster.history.all_named().map(|named| (named.id, &*named.user)).collect();
        let mut attempts = Vec::new();
        for (author, _) in &ids {
            let mut all: Vec<Vec<Op>> = Vec::from([Vec::new()]);
            for (target, user) in &ids {
                all.push([Op::Remove(*target)].into());
                all.push([Op::Demote(*target)].into());
                if matches!(*user, "m" | "o") {
                    all.push([Op::Promote(*target)].into());
                }
            }
            all.push([add("o", &self.key, GroupRole::Admin)].into());
            attempts.extend(all.into_iter().map(|ops| self.change(roster, *author, parents, ops)));
        }
        attempts
    }
}

impl Roster {
    fn taking(&self, change: &Change) -> Option<Self> {
        let mut roster = self.clone();
        let merged = roster.take(Vec::from([change.clone()]), Signatures::Trusted);
        (merged.accepted.len() == 1).then_some(roster)
    }

    fn shown(&self) -> Vec<Member> {
        let shown = self
            .members()
            .iter()
            .map(|member| (member.id, String::from(&*member.user), member.role, member.suspended));
        shown.collect()
    }

    /// Sets of changes none of which is built on another: what a change can be built on.
    fn antichains(&self) -> Vec<Vec<usize>> {
        let count = self.history.len();
        let sets = (1_u32..1 << count)
            .map(|bits| (0..count).filter(|at| bits >> at & 1 == 1).collect::<Vec<usize>>());
        sets.filter(|set| {
            set.iter()
                .all(|at| set.iter().all(|by| !self.history.entry(*by).ancestors.contains(*at)))
        })
        .collect()
    }
}

/// Calls `visit` with each history of up to `depth` changes, each set of changes once.
fn histories(cast: &Cast, depth: usize, visit: &mut impl FnMut(&Roster)) {
    fn deeper(
        cast: &Cast,
        roster: &Roster,
        depth: usize,
        seen: &mut BTreeSet<Vec<ChangeId>>,
        visit: &mut impl FnMut(&Roster),
    ) {
        for parents in roster.antichains() {
            for attempt in cast.attempts(roster, &parents) {
                let Some(next) = roster.taking(&attempt) else { continue };
                // The last one has no other order to come in.
                let mut ids: Vec<ChangeId> = next.changes().map(Change::id).collect();
                ids.sort();
                if !seen.insert(ids) {
                    continue;
                }
                visit(&next);
                if depth > 1 {
                    deeper(cast, &next, depth - 1, seen, visit);
                }
            }
        }
    }
    deeper(cast, &cast.roster(), depth, &mut BTreeSet::new(), visit);
}

/// The oracle's outcome is the roster's.
fn agrees(roster: &Roster) {
    let mut changes = roster.changes();
    let mut oracle = Oracle::new(changes.next().unwrap().clone());
    for change in changes {
        assert!(oracle.add(change.clone()), "{change:?} in {:#?}", roster.history);
    }
    let counting: BTreeSet<ChangeId> =
        roster.changes().map(Change::id).filter(|id| roster.counts(id)).collect();
    assert_eq!(oracle.counting(), counting, "{:#?}", roster.history);
    assert_eq!(oracle.members(), roster.shown(), "{:#?}", roster.history);
}

/// What must hold whatever anybody does.
fn is_sound(roster: &Roster) {
    let state = State::decide(&roster.history, roster.history.all().clone());
    for member in roster.members() {
        let named = roster.history.named(roster.history.number_of(member.id).unwrap());
        // By itself, or by an admin whose right is older than any that counts for the member.
        let rights = named.rights.iter().filter(|right| roster.counts.contains(right.given_in));
        let oldest = rights.map(|right| right.rank).min();
        for act in named.acts.iter().filter(|act| act.kind == ActKind::Removal) {
            let senior = act.rank.is_some_and(|rank| oldest.is_none_or(|oldest| rank < oldest));
            assert!(act.rank.is_some(), "{member:?} left");
            assert!(!(senior && roster.counts.contains(act.by)), "{member:?} was removed");
        }
        assert!(state.is_member(named));
        if member.role == GroupRole::Admin {
            given_by_admins(roster, member.id);
        }
    }
    for change in roster.changes().filter(|change| roster.counts(&change.id())) {
        if change.ops().iter().any(|op| op.member() != Some(change.author())) {
            given_by_admins(roster, change.author());
        }
    }
}

/// What is listed as void can be done by the most senior admin that is left, and is not void any
/// more.
fn can_be_restored(roster: &Roster) {
    let (admins, voided) = (roster.members().iter(), roster.voided());
    let Some(admin) = admins.filter(|one| one.role == GroupRole::Admin).min_by_key(|one| {
        let named = roster.history.named(roster.history.number_of(one.id).unwrap());
        let counting = |right: &&Right| roster.counts.contains(right.given_in);
        named.rights.iter().filter(counting).map(|right| right.rank).min()
    }) else {
        return;
    };
    let ops: Vec<Op> = voided.into_iter().map(|one| one.op).collect();
    let after = roster.preview(admin.id, &ops).unwrap_or_else(|error| {
        panic!("{error}: {ops:?} in {:#?}", roster.history);
    });
    for op in &ops {
        let is_done = match op {
            Op::Add { user, .. } => !after.ids_in(user).is_empty(),
            Op::Promote(id) => after.member(*id).is_some_and(|one| one.role == GroupRole::Admin),
            Op::Settings(bytes) => after.settings() == Some(bytes),
            _ => false,
        };
        assert!(is_done, "{op:?} in {:#?}", roster.history);
    }
    assert_eq!(after.voided(), [], "{:#?}", roster.history);
}

/// A right that counts was given by somebody who had one, up to the first change.
fn given_by_admins(roster: &Roster, id: MemberId) {
    let named = roster.history.named(roster.history.number_of(id).unwrap());
    let counting = |right: &&Right| roster.counts.contains(right.given_in);
    let right = named.rights.iter().filter(counting).min_by_key(|right| right.rank);
    let right = right.unwrap_or_else(|| panic!("{id:?} has a right that nobody gave"));
    if right.given_in != 0 {
        let by = roster.history.entry(right.given_in);
        assert!(by.right.is_some_and(|earlier| earlier.rank < right.rank));
        given_by_admins(roster, by.change.author());
    }
}

/// All orders in which these changes can come.
fn orders(roster: &Roster, changes: &[Change]) {
    let count = changes.len();
    let mut order: Vec<usize> = (0..count).collect();
    let mut stack = alloc::vec![0; count];
    let check = |order: &[usize]| {
        let mut other = Roster::begun(roster.history.entry(0).change.clone());
        let mut held: Vec<Change> = Vec::new();
        for at in order {
            held.push(changes[*at].clone());
            let given = core::mem::take(&mut held);
            held = other.take(given, Signatures::Trusted).waiting;
            held.sort_by_key(Change::height);
        }
        let held = other.take(held, Signatures::Trusted).waiting;
        assert_eq!(held, []);
        assert_eq!(other.shown(), roster.shown(), "{order:?} of {:#?}", roster.history);
        assert_eq!(other.heads(), roster.heads());
    };
    check(&order);
    // Heap's algorithm
    let mut at = 1;
    while at < count {
        if stack[at] < at {
            order.swap(if at % 2 == 0 { 0 } else { stack[at] }, at);
            check(&order);
            stack[at] += 1;
            at = 1;
        } else {
            stack[at] = 0;
            at += 1;
        }
    }
}

fn check_history(roster: &Roster) {
    agrees(roster);
    is_sound(roster);
    let changes: Vec<Change> = roster.changes().skip(1).cloned().collect();
    orders(roster, &changes);
}

#[test]
fn every_history_of_two_changes_has_one_outcome_in_every_order() {
    let mut count = 0;
    histories(&cast(), 2, &mut |roster| {
        check_history(roster);
        count += 1;
    });
    assert!(count > 1_000, "{count}");
}

#[test]
fn every_tenth_history_of_three_changes_has_one_outcome_in_every_order() {
    let mut count = 0;
    histories(&cast(), 3, &mut |roster| {
        count += 1;
        if count % 10 == 0 {
            check_history(roster);
        }
    });
    assert!(count > 10_000, "{count}");
}

#[test]
#[ignore = "all histories of three changes: minutes"]
fn every_history_of_three_changes_has_one_outcome_in_every_order() {
    let mut count = 0_u64;
    histories(&cast(), 3, &mut |roster| {
        check_history(roster);
        count += 1;
    });
    std::println!("{count} histories");
}

#[test]
#[ignore = "all histories of four changes, in one order: an hour"]
fn every_history_of_four_changes_has_one_outcome() {
    let mut count = 0_u64;
    histories(&cast(), 4, &mut |roster| {
        agrees(roster);
        is_sound(roster);
        count += 1;
    });
    std::println!("{count} histories");
}

/// Draws numbers of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

/// Hostile authors: they back-date, equivocate, build on what does not count, remove each other in
/// circles, add again whom others removed, and use rights that are gone.
fn random_history(cast: &Cast, length: usize, dice: &mut Dice) -> Roster {
    let mut roster = cast.roster();
    let mut tries = 0;
    while roster.history.len() <= length && tries < 400 {
        tries += 1;
        let count = roster.history.len();
        let mut parents: Vec<usize> = (0..=dice.below(2)).map(|_| dice.below(count)).collect();
        if dice.below(3) == 0 {
            parents = roster.history.heads().collect();
        }
        parents.sort();
        parents.dedup();
        let one_of = |dice: &mut Dice| {
            roster.history.named(dice.below(roster.history.all_named().count())).id
        };
        let mut ops = Vec::new();
        for _ in 0..=dice.below(2) {
            let target = one_of(dice);
            ops.push(match dice.below(7) {
                0 | 1 => Op::Remove(target),
                2 | 3 => Op::Demote(target),
                4 => Op::Promote(target),
                5 => add(["a", "b", "c", "m", "o"][dice.below(5)], &cast.key, GroupRole::Admin),
                _ => Op::Settings(format!("{tries}").into()),
            });
        }
        if check_ops(&ops) {
            let change = cast.change(&roster, one_of(dice), &parents, ops);
            if let Some(next) = roster.taking(&change) {
                roster = next;
            }
        }
    }
    roster
}

fn check_ops(ops: &[Op]) -> bool {
    let mut members: Vec<MemberId> = ops.iter().filter_map(Op::member).collect();
    members.sort();
    let adds = ops.iter().filter(|op| matches!(op, Op::Add { .. })).count();
    let settings = ops.iter().filter(|op| matches!(op, Op::Settings(_))).count();
    members.is_sorted_by(|one, next| one < next) && adds < 2 && settings < 2
}

fn random_histories(lengths: core::ops::Range<usize>, seeds: core::ops::Range<u64>) {
    let cast = cast();
    for seed in seeds {
        let dice = &mut Dice(seed);
        let length = lengths.start + dice.below(lengths.len());
        let roster = random_history(&cast, length, dice);
        let acts: usize = roster.history.all_named().map(|named| named.acts.len()).sum();
        std::println!("seed {seed}: {} changes", roster.history.len());
        is_sound(&roster);
        can_be_restored(&roster);
        if roster.history.len() + acts < 16 {
            agrees(&roster);
        }
        // Some other orders.
        let mut changes: Vec<Change> = roster.changes().skip(1).cloned().collect();
        for _ in 0..4 {
            for at in (1..changes.len()).rev() {
                changes.swap(at, dice.below(at + 1));
            }
            let mut other = cast.roster();
            let mut held = Vec::new();
            for change in &changes {
                held.push(change.clone());
                held.sort_by_key(Change::height);
                held = other.take(held, Signatures::Trusted).waiting;
            }
            assert_eq!(held, []);
            assert_eq!(other.shown(), roster.shown(), "seed {seed}");
            assert_eq!(other.settings(), roster.settings(), "seed {seed}");
            assert_eq!(other.heads(), roster.heads(), "seed {seed}");
        }
    }
}

#[test]
fn hostile_authors_bring_about_one_outcome() {
    random_histories(4..7, 0..150);
    random_histories(8..40, 1_000..1_030);
}

#[test]
#[ignore = "many random histories: minutes"]
fn many_hostile_histories_have_one_outcome() {
    random_histories(4..8, 10_000..60_000);
    random_histories(8..60, 100_000..110_000);
}

#[test]
fn a_change_is_read_as_it_was_written_and_in_no_other_form() {
    let cast = cast();
    let bob = IdentityKeyPair::generate(&mut Replay::counting());
    let mut roster = Roster::found(
        "alice",
        &[Op::Settings(b"roses".to_vec())],
        &cast.key,
        &mut Replay::counting(),
    )
    .unwrap();
    let by = roster.members()[0].id;
    let ops = [add("bob", &bob, GroupRole::Member), Op::Settings(Vec::new())];
    let change = roster.sign(by, &ops, &cast.key).unwrap();
    let bytes = change.encode().to_vec();
    assert_eq!(Change::decode(&bytes), Ok(change.clone()));
    for end in 0..bytes.len() {
        assert!(Change::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert_eq!(Change::decode(&[&bytes[..], &[0]].concat()), Err(Error::Malformed));
    // Each bit is bound: by the layout, by the parents, or by the signature.
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let Ok(other) = Change::decode(&other) else { continue };
        let merged = roster.merge([other]);
        assert_eq!(merged.accepted, [], "byte {at}");
    }
    assert_eq!(roster.merge([change.clone()]).accepted, [change.id()]);
    assert_eq!(roster.merge([change]), Merged::default());
    assert_eq!(roster.settings(), Some(&[][..]));
    assert_eq!(roster.changes_since(&roster.heads()).count(), 0);
    let stored = roster.encode();
    assert_eq!(Roster::decode(&stored).unwrap().members(), roster.members());
    for end in 0..stored.len() {
        assert_eq!(Roster::decode(&stored[..end]).unwrap_err(), Error::BadState, "{end}");
    }
}

#[test]
fn what_no_layout_allows_is_refused_by_name() {
    let cast = cast();
    let (a, m) = (add("a", &cast.key, GroupRole::Admin), add("m", &cast.key, GroupRole::Member));
    let id = MemberId::from([7; 16]);
    let first = |ops: &[Op]| Change::sign(Place::First([0; 16]), [0; 32], ops.to_vec(), &cast.key);
    assert!(first(&[a.clone(), m.clone()]).is_ok());
    let long = Op::Settings(alloc::vec![0; 4_097]);
    let nobody = add("", &cast.key, GroupRole::Member);
    for ops in [
        Vec::new(),
        Vec::from([m]),
        Vec::from([a.clone(), a.clone()]),
        Vec::from([a.clone(), Op::Remove(id)]),
        Vec::from([a.clone(), long]),
        Vec::from([a, nobody]),
        (0..65).map(|at| add(&format!("{at}"), &cast.key, GroupRole::Admin)).collect(),
    ] {
        assert_eq!(first(&ops), Err(Error::Malformed), "{ops:?}");
    }
    let later = |height, parents: &[u8], ops: &[Op]| {
        let parents = parents.iter().map(|byte| ChangeId::from([*byte; 32])).collect();
        let place = Place::Later { group: GroupId::from([1; 32]), height, parents, author: id };
        Change::sign(place, [0; 32], ops.to_vec(), &cast.key)
    };
    assert!(later(2, &[1, 2], &[Op::Remove(id)]).is_ok());
    assert_eq!(later(1, &[1], &[]), Err(Error::Malformed));
    assert_eq!(later(2, &[2, 1], &[]), Err(Error::Malformed));
    assert_eq!(later(2, &[1, 1], &[]), Err(Error::Malformed));
    let many: Vec<u8> = (0..17).collect();
    assert_eq!(later(2, &many, &[]), Err(Error::Malformed));
    assert!(later(2, &many[..16], &[]).is_ok());
    let twice = [Op::Remove(id), Op::Demote(id)];
    assert_eq!(later(2, &[1], &twice), Err(Error::Malformed));
    let twice = [Op::Settings(Vec::new()), Op::Settings(Vec::new())];
    assert_eq!(later(2, &[1], &twice), Err(Error::Malformed));
}

#[test]
fn who_did_not_sign_it_did_not_make_it() {
    let cast = cast();
    let bob = IdentityKeyPair::generate(&mut Replay::new([alloc::vec![9; 32]]));
    let mut roster = Roster::found(
        "alice",
        &[add("bob", &bob, GroupRole::Member)],
        &cast.key,
        &mut Replay::counting(),
    )
    .unwrap();
    let [alice, bobs] = [0, 1].map(|at| roster.members()[at].id);
    assert_eq!(roster.sign(alice, &[], &bob), Err(Error::NotPermitted), "bob is not alice");
    assert_eq!(roster.sign(bobs, &[Op::Remove(alice)], &bob), Err(Error::NotPermitted));
    // Bob signs as alice.
    let place =
        Place::Later { group: roster.group(), height: 2, parents: roster.heads(), author: alice };
    let forged = Change::sign(place, [0; 32], [Op::Promote(bobs)].into(), &bob).unwrap();
    let merged = roster.merge([forged.clone()]);
    assert_eq!(merged.refused, [(forged.id(), Error::BadSignature)]);
    // A server adds somebody, as nobody who is in.
    let place = Place::Later {
        group: roster.group(),
        height: 2,
        parents: roster.heads(),
        author: MemberId::from([3; 16]),
    };
    let added = add("eve", &bob, GroupRole::Member);
    let forged = Change::sign(place, [0; 32], [added].into(), &bob).unwrap();
    assert_eq!(roster.merge([forged.clone()]).refused, [(forged.id(), Error::NotPermitted)]);
    assert_eq!(roster.members().len(), 2);
    // Honest states agree, and others are noticed.
    let honest = roster.sign(bobs, &[Op::Remove(bobs)], &bob).unwrap();
    assert!(!roster.with(honest.clone()).disagrees(&honest.id()));
    let place =
        Place::Later { group: roster.group(), height: 2, parents: roster.heads(), author: bobs };
    let wrong = Change::sign(place, [1; 32], Vec::new(), &bob).unwrap();
    assert!(roster.with(wrong.clone()).disagrees(&wrong.id()));
}

#[test]
fn a_removal_reaches_everybody_whatever_the_removed_do_at_the_same_time() {
    let cast = cast();
    let roster = cast.roster();
    let [a, b, c, m] = [0, 1, 2, 3].map(|at| roster.history.named(at).id);
    // B removes C and M, while A removes B. What B did does not count, but is suspended.
    let by_a = cast.change(&roster, a, &[0], [Op::Remove(b)].into());
    let by_b = cast.change(&roster, b, &[0], [Op::Remove(c), Op::Remove(m)].into());
    let both = roster.taking(&by_a).and_then(|roster| roster.taking(&by_b)).unwrap();
    let standing: Vec<(MemberId, bool)> =
        both.members().iter().map(|member| (member.id, member.suspended)).collect();
    assert_eq!(standing, [(a, false), (c, true), (m, true)]);
    // A, who knows of both, ends that with a change of any kind.
    let settled = cast.change(&both, a, &[1, 2], Vec::new());
    let settled = both.taking(&settled).unwrap();
    assert!(settled.members().iter().all(|member| !member.suspended));
    // B builds on what B did before: it is void as well.
    let later = cast.change(&both, b, &[2], [add("o", &cast.key, GroupRole::Admin)].into());
    assert!(!settled.taking(&later).unwrap().members().iter().any(|member| &*member.user == "o"));
}

#[test]
fn a_senior_who_stepped_down_is_kept_from_acting_on_by_somebody_more_senior() {
    let cast = cast();
    let roster = cast.roster();
    let [a, b, c, _] = [0, 1, 2, 3].map(|at| roster.history.named(at).id);
    // B steps down, and C, whom B had outranked, removes and demotes B.
    let down = cast.change(&roster, b, &[0], [Op::Demote(b)].into());
    let one = roster.taking(&down).unwrap();
    let out = cast.change(&one, c, &[1], [Op::Remove(b)].into());
    let one = one.taking(&out).unwrap();
    // B acts on, back-dated: what B once could counts.
    let back = cast.change(&one, b, &[0], [add("o", &cast.key, GroupRole::Admin)].into());
    let acted = one.taking(&back).unwrap();
    assert!(acted.members().iter().any(|member| &*member.user == "o"));
    // A confirms, and it does not count any more.
    let confirmed = cast.change(&one, a, &[2], [Op::Demote(b)].into());
    let confirmed = acted.taking(&confirmed).unwrap();
    assert!(!confirmed.members().iter().any(|member| &*member.user == "o"));
}

#[test]
fn whom_somebody_added_who_was_removed_at_the_same_time_is_told_why_it_is_not_in() {
    let cast = cast();
    let roster = cast.roster();
    let [a, b] = [0, 1].map(|at| roster.history.named(at).id);
    // A removes B, who adds O, who adds P.
    let by_b = cast.change(&roster, b, &[0], [add("o", &cast.key, GroupRole::Admin)].into());
    let theirs = roster.taking(&by_b).unwrap();
    let o = theirs.ids_of("o")[0];
    let by_o = cast.change(&theirs, o, &[1], [add("p", &cast.key, GroupRole::Member)].into());
    let theirs = theirs.taking(&by_o).unwrap();
    let p = theirs.ids_of("p")[0];
    let by_a = cast.change(&roster, a, &[0], [Op::Remove(b)].into());
    let all = theirs.taking(&by_a).unwrap();
    for who in [o, p] {
        let is_in = |roster: &Roster| roster.members().iter().any(|member| member.id == who);
        assert!(is_in(&theirs) && !is_in(&all));
        let told: Vec<&Change> = all.removal_of(who, &[by_o.id()]).collect();
        assert_eq!(told, [&by_a]);
        assert!(!is_in(&theirs.taking(told[0]).unwrap()));
    }
    // Who is in is told of nothing.
    assert_eq!(all.removal_of(a, &[]).count(), 0);
}

#[test]
fn who_knows_its_removal_and_believes_to_be_in_is_told_why_that_counts() {
    let cast = cast();
    let roster = cast.roster();
    let [a, b, c, m] = [0, 1, 2, 3].map(|at| roster.history.named(at).id);
    // C removes M, and B removes C at the same time: M is in. A, who knows of C's change alone,
    // removes B.
    let by_c = cast.change(&roster, c, &[0], [Op::Remove(m)].into());
    let by_b = cast.change(&roster, b, &[0], [Op::Remove(c)].into());
    let known = roster.taking(&by_c).unwrap();
    let by_a = cast.change(&known, a, &[1], [Op::Remove(b)].into());
    let theirs = known.taking(&by_b).unwrap();
    let all = theirs.taking(&by_a).unwrap();
    let is_in = |roster: &Roster| {
        let ms = roster.members().iter().find(|member| member.id == m);
        ms.is_some_and(|member| !member.suspended)
    };
    assert!(is_in(&roster) && !is_in(&all));
    let told = |known: &[ChangeId]| all.removal_of(m, known).collect::<Vec<_>>();
    assert_eq!(told(&[cast.first.id()]), [&by_c]);
    assert_eq!(told(&[by_c.id()]), [&by_a]);
    assert_eq!(told(&[by_c.id(), by_b.id()]), [&by_a]);
    assert!(told(&[by_a.id(), by_b.id()]).is_empty());
}

#[test]
#[ignore = "a measurement"]
fn cost_of_256_changes_and_1024_members() {
    let cast = cast();
    let mut roster = Roster::found("alice", &[], &cast.key, &mut Replay::counting()).unwrap();
    let by = roster.members()[0].id;
    let mut changes = Vec::new();
    for at in 0..255 {
        let ops: Vec<Op> = (0..4)
            .map(|index| add(&format!("user {at} {index}"), &cast.key, GroupRole::Member))
            .collect();
        let change = roster.sign(by, &ops, &cast.key).unwrap();
        roster.merge([change.clone()]);
        changes.push(change);
    }
    assert_eq!(roster.members().len(), 1_021);
    let first = roster.history.entry(0).change.clone();
    for signatures in [Signatures::Trusted, Signatures::Verified] {
        let mut best = core::time::Duration::MAX;
        for _ in 0..20 {
            let (mut other, given) = (Roster::begun(first.clone()), changes.clone());
            let begun = Instant::now();
            other.take(given, signatures);
            best = best.min(begun.elapsed());
            assert_eq!(other.members().len(), 1_021);
        }
        std::println!("signatures checked: {}, {best:?}", signatures == Signatures::Verified);
    }
    let next = roster.sign(by, &[Op::Settings(b"roses".to_vec())], &cast.key).unwrap();
    let mut best = core::time::Duration::MAX;
    for _ in 0..20 {
        let mut other = roster.clone();
        let given = Vec::from([next.clone()]);
        let begun = Instant::now();
        other.take(given, Signatures::Trusted);
        best = best.min(begun.elapsed());
    }
    std::println!("the next one: {best:?}");
}
