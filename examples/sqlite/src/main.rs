//! A message and the app's own row about it, in one transaction of SQLite.
//!
//! `cargo run --manifest-path examples/sqlite/Cargo.toml -- chat.db`

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::params;
use subrosa::store::{Memory, Table};
use subrosa::{Actions, Address, Client, Policy, SystemRng};
use subrosa_sqlite::Sqlite;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (rng, policy) = (&mut SystemRng, Policy::default());

    // Bob keeps everything in SQLite: what the client needs, and the messages that his app shows.
    let mut store = Sqlite::open(path)?;
    store.with(|sql, rows| -> Result<(), Box<dyn Error>> {
        sql.execute_batch(
            "create table if not exists messages (id integer primary key, sender text, text blob)",
        )?;
        // The app's small things may also be among the client's rows.
        Ok(rows.put(Table::App, b"theme", b"dark")?)
    })?;
    let mut bob = Client::create(&mut store, "bob", now, rng)?;
    let mut upload = bob.upload(0, now, rng)?.ok_or("nothing to upload")?;

    // Alice, somewhere else, writes to him.
    let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    alice.take_devices("bob", &upload.devices.encode())?;
    let bundle = upload.prekeys.take_bundle().ok_or("no bundle")?.encode();
    alice.take_bundle(&Address::new("bob", 1), &bundle, now, rng)?;
    alice.encrypt("bob", b"under the rose", now, rng)?;
    for outgoing in alice.outbox(10)? {
        bob.receive(alice.address(), &outgoing.envelope, now, rng)?;
    }

    // From the inbox into the app's table: both happen, or neither.
    store.with(|sql, rows| -> Result<(), Box<dyn Error>> {
        Actions::within(rows, &policy, |actions| {
            for incoming in actions.inbox(10)? {
                let row = params![incoming.from.user, incoming.text.as_slice()];
                sql.execute("insert into messages (sender, text) values (?, ?)", row)?;
                actions.done(incoming.id)?;
            }
            Ok(())
        })
    })?;
    store.with(|sql, rows| -> Result<(), Box<dyn Error>> {
        let (sender, text): (String, Vec<u8>) =
            sql.query_row("select sender, text from messages", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        println!("{sender}: {}", String::from_utf8_lossy(&text));
        println!("in the inbox: {}", rows.scan(Table::Inbox, &[], 10)?.len());
        let mut count = sql.prepare("select name, count(*) from subrosa group by name")?;
        for row in
            count.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))?
        {
            let (table, rows) = row?;
            println!("{table}: {rows} rows");
        }
        Ok(())
    })
}
