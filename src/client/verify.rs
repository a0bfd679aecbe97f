//! Safety numbers, codes that are scanned, and what a log says (docs/verification.md, 2, 3 and 6).

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::ceremonies::{self, AnswerRow, CodeRow, Waiting};
use super::events::Event;
use super::inbox;
use super::moves::{self, Both};
use super::transaction::{Open, Place};
use super::trust;
use super::{Client, Scope};
use crate::content::Move;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::safety_number::SafetyNumber;
use crate::scan::{self, Code, Scanned};
use crate::sesame::{Mark, Pending};
use crate::time::UnixTime;

/// Whether what a log says of a user's account key is what this device knows:
/// [`Client::audit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Audit {
    /// It is the key that is taken for the user's.
    Known,
    /// It is the key that waits for a person to accept it.
    Waiting,
    /// It is neither: this device has not heard of a change yet, or somebody shows different people
    /// different keys. Fetch the user's device list; if it stays so, say so to the person.
    Differs,
}

impl<S: Scope> Client<S> {
    /// The 60 digits that this user and another one compare, the same on every device of both. When
    /// people find them to be the same, [`Client::verify`] takes
    /// [`SafetyNumber::account`](crate::SafetyNumber::account).
    ///
    /// ```
    /// # use subrosa::{Client, Error, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    /// # let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
    /// # let list = bob.devices("bob")?.expect("he has one").encode();
    /// # alice.update_devices("bob", &list, now, rng)?;
    /// # let list = alice.devices("alice")?.expect("she has one").encode();
    /// # bob.update_devices("alice", &list, now, rng)?;
    /// let number = alice.safety_number("bob")?;
    /// assert_eq!(number.to_string(), bob.safety_number("alice")?.to_string());
    /// // Both say that it is the same:
    /// alice.verify("bob", &number.account(), now, rng)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::IdentityChanged`]: a changed key of one of the two waits, and people decide about
    /// that first. [`Error::OwnIdentity`], [`Error::DevicesNeeded`], [`Error::Unlinked`],
    /// [`Error::BadName`], [`Error::Store`].
    pub fn safety_number(&mut self, user: &str) -> Result<SafetyNumber, Error> {
        self.run(|open| {
            let both = Both::of(open, user)?;
            Ok(SafetyNumber::new(both.own(), both.other()))
        })
    }

