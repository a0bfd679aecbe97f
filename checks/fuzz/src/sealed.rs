//! Sealed mail at a client's door: noise, genuine envelopes that were changed or whose tickets were
//! exchanged, and what somebody writes who says that they are somebody else.

use std::collections::BTreeSet;

use subrosa::directory::Doors;
use subrosa::protocol::{IdentityKeyPair, Session};
use subrosa::store::Memory;
use subrosa::{Address, Client, Delivery, DeviceList, Policy, ServerKey, Trust, UnixTime};

use crate::door::{DEVICES, RANK, content};
use crate::household::{BEGIN, address, texts};
use crate::input::{Input, changed};
use crate::network::{NOW, Seeded};
use crate::post::Post;

/// Bob, whose friends and strangers write sealed, and what is on the way to him.
struct Sealed {
    policy: Policy,
    bob: Memory,
    post: Post,
    /// Regular ones and first ones.
    mail: Vec<Vec<u8>>,
    /// What is in them.
    said: BTreeSet<(String, Vec<u8>)>,
    /// Of Alice, as it travels.
    certificate: Vec<u8>,
    mallory: Mallory,
}

/// Somebody with a session of her own making, as it is stored, and a list of her own.
struct Mallory {
    session: Vec<u8>,
    list: DeviceList,
}

thread_local! {
    static SEALED: Sealed = Sealed::new();
}

/// Friends, strangers, the receiver, and nobody.
const CLAIMS: [(&str, u32); 6] =
    [("alice", 1), ("alice", 2), ("carol", 1), ("bob", 1), ("bob", 2), ("dave", 1)];

impl Sealed {
    fn new() -> Self {
        let rng = &mut Seeded::new(1, "sealed");
        let issuer = IdentityKeyPair::generate(rng);
        let mut policy = Policy::default();
        (policy.prekeys_low, policy.prekeys_target) = (2, 4);
        policy.delivery = Delivery::Sealed;
        policy.trusted_servers = vec![ServerKey { id: 1, key: issuer.public_key() }];
        let mut post = Post { issuer: Some(issuer), ..Post::default() };
        let create = |user: &str, post: &mut Post, rng: &mut Seeded| {
            let client = Client::create(Memory::new(), user, BEGIN, rng);
            let mut client = client.expect("the store is empty").with_policy(policy.clone());
            post.settle(&mut client, BEGIN, rng);
            client
        };
        let [mut alice, mut bob, mut carol] =
            ["alice", "bob", "carol"].map(|user| create(user, &mut post, rng));
        let mut said = BTreeSet::new();
        let mut write = |from: &mut Client<Memory>, to: &str, text: &[u8], rng: &mut Seeded| {
            from.write(to, text, BEGIN, rng).expect("it is short");
            said.insert((from.address().user.clone(), text.to_vec()));
        };
        write(&mut alice, "bob", b"hello", rng);
        post.settle(&mut alice, BEGIN, rng);
        post.fetch(&mut bob, BEGIN, rng);
        write(&mut bob, "alice", b"hello yourself", rng);
        post.settle(&mut bob, BEGIN, rng);
        post.fetch(&mut alice, BEGIN, rng);
        texts(&mut bob);
        for text in [&b"one"[..], b"two", b"three"] {
            write(&mut alice, "bob", text, rng);
            write(&mut carol, "bob", text, rng);
        }
        post.settle(&mut alice, BEGIN, rng);
        post.settle(&mut carol, BEGIN, rng);
        let mail = post.take(&address("bob", 1)).into_iter().map(|mail| mail.envelope).collect();
        let account = post.list("alice").expect("she has uploaded").account();
        let issuer = post.issuer.as_ref().expect("there is one");
        let certificate = subrosa::SenderCertificate::issue(issuer, 1, "alice", account, BEGIN);
        let certificate = certificate.expect("it is a name").encode();
        let mallory = Mallory::new(&mut post, rng);
        Self { policy, bob: bob.into_store(), post, mail, said, certificate, mallory }
    }

    fn copy(&self) -> Post {
        Post { users: self.post.users.clone(), ..Post::default() }
    }
}

impl Mallory {
    fn new(post: &mut Post, rng: &mut Seeded) -> Self {
        let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let bob = post.users.get_mut("bob").expect("bob has uploaded");
        let bundle = bob.bundle(1, "@somebody", NOW).expect("there are prekeys");
        let bundle = bundle.verify(&identity.public_key(), NOW).expect("it verifies");
        let session = Session::initiate(&identity, &bundle, rng).expect("a session");
        let list = DeviceList::first(&account, identity.public_key());
        Self { session: session.encode().to_vec(), list }
    }
}

