//! Linking a new device: both ends.

use std::thread;
use std::time::Duration;

use subrosa::store::{Redb, Vault};
use subrosa::{Client, Error, NewDevice, SystemRng};

use crate::connection::{Connection, Offline};
use crate::rows::{Grant, Kind};
use crate::wire::{Request, Response};
use crate::{Chat, Result, now, rows};

/// Shows a code, and waits for a device of the account to answer it.
pub(crate) fn join(store: Vault<Redb>, relay: &str) -> Result<Client<Vault<Redb>>, Error> {
    let device = NewDevice::generate(&mut SystemRng);
    let code = device.code();
    println!("On another device of yours, type:\n/link {}", code.as_str());
    let mut connection = Connection::new(relay.into());
    let grant = loop {
        match connection.ask(&Request::Grant(grant_id(&code))) {
            Ok(Response::Found(Some(grant))) => break grant,
            Ok(_) => thread::sleep(Duration::from_millis(200)),
            Err(Offline) => drop(connection.next()),
        }
    };
    Client::join(store, &device, &grant, now(), &mut SystemRng)
}

/// Of the code, what is no secret: it begins with the identity key.
fn grant_id(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>().to_ascii_uppercase()
}

impl Chat {
    /// The grant is kept until the relay has it: a device is added to the list once.
    pub(crate) fn link(&mut self, code: &str) -> Result<()> {
        self.client.transact(|actions| {
            let grant = actions.link(code, false, now(), &mut SystemRng)?;
            rows::add(&mut actions.rows(), Kind::Grant, &Grant { id: grant_id(code), grant })
        })?;
        self.upload_due = true;
        self.show("* linked");
        Ok(())
    }
}
