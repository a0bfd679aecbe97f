//! What travels between `chat` and `relay`.
//!
//! ```text
//! frame = length:u32 (big-endian, at most MAX_FRAME) || a Request or a Response, as the crate postcard encodes it
//! ```
//!
//! A client sends requests and gets one response to each, in order. To a client that said hello, mail comes in between whenever there
//! is any, and again after each connection until it is acknowledged.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subrosa::Address;

/// Prekeys are the longest: 100 sets have 170 KB.
pub(crate) const MAX_FRAME: usize = 512 * 1024;

/// Enough for a line of a chat, far below what the crate allows.
pub(crate) const MAX_ENVELOPE: usize = 64 * 1024;

/// Who has said nothing for so many seconds is disconnected: ask for something sooner.
pub(crate) const MAX_SILENCE: u64 = 120;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// Who this is. Mail for it comes from now on.
    Hello(Address),
    /// How many sets of one-time prekeys of this device are left.
    Count,
    /// This user's device list, and prekeys of this device to add to those that are there.
    Upload { devices: Vec<u8>, prekeys: Vec<u8> },
    /// A user's device list.
    Devices(String),
    /// A bundle of a device.
    Bundle(Address),
    /// For the mailbox of a device.
    Send { to: Address, envelope: Vec<u8> },
    /// A piece of mail is safe, and can be forgotten.
    Acknowledge(u64),
    /// A grant for a new device, which asks for it by this id.
    LeaveGrant { id: String, grant: Vec<u8> },
    /// The grant of this id. Needs no hello.
    Grant(String),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    Count(usize),
    Found(Option<Vec<u8>>),
    /// Why not, for a person to read.
    Refused(String),
    Mail(Mail),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Mail {
    /// What to acknowledge.
    pub(crate) number: u64,
    pub(crate) from: Address,
    pub(crate) envelope: Vec<u8>,
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    let mut frame = postcard::to_extend(value, vec![0; 4])?;
    let length = u32::try_from(frame.len().saturating_sub(4));
    let length = length.map_err(|_| postcard::Error::SerializeBufferFull)?;
    frame.splice(..4, length.to_be_bytes()).for_each(drop);
    Ok(frame)
}

/// How many bytes of a value follow, if that is bearable.
pub(crate) fn length(head: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| *length <= MAX_FRAME)
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(value)
}
