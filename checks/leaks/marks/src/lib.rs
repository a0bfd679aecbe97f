//! Which bytes are secret, told to who checks that they do not leak: Valgrind (`time`), or
//! [`memory`].

#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "time")]
mod time;

/// These bytes are secret from here on: what a generator drew, what a person wrote.
pub fn secret(bytes: &mut [u8]) {
    #[cfg(feature = "time")]
    time::mark(bytes.as_mut_ptr(), bytes.len(), time::SECRET);
    #[cfg(feature = "memory")]
    memory::remember(bytes);
    let _ = bytes;
}

/// These bytes travel: everybody sees them.
pub fn sent(bytes: &mut [u8]) {
    #[cfg(feature = "time")]
    time::mark(bytes.as_mut_ptr(), bytes.len(), time::PUBLIC);
    let _ = bytes;
}

/// See `src/crypto/mark.rs`.
#[must_use]
pub fn public<T: Copy>(value: T) -> T {
    #[cfg(feature = "time")]
    let value = time::public(value);
    #[cfg(feature = "memory")]
    memory::forget(value);
    value
}

/// See `src/crypto/mark.rs`.
pub fn wiped(secret: &[u8]) {
    // A key stream begins with a key, but the rest of it is what is sent wherever a text is zeros.
    #[cfg(feature = "memory")]
    memory::remember(if KEY_STREAMS.contains(&secret.len()) { &secret[..32] } else { secret });
    let _ = secret;
}

/// How long those are that the AEAD makes at once.
#[cfg(feature = "memory")]
const KEY_STREAMS: [usize; 2] = [256, 2304];

/// Whether what it takes to notice anything is there.
#[cfg(feature = "time")]
#[must_use]
pub fn is_watched() -> bool {
    time::is_watched()
}
