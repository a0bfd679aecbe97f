//! A server for `chat`, for trying things on one machine.
//!
//! ```text
//! cargo run --release --example relay -- [ADDRESS] [--data FOLDER] [--forget NAME]
//!     [--keep SECONDS] [--unnamed REQUESTS] [--journal FILE]
//! ```
//!
//! It keeps device lists, prekeys, mailboxes, grants for new devices, and the blobs of files, and
//! sees ciphertext alone. What it keeps survives a restart; blobs go after 30 days, or after
//! `--keep`. `--forget` frees the name of a user who has lost every device.
//!
//! It delivers sealed mail without learning who sends it: that comes on connections that carry no
//! name, and what the relay asks for is the receiver's pass, where the receiver wants one. So that
//! nobody floods it in that way, it takes 50 requests a second from each network address on such
//! connections, or as many as `--unnamed` says. `--journal` writes what it learns of each request.
//!
//! It believes anyone the name that they give. That reveals no text, but it lets anybody take
//! another's mail away and use up their prekeys. A real server has its users log in, speaks TLS,
//! and limits what each of them may do: see docs/server.md.
//!
//! `support/wire.rs` has the protocol, `support/desk.rs` what is kept.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use subrosa::Address;

#[path = "support/blobs.rs"]
mod blobs;
#[path = "support/desk.rs"]
mod desk;
#[path = "support/gate.rs"]
mod gate;
#[path = "support/journal.rs"]
mod journal;
#[path = "support/names.rs"]
mod names;
#[path = "support/wire.rs"]
mod wire;

use desk::{Caller, Desk};
use gate::{Gate, Inside};
use journal::Journal;
use names::is_name;
use wire::{MAX_SILENCE, Refused, Request, Response};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const MAX_CONNECTIONS: usize = 256;
const MAX_WATCHED: usize = 100;
const KEEP_BLOBS: u64 = 30 * 24 * 60 * 60;
/// Requests a second from one network address, on connections that carry no name.
const UNNAMED: u64 = 50;
/// Seconds after which somebody who waits for a user is told that there is none.
const MAX_WAIT: u64 = 10;
const SHORTLY: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let (mut address, mut folder) = ("127.0.0.1:7001".to_owned(), PathBuf::from("relay-data"));
    let (mut forget, mut keep_blobs) = (None, KEEP_BLOBS);
    let (mut unnamed, mut journal) = (UNNAMED, None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data" => folder = arguments.next().ok_or("--data FOLDER")?.into(),
            "--forget" => forget = Some(arguments.next().ok_or("--forget NAME")?),
            "--keep" => keep_blobs = arguments.next().ok_or("--keep SECONDS")?.parse()?,
            "--unnamed" => unnamed = arguments.next().ok_or("--unnamed REQUESTS")?.parse()?,
            "--journal" => journal = Some(PathBuf::from(arguments.next().ok_or("--journal FILE")?)),
            _ => address = argument,
        }
    }
    let desk = Desk::open(&folder, keep_blobs)?;
    if let Some(user) = forget {
        desk.forget(&user)?;
    }
    let (journal, gate) = (Journal::open(journal.as_deref())?, Gate::new(unnamed));
    let (bell, connections) = (Bell::default(), AtomicU64::new(0));
    let relay = Arc::new(Relay { desk, bell, gate, journal, connections });
    let listener = TcpListener::bind(address)?;
    println!("relay: listening on {}", listener.local_addr()?);
    loop {
        // Each connection holds a reference to the relay.
        let Some((socket, from)) = (Arc::strong_count(&relay) <= MAX_CONNECTIONS)
            .then(|| listener.accept().ok())
            .flatten()
        else {
            thread::sleep(SHORTLY);
            continue;
        };
        let relay = Arc::clone(&relay);
        let connection = move || {
            if let Err(error) = relay.serve(&socket, from.ip()) {
                eprintln!("relay: a connection ended: {error}");
            }
        };
        if let Err(error) = thread::Builder::new().spawn(connection) {
            eprintln!("relay: no thread for a connection: {error}");
        }
    }
}