/// A client takes any sealed envelope: it answers `Ok`, shows nothing as a known user's that the
/// user did not write, and still opens what friends write.
pub fn sealed(data: &[u8]) {
    SEALED.with(|door| {
        let (rng, post) = (&mut Seeded::new(2, "sealed"), &mut door.copy());
        let bob = Client::open(door.bob.clone()).expect("there is an account");
        let mut bob = bob.with_policy(door.policy.clone());
        let session = Session::decode(&door.mallory.session);
        let mut mallory = session.expect("it loads");
        let (mut now, mut input) = (BEGIN, Input::new(data));
        let mut reference = [2_u8; 16];
        for _ in 0..40 {
            let Some(choice) = input.byte() else { break };
            let which = &door.mail[usize::from(choice / 8) % door.mail.len()];
            reference[15] = reference[15].wrapping_add(1);
            let bytes = match choice % 8 {
                0 => [&[1, 3][..], input.run()].concat(),
                1 => changed(which, &mut input),
                2 => {
                    // The ticket of another one.
                    let other = &door.mail[input.below(door.mail.len())];
                    [&which[..18], &other[18..34], &which[34..]].concat()
                }
                3 => {
                    now = now.after(input.number() as u64);
                    post.settle(&mut bob, now, rng);
                    continue;
                }
                4 => which.clone(),
                _ => {
                    let content = lie(door, &mut input);
                    let ticket = if choice < 128 { &which[18..34] } else { &[9; 16] };
                    let head = [&[1, 3][..], &reference, ticket].concat();
                    // As a first message is bound: by nobody, to Bob.
                    let bound = [&head[..], &[0; 5], &1_u32.to_be_bytes(), b"bob"].concat();
                    let message = mallory.encrypt(&content, &bound, rng).expect("it is short");
                    [head, message.encode()].concat()
                }
            };
            let received = bob.receive(None, &bytes, now, rng);
            assert!(received.is_ok(), "{received:?}");
        }
        check(door, &mut bob, post, now, rng);
    });
}

/// Nothing is shown as another's, and all that friends wrote is shown in the end.
fn check(
    door: &Sealed,
    bob: &mut Client<Memory>,
    post: &mut Post,
    mut now: UnixTime,
    rng: &mut Seeded,
) {
    for envelope in &door.mail {
        let received = bob.receive(None, envelope, now, rng);
        assert!(received.is_ok(), "{received:?}");
    }
    for _ in 0..3 {
        now = now.after(11 * 60);
        post.settle(bob, now, rng);
    }
    let mut shown = BTreeSet::new();
    for text in texts(bob) {
        let (user, plain) = (text.from.user.clone(), text.text.to_vec());
        let is_genuine = door.said.contains(&(user.clone(), plain.clone()));
        let is_friend = matches!(&*user, "alice" | "carol" | "bob");
        // Of a stranger, nobody says who it is.
        let is_believed = matches!(text.trust, Trust::FirstUse | Trust::Verified);
        assert!(is_genuine || !(is_believed && is_friend), "{user}: {plain:?}, {:?}", text.trust);
        shown.insert((user, plain));
    }
    let of_alice = door.said.iter().filter(|(user, text)| user == "alice" && text != b"hello");
    for said in of_alice {
        assert!(shown.contains(said), "{said:?} is lost");
    }
    for user in ["alice", "bob", "carol", "dave"] {
        bob.trust(user).expect("the store is sound");
        bob.sessions(user).expect("the store is sound");
    }
}

/// What Mallory writes in a first message.
fn lie(door: &Sealed, input: &mut Input<'_>) -> Vec<u8> {
    let (kind, flags) = (input.byte().unwrap_or(1), input.small());
    let (user, device) = CLAIMS[input.small() % CLAIMS.len()];
    let claimed: Address = address(user, device);
    let sender = [&claimed.device.to_be_bytes()[..], claimed.user.as_bytes()].concat();
    let (rank, list) = (NOW.to_be_bytes(), door.mallory.list.encode());
    let raw = input.run();
    let fields: [(u8, &[u8]); 7] = [
        (RANK, &rank),
        (DEVICES, &list),
        (10, &raw[..raw.len().min(257)]),
        (11, &sender),
        (12, if flags & 64 == 0 { &door.certificate } else { raw }),
        (13, &raw[..raw.len().min(20)]),
        (14, &raw[..raw.len().min(4)]),
    ];
    // A first message has a rank, a list and a sender, as a rule.
    let fields: Vec<_> = fields
        .into_iter()
        .zip([1, 2, 4, 8, 16, 32, 128])
        .filter(|((tag, _), bit)| (flags & bit != 0) != matches!(tag, 1 | 4 | 11))
        .map(|(field, _)| field)
        .collect();
    content(kind, &door.mallory.list, &fields, input.run())
}

/// A row of the passes of an account: what decodes encodes to the same bytes, and it goes on.
pub fn doors(data: &[u8]) {
    let Some((first, row)) = data.split_first_chunk::<21>() else { return };
    let Ok(mut doors) = Doors::decode(row) else { return };
    assert_eq!(doors.encode(), row);
    let (number, pass) =
        (u32::from_be_bytes([first[0], first[1], first[2], first[3]]), &first[4..]);
    let pass: &[u8; 16] = pass.first_chunk().expect("there are 17");
    let now = NOW.saturating_add(u64::from(first[20]) * Doors::GRACE / 16);
    let before = doors.clone();
    if doors.set(number, pass, now) {
        assert!(doors.admits(Some(pass), now));
        assert!(u64::from(number) <= now + 86_400);
    } else {
        assert_eq!(doors, before);
    }
    assert!(!doors.admits(None, now) || doors == Doors::new());
    assert_eq!(Doors::decode(&doors.encode()), Ok(doors));
}
