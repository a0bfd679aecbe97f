//! History of the account that one of its devices offers to another.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::content::History;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::file::Descriptor;

/// The history of the account, as another of its devices offers it: where the blob is, and what
/// opens it. Secret; wiped when dropped.
///
/// [`Event::History`](crate::Event::History) brings it. Fetch the blob from
/// [`HistoryOffer::location`] into a file, and give that to
/// [`Client::take_history`](crate::Client::take_history).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryOffer {
    key: Secret<32>,
    descriptor: Descriptor,
    #[serde(with = "at_rest::run")]
    location: Vec<u8>,
}

impl HistoryOffer {
    /// Bytes of the stored form, at most.
    pub(super) const MOST: usize = 1_200;

    /// # Errors
    /// [`Error::Malformed`], [`Error::UnsupportedVersion`]
    pub(super) fn read(history: &History<'_>) -> Result<Self, Error> {
        let mut key = Secret::new([0; 32]);
        *key.expose_mut() = *history.key;
        let descriptor = Descriptor::decode(history.descriptor)?;
        Ok(Self { key, descriptor, location: history.location.to_vec() })
    }

    /// Where the blob is, in the app's own words.
    #[must_use]
    pub fn location(&self) -> &[u8] {
        &self.location
    }

    /// Of the blob: how long it is.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    #[cfg(feature = "std")]
    pub(super) const fn key(&self) -> &Secret<32> {
        &self.key
    }
}

/// Shows how long the blob is.
impl fmt::Debug for HistoryOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryOffer").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}
