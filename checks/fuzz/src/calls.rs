//! Frames and signals of a call.

use std::collections::BTreeSet;

use subrosa::call::{Call, Opener, Sealer, Suite};
use subrosa::{Address, CallId, Error, Received};

use crate::door::{DOOR, content};
use crate::household::{BEGIN, copy, open};
use crate::input::{Input, changed};
use crate::network::{NOW, Seeded};

/// Each genuine frame opens once, unless it is too late; nothing else does, and what is refused is
/// as it was.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let suite = if input.small().is_multiple_of(2) { Suite::Aes128Gcm } else { Suite::Aes256Gcm };
    let kid = u64::try_from(input.number()).expect("two bytes");
    let (mut sealer, mut opener) =
        (Sealer::new(suite, kid, &[7; 32]), Opener::new(suite, kid, &[7; 32]));
    let (mut sent, mut opened) = (Vec::new(), BTreeSet::new());
    for _ in 0..4_096 {
        let Some(choice) = input.byte() else { break };
        let clear = usize::from(choice / 4) % 18;
        match choice % 4 {
            0 => {
                for _ in 0..=input.small() {
                    let mut frame = input.run().to_vec();
                    let (text, before) = (frame.clone(), sealer.count());
                    match sealer.seal(clear, &mut frame) {
                        Ok(()) => sent.push((clear, text, frame)),
                        Err(error) => {
                            assert!(error == Error::TooLong && (clear > 16 || clear > text.len()));
                            assert_eq!((&frame, sealer.count()), (&text, before));
                        }
                    }
                }
            }
            1 if !sent.is_empty() => {
                let at = input.below(sent.len());
                let (clear, text, frame) = &sent[at];
                let mut frame = frame.clone();
                let newest: usize = opened.last().copied().unwrap_or(0);
                let may_open = at + 1_024 > newest && !opened.contains(&at);
                match opener.open(*clear, &mut frame) {
                    Ok(()) => assert!(may_open && opened.insert(at) && frame == *text),
                    Err(error) => assert!(!may_open && error == Error::Duplicate, "{error}"),
                }
            }
            2 if !sent.is_empty() => {
                let (_, _, genuine) = &sent[input.below(sent.len())];
                refuse(&mut opener, clear, changed(genuine, &mut input), |frame| {
                    sent.iter().any(|(of, _, genuine)| *of == clear && genuine == frame)
                });
            }
            _ => refuse(&mut opener, clear, input.run().to_vec(), |_| false),
        }
    }
}

fn refuse(
    opener: &mut Opener,
    clear: usize,
    mut frame: Vec<u8>,
    is_genuine: impl Fn(&[u8]) -> bool,
) {
    let before = frame.clone();
    if !is_genuine(&frame) {
        assert!(opener.open(clear, &mut frame).is_err());
        assert_eq!(frame, before);
    }
}

/// A known device and an own one went bad: nobody but them gets into the call by what they say,
/// and what it answers is little.
pub fn signal(data: &[u8]) {
    DOOR.with(|door| {
        let rng = &mut Seeded::new(2, "signal");
        drop(copy(&door.post));
        let mut phone = open(door.phone.clone());
        let mut liars = door.liars();
        let (mut millis, mut reference) = (NOW * 1_000, [2_u8; 16]);
        let id = CallId::new([1; 16]);
        let mut call = Call::new(id, phone.address(), Suite::default(), millis, rng);
        let members = phone.call_members(&["alice"]).expect("she is known");
        call.set_members(&members, millis, rng);
        assert!(call.tick(millis, rng).len() <= 1);
        let mut input = Input::new(data);
        for _ in 0..64 {
            let Some(choice) = input.byte() else { break };
            if choice == 255 {
                millis += u64::try_from(input.number()).expect("two bytes");
                let _ = call.tick(millis, rng);
                continue;
            }
            // The type, whether it is of this call, an instance, and the rest as it comes.
            let mut run = Input::new(input.run());
            let kind = run.byte().unwrap_or(0);
            let of = if run.small().is_multiple_of(8) { [2; 16] } else { [1; 16] };
            let instance = u64::try_from(run.number()).expect("two bytes").to_be_bytes();
            let expires = (NOW + 60).to_be_bytes();
            let body = [&[kind][..], &of, &expires, &instance, run.rest()].concat();
            let who = usize::from(choice / 2) % 2;
            reference[15] = reference[15].wrapping_add(1);
            let text = content(24, door.bad[who].list(), &[], &body);
            let envelope = liars[who].envelope(reference, &text, rng);
            let from = liars[who].address().clone();
            let received =
                phone.receive(Some(&from), &envelope, BEGIN, rng).expect("the store is sound");
            let signals = phone.take_signals(10, BEGIN).expect("the store is sound");
            assert_eq!(signals.len(), usize::from(received == Received::Signal));
            for signal in signals {
                let _ = call.take(&signal, millis);
            }
            let outgoing = call.tick(millis, rng);
            assert!(outgoing.len() <= 4, "{outgoing:?}");
            let bad: BTreeSet<Address> = liars.iter().map(|liar| liar.address().clone()).collect();
            assert!(call.present().all(|present| bad.contains(present)));
            let mut frame = input.run().to_vec();
            let before = frame.clone();
            assert!(call.open(&from, 0, &mut frame, millis).is_err() || before.len() > 17);
        }
    });
}
