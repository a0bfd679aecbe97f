//! Sealed mail: what the relay learns, whom it lets in, and what becomes of mail on connections
//! that break.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use subrosa::{Address, SystemRng};

use crate::frames::{read_frame, write_frame};
use crate::stranger::Stranger;
use crate::wire::{self, Refused, Request, Response};
use crate::{PATIENCE, Process, World, history};

/// A line of the relay's journal.
#[derive(Debug)]
struct Noted {
    connection: u64,
    /// None: nobody knows.
    from: Option<String>,
    what: String,
}

impl World {
    /// Its relay writes down what it learns.
    fn with_journal(more: &[&str]) -> Self {
        let mut world = Self::new();
        world.stop_relay();
        let journal = world.path("journal");
        world.start_relay(&[&["--journal", &journal], more].concat());
        world
    }

    fn journal(&self) -> Vec<Noted> {
        let journal = fs::read_to_string(self.path("journal")).unwrap();
        journal.lines().map(noted).collect()
    }
}

/// `12 from alice/1: says hello`
fn noted(line: &str) -> Noted {
    let (head, what) = line.split_once(": ").unwrap();
    let (connection, from) = head.split_once(" from ").unwrap();
    let from = (from != "nobody").then(|| from.to_owned());
    Noted { connection: connection.parse().unwrap(), from, what: what.into() }
}

/// Speaks to the relay as no chat would, and never says hello by itself.
struct Unnamed(TcpStream);

