//! Every history within bounds, and what has to hold in each state of it.

use std::collections::HashSet;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::thread;
use std::vec;
use std::vec::Vec;

use super::devices::{
    Chance, Devices, Frame, Kind, Mail, Name, Number, Side, StoreCopy, Violation,
};
use super::rules::Rules;

/// How much may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Bounds {
    pub(super) texts: u8,
    pub(super) mails: u8,
    pub(super) sessions: u8,
    /// What nothing opens, from nobody.
    pub(super) noise: u8,
    /// Envelopes that are damaged on their way.
    pub(super) garble: u8,
    /// Stores that are lost.
    pub(super) lose: u8,
    /// Stores that are restored from a copy.
    pub(super) restore: u8,
    /// Sessions written in that get too old without an answer.
    pub(super) expire: u8,
    /// Steps in the age of sessions that only ask.
    pub(super) age: u8,
    /// Bundles that the other device cannot use any more.
    pub(super) dead: u8,
    pub(super) reset: u8,
    /// Rows that cannot be read.
    pub(super) corrupt: u8,
}

/// Where a search begins, and what is part of it.
#[derive(Clone, Copy)]
pub(super) struct Search {
    pub(super) bounds: Bounds,
    /// Both write in one session at first; otherwise there is none.
    pub(super) healthy: bool,
    /// Bundles come at once, not at any time later.
    pub(super) prompt: bool,
    /// Meetings that mail takes: both meet with none of it late, and where this is not 0 once more.
    pub(super) late: usize,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) transitions: usize,
    /// Rounds of calm until both write in one session.
    pub(super) rounds: usize,
    /// Deliveries until a text is there.
    pub(super) deliveries: usize,
    /// Meetings until nothing is under way.
    pub(super) meetings: usize,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Write(Side),
    Deliver(usize),
    Bundle(Side),
    Noise(Side),
    Garble(usize),
    Lose(Side),
    Copy(Side),
    Restore(Side, Option<[bool; 2]>),
    Expire(Side),
    Age(Side),
    Reset(Side),
    Corrupt(Side),
}

/// What is known of the past.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Past {
    /// Nothing but texts, noise, time, and one damaged envelope.
    Clean,
    /// And then both wrote in this session.
    Healthy(Number),
    /// Anything.
    Dirty,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    frame: Frame,
    left: Bounds,
    past: Past,
}

/// A state that was found, and how.
struct Step {
    state: Arc<State>,
    before: usize,
    act: Option<Act>,
}

/// The most deliveries until a text is there, rounds of calm, and meetings until nothing is under
/// way.
const MOST_DELIVERIES: usize = 9;
const MOST_ROUNDS: usize = 3;
const MOST_MEETINGS: usize = 5;

/// The most meetings where mail is late, in as many as it takes.
const MOST_LATE_MEETINGS: usize = 30;

/// Texts of each that are under way at the first meeting.
const UNDER_WAY: usize = 3;

/// Meetings at which each writes a text, where mail is late.
const WRITTEN: usize = 5;

/// Checks every state. The violation is with the history that leads to it.
pub(super) fn explore(rules: &dyn Rules, search: &Search) -> Result<Found, String> {
    let mut frame = Frame::empty();
    if search.healthy {
        frame = healthy(rules).map_err(String::from)?;
    }
    let first = Arc::new(State { frame, left: search.bounds, past: Past::Clean });
    let mut seen = HashSet::from([Arc::clone(&first)]);
    let mut steps = vec![Step { state: first, before: 0, act: None }];
    let mut found = Found::default();
    let mut next = 0;
    while next < steps.len() {
        let some = steps.iter().skip(next).take(AT_ONCE).map(|step| Arc::clone(&step.state));
        for (checked, acts) in follow_all(rules, search, &some.collect::<Vec<_>>()) {
            let (rounds, deliveries, meetings) =
                checked.map_err(|why| tell(&steps, next, None, why))?;
            found.rounds = found.rounds.max(rounds);
            found.deliveries = found.deliveries.max(deliveries);
            found.meetings = found.meetings.max(meetings);
            for (act, outcomes) in acts {
                for new in outcomes.map_err(|why| tell(&steps, next, Some(act), why))? {
                    found.transitions += 1;
                    let new = Arc::new(new);
                    if seen.insert(Arc::clone(&new)) {
                        steps.push(Step { state: new, before: next, act: Some(act) });
                    }
                }
            }
            next += 1;
        }
    }
    found.states = steps.len();
    Ok(found)
}

/// States that the processors share among them, each time.
const AT_ONCE: usize = 512;

/// What checking a state says, and what each act in it comes to.
type Followed = (Result<Worst, Violation>, Vec<(Act, Result<Vec<State>, Violation>)>);

