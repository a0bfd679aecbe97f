//! Looks for secrets in all memory that was freed: `memory [SEED [STORY]]`, where a story is named by
//! a part of its name.

use std::process::ExitCode;

use subrosa::Error;
use subrosa::store::{Lock, Memory, Redb, Vault};
use subrosa_leaks::{Drawn, archives, calls, clients, groups, members, sessions, vaults};
use subrosa_marks::memory::{self, Keeper};

#[global_allocator]
static KEEPER: Keeper = Keeper;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().map_or(0, |seed| seed.parse().expect("a number"));
    let part = arguments.next().unwrap_or_default();
    let mut clean = true;
    for (number, (name, story)) in (1..).zip(STORIES).filter(|(_, (name, _))| name.contains(&part))
    {
        memory::watch();
        let told = story(&mut Drawn::new(seed * 100 + number));
        let report = memory::look();
        println!(
            "{name}: {} of {} blocks that were freed ({} KiB) hold one of {} pieces of secrets",
            report.findings.len(),
            report.blocks,
            report.bytes / 1024,
            report.pieces,
        );
        for finding in report.findings.iter().take(10) {
            println!("  {} bytes, at {}", finding.length, finding.offset);
            if let Some(by) = &finding.by {
                println!("{:032x}\n{by}", u128::from_be_bytes(finding.piece));
            }
        }
        if let Err(error) = &told {
            println!("  {error}");
        }
        clean &= told.is_ok() && report.findings.is_empty() && report.pieces > 0;
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Story = fn(&mut Drawn) -> Result<(), Error>;

const STORIES: [(&str, Story); 14] = [
    ("sessions", |rng| sessions::tell(3, 2_000, rng).map(drop)),
    ("sessions without one-time prekeys", |rng| sessions::tell(0, 500, rng).map(drop)),
    ("skipped messages", |rng| sessions::skip(2_500, 8, rng).map(drop)),
    ("group messages", |rng| groups::tell(1_500, rng).map(drop)),
    ("frames of a call", |rng| calls::frames(200, rng)),
    ("a call", calls::tell),
    ("locks of a vault", vaults::lock),
    ("rows in a vault", |rng| vaults::tell(20, rng)),
    ("archives", |rng| archives::tell(20, rng)),
    ("clients in memory", |rng| {
        clients::tell([Memory::new(), Memory::new(), Memory::new()], 60, rng).map(drop)
    }),
    ("clients in vaults", |rng| clients::tell(locked(rng)?, 60, rng).map(drop)),
    ("clients whose mail is sealed, in vaults", |rng| {
        clients::tell_sealed(locked(rng)?, 6, rng).map(drop)
    }),
    ("a group of clients in vaults", |rng| members::tell(locked(rng)?, 12, rng).map(drop)),
    ("clients in vaults in files", |rng| {
        let folder = tempfile::tempdir().expect("a place for it");
        let mut vault = |name: &str| {
            let lock = Lock::Passphrase("under the rose");
            Vault::open(Redb::open(folder.path().join(name))?, lock, rng)
        };
        let stores = [vault("1")?, vault("2")?, vault("3")?];
        clients::tell(stores, 60, rng).map(drop)
    }),
];

/// So many empty vaults, in memory.
fn locked<const N: usize>(rng: &mut Drawn) -> Result<[Vault<Memory>; N], Error> {
    let mut all = Vec::with_capacity(N);
    for _ in 0..N {
        all.push(Vault::open(Memory::new(), Lock::Key(&[7; 32]), rng)?);
    }
    Ok(all.try_into().expect("there are so many"))
}
