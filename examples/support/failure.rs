//! What can go wrong, and what a chat does about it: wait for the relay, tell the person, or end.

use subrosa::{Error, Remedy};

use crate::connection::Offline;

pub(crate) enum Failure {
    /// Try again when there is a connection.
    Offline,
    Client(Error),
    /// The relay or this program will not go on, for this reason.
    Refused(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<Offline> for Failure {
    fn from(_: Offline) -> Self {
        Self::Offline
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self::Refused(why.into())
    }
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Whether the store or the device is at fault. Any other error is about what somebody said.
pub(crate) fn is_fatal(error: &Error) -> bool {
    let by_store = matches!(
        error.remedy(),
        Remedy::RestoreState | Remedy::Reopen | Remedy::UpdateApp | Remedy::LinkAgain
    );
    by_store || matches!(error, Error::Store(_))
}
