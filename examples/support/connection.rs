//! What comes to the chat from outside: lines that a person types, and frames of the relay. One
//! thread waits for each, and one queue has all of it, so that the chat itself is a plain loop.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::screen::{Screen, Typed};
use crate::unnamed::Unnamed;
use crate::wire::{self, MAX_SILENCE, Mail, Request, Response};

pub(crate) enum Event {
    Typed(Typed),
    Mail(Mail),
    /// The relay has a new device list of a user.
    NewDevices(String),
    /// Say hello, and go on with what is due.
    Connected,
    /// The relay cannot be reached. Said once until it can.
    Lost,
    /// Nothing happened until the time at which there was more to do.
    Due,
    /// The relay was asked for nothing for a while: time for a ping.
    Idle,
}

/// The relay cannot be reached. The connection is made anew; then ask again.
#[derive(Debug)]
pub(crate) struct Offline;

pub(crate) struct Connection {
    address: String,
    socket: Option<TcpStream>,
    /// Of this connection: what still comes from earlier ones does not count.
    number: u64,
    retry_at: Instant,
    delay: Duration,
    /// When the relay was asked for something last.
    asked_at: Instant,
    lost: bool,
    arrivals: Receiver<Arrival>,
    arrived: SyncSender<Arrival>,
    waiting: VecDeque<Event>,
}

enum Arrival {
    Typed(Typed),
    Frame(u64, Response),
    Closed(u64),
    /// A user whom the relay did not know is there.
    Registered(String),
}

/// A relay that answers later than this counts as away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A relay that was asked for nothing for so long is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(MAX_SILENCE / 12);

impl Connection {
    pub(crate) fn new(address: String) -> Self {
        let (arrived, arrivals) = sync_channel(64);
        let now = Instant::now();
        Self {
            address,
            socket: None,
            number: 0,
            retry_at: now,
            delay: FIRST_DELAY,
            asked_at: now,
            lost: false,
            arrivals,
            arrived,
            waiting: VecDeque::new(),
        }
    }

    /// From now on what is typed comes as well.
    pub(crate) fn read_from(&self, screen: Screen) {
        let arrived = self.arrived.clone();
        thread::spawn(move || {
            let give = |typed| arrived.send(Arrival::Typed(typed)).is_ok();
            if screen.gives_keys() {
                read_keys(&screen, give);
            } else {
                let mut lines = io::stdin().lock().lines().map_while(Result::ok);
                while lines.next().is_some_and(|line| give(Typed::Line(line))) {}
            }
            arrived.send(Arrival::Typed(Typed::End)).ok();
        });
    }

    /// Waits for a user whom the relay does not know, on a connection that does not say who waits.
    pub(crate) fn await_devices(&self, user: &str) {
        let (user, arrived) = (user.to_owned(), self.arrived.clone());
        let mut unnamed = Unnamed::new(self.address.clone());
        thread::spawn(move || {
            loop {
                match unnamed.ask(&user, &Request::AwaitDevices(user.clone())) {
                    Ok(Response::Found(Some(_))) => break,
                    Ok(Response::Found(None)) => {}
                    Ok(_) | Err(Offline) => thread::sleep(LAST_DELAY),
                }
            }
            arrived.send(Arrival::Registered(user)).ok();
        });
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.socket.is_some()
    }

    /// Waits for what happens next; connects whenever there is no connection, at longer and
    /// longer intervals. Returns when `due` has come, if there is a connection.
    pub(crate) fn next(&mut self, due: Option<Instant>) -> Event {
        loop {
            let now = Instant::now();
            if !self.is_up() && self.retry_at <= now {
                if self.connect().is_ok() {
                    self.lost = false;
                    return Event::Connected;
                }
                self.hang_up();
            }
            if !self.is_up() && !self.lost {
                self.lost = true;
                return Event::Lost;
            }
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            let idle = IDLE.saturating_sub(self.asked_at.elapsed());
            let due = due.map(|due| due.saturating_duration_since(now));
            let (wait, event) = match due.filter(|due| *due < idle) {
                _ if !self.is_up() => (self.retry_at.saturating_duration_since(now), None),
                Some(due) => (due, Some(Event::Due)),
                None => (idle, Some(Event::Idle)),
            };
            match (self.arrivals.recv_timeout(wait), event) {
                (Ok(arrival), _) => drop(self.sort(arrival)),
                (Err(RecvTimeoutError::Timeout), Some(event)) => return event,
                (Err(_), _) => {}
            }
        }
    }

