//! A device of a user in a browser, as JavaScript sees it: what it knows is in IndexedDB, and any number of tabs share it.
//!
//! What an app would take from here: `rows.rs` and `rows.js` as they are, and `settle.rs`.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use js_sys::Date;
use subrosa::store::Transaction;
use subrosa::{Actions, Address, Error, IdentityKey, Policy, SystemRng, Trust};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

mod failure;
mod history;
mod rows;
mod server;
mod settle;

use failure::{Failure, Result};
use history::{Draft, Line};
use rows::Rows;
use server::Server;

/// A device of a user.
#[wasm_bindgen]
pub struct Device {
    rows: Rows,
    server: Server,
    me: Address,
    /// When to look after the prekeys.
    upload_at: Cell<u64>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the account of a user in this browser; the first time makes it.
    ///
    /// # Errors
    /// An `Error` with a `remedy`, here and below; IndexedDB's as they are.
    pub async fn open(user: &str) -> Result<Self, JsValue> {
        let rows = Rows::open(&format!("subrosa {user}")).await?;
        let me = match rows.act(|actions| Ok(actions.address())).await {
            Err(Failure::Client(Error::NoAccount)) => rows.transact(|tx| begin(tx, user)).await?,
            opened => opened?,
        };
        Ok(Self { rows, server: Server::connect().await?, me, upload_at: Cell::new(0) })
    }

    /// What is written is safe when this resolves, and goes out with [`Device::settle`], whenever that succeeds.
    ///
    /// # Errors
    /// As [`Device::open`]: the text is too long, or the name is none.
    pub async fn write(&self, to: &str, text: String) -> Result<(), JsValue> {
        let line = Line { mine: true, text, at: now_in_seconds(), waiting: true };
        let draft = Draft { to: to.to_owned(), line };
        let written = self.rows.act(|actions| {
            if draft.line.text.len() > Actions::MAX_TEXT {
                return Err(Error::TooLong);
            }
            // Whether that can be a name.
            actions.devices(to)?;
            history::add_draft(&mut actions.rows(), &draft)
        });
        Ok(written.await?)
    }

    /// The last lines of the conversation with somebody, the oldest first; what waits to be encrypted is at the end.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn history(&self, with: &str, most: usize) -> Result<Vec<Line>, JsValue> {
        let lines = self.rows.act(|actions| {
            let mut lines = history::lines(&mut actions.rows(), with, most)?;
            let drafts = history::drafts(&mut actions.rows())?.into_iter();
            lines.extend(drafts.filter(|(_, draft)| draft.to == with).map(|(_, draft)| draft.line));
            Ok(lines)
        });
        Ok(lines.await?)
    }

    /// Does all that is due: takes mail in, sends what waits, looks after the prekeys. Says whether there is anything new, for other tabs to know.
    ///
    /// It may stop anywhere and be called again, in this tab or in another: what is done is committed, what is not is still due.
    ///
    /// # Errors
    /// As [`Device::open`]: try again later.
    pub async fn settle(&self) -> Result<bool, JsValue> {
        Ok(self.do_what_is_due().await?)
    }

    /// What is known of who somebody is; nothing before the first message.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn safety(&self, user: &str) -> Result<Option<Safety>, JsValue> {
        let known = self.rows.act(|actions| actions.safety(user)).await?;
        Ok(known.map(|known| Safety {
            account: known.account,
            trust: known.trust,
            changed_to: known.changed_to,
        }))
    }

    /// The people compared the key that this shows.
    ///
    /// # Errors
    /// As [`Device::open`]: the key is another by now.
    pub async fn verify(&self, user: &str, shown: &Safety) -> Result<(), JsValue> {
        Ok(self.rows.act(|actions| actions.verify(user, &shown.account)).await?)
    }

    /// The person accepts the new key that this shows.
    ///
    /// # Errors
    /// As [`Device::open`]: the key is another by now.
    pub async fn accept(&self, user: &str, shown: &Safety) -> Result<(), JsValue> {
        let Some(new) = shown.changed_to else { return Ok(()) };
        Ok(self.rows.act(|actions| actions.accept(user, &new)).await?)
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
pub struct Safety {
    account: IdentityKey,
    trust: Trust,
    changed_to: Option<IdentityKey>,
}

#[wasm_bindgen]
impl Safety {
    /// `FirstUse`, `Verified` or `Changed`.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn trust(&self) -> String {
        format!("{:?}", self.trust)
    }

    /// The account key that is taken for theirs: what people compare.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn key(&self) -> String {
        self.account.to_string()
    }

    /// The other one that turned up, which somebody has to accept before anything is sent.
    #[wasm_bindgen(getter, js_name = changedTo)]
    #[must_use]
    pub fn changed_to(&self) -> Option<String> {
        self.changed_to.map(|key| key.to_string())
    }
}

/// Another tab may have been first.
fn begin(tx: &mut dyn Transaction, user: &str) -> Result<Address, Error> {
    let policy = Policy::default();
    match Actions::create(tx, &policy, user, now(), &mut SystemRng) {
        Ok(()) | Err(Error::AccountExists) => {}
        Err(error) => return Err(error),
    }
    Actions::within(tx, &policy, |actions| Ok(actions.address()))
}

fn now_in_seconds() -> f64 {
    (Date::now() / 1_000.0).floor()
}

/// As the crate wants it.
fn now() -> u64 {
    Duration::try_from_secs_f64(now_in_seconds()).map_or(0, |since| since.as_secs())
}