fn follow(rules: &dyn Rules, search: &Search, state: &State) -> Followed {
    let acts = acts(state, search.prompt).into_iter();
    let acts = acts.map(|act| (act, outcomes(rules, search, state, act)));
    (check(rules, &state.frame, search.late), acts.collect())
}

fn follow_all(rules: &dyn Rules, search: &Search, states: &[Arc<State>]) -> Vec<Followed> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let share = |states: &[Arc<State>]| {
            states.iter().map(|state| follow(rules, search, state)).collect::<Vec<_>>()
        };
        let shares = states.chunks(states.len().div_ceil(processors));
        let shares: Vec<_> = shares.map(|states| scope.spawn(move || share(states))).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap()).collect()
    })
}

/// Both wrote, and both heard it.
fn healthy(rules: &dyn Rules) -> Result<Frame, Violation> {
    let mut devices = Frame::empty().thaw(rules, true, Chance::default());
    for side in [0, 1, 0] {
        devices.write(side)?;
        devices.deliver(0)?;
    }
    Ok(devices.freeze())
}

fn tell(steps: &[Step], mut at: usize, act: Option<Act>, why: Violation) -> String {
    let state = format!("{:#?}", steps[at].state);
    let mut acts: Vec<Act> = act.into_iter().collect();
    while let Some(act) = steps[at].act {
        acts.push(act);
        at = steps[at].before;
    }
    acts.reverse();
    format!("{why}, after {acts:?} (in {state})")
}

/// What can happen next.
fn acts(state: &State, prompt: bool) -> Vec<Act> {
    let State { frame, left, .. } = state;
    let mut acts: Vec<Act> = (0..frame.mails.len()).map(Act::Deliver).collect();
    if left.garble > 0 {
        let whole = frame.mails.iter().enumerate().filter(|(_, mail)| !mail.garbled);
        acts.extend(whole.map(|(index, _)| Act::Garble(index)));
    }
    for side in [0, 1] {
        let mut can = |left: u8, act: Act| {
            if left > 0 {
                acts.push(act);
            }
        };
        can(left.texts, Act::Write(side));
        can(u8::from(!prompt), Act::Bundle(side));
        can(left.noise, Act::Noise(side));
        can(left.lose, Act::Lose(side));
        can(left.expire, Act::Expire(side));
        can(left.age, Act::Age(side));
        can(left.reset, Act::Reset(side));
        can(left.corrupt, Act::Corrupt(side));
        match &frame.copies[side] {
            StoreCopy::None => can(left.restore, Act::Copy(side)),
            StoreCopy::Made(..) => {
                for broken in [None, Some([true, false]), Some([false, true]), Some([true; 2])] {
                    can(left.restore, Act::Restore(side, broken));
                }
            }
            StoreCopy::Restored => {}
        }
    }
    acts
}

/// All outcomes of an act.
fn outcomes(
    rules: &dyn Rules,
    search: &Search,
    state: &State,
    act: Act,
) -> Result<Vec<State>, Violation> {
    let mut outcomes = Vec::new();
    let mut todo = vec![Vec::new()];
    while let Some(picks) = todo.pop() {
        let chance = Chance { picks: picks.clone(), dead: state.left.dead, ..Chance::default() };
        let mut devices = state.frame.thaw(rules, search.prompt, chance);
        let before = [0, 1].map(|side| devices.writing(side).map(|one| devices.place(one)));
        let mut left = state.left;
        if !happen(&mut devices, act, &mut left)? {
            break;
        }
        for side in [0, 1] {
            let is_changed = matches!(act, Act::Lose(at) | Act::Restore(at, _) if at == side);
            let after = devices.writing(side).map(|one| devices.place(one));
            if !is_changed && after.is_some() && after < before[side] {
                return Err("an older session is written in again");
            }
        }
        for at in picks.len()..devices.chance.options.len() {
            for other in 1..devices.chance.options[at] {
                let zeros = vec![0; at - picks.len()];
                todo.push([&picks[..], &zeros, &[other]].concat());
            }
        }
        let (Some(mails), Some(sessions)) =
            (left.mails.checked_sub(devices.made), left.sessions.checked_sub(devices.begun))
        else {
            continue;
        };
        left = Bounds { mails, sessions, dead: devices.chance.dead, ..left };
        let is_clean = match act {
            Act::Write(_) | Act::Deliver(_) | Act::Bundle(_) | Act::Noise(_) | Act::Age(_) => {
                left.dead == state.left.dead
            }
            // One damaged envelope closes nothing either, but for one of before: see client.md, 5.
            Act::Garble(_) => search.bounds.garble == 1 && matches!(state.past, Past::Healthy(_)),
            _ => false,
        };
        let past = match state.past {
            _ if !is_clean => Past::Dirty,
            Past::Healthy(session) => {
                if [devices.writing(0), devices.writing(1)] != [Some(session); 2] {
                    return Err("noise displaced a healthy session");
                }
                Past::Healthy(session)
            }
            Past::Clean => devices.healthy().map_or(Past::Clean, Past::Healthy),
            Past::Dirty => Past::Dirty,
        };
        outcomes.push(State { frame: devices.freeze(), left, past });
    }
    Ok(outcomes)
}

