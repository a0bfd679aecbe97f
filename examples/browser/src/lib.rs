//! A device of a user in a browser, as JavaScript sees it: what it knows is in IndexedDB, and any
//! number of tabs share it.
//!
//! What an app would take from here: `rows.rs` and `rows.js` as they are, and `settle.rs`.

use std::cell::Cell;
use std::fmt;

use js_sys::Date;
use subrosa::store::Transaction;
use subrosa::{Address, Client, Error, Policy, Progress, SystemRng, UnixTime, UserTrust};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

mod archives;
mod calls;
mod failure;
mod files;
mod groups;
mod history;
mod rows;
mod server;
mod settle;
mod verification;

use failure::{Failure, Result};
use history::Line;
use rows::Rows;
use server::Server;

/// A device of a user.
#[wasm_bindgen]
pub struct Device {
    rows: Rows,
    server: Server,
    me: Address,
    /// Whether the server knew the device when it was last asked for mail.
    is_known: Cell<bool>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the account of a user in this browser; the first time makes it. `on` is a name for the
    /// device, where the browser has several of one user.
    ///
    /// # Errors
    /// An `Error` with a `remedy`, here and below; IndexedDB's as they are.
    pub async fn open(user: &str, on: &str) -> Result<Self, JsValue> {
        let rows = Rows::open(&database(user, on)).await?;
        // Whatever the store is a copy of: the server is asked first what it holds.
        let opened = rows.act(|client| client.connected().map(|()| client.address().clone()));
        let me = match opened.await {
            Err(Failure::Client(Error::NoAccount)) => rows.transact(|tx| begin(tx, user)).await?,
            opened => opened?,
        };
        Ok(Self { rows, server: Server::connect().await?, me, is_known: Cell::default() })
    }

    /// What is written is safe when this resolves. It goes out with [`Device::send`], whenever
    /// that succeeds.
    ///
    /// # Errors
    /// As [`Device::open`]: the text is too long, or the name is none.
    pub async fn write(&self, to: &str, text: String) -> Result<(), JsValue> {
        let written = self.rows.act(|client| {
            let now = now()?;
            let message = settle::write(client, to, text.as_bytes(), now)?;
            let waiting = client.progress(message)? == Progress::Waiting;
            let line = Line { waiting, ..Line::written(text.clone(), message, now) };
            history::add_line(&mut client.rows(), to, &line)
        });
        Ok(written.await?)
    }

    /// The last lines of the conversation with somebody, the oldest first.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn history(&self, with: &str, most: usize) -> Result<Vec<Line>, JsValue> {
        let lines = self.rows.act(|client| {
            let mut lines = history::lines(&mut client.rows(), with, most)?;
            for (key, line) in lines.iter_mut().filter(|(_, line)| line.waiting) {
                let Some(message) = line.message else { continue };
                if client.progress(message)? != Progress::Waiting {
                    line.waiting = false;
                    history::put_line(&mut client.rows(), key, line)?;
                }
            }
            Ok(lines.into_iter().map(|(_, line)| line).collect())
        });
        Ok(lines.await?)
    }

    /// Takes in the mail that has come. Says whether there is anything new, for other tabs to know.
    ///
    /// It may stop anywhere and be called again, in this tab or in another, or in both at once:
    /// each message is shown once.
    ///
    /// # Errors
    /// As [`Device::open`]: try again later.
    pub async fn receive(&self) -> Result<bool, JsValue> {
        Ok(self.take_mail_in().await?)
    }

    /// Does the tasks of the client: what was written goes out. Says whether there is anything new,
    /// for other tabs to know.
    ///
    /// It may stop anywhere, and the next call goes on there. Two tabs must not do this at once, or
    /// one of them may send what was written later while the other one is still sending what was
    /// written earlier.
    ///
    /// # Errors
    /// As [`Device::open`]: try again later.
    pub async fn send(&self) -> Result<bool, JsValue> {
        Ok(self.do_tasks().await?)
    }

    /// In how many milliseconds [`Device::send`] has something to do, if nothing happens before.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[wasm_bindgen(js_name = nextDue)]
    pub async fn next_due(&self) -> Result<f64, JsValue> {
        let wait = self.rows.act(|client| {
            let now = now()?;
            Ok(client.next_due(now)?.as_secs().saturating_sub(now.as_secs()))
        });
        Ok(u32::try_from(wait.await?).map_or(f64::INFINITY, f64::from) * 1_000.0)
    }

    /// What is known of who somebody is; nothing before the first message.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn trust(&self, user: &str) -> Result<Option<Known>, JsValue> {
        Ok(self.rows.act(|client| client.trust(user)).await?.map(Known))
    }

    /// The person accepts the new key that this shows.
    ///
    /// # Errors
    /// As [`Device::open`]: the key is another by now.
    #[wasm_bindgen(js_name = acceptNewKey)]
    pub async fn accept_new_key(&self, user: &str, shown: &Known) -> Result<(), JsValue> {
        let Some(new) = shown.0.new_account else { return Ok(()) };
        let accepted =
            self.rows.act(|client| client.accept_new_key(user, &new, now()?, &mut SystemRng));
        Ok(accepted.await?)
    }
}

/// Shows whose it is.
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.me)
    }
}

/// What is known of who somebody is.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Known(UserTrust);

#[wasm_bindgen]
impl Known {
    /// `FirstUse`, `Verified` or `Unaccepted`.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn trust(&self) -> String {
        format!("{:?}", self.0.trust)
    }

    /// The other one that turned up, which somebody has to accept before anything is sent.
    #[wasm_bindgen(getter, js_name = newKey)]
    #[must_use]
    pub fn new_key(&self) -> Option<String> {
        self.0.new_account.map(|key| key.to_string())
    }
}

/// Another tab may have been first.
fn begin(tx: &mut dyn Transaction, user: &str) -> Result<Address, Error> {
    match Client::create_within(tx, user, now()?, &mut SystemRng) {
        Ok(()) | Err(Error::AccountExists) => {}
        Err(error) => return Err(error),
    }
    Client::within(tx, &Policy::default(), |client| Ok(client.address().clone()))
}

/// The database of a device.
fn database(user: &str, on: &str) -> String {
    match on {
        "" => format!("subrosa {user}"),
        on => format!("subrosa {user} on {on}"),
    }
}

/// By the clock of the browser.
fn now() -> Result<UnixTime, Error> {
    let since = std::time::Duration::try_from_secs_f64(Date::now() / 1_000.0);
    UnixTime::from_secs(since.map_or(0, |since| since.as_secs()))
}