struct Relay {
    desk: Desk,
    /// Rings when there is new mail or a new user, for any device.
    bell: Bell,
    /// For connections that carry no name.
    gate: Gate,
    journal: Journal,
    /// How many there were so far.
    connections: AtomicU64,
}

impl Relay {
    /// Answers requests; once the connection carries a name, gives notices at the same time. Until
    /// either fails.
    fn serve(&self, socket: &TcpStream, from: IpAddr) -> Result<()> {
        socket.set_write_timeout(Some(Duration::from_secs(MAX_SILENCE)))?;
        socket.set_nodelay(true)?;
        let Some(inside) = self.gate.enter(from) else { return Ok(()) };
        let connection = Connection {
            number: self.connections.fetch_add(1, Ordering::SeqCst),
            socket,
            writer: Mutex::new(socket),
            watched: Mutex::default(),
            is_open: AtomicBool::new(true),
        };
        let from = match read(socket)? {
            None => return Ok(()),
            Some(Request::Hello(from)) if !is_name(&from.user) => {
                return connection.write(&wire::encode(&Response::Refused(Refused::BadName))?);
            }
            Some(Request::Hello(from)) => from,
            Some(first) => return self.serve_nobody(&inside, first, &connection),
        };
        drop(inside);
        self.journal.note(connection.number, Some(&from), &"says hello");
        connection.write(&wire::encode(&Response::Done)?)?;
        thread::scope(|scope| {
            let notices = thread::Builder::new().spawn_scoped(scope, || {
                let ended = self.notify(&from, &connection);
                let failed = connection.is_open.load(Ordering::SeqCst);
                socket.shutdown(Shutdown::Both).ok();
                if failed { ended } else { Ok(()) }
            })?;
            let ended = self.serve_device(&from, &connection);
            connection.is_open.store(false, Ordering::SeqCst);
            socket.shutdown(Shutdown::Both).ok();
            self.bell.ring();
            notices.join().unwrap_or_else(|_| Err("a thread panicked".into())).and(ended)
        })
    }

    /// Requests of a device that gave its name, until the connection ends.
    fn serve_device(&self, from: &Address, connection: &Connection<'_>) -> Result<()> {
        while let Some(request) = read(connection.socket)? {
            let is_news = matches!(request, Request::Send { .. } | Request::Upload(_));
            let wanted = match &request {
                Request::Devices(user) => Some(user.clone()),
                _ => None,
            };
            let what = journal::asked(&request);
            let response = self.desk.answer(Caller::Device(from), request)?;
            self.note(connection, Some(from), &what, &response);
            let missed = wanted.filter(|_| matches!(response, Response::Found(None)));
            let is_watched = missed.is_some_and(|user| connection.watch(user));
            connection.write(&wire::encode(&response)?)?;
            if is_news || is_watched {
                self.bell.ring();
            }
        }
        Ok(())
    }

    /// Requests of nobody knows whom, until the connection ends.
    fn serve_nobody(
        &self,
        inside: &Inside<'_>,
        first: Request,
        connection: &Connection<'_>,
    ) -> Result<()> {
        let asker = inside.asker();
        let mut next = Some(first);
        while let Some(request) = next {
            let what = journal::asked(&request);
            let is_news = matches!(request, Request::SendSealed { .. });
            let response = match request {
                _ if !inside.may_ask() => Response::Refused(Refused::Busy),
                Request::AwaitDevices(user) => self.await_devices(&user)?,
                request => self.desk.answer(Caller::Nobody(&asker), request)?,
            };
            self.note(connection, None, &what, &response);
            connection.write(&wire::encode(&response)?)?;
            if is_news {
                self.bell.ring();
            }
            next = read(connection.socket)?;
        }
        Ok(())
    }

