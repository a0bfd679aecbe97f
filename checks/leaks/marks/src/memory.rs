//! An allocator that gives nothing back: what was freed is kept as it was left, and looked through
//! in the end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The allocator of a program that is looked through.
#[derive(Debug)]
pub struct Keeper;

/// What was looked through.
#[derive(Debug)]
pub struct Report {
    pub blocks: usize,
    pub bytes: usize,
    /// How many pieces of secrets there were to look for.
    pub pieces: usize,
    pub findings: Vec<Finding>,
}

/// A block that was freed with a secret in it.
#[derive(Debug)]
pub struct Finding {
    pub length: usize,
    /// Where in it the first piece of a secret is.
    pub offset: usize,
    pub piece: [u8; PIECE],
    /// Who freed it, where `SUBROSA_LEAKS_TRACE` names its length.
    pub by: Option<Backtrace>,
}

/// A secret is looked for in pieces of so many bytes: fewer could be there by chance.
const PIECE: usize = 16;

struct State {
    /// Lengths of blocks of which it is kept who frees them.
    traced: Vec<usize>,
    /// A piece of which it is said who makes it.
    sought: Option<u128>,
    freed: Vec<Freed>,
    pieces: HashSet<[u8; PIECE]>,
    public: HashSet<[u8; PIECE]>,
}

struct Freed {
    start: usize,
    layout: Layout,
    by: Option<Backtrace>,
}

/// There is one while something is watched.
static STATE: Mutex<Option<State>> = Mutex::new(None);

thread_local! {
    /// What happens in here is not watched.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every block is the system allocator's, and goes back to it once at most, with the layout
// it was asked for with.
unsafe impl GlobalAlloc for Keeper {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Whatever is in a block, its owner wrote.
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if !keep(start, layout) {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(start, layout) }
        }
    }

    // `realloc` is the trait's: a new block, a copy, and the old block freed as it was left.
}

/// Keeps what is freed from now on.
pub fn watch() {
    let traced = std::env::var("SUBROSA_LEAKS_TRACE").unwrap_or_default();
    let traced = traced.split(',').filter_map(|length| length.parse().ok()).collect();
    let sought = std::env::var("SUBROSA_LEAKS_PIECE").ok();
    let sought = sought.and_then(|piece| u128::from_str_radix(&piece, 16).ok());
    inside(|state| {
        *state = Some(State {
            traced,
            sought,
            freed: Vec::new(),
            pieces: HashSet::new(),
            public: HashSet::new(),
        })
    });
}

/// To look for, to the last byte. What is all one byte is no secret yet, or not any more.
pub(crate) fn remember(secret: &[u8]) {
    inside(|state| {
        let Some(state) = state else { return };
        let is_sought = |piece: &[u8; PIECE]| Some(u128::from_be_bytes(*piece)) == state.sought;
        if secret.array_windows().any(is_sought) {
            eprintln!("a secret of {} bytes:\n{}", secret.len(), Backtrace::force_capture());
        }
        let pieces = secret.as_chunks::<PIECE>().0.iter().chain(secret.last_chunk());
        state.pieces.extend(pieces.filter(|piece| piece.iter().any(|byte| *byte != piece[0])));
    });
}

/// Not to look for: it is the form in which something secret is sent, say.
pub(crate) fn forget<T: Copy>(value: T) {
    inside(|state| {
        let Some(state) = state else { return };
        // SAFETY: whoever calls has no padding in it.
        let bytes =
            unsafe { std::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>()) };
        state.public.extend(bytes.as_chunks::<PIECE>().0);
    });
}

/// Looks through all that was freed, and ends the watch.
///
/// # Panics
/// Where nothing is watched.
#[must_use]
pub fn look() -> Report {
    let State { freed, mut pieces, public, .. } =
        inside(Option::take).flatten().expect("`watch` comes first");
    pieces.retain(|piece| !public.contains(piece));
    // Most places are passed over by their first two bytes.
    let mut begins = vec![false; 1 << 16];
    pieces
        .iter()
        .for_each(|piece| begins[usize::from(u16::from_le_bytes([piece[0], piece[1]]))] = true);
    let mut report =
        Report { blocks: freed.len(), bytes: 0, pieces: pieces.len(), findings: Vec::new() };
    for Freed { start, layout, by } in freed {
        let start = start as *mut u8;
        // SAFETY: the block was given up by its owner and is not the system's again before it is
        // below. Every byte of it was written, by `alloc` if by nobody else.
        let block = unsafe { std::slice::from_raw_parts(start, layout.size()) };
        let is_secret = |at: &[u8]| {
            let Some(piece) = at.first_chunk::<PIECE>() else { return false };
            begins[usize::from(u16::from_le_bytes([piece[0], piece[1]]))] && pieces.contains(piece)
        };
        if let Some(offset) = block.windows(PIECE).position(is_secret) {
            let (length, piece) = (block.len(), [0; PIECE]);
            let piece = block[offset..].first_chunk().copied().unwrap_or(piece);
            report.findings.push(Finding { length, offset, piece, by });
        }
        report.bytes += block.len();
        // SAFETY: it was asked for with this layout, and kept from going back.
        unsafe { System.dealloc(start, layout) }
    }
    report
}

/// Whether a block that was freed is kept.
fn keep(start: *mut u8, layout: Layout) -> bool {
    inside(|state| {
        let Some(state) = state else { return false };
        let by = state.traced.contains(&layout.size()).then(Backtrace::force_capture);
        state.freed.push(Freed { start: start as usize, layout, by });
        true
    })
    .unwrap_or(false)
}

/// None where this is called by what it does itself.
fn inside<T>(work: impl FnOnce(&mut Option<State>) -> T) -> Option<T> {
    if INSIDE.replace(true) {
        return None;
    }
    let mut state: MutexGuard<'_, Option<State>> =
        STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = work(&mut state);
    drop(state);
    INSIDE.set(false);
    Some(done)
}
