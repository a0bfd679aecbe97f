//! A server for `chat`, for trying things on one machine.
//!
//! ```text
//! cargo run --release --example relay -- [ADDRESS] [--data FOLDER] [--forget NAME] [--keep SECONDS]
//! ```
//!
//! It keeps device lists, prekeys, mailboxes, grants for new devices, and the blobs of files, and
//! sees ciphertext alone. What it keeps survives a restart; blobs go after 30 days, or after
//! `--keep`. `--forget` frees the name of a user who has lost every device.
//!
//! It believes anyone the name that they give. That reveals no text, but it lets anybody take
//! another's mail away and use up their prekeys. A real server has its users log in, speaks TLS,
//! and limits what each of them may do: see docs/server.md.
//!
//! `support/wire.rs` has the protocol, `support/desk.rs` what is kept.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use subrosa::Address;

#[path = "support/blobs.rs"]
mod blobs;
#[path = "support/desk.rs"]
mod desk;
#[path = "support/names.rs"]
mod names;
#[path = "support/wire.rs"]
mod wire;

use desk::Desk;
use names::is_name;
use wire::{MAX_SILENCE, Refused, Request, Response};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const MAX_CONNECTIONS: usize = 256;
const MAX_WATCHED: usize = 100;
const KEEP_BLOBS: u64 = 30 * 24 * 60 * 60;
const SHORTLY: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let (mut address, mut folder) = ("127.0.0.1:7001".to_owned(), PathBuf::from("relay-data"));
    let (mut forget, mut keep_blobs) = (None, KEEP_BLOBS);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data" => folder = arguments.next().ok_or("--data FOLDER")?.into(),
            "--forget" => forget = Some(arguments.next().ok_or("--forget NAME")?),
            "--keep" => keep_blobs = arguments.next().ok_or("--keep SECONDS")?.parse()?,
            _ => address = argument,
        }
    }
    let desk = Desk::open(&folder, keep_blobs)?;
    if let Some(user) = forget {
        desk.forget(&user)?;
    }
    let relay = Arc::new(Relay { desk, bell: Bell::default() });
    let listener = TcpListener::bind(address)?;
    println!("relay: listening on {}", listener.local_addr()?);
    loop {
        // Each connection holds a reference to the relay.
        let Some((socket, _)) = (Arc::strong_count(&relay) <= MAX_CONNECTIONS)
            .then(|| listener.accept().ok())
            .flatten()
        else {
            thread::sleep(SHORTLY);
            continue;
        };
        let relay = Arc::clone(&relay);
        let connection = move || {
            if let Err(error) = relay.serve(&socket) {
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
}

impl Relay {
    /// Answers requests and gives notices at the same time, until either fails.
    fn serve(&self, socket: &TcpStream) -> Result<()> {
        socket.set_write_timeout(Some(Duration::from_secs(MAX_SILENCE)))?;
        socket.set_nodelay(true)?;
        let connection = Connection {
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
            Some(other) => {
                connection.write(&wire::encode(&self.desk.answer(None, other)?)?)?;
                return self.answer(None, &connection);
            }
        };
        connection.write(&wire::encode(&Response::Done)?)?;
        thread::scope(|scope| {
            let notices = thread::Builder::new().spawn_scoped(scope, || {
                let ended = self.notify(&from, &connection);
                let failed = connection.is_open.load(Ordering::SeqCst);
                socket.shutdown(Shutdown::Both).ok();
                if failed { ended } else { Ok(()) }
            })?;
            let ended = self.answer(Some(&from), &connection);
            connection.is_open.store(false, Ordering::SeqCst);
            socket.shutdown(Shutdown::Both).ok();
            self.bell.ring();
            notices.join().unwrap_or_else(|_| Err("a thread panicked".into())).and(ended)
        })
    }

    /// Requests, until the connection ends.
    fn answer(&self, from: Option<&Address>, connection: &Connection<'_>) -> Result<()> {
        while let Some(request) = read(connection.socket)? {
            let is_news = matches!(request, Request::Send { .. } | Request::Upload(_));
            let wanted = match &request {
                Request::Devices(user) => Some(user.clone()),
                _ => None,
            };
            let response = self.desk.answer(from, request)?;
            let missed = wanted.filter(|_| matches!(response, Response::Found(None)));
            let is_watched = missed.is_some_and(|user| connection.watch(user));
            connection.write(&wire::encode(&response)?)?;
            if is_news || is_watched {
                self.bell.ring();
            }
        }
        Ok(())
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
            heard = self.bell.wait(heard);
        }
        Ok(())
    }
}

/// A connection to a device, which two threads share.
struct Connection<'a> {
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

    /// Waits until it has rung other than `heard` times, and returns how often.
    fn wait(&self, heard: u64) -> u64 {
        let rings = lock(&self.rings);
        *self
            .rang
            .wait_while(rings, |rings| *rings == heard)
            .unwrap_or_else(PoisonError::into_inner)
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
