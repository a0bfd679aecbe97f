//! Who is meant: a device of a user.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Where an envelope comes from or goes to: a device of a user.
///
/// The user is the app's name for them, whatever it is (1 to 255 bytes); the device is the number
/// that the user's device list gives it, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The app's name for the user.
    pub user: String,
    /// The number of the device in the user's device list.
    pub device: u32,
}

impl Address {
    /// Of a device of a user.
    #[must_use]
    pub fn new(user: &str, device: u32) -> Self {
        Self { user: user.into(), device }
    }
}

/// `user/device`
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.device)
    }
}
