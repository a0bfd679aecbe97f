//! What goes on for a device once there is a session with it: requests, signals, answers, drafts.

use rand_core::CryptoRng;

use super::asking;
use super::calls;
use super::group_owed;
use super::group_proposals;
use super::heal::{self, Left};
use super::moves;
use super::outbox;
use super::send;
use super::transaction::Open;
use super::wants::{self, Want};
use crate::address::Address;
use crate::error::Error;
use crate::time::UnixTime;

/// Goes on for a device, as far as one transaction should.
pub(super) fn go_on(
    open: &mut Open<'_>,
    of: &Address,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(&of.user)?;
    let work = Want::Work(of.clone());
    let user = open.user(tag)?.filter(|user| !user.waits());
    let Some((user, listed)) =
        user.and_then(|user| user.list.get(of.device).copied().map(|listed| (user, listed)))
    else {
        return wants::have(open, &work);
    };
    if asking::any(open, tag, of.device)? {
        heal::ask(open, tag, &user, &listed, false, now, rng)?;
    }
    let place = open.place(tag, &listed.identity);
    group_owed::go_on(open, place)?;
    let answers = !asking::queued(open, place)?.is_empty();
    let drafts = send::any_for(open, &user.name, &listed.identity)?;
    let signals = calls::any_for(open, tag, of.device)?;
    let moves = moves::any_for(open, tag, &listed.identity)?;
    let proposals = group_proposals::any_for(open, of)?;
    let (mut left, mut has_texts) = (Left::Nothing, false);
    if signals || answers || drafts || moves || proposals {
        match outbox::target(open, tag, &user, &listed, now)? {
            Some(mut target) => {
                if signals {
                    calls::go_on(open, &mut target, now, rng)?;
                }
                if moves {
                    moves::go_on(open, &mut target, now, rng)?;
                }
                if proposals {
                    group_proposals::go_on(open, &mut target, now, rng)?;
                }
                if answers {
                    left = heal::answer(open, &mut target, now, rng)?;
                }
                // The answers may have changed which session is written in.
                if let Some(mut target) = outbox::target(open, tag, &user, &listed, now)? {
                    has_texts = send::go_on(open, &mut target, now, rng)?;
                }
            }
            None => wants::want(open, Want::Bundle(of.clone()), now)?,
        }
    }
    match left {
        Left::More => Ok(()),
        _ if has_texts => Ok(()),
        // What cannot be gone on with stands in front of nobody.
        Left::Waiting => wants::failed(open, &work, now).map(drop),
        Left::Nothing => wants::have(open, &work),
    }
}
