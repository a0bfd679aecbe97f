//! Connections that carry no name: sealed mail, and the device lists, bundles and blobs that would
//! show the relay who writes to whom.
//!
//! There is one for each user whom it is about, and each ends with the work that it was made for.
//! On a single one the relay would see that one device writes to Bob and to Carol, and sends copies
//! to the other devices of Alice: then it would know the name after all.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::connection::{Offline, PATIENCE, read};
use crate::wire::{self, Request, Response};

pub(crate) struct Unnamed {
    relay: String,
    open: BTreeMap<String, TcpStream>,
}

impl Unnamed {
    pub(crate) const fn new(relay: String) -> Self {
        Self { relay, open: BTreeMap::new() }
    }

    /// One request about a user, one response.
    pub(crate) fn ask(&mut self, about: &str, request: &Request) -> Result<Response, Offline> {
        let frame = wire::encode(request).map_err(|_| Offline)?;
        // The relay may have ended a connection that was open already. What it did not answer it
        // may have done: to do any of it twice does no harm.
        if let Some(socket) = self.open.remove(about)
            && let Ok(response) = self.ask_over(about, socket, &frame)
        {
            return Ok(response);
        }
        let socket = connect(&self.relay).map_err(|_| Offline)?;
        self.ask_over(about, socket, &frame).map_err(|_| Offline)
    }

    fn ask_over(
        &mut self,
        about: &str,
        mut socket: TcpStream,
        frame: &[u8],
    ) -> io::Result<Response> {
        socket.write_all(frame)?;
        let response = read(&mut socket)?;
        self.open.insert(about.into(), socket);
        Ok(response)
    }

    /// The work is done.
    pub(crate) fn hang_up(&mut self) {
        self.open.clear();
    }
}

fn connect(relay: &str) -> io::Result<TcpStream> {
    let address = relay.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
