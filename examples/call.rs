//! A call between two people, over UDP that loses, repeats and reorders.
//!
//! Alice and Bob each have a thread of their own with a client, a call and a socket. What they say
//! to each other about the call goes through a server in memory; their frames, each as long as a
//! frame of Opus, go over the loopback interface through an SFU that drops one in ten, sends one in
//! twenty twice, and holds some back. After three seconds Carol joins, and she leaves two seconds
//! later.
//!
//! ```sh
//! cargo run --release --features calls --example call
//! ```
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "an example stops where something is wrong"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rand_core::Rng;
use subrosa::call::{Call, Outgoing, Stream, Suite};
use subrosa::store::Memory;
use subrosa::{CallId, Client, Loopback, SystemRng, UnixTime};

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const CALL: Duration = Duration::from_secs(8);
const FRAME: Duration = Duration::from_millis(20);

fn main() -> Done<()> {
    let server = Arc::new(Mutex::new(Loopback::new()));
    let clients = acquainted(&server)?;
    let sfu = UdpSocket::bind("127.0.0.1:0")?;
    let sockets = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    let mut addresses = [sfu.local_addr()?; 3];
    for (address, socket) in addresses.iter_mut().zip(&sockets) {
        socket.connect(sfu.local_addr()?)?;
        socket.set_nonblocking(true)?;
        *address = socket.local_addr()?;
    }
    thread::spawn(move || forward(&sfu, &addresses));
    let (id, begin) = (CallId::random(&mut SystemRng), Arc::new(Barrier::new(3)));
    let stays = [(0, 8_000), (0, 8_000), (3_000, 5_000)]
        .map(|(from, to)| (Duration::from_millis(from), Duration::from_millis(to)));
    let people = clients.into_iter().zip(sockets).zip(stays);
    let people: Vec<_> = people
        .map(|((client, socket), stay)| {
            let (server, begin) = (Arc::clone(&server), Arc::clone(&begin));
            thread::spawn(move || Person { client, socket, server }.take_part(id, &begin, stay))
        })
        .collect();
    for person in people {
        println!("{}", person.join().map_err(|_| "a thread stopped")??);
    }
    Ok(())
}

/// Three people who have written to each other.
fn acquainted(server: &Mutex<Loopback>) -> Done<Vec<Client<Memory>>> {
    let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    let mut server = server.lock().map_err(|_| "a thread stopped")?;
    let mut clients = Vec::new();
    for user in USERS {
        let mut client = Client::create(Memory::new(), user, now, rng)?;
        server.sync(&mut client, now, rng)?;
        clients.push(client);
    }
    for (own, client) in USERS.into_iter().zip(&mut clients) {
        for user in USERS.into_iter().filter(|user| *user != own) {
            client.write(user, b"hello", now, rng)?;
        }
    }
    for _ in 0..3 {
        for client in &mut clients {
            server.sync(client, now, rng)?;
        }
    }
    Ok(clients)
}

struct Person {
    client: Client<Memory>,
    socket: UdpSocket,
    server: Arc<Mutex<Loopback>>,
}

/// What came of another's frames.
#[derive(Default)]
struct Heard {
    opened: u64,
    late: u64,
    without_key: u64,
    forged: u64,
}

