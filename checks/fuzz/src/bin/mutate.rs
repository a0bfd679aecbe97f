//! Runs a target without a fuzzer's help: first every file of a folder, then changes of those, for
//! so many seconds.
//!
//! `mutate TARGET FOLDER SECONDS [SEED]`. An input that fails is kept in `artifacts/TARGET/`, and
//! is given to a target again as a folder with it in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use subrosa_fuzz::{TARGETS, Target};

/// No input is longer: what is read from a corpus is cut.
const MOST_BYTES: usize = 16_384;
/// Longer than this no input may take.
const MOST_TIME: Duration = Duration::from_secs(25);
/// The longest a list of what was tried becomes.
const MOST_INPUTS: usize = 4_096;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, folder, seconds, seed @ ..] = &arguments[..] else {
        panic!("mutate TARGET FOLDER SECONDS [SEED]");
    };
    let (_, target) = TARGETS.iter().find(|(known, _)| known == name).expect("a target");
    let seconds = Duration::from_secs(seconds.parse().expect("seconds"));
    let seed = seed.first().map_or(1, |seed| seed.parse().expect("a number"));
    let mut inputs = files(Path::new(folder));
    assert!(!inputs.is_empty(), "{folder} has no inputs");
    for input in &inputs {
        run(name, *target, input);
    }
    let (replayed, begun) = (inputs.len(), Instant::now());
    let (mut dice, mut executions) = (Dice(seed), 0_u64);
    while begun.elapsed() < seconds {
        let input = dice.mutate(&inputs);
        run(name, *target, &input);
        executions += 1;
        // Without coverage nothing tells a good input: a few changes are built upon all the same.
        if dice.below(64) == 0 {
            if inputs.len() < MOST_INPUTS {
                inputs.push(input);
            } else {
                let at = replayed + dice.below(inputs.len() - replayed);
                inputs[at] = input;
            }
        }
    }
    println!("{name}: {replayed} replayed, {executions} executions of changes, seed {seed}");
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it is there").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("it can be read")).collect()
}

/// Ends the program where the target panics or takes too long.
fn run(name: &str, target: Target, input: &[u8]) {
    let begun = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| target(input)));
    if done.is_ok() && begun.elapsed() < MOST_TIME {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    fs::create_dir_all(&folder).expect("a folder is made");
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let path = folder.join(format!("crash-{hash:016x}"));
    fs::write(&path, input).expect("the input is kept");
    eprintln!("{name} failed after {:?}: {}", begun.elapsed(), path.display());
    std::process::exit(1);
}

/// SplitMix64: chooses, and is no secret.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One of the inputs, changed in one to eight places.
    fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..1 << self.below(4) {
            let other = &inputs[self.below(inputs.len())];
            self.change(&mut input, other);
        }
        input.truncate(MOST_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len());
        match self.below(9) {
            0 => self.overwrite(input, at, |dice, byte| byte ^ 1 << dice.below(8)),
            1 => self.overwrite(input, at, |dice, _| dice.next().to_le_bytes()[0]),
            2 => self.overwrite(input, at, |dice, byte| byte.wrapping_add([1, 255][dice.below(2)])),
            3 => input.truncate(at),
            4 => {
                // Out of another input, in place of as much or in between: also what stands for a
                // dictionary.
                let from = self.below(other.len());
                let run = &other[from..][..self.below(other.len() - from + 1)];
                let end = if self.below(2) == 0 { at } else { (at + run.len()).min(input.len()) };
                input.splice(at..end, run.iter().copied());
            }
            5 => {
                // The beginning of this and the end of another one.
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len()).min(other.len())..]);
            }
            6 => {
                let end = (at + 1 + self.below(32)).min(input.len());
                input.drain(at.min(end)..end);
            }
            7 => {
                let end = (at + 1 + self.below(32)).min(input.len());
                let run = input[at.min(end)..end].to_vec();
                input.splice(at..at, run);
            }
            _ => {
                let number = INTERESTING[self.below(INTERESTING.len())].to_be_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                for (byte, new) in input.iter_mut().skip(at).zip(&number[8 - width..]) {
                    *byte = *new;
                }
            }
        }
    }

    fn overwrite(&mut self, input: &mut [u8], at: usize, new: impl Fn(&mut Self, u8) -> u8) {
        if let Some(byte) = input.get_mut(at) {
            *byte = new(self, *byte);
        }
    }
}

/// The ends of the widths, and of the crate's limits.
const INTERESTING: [u64; 20] = [
    0,
    1,
    2,
    16,
    17,
    32,
    33,
    127,
    128,
    255,
    256,
    2_000,
    2_001,
    25_000,
    25_001,
    65_535,
    1 << 16,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];