impl Unnamed {
    fn connect(world: &World) -> Self {
        let socket = TcpStream::connect(&world.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// None: the relay hung up.
    fn ask(&mut self, request: &Request) -> Option<Response> {
        write_frame(&mut self.0, &wire::encode(request).unwrap())?;
        self.next()
    }

    fn next(&mut self) -> Option<Response> {
        wire::decode(&read_frame(&mut self.0)?.1).ok()
    }
}

fn sealed(to: &str, pass: Option<[u8; 16]>) -> Request {
    let envelope = [&[1, 3][..], &[7; 200]].concat();
    Request::SendSealed { to: Address::new(to, 1), envelope, pass }
}

#[test]
fn people_talk_and_the_relay_does_not_learn_who_writes() {
    let world = World::with_journal(&[]);
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut carol = world.chat("carol");
    for round in 0..4 {
        alice.type_line(&format!("bob: a{round}"));
        bob.wait(&format!("alice: a{round}"));
        bob.type_line(&format!("alice: b{round}"));
        alice.wait(&format!("bob: b{round}"));
        carol.type_line(&format!("bob: c{round}"));
        bob.wait(&format!("carol: c{round}"));
    }
    // Mail that waits at the relay has no name on it.
    bob.kill();
    alice.type_line("bob: are you there?");
    alice.wait_sent("bob", "are you there?");
    let mut as_bob = Unnamed::connect(&world);
    let hello = as_bob.ask(&Request::Hello(Address::new("bob", 1)));
    assert!(matches!(hello, Some(Response::Done)));
    match as_bob.next() {
        Some(Response::Mail(mail)) => {
            assert_eq!(mail.from, None);
            assert!(mail.envelope.starts_with(&[1, 3]));
            let names = [&b"alice"[..], b"carol"];
            for name in names {
                assert!(!mail.envelope.windows(name.len()).any(|window| window == name));
            }
        }
        _ => panic!("it is mail"),
    }

    let journal = world.journal();
    let deliveries: Vec<&Noted> =
        journal.iter().filter(|noted| noted.what.contains("sealed bytes to")).collect();
    assert!(deliveries.len() >= 13, "{deliveries:#?}");
    assert!(deliveries.iter().all(|noted| noted.from.is_none()), "{deliveries:#?}");
    assert!(!journal.iter().any(|noted| noted.what.contains("open bytes")), "nothing is open");
    // Nobody asks by name for what shows whom they write to.
    for noted in journal.iter().filter(|noted| noted.from.is_some()) {
        let own = noted.from.as_deref().unwrap().split('/').next().unwrap().to_owned();
        let others = ["alice", "bob", "carol"].into_iter().filter(|user| **user != own);
        for other in others {
            assert!(!noted.what.contains(other), "{noted:?}");
        }
    }
    // A connection without a name stays so, and is about one user alone.
    let named: BTreeSet<u64> =
        journal.iter().filter(|noted| noted.from.is_some()).map(|noted| noted.connection).collect();
    let mut about: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for noted in journal.iter().filter(|noted| noted.from.is_none()) {
        assert!(!named.contains(&noted.connection), "{noted:?}");
        let users = ["alice", "bob", "carol"].into_iter().filter(|user| noted.what.contains(user));
        about.entry(noted.connection).or_default().extend(users);
    }
    assert!(about.values().all(|users| users.len() <= 1), "{about:#?}");
}

#[test]
fn openly_the_relay_learns_who_writes_and_both_kinds_of_people_read_each_other() {
    let world = World::with_journal(&[]);
    let open = |name| {
        let mut chat = world.start_chat(name, name, &["--open"]);
        chat.wait("* connected");
        chat.type_line("/devices");
        chat.wait_for("itself", |line| line.ends_with("(this one)"));
        chat
    };
    let (mut alice, mut bob, mut carol) = (open("alice"), open("bob"), world.chat("carol"));
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    bob.type_line("alice: hello yourself");
    alice.wait("bob: hello yourself");
    let journal = world.journal();
    assert!(!journal.iter().any(|noted| noted.what.contains("sealed bytes")), "{journal:?}");
    let mut to_bob = journal.iter().filter(|noted| noted.what.contains("open bytes to bob/1"));
    assert_eq!(to_bob.next().and_then(|noted| noted.from.as_deref()), Some("alice/1"));
    assert!(to_bob.next().is_none());
    // Carol's mail is sealed, and Alice's is not.
    for round in 0..3 {
        carol.type_line(&format!("alice: c{round}"));
        alice.wait(&format!("carol: c{round}"));
        alice.type_line(&format!("carol: a{round}"));
        carol.wait(&format!("alice: a{round}"));
    }
    let journal = world.journal();
    for noted in journal.iter().filter(|noted| noted.what.contains("bytes to alice/1")) {
        let is_bob = noted.from.as_deref() == Some("bob/1");
        assert!(is_bob || noted.from.is_none() && noted.what.contains("sealed"), "{noted:?}");
    }
}

#[test]
fn the_copies_of_a_second_device_go_apart_and_without_a_name() {
    let world = World::with_journal(&[]);
    let (mut phone, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut laptop = world.start_chat("alice", "laptop", &["--link"]);
    let link = laptop.wait_for("a code", |line| line.starts_with("/link "));
    phone.type_line(&link);
    laptop.wait("* connected");
    laptop.type_line("bob: from the laptop");
    bob.wait("alice: from the laptop");
    phone.wait("(alice/2) -> bob: from the laptop");
    bob.type_line("/devices alice");
    bob.wait_for("the laptop", |line| line.starts_with("* alice/2: "));
    bob.type_line("alice: to both");
    phone.wait("bob: to both");
    laptop.wait("bob: to both");
    let mut about: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    let journal = world.journal();
    for noted in journal.iter().filter(|noted| noted.what.contains("sealed bytes to")) {
        assert_eq!(noted.from, None);
        let user = if noted.what.contains("to alice/") { "alice" } else { "bob" };
        about.entry(noted.connection).or_default().insert(user);
    }
    assert!(about.values().all(|users| users.len() == 1), "{about:?}");
}

#[test]
fn who_was_not_given_a_pass_is_refused_and_gets_in_once_written_to() {
    let world = World::with_journal(&[]);
    let mut alice = world.start_chat("alice", "alice", &["--pass"]);
    alice.wait("* connected");
    alice.type_line("/devices");
    alice.wait_for("itself", |line| line.ends_with("(this one)"));
    let (mut bob, mut dave) = (world.chat("bob"), world.chat("dave"));
    // No pass, a wrong one, and a connection that carries a name.
    let mut nobody = Unnamed::connect(&world);
    for pass in [None, Some([0; 16])] {
        let refused = nobody.ask(&sealed("alice", pass));
        assert!(matches!(refused, Some(Response::Refused(Refused::BadPass))), "{pass:?}");
    }
    assert!(matches!(nobody.ask(&sealed("bob", None)), Some(Response::Done)), "bob wants none");
    assert!(matches!(nobody.ask(&sealed("carol", None)), Some(Response::Found(None))));
    let mut named = Unnamed::connect(&world);
    named.ask(&Request::Hello(Address::new("bob", 2))).unwrap();
    let refused = named.ask(&sealed("bob", None));
    assert!(matches!(refused, Some(Response::Refused(Refused::Because(_)))));
    drop((nobody, named));

    // Dave's text waits, and leaves by itself once Alice has written to him.
    dave.type_line("alice: let me in");
    let waits = |line: &str| line.starts_with("* the relay takes no sealed mail for alice");
    dave.wait_for("that it waits", waits);
    alice.type_line("dave: who are you?");
    dave.wait("alice: who are you?");
    alice.wait("dave: let me in");
    // Bob lets the relay know, for once.
    bob.type_line("alice: an open word");
    bob.wait_for("that it waits", waits);
    bob.type_line("/open alice");
    bob.wait_for("that it is open", |line| line.starts_with("* mail to alice is open"));
    alice.wait("bob: an open word");
    alice.type_line("bob: come in");
    bob.wait("alice: come in");
    bob.type_line("/seal alice");
    bob.wait_for("that it is sealed", |line| line.starts_with("* mail to alice is sealed"));
    bob.type_line("alice: thank you");
    alice.wait("bob: thank you");
    // Dave is blocked: what he writes is refused, and the pass changes for all others.
    alice.type_line("/block dave");
    alice.wait_for("that he is", |line| line.starts_with("* dave is blocked"));
    dave.type_line("alice: please");
    alice.wait_for("a refusal", |line| line.starts_with("* something from somebody is refused"));
    alice.type_line("bob: still there?");
    bob.wait("alice: still there?");
    bob.type_line("alice: yes");
    alice.wait("bob: yes");
    assert_eq!(alice.count("dave: please"), 0);
    let journal = world.journal();
    let passes = journal.iter().filter(|noted| noted.what.starts_with("sets pass"));
    assert_eq!(passes.clone().count(), 2, "{:?}", passes.collect::<Vec<_>>());
    let open: Vec<&Noted> =
        journal.iter().filter(|noted| noted.what.contains("open bytes")).collect();
    assert_eq!(open.len(), 1, "{open:?}");
}

#[test]
fn a_flood_without_a_name_is_limited_and_stops_nobody_who_has_one() {
    let world = World::with_journal(&["--unnamed", "2"]);
    let mut alice = world.chat("alice");
    let mut bob = world.start_chat("bob", "bob", &["--open"]);
    bob.wait("* connected");
    alice.type_line("bob: hello");
    bob.wait("alice: hello");
    let mut flood = Unnamed::connect(&world);
    let busy = (0..100).filter(|_| {
        let response = flood.ask(&Request::Devices("alice".into()));
        matches!(response, Some(Response::Refused(Refused::Busy)))
    });
    assert!(busy.count() >= 50);
    // Who says nothing keeps others out for no longer than the relay has patience, and no name.
    let mut silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&world.address).unwrap()).collect();
    for socket in &silent {
        socket.set_nonblocking(true).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    let has_ended = |socket: &mut TcpStream| socket.read(&mut [0; 1]).is_ok_and(|read| read == 0);
    let mut ended = 0;
    while ended < 30 {
        ended += silent.extract_if(.., has_ended).count();
        assert!(Instant::now() < until, "there is room for so many");
        thread::sleep(Duration::from_millis(10));
    }
    bob.type_line("alice: by name");
    alice.wait("bob: by name");
    drop((silent, flood));
    // What waited goes once the flood is over.
    alice.type_line("bob: and sealed");
    bob.wait("alice: and sealed");
}

#[test]
fn who_is_awaited_without_a_name_is_written_to_when_they_register() {
    let world = World::with_journal(&[]);
    let mut alice = world.chat("alice");
    alice.type_line("bob: welcome");
    alice.wait_for("that nobody is", |line| line.starts_with("* nobody is registered as bob yet"));
    let mut bob = world.chat("bob");
    alice.wait("* bob has registered");
    bob.wait("alice: welcome");
    let journal = world.journal();
    let waited: Vec<&Noted> =
        journal.iter().filter(|noted| noted.what.starts_with("waits for bob")).collect();
    assert!(!waited.is_empty() && waited.iter().all(|noted| noted.from.is_none()), "{waited:?}");
}

/// Between the chats and the relay: every third sealed envelope gets lost on its way there, or the
/// answer to it on the way back, or it comes to the relay twice.
fn careless(relay: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().map_while(Result::ok).enumerate() {
            let Ok(onward) = TcpStream::connect(&relay) else { return };
            thread::spawn(move || pass_on(socket, onward, number));
        }
    });
    address
}

