//! The chat's server side over NATS JetStream.
//!
//! ```text
//! subrosa-nats talk                    two people talk, over three servers that this starts
//! subrosa-nats load accounts=200 ...   many do, while servers are killed and connections are cut
//! ```
//!
//! `wire.rs` says what is kept where, `desk.rs` is the server's half, `post.rs` the device's.

mod cluster;
mod desk;
mod device;
mod load;
mod plan;
mod post;
mod process;
mod talk;
mod tally;
mod wire;

use std::env;
use std::time::Duration;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let words = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.split_first() {
        Some((&"talk", [])) => runtime.block_on(talk::talk()),
        Some((&"load", words)) => runtime.block_on(load::run(&plan::Plan::of(words)?)),
        // What a load starts.
        Some((&"desk", [servers, index, count])) => {
            let (index, count) = (index.parse()?, count.parse()?);
            runtime.block_on(desk::Desk::serve(&addresses(servers), index, count))
        }
        Some((&"devices", [servers, process, words @ ..])) => {
            let (plan, process) = (plan::Plan::of(words)?, process.parse()?);
            runtime.block_on(process::run(plan, addresses(servers), process))
        }
        _ => Err("subrosa-nats talk | load [NAME=NUMBER]...".into()),
    }
}

fn addresses(servers: &str) -> Vec<String> {
    servers.split(',').map(str::to_owned).collect()
}

/// Waits until the servers have found each other, and what they keep together is there.
async fn servers_are_up(servers: &[String], replicas: usize) -> Result {
    let mut tries = 0_u32;
    loop {
        let made = match wire::connect(servers, "desk").await {
            Ok(context) => wire::create(&context, replicas).await,
            Err(error) => Err(error),
        };
        tries = tries.saturating_add(1);
        match made {
            Err(error) if tries == 100 => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            Ok(()) => return Ok(()),
        }
    }
}
