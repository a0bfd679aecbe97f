//! A server for `chat`: it keeps device lists, prekeys, mailboxes, and grants for new devices. It sees ciphertext alone.
//!
//! ```text
//! cargo run --release --example relay -- [ADDRESS] [--data FOLDER] [--forget NAME]
//! ```
//!
//! What it keeps survives a restart; `--forget` frees a name, whose owner has lost every device. The protocol is in
//! `support/wire.rs`, what is kept in `support/desk.rs`.
//!
//! It believes whoever connects the name that they give. That costs nobody a secret, but somebody may take mail away and use up
//! prekeys: a real server has its users log in, speaks TLS, and limits how many bundles it hands to whom.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use subrosa::Address;

#[path = "support/desk.rs"]
mod desk;
#[path = "support/wire.rs"]
mod wire;

use desk::Desk;
use wire::{MAX_SILENCE, Request, Response};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const MAX_CONNECTIONS: usize = 256;
const SHORTLY: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let (mut address, mut folder, mut forget) =
        ("127.0.0.1:7001".to_owned(), PathBuf::from("relay-data"), None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data" => folder = arguments.next().ok_or("--data FOLDER")?.into(),
            "--forget" => forget = Some(arguments.next().ok_or("--forget NAME")?),
            _ => address = argument,
        }
    }
    let desk = Desk::open(&folder)?;
    if let Some(user) = forget {
        desk.forget(&user)?;
    }
    let relay = Arc::new(Relay { desk, posted: Bell::default() });
    let listener = TcpListener::bind(address)?;
    println!("relay: listening on {}", listener.local_addr()?);
    loop {
        // Each connection holds a reference to the relay.
        let Some((socket, _)) =
            (Arc::strong_count(&relay) <= MAX_CONNECTIONS).then(|| listener.accept().ok()).flatten()
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
    /// Rings when there is new mail, for any device.
    posted: Bell,
}

impl Relay {
    /// Answers requests and hands out mail at the same time, until either fails.
    fn serve(&self, socket: &TcpStream) -> Result<()> {
        socket.set_write_timeout(Some(Duration::from_secs(MAX_SILENCE)))?;
        socket.set_nodelay(true)?;
        let writer = Mutex::new(socket);
        let from = match read(socket)? {
            None => return Ok(()),
            Some(Request::Hello(from)) => from,
            Some(other) => {
                write(&writer, &wire::encode(&self.desk.answer(None, other)?)?)?;
                return self.answer(None, socket, &writer);
            }
        };
        write(&writer, &wire::encode(&Response::Done)?)?;
        let open = AtomicBool::new(true);
        thread::scope(|scope| {
            let mail = thread::Builder::new().spawn_scoped(scope, || {
                let ended = self.push(&from, &writer, &open);
                let failed = open.load(Ordering::SeqCst);
                socket.shutdown(Shutdown::Both).ok();
                if failed { ended } else { Ok(()) }
            })?;
            let ended = self.answer(Some(&from), socket, &writer);
            open.store(false, Ordering::SeqCst);
            socket.shutdown(Shutdown::Both).ok();
            self.posted.ring();
            mail.join().unwrap_or_else(|_| Err("a thread panicked".into())).and(ended)
        })
    }

    /// Requests, until the connection ends.
    fn answer(&self, from: Option<&Address>, socket: &TcpStream, writer: &Mutex<&TcpStream>) -> Result<()> {
        while let Some(request) = read(socket)? {
            let is_mail = matches!(request, Request::Send { .. });
            let response = self.desk.answer(from, request)?;
            if is_mail {
                self.posted.ring();
            }
            write(writer, &wire::encode(&response)?)?;
        }
        Ok(())
    }

    /// Hands out the mail of a device, both waiting and new, while the connection is open.
    fn push(&self, to: &Address, writer: &Mutex<&TcpStream>, open: &AtomicBool) -> Result<()> {
        let (mut heard, mut next) = (self.posted.rings(), 0);
        while open.load(Ordering::SeqCst) {
            while let Some((number, frame)) = self.desk.mail(to, next)? {
                write(writer, &frame)?;
                next = number.saturating_add(1);
            }
            heard = self.posted.wait(heard);
        }
        Ok(())
    }
}

/// Wakes every thread that waits for it.
#[derive(Default)]
struct Bell {
    rings: Mutex<u64>,
    rang: Condvar,
}

impl Bell {
    fn ring(&self) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        *rings = rings.wrapping_add(1);
        self.rang.notify_all();
    }

    /// How often it rang so far.
    fn rings(&self) -> u64 {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has rung other than `heard` times, and returns how often.
    fn wait(&self, heard: u64) -> u64 {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        *self.rang.wait_while(rings, |rings| *rings == heard).unwrap_or_else(PoisonError::into_inner)
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

/// Who does not read is disconnected.
fn write(writer: &Mutex<&TcpStream>, frame: &[u8]) -> Result<()> {
    let mut socket = writer.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(socket.write_all(frame)?)
}
