//! Which names a user may have. The relay registers no others, and the chat shows no others.
//!
//! A name has 1 to 32 of `a` to `z`, `0` to `9`, `.`, `_` and `-`. Capital letters stand for small
//! ones. So no two names look alike in another script, none holds a space, and none can be mistaken
//! for the marks around it on a line of the chat.

/// The longest name.
pub(crate) const MAX_NAME: usize = 32;

/// Whether this is a name, as it is registered.
pub(crate) fn is_name(name: &str) -> bool {
    let is_in_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_in_name)
}
