//! What Rust programmers may expect of the types at the bottom: threads, conversions, text.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use subrosa::protocol::{
    Bundle, IdentityKeyPair, Message, MessageKind, Prekeys, PublishedPrekeys, Session, SessionId,
    VerifiedBundle,
};
use subrosa::{Error, IdentityKey, SystemRng};

const NOW: u64 = 1_800_000_000;

#[test]
fn every_type_goes_to_another_thread() {
    const fn send_and_sync<T: Send + Sync + 'static>() {}
    send_and_sync::<IdentityKey>();
    send_and_sync::<IdentityKeyPair>();
    send_and_sync::<Prekeys>();
    send_and_sync::<PublishedPrekeys>();
    send_and_sync::<Bundle>();
    send_and_sync::<VerifiedBundle>();
    send_and_sync::<Session>();
    send_and_sync::<SessionId>();
    send_and_sync::<Message<'static>>();
    send_and_sync::<MessageKind>();
    send_and_sync::<Error>();
    #[cfg(feature = "calls")]
    {
        send_and_sync::<subrosa::call::Call>();
        send_and_sync::<subrosa::call::Sealer>();
        send_and_sync::<subrosa::call::Opener>();
        send_and_sync::<subrosa::call::ExportedKey>();
        send_and_sync::<subrosa::call::Openers>();
    }
    send_and_sync::<subrosa::ReceivedSignal>();
    send_and_sync::<subrosa::Members>();
}

#[test]
fn an_identity_key_is_read_from_the_text_that_it_shows() {
    let key = IdentityKeyPair::generate(&mut SystemRng).public_key();
    let text = key.to_string();
    assert_eq!(text.len(), 64);
    assert_eq!(text.parse(), Ok(key));
    assert_eq!(text.to_uppercase().parse(), Ok(key));
    for malformed in [&text[..62], &text[..63], &format!("{text}00"), &format!(" {text}"), "", "x"]
    {
        assert_eq!(malformed.parse::<IdentityKey>(), Err(Error::Malformed), "{malformed}");
    }
    assert_eq!("00".repeat(32).parse::<IdentityKey>(), Err(Error::InvalidKey));
}

#[test]
fn what_has_bytes_is_made_from_them() {
    let rng = &mut SystemRng;
    let [alice, bob] = [IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng)];
    assert_eq!(IdentityKey::try_from(alice.public_key().as_ref()), Ok(alice.public_key()));
    assert_eq!(IdentityKey::try_from(&[0; 31][..]), Err(Error::Malformed));

    let mut published = Prekeys::generate(1, NOW, rng).unwrap().publish(&bob);
    assert_eq!(PublishedPrekeys::try_from(&published.encode()[..]).as_ref(), Ok(&published));
    assert_eq!(PublishedPrekeys::try_from(&[][..]), Err(Error::Malformed));
    let bundle = published.pop_bundle().unwrap();
    assert_eq!(Bundle::try_from(&bundle.encode()[..]).as_ref(), Ok(&bundle));
    assert_eq!(Bundle::try_from(&[2][..]), Err(Error::UnsupportedVersion));

    let bundle = bundle.verify(&alice.public_key(), NOW).unwrap();
    let mut session = Session::initiate(&alice, &bundle, rng).unwrap();
    let message = session.encrypt(b"text", b"", rng).unwrap();
    assert_eq!(Message::try_from(message.as_ref()).as_ref(), Ok(&message));
    assert_eq!(message.as_ref(), message.as_bytes());
    assert_eq!(session.id().as_ref(), session.id().as_bytes());
}
