//! Run it in Valgrind: what depends on a secret is an error there.

use std::process::ExitCode;

use subrosa::Error;
use subrosa_leaks::sessions::Tally;
use subrosa_leaks::{Drawn, calls, groups, sessions, vaults};

fn main() -> ExitCode {
    if !subrosa_marks::is_watched() {
        eprintln!("time: nobody watches; see run.sh");
        return ExitCode::FAILURE;
    }
    match stories(&mut Drawn::new(1)) {
        Ok(Tally { opened, refused, epochs }) => {
            println!(
                "time: {opened} messages opened, {refused} refused, {epochs} post-quantum epochs"
            );
            // Else it was not all there is.
            if opened > 200 && refused > 40 && epochs > 2 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("time: {error}");
            ExitCode::FAILURE
        }
    }
}

fn stories(rng: &mut Drawn) -> Result<Tally, Error> {
    vaults::tell(8, rng)?;
    groups::tell(60, rng)?;
    calls::frames(40, rng)?;
    sessions::tell(0, 50, rng)?;
    sessions::skip(200, 4, rng)?;
    sessions::tell(2, 600, rng)
}
