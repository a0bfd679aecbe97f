//! To Valgrind's memcheck a secret is memory that was never written: it reports each branch and
//! each address that depends on it.

use crabgrind::memcheck::{MemState, mark_mem};
use crabgrind::{RunMode, run_mode};

pub(crate) const SECRET: MemState = MemState::Undefined;
pub(crate) const PUBLIC: MemState = MemState::Defined;

pub(crate) fn mark(start: *mut u8, length: usize, as_what: MemState) {
    // Fails where there is no Valgrind, of which `is_watched` tells.
    let _ = mark_mem(start.cast(), length, as_what);
}

pub(crate) fn public<T: Copy>(mut value: T) -> T {
    mark((&raw mut value).cast(), size_of::<T>(), PUBLIC);
    value
}

pub(crate) fn is_watched() -> bool {
    run_mode() != RunMode::Native
}
