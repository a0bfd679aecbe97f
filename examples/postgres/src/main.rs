//! Several worker processes share an account in PostgreSQL with the workers of another one, all encrypting and decrypting at the
//! same time. `examples/postgres/run.sh` makes a database for it:
//!
//! ```text
//! examples/postgres/run.sh [WORKERS OF EACH ACCOUNT] [MESSAGES OF EACH WORKER]
//! ```
//!
//! What an app would take from here: `act` and `repeat`.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, error};

use subrosa::store::{Missing, Overlay, Ran, Row};
use subrosa::{Actions, Address, Error, Policy, Received, SystemRng};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client as Connection, IsolationLevel, NoTls, Transaction};

type Result<T, E = Box<dyn error::Error + Send + Sync>> = std::result::Result<T, E>;

const TABLES: &str = "
    create table rows (account text, table_name text, key bytea, value bytea not null,
        primary key (account, table_name, key));
    create table mail (id bigserial primary key, sender text not null, receiver text not null, envelope bytea not null,
        received boolean not null default false);
    create table shown (account text not null, text bytea not null);
    create table worked (repeated bigint not null);";

/// Rounds without anything to do.
const MOST_IDLE: u32 = 6_000;

/// The header's nonce, which is made from the message's key, comes after the envelope's head, the prefix, and the handshake of an initial message.
const CHECK: &str = "
    with nonces as (select substring(envelope from case get_byte(envelope, 19) when 2 then 1665 else 21 end for 12) as nonce
        from mail)
    select (select count(*) from mail), (select count(*) from shown), (select count(distinct text) from shown),
        (select count(*) from (select from nonces group by nonce having count(*) > 1) as twice),
        (select sum(repeated)::bigint from worked)";

const USERS: [&str; 2] = ["alice", "bob"];

/// Runs an operation of an account over the rows of a transaction, and writes what it changes. The inner error is the operation's, and then
/// there is nothing to write.
async fn act<T>(
    tx: &Transaction<'_>,
    account: &str,
    mut work: impl FnMut(&mut Actions<'_>) -> Result<T, Error>,
) -> Result<Result<T, Error>> {
    within(tx, account, |rows, policy| Actions::within(rows, policy, &mut work)).await
}

/// The same, where there may be no account yet.
async fn within<T>(
    tx: &Transaction<'_>,
    account: &str,
    mut work: impl FnMut(&mut dyn subrosa::store::Transaction, &Policy) -> Result<T, Error>,
) -> Result<Result<T, Error>> {
    let (policy, mut overlay) = (Policy::default(), Overlay::new());
    let (done, changes) = loop {
        match overlay.run(|rows| work(rows, &policy)) {
            Ran::Done(done, changes) => break (done, changes),
            Ran::Missing(missing) => {
                let rows = read(tx, account, &missing).await?;
                overlay.supply(missing, rows);
            }
        }
    };
    for change in changes.writes() {
        let (table, key) = (change.table.name(), &change.key);
        match change.value.as_deref() {
            Some(value) => {
                let put = "insert into rows values ($1, $2, $3, $4)
                    on conflict (account, table_name, key) do update set value = excluded.value";
                tx.execute(put, &[&account, &table, key, value]).await?;
            }
            None => {
                let delete = "delete from rows where account = $1 and table_name = $2 and key = $3";
                tx.execute(delete, &[&account, &table, key]).await?;
            }
        }
    }
    Ok(done)
}

async fn read(tx: &Transaction<'_>, account: &str, missing: &Missing) -> Result<Vec<Row>> {
    let (table, key) = (missing.table().name(), missing.key());
    let found = match missing {
        Missing::Scan { most, .. } => {
            // `bytea` is compared by its bytes, as a scan is.
            let scan = "select key, value from rows where account = $1 and table_name = $2 and key >= $3
                and substring(key for length($3)) = $3 order by key limit $4";
            let most = i64::try_from(*most).unwrap_or(i64::MAX);
            tx.query(scan, &[&account, &table, &key, &most]).await?
        }
        _ => {
            let get = "select key, value from rows where account = $1 and table_name = $2 and key = $3";
            tx.query(get, &[&account, &table, &key]).await?
        }
    };
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, Vec<u8>>(1)?.into()))).collect()
}