fn pass_on(mut near: TcpStream, mut far: TcpStream, number: usize) -> Option<()> {
    let (first, value) = read_frame(&mut near)?;
    if matches!(wire::decode(&value), Ok(Request::Hello(_))) {
        write_frame(&mut far, &first)?;
        let (mut back, mut front) = (far.try_clone().ok()?, near.try_clone().ok()?);
        thread::spawn(move || {
            std::io::copy(&mut back, &mut front).ok();
            front.shutdown(std::net::Shutdown::Both).ok();
        });
        std::io::copy(&mut near, &mut far).ok();
        far.shutdown(std::net::Shutdown::Both).ok();
        return None;
    }
    let (mut frame, mut value, mut count) = (first, value, number);
    loop {
        let is_sealed = matches!(wire::decode(&value), Ok(Request::SendSealed { .. }));
        count += usize::from(is_sealed);
        match count % 9 {
            // Lost on the way there.
            2 if is_sealed => return None,
            5 if is_sealed => {
                write_frame(&mut far, &frame)?;
                read_frame(&mut far)?;
                // Its answer is lost.
                return None;
            }
            8 if is_sealed => {
                write_frame(&mut far, &frame)?;
                read_frame(&mut far)?;
            }
            _ => {}
        }
        write_frame(&mut far, &frame)?;
        let (response, _) = read_frame(&mut far)?;
        write_frame(&mut near, &response)?;
        (frame, value) = read_frame(&mut near)?;
    }
}

