//! What can go wrong, and what a chat does about it: wait for the relay, tell the person, or end.

use subrosa::{Error, Remedy};

use crate::connection::Offline;

pub(crate) enum Failure {
    /// Try again when there is a connection.
    Offline,
    Client(Error),
    /// By the relay, or by this program.
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

/// What nobody but the owner of the store can help, or of the device. Any other error is about what somebody said.
pub(crate) fn is_fatal(error: &Error) -> bool {
    matches!(error.remedy(), Remedy::Retry | Remedy::RestoreState) || *error == Error::Unlinked
}

/// Whether what the relay gave was of use. Where it was not, that is the relay's doing, and nothing changed.
pub(crate) fn taken(result: Result<(), Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_fatal(&error) => Err(error.into()),
        Err(_) => Ok(false),
    }
}