/// False where it cannot happen.
fn happen(devices: &mut Devices<'_>, act: Act, left: &mut Bounds) -> Result<bool, Violation> {
    match act {
        Act::Write(side) => {
            left.texts -= 1;
            devices.write(side)?;
        }
        Act::Deliver(index) => devices.deliver(index)?,
        Act::Bundle(side) if devices.devices[side].wants_bundle => devices.bundle(side)?,
        Act::Bundle(_) => return Ok(false),
        Act::Noise(side) => {
            left.noise -= 1;
            let name = devices.next;
            devices.next += 1;
            devices.unreadable(side, name, false)?;
        }
        Act::Garble(index) => {
            left.garble -= 1;
            devices.mails[index].garbled = true;
        }
        Act::Lose(side) | Act::Copy(side) if !devices.has_sessions(side) => return Ok(false),
        Act::Lose(side) => {
            left.lose -= 1;
            devices.lose(side);
        }
        Act::Copy(side) => devices.copy(side),
        Act::Restore(side, broken) => {
            left.restore -= 1;
            devices.restore(side, broken);
        }
        Act::Expire(side) => {
            left.expire -= 1;
            return Ok(devices.expire(side));
        }
        Act::Age(side) => {
            left.age -= 1;
            return Ok(devices.age(side));
        }
        Act::Reset(side) | Act::Corrupt(side) if devices.writing(side).is_none() => {
            return Ok(false);
        }
        Act::Reset(side) => {
            left.reset -= 1;
            devices.reset(side);
        }
        Act::Corrupt(side) => {
            left.corrupt -= 1;
            devices.corrupt(side);
        }
    }
    Ok(true)
}

/// The most rounds, deliveries and meetings.
type Worst = (usize, usize, usize);

/// From a state on: a text is reached; calm with all that is on the way withheld; that let loose in
/// two orders; calm again; and meetings. Returns what that takes.
fn check(rules: &dyn Rules, frame: &Frame, late: usize) -> Result<Worst, Violation> {
    let mut worst = (0, 0, 0);
    for first in [0, 1] {
        for always in [[1, 0], [0, 0], [0, 1]] {
            let chance = Chance { always: Some(always), ..Chance::default() };
            let start = || -> Result<Devices<'_>, Violation> {
                let mut devices = frame.thaw(rules, true, chance.clone());
                devices.bundles()?;
                Ok(devices)
            };
            let mut reached = start()?;
            let mut begun = reached.begun;
            worst.1 = worst.1.max(reach(&mut reached, first)?);
            begun += reached.begun;
            let mut calmed = start()?;
            let held = calmed.next;
            worst.0 = worst.0.max(calm(&mut calmed, first)?);
            begun += calmed.begun;
            if calmed.mails.iter().any(|mail| mail.name < held) {
                for newest_first in [false, true] {
                    let mut late = calmed.again(rules);
                    loosen(&mut late, held, newest_first)?;
                    calm(&mut late, first)?;
                    begun += late.begun;
                }
            }
            let mut met = start()?;
            worst.2 = worst.2.max(meet(&mut met, first)?);
            begun += met.begun;
            if late > 0 {
                let mut met = start()?;
                meet_late(&mut met, first, late)?;
                begun += met.begun;
            }
            // The choices made no difference.
            if begun == 0 {
                break;
            }
        }
    }
    Ok(worst)
}

/// Delivers what was made since, the oldest first, until all is quiet. Returns how many deliveries.
fn settle(devices: &mut Devices<'_>, since: Name) -> Result<usize, Violation> {
    for count in 0..60 {
        let Some(index) = devices.mails.iter().position(|mail| mail.name >= since) else {
            return Ok(count);
        };
        devices.deliver(index)?;
    }
    Err("no end of asking")
}

/// Deliveries until a text is there.
fn reach(devices: &mut Devices<'_>, from: Side) -> Result<usize, Violation> {
    let since = devices.next;
    devices.write(from)?;
    let text = devices.last_text;
    for count in 1..=MOST_DELIVERIES {
        let Some(index) = devices.mails.iter().position(|mail| mail.name >= since) else {
            return Err("a text is lost, and nobody asks for it");
        };
        devices.deliver(index)?;
        if devices.opened.iter().any(|opened| Some(*opened) == text) {
            return Ok(count);
        }
    }
    Err("a text is not there in time")
}