/// Does a step in a transaction of its own, again from the beginning wherever somebody else came between: SERIALIZABLE says so. How
/// often that was is added to `repeated`. Every operation of an account writes the same one row: with many workers a lock for each account
/// (`pg_advisory_lock`) saves most of the repetitions.
async fn repeat<T>(
    database: &mut Connection,
    repeated: &mut i64,
    mut step: impl AsyncFnMut(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    loop {
        let tx = database.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
        let done = match step(&tx).await {
            Ok(done) => tx.commit().await.map(|()| done).map_err(Into::into),
            Err(error) => Err(error),
        };
        match done {
            Err(error) if is_conflict(error.as_ref()) => *repeated = repeated.saturating_add(1),
            done => return done,
        }
    }
}

fn is_conflict(error: &(dyn error::Error + Send + Sync + 'static)) -> bool {
    let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.is_some_and(|code| {
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
    })
}

/// Writes its texts, sends what is to be sent, receives what comes and shows it, until all texts of all workers are shown.
async fn work(database: &mut Connection, user: &str, peer: &str, texts: &[String], all: i64) -> Result<()> {
    let (mut texts, mut repeated, mut idle) = (texts.iter().peekable(), 0, 0..MOST_IDLE);
    loop {
        if let Some(text) = texts.peek() {
            let written = repeat(database, &mut repeated, async |tx: &Transaction<'_>| {
                act(tx, user, |actions| actions.encrypt(peer, text.as_bytes(), now(), &mut SystemRng)).await
            });
            match written.await? {
                Ok(_) => drop(texts.next()),
                // Until the first message of the peer is here.
                Err(Error::DevicesNeeded(_) | Error::BundlesNeeded(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let sent = repeat(database, &mut repeated, async |tx: &Transaction<'_>| send(tx, user).await).await?;
        let received =
            repeat(database, &mut repeated, async |tx: &Transaction<'_>| receive(tx, user, peer).await)
                .await?;
        let shown =
            repeat(database, &mut repeated, async |tx: &Transaction<'_>| show(tx, user).await).await?;
        if !(sent || received || shown) {
            let count: i64 = database.query_one("select count(*) from shown", &[]).await?.try_get(0)?;
            if count >= all {
                database.execute("insert into worked values ($1)", &[&repeated]).await?;
                return Ok(());
            }
            idle.next().ok_or("there is no end of it")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What leaves the outbox is with the transport in the same transaction.
async fn send(tx: &Transaction<'_>, user: &str) -> Result<bool> {
    let all = act(tx, user, |actions| {
        let all = actions.outbox(4)?;
        all.iter().try_for_each(|outgoing| actions.sent(outgoing.id))?;
        Ok(all)
    });
    let all = all.await??;
    for outgoing in &all {
        let post = "insert into mail (sender, receiver, envelope) values ($1, $2, $3)";
        tx.execute(post, &[&user, &outgoing.to.user, &outgoing.envelope]).await?;
    }
    Ok(!all.is_empty())
}

/// An envelope that no other worker has at this moment.
async fn receive(tx: &Transaction<'_>, user: &str, peer: &str) -> Result<bool> {
    let next = "select id, envelope from mail where receiver = $1 and not received order by id limit 1
        for update skip locked";
    let Some(row) = tx.query_opt(next, &[&user]).await? else { return Ok(false) };
    let (id, envelope): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    let from = Address::new(peer, 1);
    match act(tx, user, |actions| actions.receive(&from, &envelope, now(), &mut SystemRng)).await?? {
        Received::Message(_) | Received::Handled => {}
        other => return Err(format!("{user} received: {other:?}").into()),
    }
    tx.execute("update mail set received = true where id = $1", &[&id]).await?;
    Ok(true)
}

/// What leaves the inbox is in the app's own table in the same transaction.
async fn show(tx: &Transaction<'_>, user: &str) -> Result<bool> {
    let all = act(tx, user, |actions| {
        let all = actions.inbox(4)?;
        all.iter().try_for_each(|incoming| actions.done(incoming.id))?;
        Ok(all)
    });
    let all = all.await??;
    for incoming in &all {
        tx.execute("insert into shown values ($1, $2)", &[&user, &incoming.text.as_slice()]).await?;
    }
    Ok(!all.is_empty())
}

/// Two accounts, of which the first has a bundle of the second.
async fn prepare(database: &mut Connection) -> Result<()> {
    database.batch_execute(TABLES).await?;
    let tx = database.transaction().await?;
    for user in USERS {
        within(&tx, user, |rows, policy| Actions::create(rows, policy, user, now(), &mut SystemRng))
            .await??;
    }
    let [first, second] = USERS;
    let upload = act(&tx, second, |actions| actions.upload(0, now(), &mut SystemRng)).await??;
    let mut upload = upload.ok_or("there is nothing to upload")?;
    act(&tx, second, |actions| actions.uploaded(&upload)).await??;
    let bundle = upload.prekeys.take_bundle().ok_or("there are no prekeys")?.encode();
    let (of, list) = (Address::new(second, 1), upload.devices.encode());
    let take = |actions: &mut Actions<'_>| {
        actions.take_devices(second, &list)?;
        actions.take_bundle(&of, &bundle, now(), &mut SystemRng)
    };
    act(&tx, first, take).await??;
    Ok(tx.commit().await?)
}

/// What went out and came in.
async fn check(database: &Connection, expected: i64) -> Result<String> {
    let row = database.query_one(CHECK, &[]).await?;
    let [envelopes, shown, distinct, used_twice, repeated]: [i64; 5] =
        [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
    let (lost, twice) = (expected.saturating_sub(distinct), shown.saturating_sub(distinct));
    let counts = format!(
        "{expected} messages sent in {envelopes} envelopes, {shown} received, {lost} lost, {twice} shown twice, {used_twice} keys \
         used twice, {repeated} conflicts repeated"
    );
    if [lost, twice, used_twice] == [0; 3] { Ok(counts) } else { Err(counts.into()) }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn connect(url: &str) -> Result<Connection> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// One of the workers.
async fn worker(url: &str, number: usize, texts: usize, all: i64) -> Result<()> {
    let [first, second] = USERS;
    let (user, peer) = if number.is_multiple_of(2) { (first, second) } else { (second, first) };
    let texts: Vec<String> =
        (0..texts).map(|text| format!("{user}'s worker {number}, text {text}")).collect();
    work(&mut connect(url).await?, user, peer, &texts, all).await
}

/// All of them.
async fn workers(url: &str, workers: usize, texts: usize, all: i64) -> Result<()> {
    let mut database = connect(url).await?;
    prepare(&mut database).await?;
    let begun = Instant::now();
    let start = |number: usize| {
        let numbers = [workers, texts, number].map(|number| number.to_string());
        Command::new(env::current_exe()?).arg(url).args(numbers).spawn()
    };
    let processes = (0..workers.saturating_mul(2)).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut process in processes {
        if !process.wait()?.success() {
            return Err("a worker failed".into());
        }
    }
    let took = begun.elapsed();
    println!("{} by {} processes in {took:.1?}", check(&database, all).await?, workers.saturating_mul(2));
    Ok(())
}

async fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("postgres URL WORKERS TEXTS")?;
    let numbers = arguments.map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let all = |count: usize, texts: usize| i64::try_from(count.saturating_mul(texts).saturating_mul(2));
    match *numbers {
        [count, texts] => workers(&url, count, texts, all(count, texts)?).await,
        [count, texts, number] => worker(&url, number, texts, all(count, texts)?).await,
        _ => Err("postgres URL WORKERS TEXTS".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postgres: {error}");
            ExitCode::FAILURE
        }
    }
}
