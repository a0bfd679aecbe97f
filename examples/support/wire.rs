//! What travels between `chat` and `relay`.
//!
//! ```text
//! frame = length:u32 (big-endian, at most MAX_FRAME) || a Request or a Response (postcard)
//! ```
//!
//! A client sends requests and gets one response to each, in order. Its first request says which
//! kind of connection this is:
//!
//! - After a [`Request::Hello`] it carries a name. In between the responses come notices: the
//!   device's mail, again after each connection until it is acknowledged, and the names of users
//!   whose device lists it should fetch.
//! - After any other request it carries none, and the relay does not learn who is there. Sealed
//!   mail goes over such connections, and so do the device lists and bundles that it takes, and
//!   blobs. The relay limits the requests of each network address: [`Refused::Busy`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use subrosa::Address;

/// The longest frame: an upload of 1,000 one-time prekeys has 1.7 MB.
pub(crate) const MAX_FRAME: usize = 2 << 20;

/// The longest blob, and the most of one that is in one frame.
pub(crate) const MAX_BLOB: u64 = 1 << 30;
pub(crate) const MAX_PART: u64 = 1 << 18;

/// What a blob is called: 16 bytes that its sender draws, and that only its readers are told.
pub(crate) type BlobId = [u8; 16];

/// Seconds of silence after which the relay ends a connection. Send a [`Request::Ping`] sooner.
pub(crate) const MAX_SILENCE: u64 = 120;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// Who this is. Notices come from now on.
    Hello(Address),
    /// Nothing: this connection is alive.
    Ping,
    /// What the relay holds of this device: a `Summary`.
    Summary,
    /// An `Upload` of this device.
    Upload(Vec<u8>),
    /// A user's device list.
    Devices(String),
    /// A bundle of a device.
    Bundle(Address),
    /// For the mailbox of a device.
    Send { to: Address, envelope: Vec<u8> },
    /// A piece of mail is safe with the device, and can be deleted.
    Acknowledge(u64),
    /// A grant for a new device, which asks for it by this id.
    LeaveGrant { id: String, grant: Vec<u8> },
    /// The grant of this id. Needs no hello.
    Grant(String),
    /// A part of a blob: what follows the bytes that the relay has. The answer is
    /// [`Response::Held`].
    StoreBlob(BlobPart),
    /// What there is of a blob from an offset on, at most [`MAX_PART`] bytes.
    Blob { id: BlobId, offset: u64 },
    /// Sealed, for the mailbox of a device. On a connection that carries no name alone.
    SendSealed { to: Address, envelope: Vec<u8>, pass: Option<[u8; 16]> },
    /// What the relay takes sealed mail for this account with from now on.
    SetPass { number: u32, pass: [u8; 16] },
    /// A sender certificate of this account.
    Certificate,
    /// The key that certificates are signed with: its number and 32 bytes.
    IssuerKey,
    /// A user's device list, once there is one: the relay answers when there is, or after 10
    /// seconds that there is none. On a connection that carries no name alone.
    AwaitDevices(String),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BlobPart {
    pub(crate) id: BlobId,
    /// Of the whole blob.
    pub(crate) length: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    /// What was asked for, or nothing where the relay does not have it.
    Found(Option<Vec<u8>>),
    Refused(Refused),
    /// How many bytes of a blob the relay has.
    Held(u64),
    /// A notice: mail for this device.
    Mail(Mail),
    /// A notice: there is a device list of a user whose list was asked for in vain, or a new one of
    /// this device's own user.
    NewDevices(String),
}

/// Why the relay does not do something.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// The name belongs to another account.
    NameTaken,
    /// The name breaks the rules (`names.rs`).
    BadName,
    /// What the relay holds is newer than what was sent, or contradicts it: fetch the device list.
    Outdated,
    /// Anything else, for a person to read.
    Because(String),
    /// The receiver takes no sealed mail with this pass.
    BadPass,
    /// Too much came from this network address lately: try again later.
    Busy,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Mail {
    /// What to acknowledge.
    pub(crate) number: u64,
    /// None: it is sealed, and the relay does not know.
    pub(crate) from: Option<Address>,
    pub(crate) envelope: Vec<u8>,
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    let mut frame = postcard::to_extend(value, vec![0; 4])?;
    let length = u32::try_from(frame.len().saturating_sub(4));
    let length = length.map_err(|_| postcard::Error::SerializeBufferFull)?;
    frame.splice(..4, length.to_be_bytes()).for_each(drop);
    Ok(frame)
}

/// The length of the value that follows, unless it is too long.
pub(crate) fn length(head: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| *length <= MAX_FRAME)
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, postcard::Error> {
    postcard::from_bytes(value)
}