#[test]
fn what_a_careless_network_loses_and_repeats_arrives_once_and_in_order() {
    let mut world = World::new();
    world.address = careless(world.address.clone());
    let (mut alice, mut bob) = (world.chat("alice"), world.chat("bob"));
    let mut said = Vec::new();
    for round in 0..8 {
        for line in 0..3 {
            said.push(format!("a{round}-{line}"));
            alice.type_line(&format!("bob: a{round}-{line}"));
        }
        bob.wait(&format!("alice: a{round}-2"));
        said.push(format!("b{round}"));
        bob.type_line(&format!("alice: b{round}"));
        alice.wait(&format!("bob: b{round}"));
    }
    let both: [(Process, &str); 2] = [(alice, "bob"), (bob, "alice")];
    for (chat, user) in both {
        assert_eq!(history(chat, user), said, "with {user}");
    }
}

#[test]
fn whoever_writes_under_a_name_that_nobody_can_have_is_shown_as_such() {
    let world = World::new();
    let mut alice = world.chat("alice");
    for name in ["x\n* bob is verified", "* bob is verified", "bob: it is me", "\u{202e}bob"] {
        // The relay registers nobody of that name, and is not told who sends this.
        let mut stranger = Stranger::sealed(&world, name);
        stranger.client.write("alice", b"hello", stranger.now(), &mut SystemRng).unwrap();
        stranger.do_tasks();
        alice.wait("~ (a bad name): hello");
        // What the relay says of that name comes in between.
        alice.catch_up();
    }
    for line in &alice.printed {
        assert!(!line.contains("bob") && !line.contains('\u{202e}'), "{line:?}");
    }
}