    /// A user's device list, once there is one.
    fn await_devices(&self, user: &str) -> Result<Response> {
        let began = Instant::now();
        let mut heard = self.bell.rings();
        loop {
            let devices = self.desk.devices(user)?;
            let left = Duration::from_secs(MAX_WAIT).saturating_sub(began.elapsed());
            if devices.is_some() || left.is_zero() {
                return Ok(Response::Found(devices));
            }
            heard = self.bell.wait(heard, left);
        }
    }

    fn note(
        &self,
        connection: &Connection<'_>,
        from: Option<&Address>,
        what: &str,
        response: &Response,
    ) {
        let line = format!("{what} -> {}", journal::ended(response));
        self.journal.note(connection.number, from, &line);
    }

    /// Gives a device its notices, both waiting and new, while the connection is open.
    fn notify(&self, to: &Address, connection: &Connection<'_>) -> Result<()> {
        let (mut heard, mut next) = (self.bell.rings(), 0);
        let mut own = self.desk.devices(&to.user)?;
        while connection.is_open.load(Ordering::SeqCst) {
            while let Some((number, frame)) = self.desk.mail(to, next)? {
                connection.write(&frame)?;
                next = number.saturating_add(1);
            }
            for user in connection.watched() {
                if self.desk.devices(&user)?.is_some() {
                    connection.unwatch(&user);
                    connection.write(&wire::encode(&Response::NewDevices(user))?)?;
                }
            }
            let devices = self.desk.devices(&to.user)?;
            if devices != own {
                own = devices;
                connection.write(&wire::encode(&Response::NewDevices(to.user.clone()))?)?;
            }
            heard = self.bell.wait(heard, Duration::from_secs(MAX_SILENCE));
        }
        Ok(())
    }
}

/// A connection to a device, which two threads share.
struct Connection<'a> {
    number: u64,
    socket: &'a TcpStream,
    writer: Mutex<&'a TcpStream>,
    /// Users that the device asked for in vain.
    watched: Mutex<BTreeSet<String>>,
    is_open: AtomicBool,
}

impl Connection<'_> {
    /// Disconnects a device that does not read.
    fn write(&self, frame: &[u8]) -> Result<()> {
        Ok(lock(&self.writer).write_all(frame)?)
    }

    /// Whether the device will hear of this user.
    fn watch(&self, user: String) -> bool {
        let mut watched = lock(&self.watched);
        is_name(&user) && watched.len() < MAX_WATCHED && watched.insert(user)
    }

    fn unwatch(&self, user: &str) {
        lock(&self.watched).remove(user);
    }

    fn watched(&self) -> Vec<String> {
        lock(&self.watched).iter().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes every thread that waits for it.
#[derive(Default)]
struct Bell {
    rings: Mutex<u64>,
    rang: Condvar,
}

impl Bell {
    fn ring(&self) {
        let mut rings = lock(&self.rings);
        *rings = rings.wrapping_add(1);
        self.rang.notify_all();
    }

    /// How often it rang so far.
    fn rings(&self) -> u64 {
        *lock(&self.rings)
    }

    /// Waits until it has rung other than `heard` times, or so long, and returns how often.
    fn wait(&self, heard: u64, most: Duration) -> u64 {
        let rings = lock(&self.rings);
        let waited = self.rang.wait_timeout_while(rings, most, |rings| *rings == heard);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// None at the end of the connection. A whole frame must arrive within [`MAX_SILENCE`].
fn read(socket: &TcpStream) -> Result<Option<Request>> {
    let began = Instant::now();
    let mut head = [0; 4];
    match fill(socket, &mut head, began) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut value = vec![0; wire::length(head).ok_or("a frame is too long")?];
    fill(socket, &mut value, began)?;
    Ok(Some(wire::decode(&value)?))
}

fn fill(mut socket: &TcpStream, mut rest: &mut [u8], began: Instant) -> io::Result<()> {
    while !rest.is_empty() {
        let left = Duration::from_secs(MAX_SILENCE).saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