impl Person {
    fn take_part(
        mut self,
        id: CallId,
        begin: &Barrier,
        (from, to): (Duration, Duration),
    ) -> Done<String> {
        begin.wait();
        let start = Instant::now();
        let mut heard: BTreeMap<usize, Heard> = BTreeMap::new();
        let (mut sent, mut sealing) = (0_u64, Duration::ZERO);
        let own = USERS.iter().position(|user| *user == self.client.address().user).unwrap_or(0);
        thread::sleep(from);
        // Milliseconds since the Unix epoch at first, and then by a clock that does not jump.
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let joined = Instant::now();
        let clock = || u64::try_from((epoch + joined.elapsed()).as_millis()).unwrap_or(u64::MAX);
        let me = self.client.address().clone();
        let mut call = Call::new(id, &me, Suite::default(), clock(), &mut SystemRng);
        call.set_members(&self.client.call_members(&USERS)?, clock(), &mut SystemRng);
        let mut next_frame = Instant::now();
        while start.elapsed() < to {
            self.signals(&mut call, &clock)?;
            if next_frame.elapsed() > Duration::ZERO {
                next_frame += FRAME;
                let length = 60 + usize::try_from(SystemRng.next_u32() % 100)?;
                let mut frame = vec![u8::try_from(own)?; length];
                let before = Instant::now();
                // The first byte of Opus says what kind of frame it is: it stays in the clear.
                call.seal(Stream::Audio, 1, &mut frame, clock())?;
                sealing += before.elapsed();
                self.socket.send(&frame)?;
                sent += 1;
            }
            let mut buffer = [0; 1_500];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                // The SFU says whose frame it is, in front of it.
                let (from, mut frame) = (usize::from(buffer[0]), buffer[1..length].to_vec());
                let heard = heard.entry(from).or_default();
                let of = subrosa::Address::new(USERS[from], 1);
                match call.open(&of, 1, &mut frame, clock()) {
                    Ok(_) => heard.opened += 1,
                    Err(subrosa::Error::Duplicate) => heard.late += 1,
                    Err(subrosa::Error::WaitingForKey) => heard.without_key += 1,
                    Err(_) => heard.forged += 1,
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        for Outgoing { to, signal, .. } in call.leave() {
            self.client.signal(&to, &signal, UnixTime::now()?, &mut SystemRng)?;
        }
        self.sync()?;
        let mut text = format!(
            "{}: {sent} frames sent, {:?} each",
            USERS[own],
            sealing / u32::try_from(sent.max(1))?
        );
        for (from, Heard { opened, late, without_key, forged }) in heard {
            text += &format!(
                "\n  of {}: {opened} opened, {late} late or repeated, {without_key} without a key yet, \
                 {forged} refused",
                USERS[from]
            );
        }
        Ok(text)
    }

    fn sync(&mut self) -> Done<()> {
        let mut server = self.server.lock().map_err(|_| "a thread stopped")?;
        drop(server.sync(&mut self.client, UnixTime::now()?, &mut SystemRng)?);
        Ok(())
    }

    fn signals(&mut self, call: &mut Call, clock: &impl Fn() -> u64) -> Done<()> {
        self.sync()?;
        let now = UnixTime::now()?;
        for signal in self.client.take_signals(100, now)? {
            // One that is refused is old, or of a device that is not known.
            drop(call.take(&signal, clock()));
        }
        for Outgoing { to, signal, .. } in call.tick(clock(), &mut SystemRng) {
            self.client.signal(&to, &signal, now, &mut SystemRng)?;
        }
        Ok(())
    }
}

/// The SFU: it forwards to everybody, and can read nothing.
fn forward(sfu: &UdpSocket, people: &[SocketAddr; 3]) {
    let (mut buffer, start) = ([0; 1_500], Instant::now());
    let mut held: Vec<(usize, Vec<u8>)> = Vec::new();
    while start.elapsed() < CALL * 2 {
        let Ok((length, from)) = sfu.recv_from(&mut buffer) else { return };
        let Some(from) = people.iter().position(|person| *person == from) else { continue };
        let drawn = SystemRng.next_u32() % 100;
        let frame = [&[u8::try_from(from).unwrap_or(0)][..], &buffer[..length]].concat();
        match drawn {
            0..10 => {}
            10..15 => held.extend([(from, frame.clone()), (from, frame)]),
            15..30 => held.insert(0, (from, frame)),
            _ => held.push((from, frame)),
        }
        if drawn >= 20 {
            for (from, frame) in held.drain(..) {
                for (_, to) in people.iter().enumerate().filter(|(to, _)| *to != from) {
                    // Who is not there hears nothing.
                    drop(sfu.send_to(&frame, to));
                }
            }
        }
    }
}
