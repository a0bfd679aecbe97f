//! Writes the seeds to `corpus/`, one folder for each target.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    let seeds = subrosa_fuzz::seeds::seeds();
    for (target, name, seed) in &seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), seed)?;
        bytes += seed.len();
    }
    println!("{} seeds, {bytes} bytes", seeds.len());
    Ok(())
}
