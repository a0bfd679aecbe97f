//! Looks for secrets in all memory that was freed.

use std::process::ExitCode;

use subrosa::Error;
use subrosa::store::{Lock, Memory, Redb, Vault};
use subrosa_leaks::{Drawn, archives, calls, clients, groups, sessions, vaults};
use subrosa_marks::memory::{self, Keeper};

#[global_allocator]
static KEEPER: Keeper = Keeper;

fn main() -> ExitCode {
    let mut clean = true;
    for (name, story) in STORIES {
        memory::watch();
        let told = story();
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
                println!("{by}");
            }
        }
        if let Err(error) = &told {
            println!("  {error}");
        }
        clean &= told.is_ok() && report.findings.is_empty() && report.pieces > 0;
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Story = fn() -> Result<(), Error>;

const STORIES: [(&str, Story); 13] = [
    ("sessions", || sessions::tell(3, 2_000, &mut Drawn::new(1)).map(drop)),
    ("sessions without one-time prekeys", || sessions::tell(0, 500, &mut Drawn::new(2)).map(drop)),
    ("skipped messages", || sessions::skip(2_500, 8, &mut Drawn::new(7)).map(drop)),
    ("group messages", || groups::tell(1_500, &mut Drawn::new(9)).map(drop)),
    ("frames of a call", || calls::frames(200, &mut Drawn::new(11))),
    ("a call", || calls::tell(&mut Drawn::new(10))),
    ("locks of a vault", || vaults::lock(&mut Drawn::new(8))),
    ("rows in a vault", || vaults::tell(20, &mut Drawn::new(3))),
    ("archives", || archives::tell(20, &mut Drawn::new(9))),
    ("clients in memory", || {
        clients::tell([Memory::new(), Memory::new(), Memory::new()], 60, &mut Drawn::new(4))
            .map(drop)
    }),
    ("clients in vaults", || {
        let rng = &mut Drawn::new(5);
        let key = [7; 32];
        let mut vault = || Vault::open(Memory::new(), Lock::Key(&key), rng);
        let stores = [vault()?, vault()?, vault()?];
        clients::tell(stores, 60, rng).map(drop)
    }),
    ("clients whose mail is sealed, in vaults", || {
        let rng = &mut Drawn::new(12);
        let key = [7; 32];
        let mut vault = || Vault::open(Memory::new(), Lock::Key(&key), rng);
        let stores = [vault()?, vault()?];
        clients::tell_sealed(stores, 6, rng).map(drop)
    }),
    ("clients in vaults in files", || {
        let folder = tempfile::tempdir().expect("a place for it");
        let rng = &mut Drawn::new(6);
        let mut vault = |name: &str| {
            let lock = Lock::Passphrase("under the rose");
            Vault::open(Redb::open(folder.path().join(name))?, lock, rng)
        };
        let stores = [vault("1")?, vault("2")?, vault("3")?];
        clients::tell(stores, 60, rng).map(drop)
    }),
];
