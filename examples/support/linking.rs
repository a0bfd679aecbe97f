//! Linking a new device: both ends.

use std::thread;
use std::time::Duration;

use subrosa::store::{Redb, Vault};
use subrosa::{Client, NewDevice, Role, SystemRng, UnixTime};

use crate::connection::{Connection, Offline};
use crate::rows::Grant;
use crate::wire::{Request, Response};
use crate::{Chat, Result, rows};

/// Shows a code, and waits for a device of the account to answer it.
pub(crate) fn join(store: Vault<Redb>, relay: &str) -> Result<Client<Vault<Redb>>> {
    let device = NewDevice::generate(&mut SystemRng);
    let code = device.code();
    println!("On another device of yours, type:\n/link {}", code.as_str());
    println!("(with \" manager\" at its end, this device can link and remove devices as well)");
    let mut connection = Connection::new(relay.into());
    let grant = loop {
        match connection.ask(&Request::Grant(grant_id(&code))) {
            Ok(Response::Found(Some(grant))) => break grant,
            Ok(_) => thread::sleep(Duration::from_millis(200)),
            Err(Offline) => drop(connection.next(None)),
        }
    };
    Ok(Client::join(store, &device, &grant, UnixTime::now()?, &mut SystemRng)?)
}

/// The part of a code that is no secret: it begins with the identity key.
fn grant_id(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect::<String>()
        .to_ascii_uppercase()
}

impl Chat {
    /// Adds a device. The grant is kept until the relay has it.
    pub(crate) fn link(&mut self, answer: &str) -> Result<()> {
        let (code, role) = match answer.rsplit_once(' ') {
            Some((code, "manager")) => (code, Role::Manager),
            _ => (answer, Role::Device),
        };
        let now = UnixTime::now()?;
        self.client.transact(|client| {
            let grant = client.link(code, role, now, &mut SystemRng)?;
            rows::add_grant(&mut client.rows(), &Grant { id: grant_id(code), grant })
        })?;
        self.screen.say("* linked");
        Ok(())
    }

    /// Gives the relay the grants that new devices wait for.
    pub(crate) fn leave_grants(&mut self) -> Result<()> {
        for (key, Grant { id, grant }) in
            self.client.transact(|client| rows::grants(&mut client.rows()))?
        {
            self.connection.ask(&Request::LeaveGrant { id, grant })?;
            self.client.transact(|client| rows::remove(&mut client.rows(), &key))?;
        }
        Ok(())
    }

    /// Removes a device.
    pub(crate) fn remove(&mut self, device: &str) -> Result<()> {
        let Ok(device) = device.parse() else {
            self.screen.say(
                "* which device? /devices shows their numbers. Out of a group: /remove &roses bob",
            );
            return Ok(());
        };
        self.client.remove_device(device, UnixTime::now()?, &mut SystemRng)?;
        self.screen.say("* removed");
        Ok(())
    }
}
