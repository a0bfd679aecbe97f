//! What failed in a store, with the store's own cause.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::error::Error;
use core::fmt;
use core::hash::{Hash, Hasher};

/// What failed in a store: a [`StoreFault`] to act on, and the store's own error, if it gave one,
/// to show.
///
/// Two are equal where their faults are. The cause is for people and logs:
///
/// ```
/// use std::error::Error as _;
/// use std::io;
///
/// use subrosa::Error;
/// use subrosa::store::{StoreError, StoreFault};
///
/// let error = Error::store(StoreFault::Full, io::Error::other("no space left"));
/// assert!(matches!(&error, Error::Store(StoreError { fault: StoreFault::Full, .. })));
/// assert_eq!(error, Error::from(StoreFault::Full));
/// assert_eq!(error.to_string(), "the store is full: no space left");
/// assert!(error.source().is_some_and(|cause| cause.is::<io::Error>()));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreError {
    /// The kind of failure.
    pub fault: StoreFault,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure without a cause. [`StoreError::with_cause`] keeps one.
    #[must_use]
    pub const fn new(fault: StoreFault) -> Self {
        Self { fault, cause: None }
    }

    /// A failure and the store's own error: an error of a database, or a text.
    #[must_use]
    pub fn with_cause(fault: StoreFault, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { fault, cause: Some(Arc::from(cause.into())) }
    }

    /// The store's own error.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| -> &(dyn Error + 'static) { cause })
    }
}

impl PartialEq for StoreError {
    fn eq(&self, other: &Self) -> bool {
        self.fault == other.fault
    }
}

impl Eq for StoreError {}

impl Hash for StoreError {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fault.hash(state);
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{:?}({cause:?})", self.fault),
            None => write!(f, "{:?}", self.fault),
        }
    }
}

/// The fault, and the cause behind a colon.
impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fault, f)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause()
    }
}

/// What failed in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreFault {
    /// Another process, or another part of this one, has it open: close that, then retry.
    Locked,
    /// There is no room left: make room, then retry.
    Full,
    /// What is there was not written by a store of this kind, or is damaged.
    Corrupt,
    /// Reading or writing failed. The store may have to be opened again.
    Io,
    /// The path cannot be used: its folder is missing, it is a folder itself, or access is denied.
    Path,
    /// A later version of this crate wrote it.
    Newer,
    /// A [`Vault`](crate::store::Vault) was opened over a store that has rows and no lock: it is
    /// not encrypted.
    NotAVault,
    /// The keys of the vault were renewed elsewhere: open it again.
    Relocked,
    /// A key is longer than 128 bytes, or a value than 2 MiB.
    TooLarge,
    /// A row was asked for that has not been read yet; [`Overlay`](crate::store::Overlay) says
    /// which.
    Unread,
    /// Any other cause.
    Other,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locked => "the store is open elsewhere",
            Self::Full => "the store is full",
            Self::Corrupt => "the store is damaged, or something else lies in its place",
            Self::Io => "the store could not be read or written",
            Self::Path => "the store's path cannot be used",
            Self::Newer => "the store was written by a later version",
            Self::NotAVault => "the store has rows and no lock: it is not encrypted",
            Self::Relocked => "the keys of the vault were renewed elsewhere",
            Self::TooLarge => "a key or a value is longer than a store takes",
            Self::Unread => "a row of the store has not been read yet",
            Self::Other => "the store failed",
        })
    }
}