    /// One request, one response. Notices and lines that come in between wait.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Response, Offline> {
        let frame = wire::encode(request).map_err(|_| Offline)?;
        let mut socket = self.socket.as_ref().ok_or(Offline)?;
        self.asked_at = Instant::now();
        if socket.write_all(&frame).is_err() {
            self.hang_up();
        }
        let until = Instant::now().checked_add(PATIENCE);
        while self.is_up() {
            let left =
                until.map_or(PATIENCE, |until| until.saturating_duration_since(Instant::now()));
            match self.arrivals.recv_timeout(left) {
                Ok(arrival) => {
                    if let Some(response) = self.sort(arrival) {
                        self.delay = FIRST_DELAY;
                        return Ok(response);
                    }
                }
                Err(_) => self.hang_up(),
            }
        }
        Err(Offline)
    }

    /// Puts an event into its place; what is left is a response.
    fn sort(&mut self, arrival: Arrival) -> Option<Response> {
        match arrival {
            Arrival::Typed(typed) => self.waiting.push_back(Event::Typed(typed)),
            Arrival::Frame(number, Response::Mail(mail)) if number == self.number => {
                self.waiting.push_back(Event::Mail(mail));
            }
            Arrival::Frame(number, Response::NewDevices(user)) if number == self.number => {
                self.waiting.push_back(Event::NewDevices(user));
            }
            Arrival::Frame(number, response) if number == self.number => return Some(response),
            Arrival::Registered(user) => self.waiting.push_back(Event::NewDevices(user)),
            Arrival::Closed(number) if number == self.number => self.hang_up(),
            Arrival::Frame(..) | Arrival::Closed(_) => {}
        }
        None
    }

    fn connect(&mut self) -> io::Result<()> {
        let mut addresses = self.address.to_socket_addrs()?;
        let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut reader = socket.try_clone()?;
        let (number, arrived) = (self.number, self.arrived.clone());
        thread::spawn(move || {
            while let Ok(response) = read(&mut reader) {
                if arrived.send(Arrival::Frame(number, response)).is_err() {
                    return;
                }
            }
            arrived.send(Arrival::Closed(number)).ok();
        });
        self.socket = Some(socket);
        Ok(())
    }

    /// Until the next attempt.
    fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
        self.number = self.number.saturating_add(1);
        self.retry_at = Instant::now().checked_add(self.delay).unwrap_or(self.retry_at);
        self.delay = self.delay.saturating_mul(2).min(LAST_DELAY);
    }
}

/// Letters, in UTF-8. What the arrows and the like send is left out.
fn read_keys(screen: &Screen, give: impl Fn(Typed) -> bool) {
    let mut letter = Vec::new();
    let mut escaped = false;
    for byte in io::stdin().lock().bytes().map_while(Result::ok) {
        if escaped {
            escaped = byte == b'[' || byte == b'O' || byte == b';' || byte.is_ascii_digit();
            continue;
        }
        escaped = byte == 0x1b;
        if escaped {
            continue;
        }
        letter.push(byte);
        let key = std::str::from_utf8(&letter).ok().and_then(|text| text.chars().next());
        if key.is_none() && letter.len() < 4 {
            continue;
        }
        letter.clear();
        if let Some(typed) = key.and_then(|key| screen.key(key))
            && !give(typed)
        {
            return;
        }
    }
}

pub(crate) fn read(reader: &mut TcpStream) -> io::Result<Response> {
    let mut head = [0; 4];
    reader.read_exact(&mut head)?;
    let mut value = vec![0; wire::length(head).ok_or(io::ErrorKind::InvalidData)?];
    reader.read_exact(&mut value)?;
    wire::decode(&value).map_err(|_| io::ErrorKind::InvalidData.into())
}
