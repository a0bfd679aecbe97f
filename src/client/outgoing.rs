//! What an app writes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::content::Attachment;

/// What [`Client::write`](super::Client::write) takes: a text, and what there is beside it.
///
/// Bytes and strings are one already.
///
/// ```
/// # use subrosa::{Client, Error, Outgoing, SystemRng, UnixTime, store::Memory};
/// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
/// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
/// client.write("bob", "meet me under the rose", now, rng)?;
/// let hour = 60 * 60;
/// client.write("bob", Outgoing::new("burn this").disappears_after(hour), now, rng)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "nothing is written before Client::write has it"]
pub struct Outgoing<'m> {
    pub(super) text: &'m [u8],
    pub(super) files: &'m [Attachment],
    /// Seconds after which it is forgotten.
    pub(super) keep: Option<u64>,
}

impl<'m> Outgoing<'m> {
    /// A text, which may be empty where there are files.
    pub fn new(text: &'m (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { text: text.as_ref(), files: &[], keep: None }
    }

    /// With these files, at most [`Attachment::MOST`]. Upload their blobs first.
    pub const fn files(self, files: &'m [Attachment]) -> Self {
        Self { files, ..self }
    }

    /// It disappears: this device forgets it after this many seconds, and does not send it again to
    /// a device that could not open it later than that. What the other side does is the app's to
    /// say, in the text.
    pub const fn disappears_after(self, seconds: u64) -> Self {
        Self { keep: Some(seconds), ..self }
    }
}

/// Shows how long the text is, and what its files show.
impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, files, keep } = self;
        write!(f, "Outgoing({} bytes, files: {files:?}, disappears after: {keep:?})", text.len())
    }
}

impl<'m> From<&'m [u8]> for Outgoing<'m> {
    fn from(text: &'m [u8]) -> Self {
        Self::new(text)
    }
}

impl<'m, const N: usize> From<&'m [u8; N]> for Outgoing<'m> {
    fn from(text: &'m [u8; N]) -> Self {
        Self::new(text)
    }
}

impl<'m> From<&'m Vec<u8>> for Outgoing<'m> {
    fn from(text: &'m Vec<u8>) -> Self {
        Self::new(text)
    }
}

impl<'m> From<&'m Zeroizing<Vec<u8>>> for Outgoing<'m> {
    fn from(text: &'m Zeroizing<Vec<u8>>) -> Self {
        Self::new(&text[..])
    }
}

impl<'m> From<&'m str> for Outgoing<'m> {
    fn from(text: &'m str) -> Self {
        Self::new(text)
    }
}

impl<'m> From<&'m String> for Outgoing<'m> {
    fn from(text: &'m String) -> Self {
        Self::new(text)
    }
}
