//! In the place of `src/crypto/mark.rs`.

pub(crate) fn public<T: Copy>(value: T) -> T {
    subrosa_marks::public(value)
}

pub(crate) fn wiped(secret: &[u8]) {
    subrosa_marks::wiped(secret);
}