    /// The letters of a code for a user to scan from this screen: show them as a QR code. It can be
    /// scanned once, within ten minutes, until [`Client::hide_code`]; a new one takes the place of
    /// the former. Draws 16 bytes.
    ///
    /// [`Event::CodeScanned`] says that it was scanned.
    ///
    /// # Errors
    /// As [`Client::safety_number`].
    pub fn show_code(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Zeroizing<String>, Error> {
        self.run(|open| {
            open.whole(|open| {
                let both = Both::of(open, user)?;
                let (keys, secret) = (both.keys(now), Secret::random(rng));
                let code = Code::new(both.own(), both.other(), secret.clone());
                ceremonies::put_code(open, both.tag, &CodeRow { keys, secret, is_scanned: false })?;
                ceremonies::set_timer(open, both.tag, now)?;
                Ok(code.text())
            })
        })
    }

    /// The code is not shown any more: what was not scanned and confirmed yet does not count.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn hide_code(&mut self, user: &str) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.tag(user)?;
                ceremonies::remove_code(open, tag)
            })
        })
    }

    /// What was scanned from the screen of this user. Where it is a [`Scanned::Match`], the user is
    /// verified here, and the other phone is told, so that one scan verifies both.
    ///
    /// Show the result so that it is seen from the other side of the table: the other person
    /// confirms what they see.
    ///
    /// ```
    /// # use subrosa::{Client, Error, Scanned, SystemRng, Trust, UnixTime, store::Memory};
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    /// # let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
    /// # let list = bob.devices("bob")?.expect("he has one").encode();
    /// # alice.update_devices("bob", &list, now, rng)?;
    /// # let list = alice.devices("alice")?.expect("she has one").encode();
    /// # bob.update_devices("alice", &list, now, rng)?;
    /// let shown = alice.show_code("bob", now, rng)?;
    /// assert_eq!(bob.scan("alice", &shown, now, rng)?, Scanned::Match);
    /// assert_eq!(bob.trust("alice")?.map(|user| user.trust), Some(Trust::Verified));
    /// // Alice's device reads `Event::CodeScanned`. She sees what Bob's phone shows, and says so
    /// // by `confirm_scan`.
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadScan`]: it is no such code. Others as [`Client::safety_number`].
    pub fn scan(
        &mut self,
        user: &str,
        text: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Scanned, Error> {
        self.run(|open| open.whole(|open| scan(open, user, text, now, rng)))
    }

    /// The person sees that the other phone shows success, after [`Event::CodeScanned`]: the user
    /// is verified. Without that look, somebody with a picture of this screen could pose as the
    /// other one.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`]: the code was not scanned, or too long ago, or keys changed since.
    /// Others as [`Client::safety_number`].
    pub fn confirm_scan(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let both = Both::of(open, user)?;
                let row = ceremonies::code(open, both.tag)?;
                if !row.is_some_and(|row| row.is_scanned && both.is_current(&row.keys, now)) {
                    return Err(Error::OutOfTurn);
                }
                ceremonies::remove_code(open, both.tag)?;
                trust::mark(open, both.user, Mark::Verified, now, rng)
            })
        })
    }

    /// Whether what a log of account keys says of a user is what this device knows. The log is the
    /// app's: a key transparency log, a directory of the users' company. Ask it of the own user
    /// too: a key there that is not known here was made by somebody else.
    ///
    /// # Errors
    /// [`Error::DevicesNeeded`], [`Error::BadName`], [`Error::Store`]
    pub fn audit(&mut self, user: &str, account: &IdentityKey) -> Result<Audit, Error> {
        self.run(|open| {
            let (_, known) = open.known_user(user)?;
            let waits = known.pending.as_deref().map(|Pending(list)| list.account());
            Ok(match account {
                _ if known.list.account() == *account => Audit::Known,
                _ if waits == Some(*account) => Audit::Waiting,
                _ => Audit::Differs,
            })
        })
    }
}

fn scan(
    open: &mut Open<'_>,
    user: &str,
    text: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Scanned, Error> {
    let both = Both::of(open, user)?;
    let Some(code) = Code::read(text)? else { return Ok(Scanned::OtherVersion) };
    let judged = code.judge(both.other(), both.own());
    if judged != Scanned::Match {
        return Ok(judged);
    }
    let answer = scan::answer(&code.secret, both.other(), both.own());
    let answer = mark::public(*answer.expose());
    let mut waiting = Vec::new();
    for identity in both.devices() {
        let scanned = Move::Scanned { answer: &answer };
        if !moves::post(open, &both, &identity, scanned, now, rng)? {
            waiting.push(Waiting(identity));
        }
    }
    ceremonies::put_answer(open, both.tag, &AnswerRow { keys: both.keys(now), answer, waiting })?;
    ceremonies::set_timer(open, both.tag, now)?;
    trust::mark(open, both.user, Mark::Verified, now, rng)?;
    Ok(judged)
}

/// Another device says that it scanned the code that is shown here.
pub(super) fn take_scanned(
    open: &mut Open<'_>,
    from: Place,
    answer: &[u8; 32],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(mut row) = ceremonies::code(open, from.tag)? else { return Ok(()) };
    let Some(both) = Both::known(open, from.tag)? else { return Ok(()) };
    let expected = scan::answer(&row.secret, both.own(), both.other());
    let is_right = expected == Secret::new(*answer);
    if row.is_scanned || !is_right || !both.is_current(&row.keys, now) {
        return Ok(());
    }
    row.is_scanned = true;
    // The person has ten minutes from now on.
    row.keys.since = now;
    ceremonies::put_code(open, both.tag, &row)?;
    ceremonies::set_timer(open, both.tag, now)?;
    inbox::tell(open, Event::CodeScanned { user: both.user.name }, now, rng)
}
