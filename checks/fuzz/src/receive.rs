//! Envelopes at a client's door: noise, genuine ones that were changed on the way, and anything at
//! all inside of messages that are genuine.

use subrosa::store::Memory;
use subrosa::{Address, Error, Received};

use crate::door::{DOOR, is_sound};
use crate::household::{BEGIN, contents, copy, open, texts};
use crate::input::{Input, changed};
use crate::network::Seeded;

/// A client takes any envelope: it answers `Ok`, stays sound, and still opens what friends write.
pub fn receive(data: &[u8]) {
    DOOR.with(|door| {
        let (rng, post) = (&mut Seeded::new(2, "receive"), &mut copy(&door.post));
        let mut input = Input::new(data);
        let mut phone = open(door.phone.clone());
        let (mut now, mut liars) = (BEGIN, door.liars());
        let (mut lied, mut reference) = ([false; 3], [2_u8; 16]);
        for _ in 0..40 {
            let Some(choice) = input.byte() else { break };
            let which = usize::from(choice / 8);
            let (from, bytes) = match choice % 8 {
                0 => (liars[which % 3].address().clone(), input.run().to_vec()),
                1 => {
                    let (from, bytes) = &door.mail[which % door.mail.len()];
                    (from.clone(), changed(bytes, &mut input))
                }
                2 => {
                    now = now.after(input.number() as u64);
                    continue;
                }
                choice => {
                    // An envelope has a name of its own, or once in a while that of the last one.
                    reference[15] = reference[15].wrapping_add(u8::from(choice != 3));
                    lied[which % 3] = true;
                    let liar = &mut liars[which % 3];
                    (liar.address().clone(), liar.envelope(reference, input.run(), rng))
                }
            };
            // A sealed envelope comes without the address of its sender, as a rule.
            let named = (choice < 128).then_some(&from);
            let received = phone.receive(named, &bytes, now, rng);
            assert!(received.is_ok(), "{received:?}");
        }
        let mut phone = is_sound(phone, post, now, rng);
        for (from, bytes) in &door.mail {
            let received = phone.receive(Some(from), bytes, now, rng).expect("the store is sound");
            // A liar speaks for its user. A forged handshake may have been looked at before this
            // one.
            let is_lied_for =
                liars.iter().zip(lied).any(|(liar, lied)| lied && liar.address() == from);
            let is_opened = matches!(received, Received::Incoming(_));
            let is_late =
                matches!(received, Received::SetAside | Received::Refused(Error::RateLimited));
            assert!(is_opened || is_lied_for || is_late, "{from}: {received:?}");
        }
        is_sound(phone, post, now, rng);
    });
}

/// Anything at all inside of one genuine message, by a known, an own and an unknown device: the
/// store stays as small as it was, and a friend and this client read each other afterwards.
pub fn content(data: &[u8]) {
    DOOR.with(|door| {
        let (rng, post) = (&mut Seeded::new(2, "content"), &mut copy(&door.post));
        for mut liar in door.liars() {
            let mut phone = open(door.phone.clone());
            let before = size(&mut door.phone.clone());
            let envelope = liar.envelope([2; 16], data, rng);
            for _ in 0..2 {
                let received = phone.receive(Some(liar.address()), &envelope, BEGIN, rng);
                assert!(received.is_ok(), "{received:?}");
            }
            texts(&mut phone);
            let mut store = phone.into_store();
            let after = size(&mut store);
            let (rows, bytes) = (after.0 - before.0.min(after.0), after.1 - before.1.min(after.1));
            assert!(
                rows <= MOST_ROWS && bytes <= 2 * data.len() + MOST_BYTES,
                "{rows} rows, {bytes} bytes"
            );
            talk(store, door.erin.clone(), &mut copy(post), rng);
        }
    });
}

/// What one message adds to a store at most, beside what is in it: rows (a user may have 32 devices
/// more, of which each has sessions to be begun with), and bytes.
const MOST_ROWS: usize = 128;
const MOST_BYTES: usize = 1 << 15;

fn size(store: &mut Memory) -> (usize, usize) {
    let rows = contents(store);
    (rows.len(), rows.iter().map(|(_, key, value)| key.len() + value.len()).sum())
}

/// Erin and the phone write to each other, and read it; unless the phone is no device any more.
fn talk(phone: Memory, erin: Memory, post: &mut crate::post::Post, rng: &mut Seeded) {
    let (mut phone, mut erin) = (is_sound(open(phone), post, BEGIN, rng), open(erin));
    erin.write("bob", b"how are you?", BEGIN, rng).expect("it is short");
    post.settle(&mut erin, BEGIN, rng);
    post.fetch(&mut phone, BEGIN, rng);
    let read = texts(&mut phone);
    assert!(read.iter().any(|text| text.text[..] == b"how are you?"[..]), "the phone reads");
    match phone.write("erin", b"fine", BEGIN, rng) {
        Err(Error::Unlinked) => return,
        written => drop(written.expect("it is short")),
    }
    post.settle(&mut phone, BEGIN, rng);
    post.fetch(&mut erin, BEGIN, rng);
    let read = texts(&mut erin);
    assert!(read.iter().any(|text| text.text[..] == b"fine"[..]), "erin reads");
}

/// For the rows: the phone with something of everything.
pub(crate) fn phone_in_use() -> (Memory, Vec<(Address, Vec<u8>)>) {
    DOOR.with(|door| {
        let (rng, post) = (&mut Seeded::new(3, "in use"), &mut copy(&door.post));
        let mut phone = open(door.phone.clone());
        post.settle(&mut phone, BEGIN, rng);
        let (from, bytes) = &door.mail[0];
        let received = phone.receive(Some(from), bytes, BEGIN, rng);
        assert!(matches!(received, Ok(Received::Incoming(_))), "{received:?}");
        for (from, bytes) in &door.mail[1..] {
            let mut forged = bytes.clone();
            if let Some(last) = forged.last_mut() {
                *last ^= 1;
            }
            phone.receive(Some(from), &forged, BEGIN, rng).map(drop).expect("the store is sound");
        }
        phone.write("alice", b"on its way", BEGIN, rng).expect("it is short");
        phone.write("nobody yet", b"it waits", BEGIN, rng).expect("it is short");
        let put = phone.transact(|client| client.rows().put(b"draft", b"the app's own"));
        put.map_err(|error: Error| error).expect("memory does not fail");
        let mut store = phone.into_store();
        assert!(contents(&mut store).len() > 30);
        (store, door.mail[1..].to_vec())
    })
}
