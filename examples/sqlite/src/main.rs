//! A message and the app's own row about it, in one transaction of SQLite.
//!
//! `cargo run --package subrosa-sqlite -- chat.db`

use std::error::Error;

use rusqlite::params;
use subrosa::store::{Memory, Table};
use subrosa::{Client, Item, Loopback, Policy, SystemRng, UnixTime};
use subrosa_sqlite::Sqlite;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let (rng, now, policy) = (&mut SystemRng, UnixTime::now()?, Policy::default());

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

    // Alice, somewhere else, writes to him. The server is in memory here.
    let mut server = Loopback::new();
    let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
    server.sync(&mut bob, now, rng)?;
    alice.write("bob", b"under the rose", now, rng)?;
    server.sync(&mut alice, now, rng)?;
    server.sync(&mut bob, now, rng)?;

    // From the inbox into the app's table: both happen, or neither.
    store.with(|sql, rows| -> Result<(), Box<dyn Error>> {
        Client::within(rows, &policy, |client| {
            for incoming in client.inbox(10)? {
                // What is acknowledged is nowhere but in the app's table: nothing is left out.
                let (sender, text) = match &incoming.item {
                    Item::Text(text) | Item::Late(text) => (&*text.from.user, text.text.to_vec()),
                    Item::Group(text) => (&*text.text.from.user, text.text.text.to_vec()),
                    other => ("", format!("{other:?}").into_bytes()),
                };
                let row = params![sender, text];
                sql.execute("insert into messages (sender, text) values (?, ?)", row)?;
                client.acknowledge(incoming.id)?;
            }
            Ok(())
        })
    })?;
    store.with(|sql, rows| -> Result<(), Box<dyn Error>> {
        let (sender, text): (String, Vec<u8>) =
            sql.query_row("select sender, text from messages where sender = 'alice'", [], |row| {
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
