//! Calls: frames under keys, and two devices that give each other theirs.

use subrosa::call::{Call, Opener, Outgoing, Sealer, Stream, Suite};
use subrosa::store::{Lock, Memory, Vault};
use subrosa::{CallId, Client, Error, UnixTime, Zeroizing};

use crate::post::Post;
use crate::{Drawn, NOW};

/// Frames of both suites: genuine, again, and changed.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn frames(count: usize, rng: &mut Drawn) -> Result<(), Error> {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm] {
        let base_key = Zeroizing::new(rng.text(32));
        let (mut sealer, mut opener) =
            (Sealer::new(suite, 9, &base_key), Opener::new(suite, 9, &base_key));
        for length in 1..=count {
            let text = Zeroizing::new(rng.text(length));
            let mut frame = Vec::with_capacity(length + 64);
            frame.extend_from_slice(&text);
            sealer.seal(0, &mut frame)?;
            // What goes over the wire is public.
            subrosa_marks::sent(&mut frame);
            let mut forged = frame.clone();
            forged[length] ^= 1;
            assert!(opener.open(0, &mut forged).is_err());
            let again = frame.clone();
            let mut opened = Zeroizing::new(frame);
            opener.open(0, &mut opened)?;
            assert_eq!(opened.len(), text.len());
            assert_eq!(opener.open(0, &mut again.clone()), Err(Error::Duplicate));
        }
    }
    Ok(())
}

/// Two people in a call, whose stores are vaults: they join, hear each other, and leave.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell(rng: &mut Drawn) -> Result<(), Error> {
    let mut now = UnixTime::from_secs(NOW)?;
    let post = &mut Post::default();
    let mut clients = Vec::new();
    for user in ["alice", "bob"] {
        let vault = Vault::open(Memory::new(), Lock::Key(&[7; 32]), rng)?;
        clients.push(Client::create(vault, user, now, rng)?);
    }
    for client in &mut clients {
        post.settle(client, now, rng);
    }
    clients[0].write("bob", b"shall I call?", now, rng)?;
    clients[1].write("alice", b"do", now, rng)?;
    let mut calls = Vec::new();
    for turn in 0..12 {
        for (at, client) in clients.iter_mut().enumerate() {
            let millis = now.as_secs() * 1_000;
            post.settle(client, now, rng);
            post.fetch(client, now, rng);
            if turn == 2 {
                let mut call = Call::new(
                    CallId::new([1; 16]),
                    client.address(),
                    Suite::default(),
                    millis,
                    rng,
                );
                call.set_members(&client.call_members(&["alice", "bob"])?, millis, rng);
                calls.push(call);
            }
            if turn < 3 {
                continue;
            }
            for signal in client.take_signals(100, now)? {
                calls[at].take(&signal, millis)?;
            }
            for Outgoing { to, signal, .. } in calls[at].tick(millis, rng) {
                client.signal(&to, &signal, now, rng)?;
            }
        }
        now = now.after(1);
    }
    let millis = now.as_secs() * 1_000;
    let mut frame = b"a picture".to_vec();
    calls[0].seal(Stream::Video, 0, &mut frame, millis)?;
    calls[1].open(clients[0].address(), 0, &mut frame, millis)?;
    drop(calls[0].export(clients[1].address()));
    drop(calls.pop().map(Call::leave));
    Ok(())
}