/// Texts each way, delivered at once. Both come to one session, and texts are opened at first
/// sight. Returns how many rounds it takes.
fn calm(devices: &mut Devices<'_>, first: Side) -> Result<usize, Violation> {
    for round in 1..=MOST_ROUNDS {
        let mut is_clean = true;
        for side in [first, 1 - first] {
            let (since, before) = (devices.next, devices.opened.len());
            devices.write(side)?;
            let text = devices.last_text;
            is_clean &= settle(devices, since)? == 1;
            if !devices.opened[before..].iter().any(|opened| Some(*opened) == text) {
                return Err("a text of the calm is lost");
            }
        }
        if is_clean && devices.writing(0).is_some() && devices.writing(0) == devices.writing(1) {
            return Ok(round);
        }
    }
    Err("they do not come to one session")
}

/// Texts of both are under way, and they meet every ten minutes: each takes in what is there for
/// it, one after the other. Returns how many meetings it takes until nothing is under way.
fn meet(devices: &mut Devices<'_>, first: Side) -> Result<usize, Violation> {
    let mut texts = Vec::new();
    for side in [0, 1] {
        for _ in 0..UNDER_WAY {
            devices.write(side)?;
            texts.extend(devices.last_text);
        }
    }
    for meeting in 1..=MOST_MEETINGS {
        devices.wait();
        for side in [first, 1 - first] {
            take_in(devices, side, Name::MAX)?;
        }
        if devices.mails.is_empty() {
            return match texts.iter().all(|text| devices.opened.contains(text)) {
                true => Ok(meeting),
                false => Err("a text is lost though they meet"),
            };
        }
    }
    Err("they ask whenever they meet")
}

/// They meet every ten minutes, and both write at each of some meetings; but what was sent takes
/// `late` meetings. So requests and answers of several meetings are under way at once.
fn meet_late(devices: &mut Devices<'_>, first: Side, late: usize) -> Result<(), Violation> {
    let (mut texts, mut starts) = (Vec::new(), Vec::new());
    for meeting in 1..=MOST_LATE_MEETINGS {
        devices.wait();
        starts.push(devices.next);
        let before = meeting.checked_sub(late + 1).map_or(0, |at| starts[at]);
        for side in [first, 1 - first] {
            if meeting <= WRITTEN {
                devices.write(side)?;
                texts.extend(devices.last_text);
            }
            take_in(devices, side, before)?;
        }
        if devices.mails.is_empty() && meeting > WRITTEN {
            return match texts.iter().all(|text| devices.opened.contains(text)) {
                true => Ok(()),
                false => Err("a text is lost though they meet"),
            };
        }
    }
    Err("they ask for ever where mail is late")
}

/// A device takes in what waits for it and is older than the envelope of that name.
fn take_in(devices: &mut Devices<'_>, side: Side, before: Name) -> Result<(), Violation> {
    let is_for = |mail: &Mail| mail.from != side && mail.name < before;
    for _ in 0..devices.mails.iter().filter(|mail| is_for(mail)).count() {
        if let Some(index) = devices.mails.iter().position(is_for) {
            devices.deliver(index)?;
        }
    }
    Ok(())
}

/// What was withheld comes after all. No older session is written in again, and what it holds of
/// texts is read or asked for.
fn loosen(devices: &mut Devices<'_>, held: Name, newest_first: bool) -> Result<(), Violation> {
    let before = [0, 1].map(|side| devices.writing(side).map(|one| devices.place(one)));
    let is_text = |kind: Kind| kind != Kind::Request;
    let texts: Vec<Name> = devices
        .mails
        .iter()
        .filter(|mail| mail.name < held && is_text(mail.kind))
        .map(|mail| mail.name)
        .collect();
    let rows = devices.rows.iter().filter(|row| row.maker.is_some() && texts.contains(&row.name));
    let texts: Vec<Name> = rows.map(|row| row.text).collect();
    loop {
        let mut late = devices.mails.iter().enumerate().filter(|(_, mail)| mail.name < held);
        let index = if newest_first { late.next_back() } else { late.next() };
        let Some(index) = index.map(|(index, _)| index) else { break };
        let since = devices.next;
        devices.deliver(index)?;
        settle(devices, since)?;
    }
    for side in [0, 1] {
        let after = devices.writing(side).map(|one| devices.place(one));
        if after.is_some() && after < before[side] {
            return Err("mail that was held back brought an older session back");
        }
    }
    if texts.iter().any(|text| !devices.opened.contains(text)) {
        return Err("a text that was held back is lost");
    }
    Ok(())
}
