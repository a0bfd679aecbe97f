//! How do our rows compare with their floors and with the peers, in one run?
//!
//! Ours and the floors are those of the package's own benches. Each row is timed in [`ROUNDS`]
//! rounds, and in each round ours, the floor and the peers one right after the other, so that a
//! machine that is slower for a while is so for all of them; `../table.py` takes the ratios round
//! by round.

#[path = "../disorder.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod disorder;
#[path = "../file.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod file;
#[path = "../group.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod group;
#[path = "../handshake.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod handshake;
#[path = "../ratchet.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod ratchet;
#[path = "../size.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod size;
#[path = "../store.rs"]
#[allow(dead_code, reason = "its main is that of the package's bench")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod store;
#[path = "../support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
#[allow(clippy::duplicate_mod, reason = "each bench of the package names what it needs")]
mod timing;

#[path = "age.rs"]
mod age_files;
#[path = "ratchetx2.rs"]
mod double_ratchet;
mod megolm;
#[path = "mls_rs.rs"]
mod mls_rs_peer;
#[path = "vodozemac.rs"]
mod olm;
#[path = "openmls.rs"]
mod openmls_peer;

use std::time::Duration;

const ROUNDS: usize = 3;

fn main() {
    let mut criterion = timing::criterion(Duration::from_millis(400), Duration::from_millis(1_600));
    let rooms = [
        &handshake::ROWS[..],
        &ratchet::ROWS[..],
        &disorder::ROWS[..],
        &store::ROWS[..],
        &file::ROWS[..],
        &group::ROWS[..],
    ];
    let peers = olm::ROWS.iter().chain(&double_ratchet::ROWS).chain(&age_files::ROWS);
    let peers = peers.chain(&megolm::ROWS).chain(&openmls_peer::ROWS).chain(&mls_rs_peer::ROWS);
    for (name, ours) in rooms.into_iter().flatten() {
        for round in 1..=ROUNDS {
            let mut group = criterion.benchmark_group(format!("{name}.{round}"));
            ours(&mut group);
            peers.clone().filter(|(row, _)| row == name).for_each(|(_, peer)| peer(&mut group));
            group.finish();
        }
    }
    criterion.final_summary();
    ratchet::worst_message();
    size::figures();
    olm::figures();
    double_ratchet::figures();
    group::figures();
    megolm::figures();
    openmls_peer::figures();
    mls_rs_peer::figures();
}
