//! Several worker processes share an account in PostgreSQL: they receive what its peers write, and
//! answer it. `examples/postgres/run.sh` makes a database for it:
//!
//! ```text
//! examples/postgres/run.sh [WORKERS] [TEXTS OF EACH PEER] [PEERS] [MODE]
//! ```
//!
//! The mode is `together`, `apart`, `cold` or `groups`.
//!
//! What an app would take from here: `account.rs` and `database.rs`.

use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{env, error, str};

mod account;
mod database;
mod files;
mod peers;
mod worker;

type Result<T, E = Box<dyn error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How a worker does a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All of it in one transaction.
    Together,
    /// A transaction for each step.
    Apart,
    /// The same, and nothing read is kept from one transaction to the next.
    Cold,
    /// Peers write to groups, with files, and are answered so.
    Groups,
}

impl str::FromStr for Mode {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        match name {
            "together" => Ok(Self::Together),
            "apart" => Ok(Self::Apart),
            "cold" => Ok(Self::Cold),
            "groups" => Ok(Self::Groups),
            _ => Err(USAGE),
        }
    }
}

const USAGE: &str = "postgres URL WORKERS TEXTS PEERS (together | apart | cold | groups)";

/// All workers, and what came of it.
async fn workers(url: &str, [workers, texts, peers]: [usize; 3], mode: &str) -> Result<()> {
    let in_groups = mode.parse::<Mode>()? == Mode::Groups;
    let database = database::connect(url).await?;
    database.batch_execute(database::SCHEMA).await?;
    let mut all = peers::Peers::prepare(url, peers, texts, in_groups).await?;
    let begun = Instant::now();
    let start = |number: usize| {
        let numbers = [workers, number].map(|number| number.to_string());
        Command::new(env::current_exe()?).arg(url).args(numbers).arg(mode).spawn()
    };
    let processes = (0..workers).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut process in processes {
        if !process.wait()?.success() {
            return Err("a worker failed".into());
        }
    }
    let took = begun.elapsed();
    all.check(url).await?;
    let messages = u32::try_from(peers.saturating_mul(texts))?;
    let rate = f64::from(messages) / took.as_secs_f64();
    println!(
        "{workers} workers ({mode}): {messages} messages of {peers} peers received and answered in {took:.1?}, {rate:.0} a second"
    );
    let costs = "select operation, what, sum(count)::bigint from costs group by 1, 2 order by 1, 2";
    for row in database.query(costs, &[]).await? {
        let (operation, what, count): (String, String, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let each = f64::from(i32::try_from(count)?) / f64::from(messages);
        println!("{operation:12} {what:28} {count:8} {each:8.3} a message");
    }
    Ok(())
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [url, count, texts, peers, mode] => {
            // A text that two workers list at the same time would be answered by both.
            if matches!(mode.parse()?, Mode::Apart | Mode::Cold) && count != "1" {
                return Err("apart and cold are for one worker".into());
            }
            workers(url, [count.parse()?, texts.parse()?, peers.parse()?], mode).await
        }
        [url, count, number, mode] => {
            worker::work(url, number.parse()?, count.parse()?, mode.parse()?).await
        }
        _ => Err(USAGE.into()),
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
