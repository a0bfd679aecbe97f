//! What a device sends to its server, and the stamp by which it knows its uploads again.

use alloc::vec::Vec;

use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::prekey::PublishedPrekeys;

/// What becomes of the prekeys that a server already holds of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They stay, and those of the upload are added.
    Add,
    /// They are thrown away first. A device does this when its store was restored from a copy: the
    /// server may then hold prekeys whose secrets are lost.
    Replace,
}

/// A device list and prekeys, as a device sends them to its server, signed by the device.
///
/// ```text
/// format:u8 = 1 || mode:u8 (1 = add, 2 = replace) || stamp:140 ||
/// list_length:u16 || device list || prekeys (to the end: PublishedPrekeys)
/// ```
///
/// At most 2 MiB (docs/server.md, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    mode: Mode,
    stamp: Stamp,
    list: DeviceList,
    prekeys: PublishedPrekeys,
}

impl Upload {
    /// The most bytes that an upload takes: 2 MiB. 1,000 one-time sets take 1.7 MB.
    pub const MAX_LENGTH: usize = 2 << 20;

    const FORMAT: u8 = 1;

    /// Signs an upload. `number` must be higher than in every upload of this identity before; a
    /// device stores it before it sends the upload.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]: the prekeys are of another identity, or the list does not have this
    /// one; correct the call.
    pub fn new(
        identity: &IdentityKeyPair,
        number: u64,
        list: DeviceList,
        prekeys: PublishedPrekeys,
        mode: Mode,
    ) -> Result<Self, Error> {
        let key = identity.public_key();
        if prekeys.identity() != key.as_bytes() || list.device_of(&key).is_none() {
            return Err(Error::OwnIdentity);
        }
        let content = content(mode, &list, &prekeys);
        let stamp = Stamp::sign(identity, number, prekeys.last_id(), content);
        Ok(Self { mode, stamp, list, prekeys })
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (list, prekeys) = (self.list.encode(), self.prekeys.encode());
        let capacity = prekeys.len().saturating_add(list.len()).saturating_add(144);
        let out = Writer::with_capacity(capacity).u8(Self::FORMAT).u8(self.mode.byte());
        self.stamp.write(out).u16(list_length(&list)).bytes(&list).bytes(&prekeys).done()
    }

    /// From bytes. Everything is checked that the upload itself can prove: its layout, the
    /// signatures of list and stamp, and that all three parts belong together.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::UnsupportedVersion`], [`Error::Malformed`],
    /// [`Error::InvalidKey`], [`Error::BadSignature`]: refuse the upload.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > Self::MAX_LENGTH {
            return Err(Error::TooLong);
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::FORMAT {
            return Err(Error::UnsupportedVersion);
        }
        let mode = match reader.u8()? {
            1 => Mode::Add,
            2 => Mode::Replace,
            _ => return Err(Error::Malformed),
        };
        let stamp = Stamp::read(&mut reader)?;
        let length = usize::from(reader.u16()?);
        let list = DeviceList::decode(reader.bytes(length)?)?;
        let prekeys = PublishedPrekeys::decode(reader.rest())?;
        stamp.verify()?;
        let belongs = stamp.identity == *prekeys.identity()
            && stamp.last_id == prekeys.last_id()
            && prekeys.is_in_order()
            && stamp.content == content(mode, &list, &prekeys);
        if belongs { Ok(Self { mode, stamp, list, prekeys }) } else { Err(Error::Malformed) }
    }

    /// Whether the upload replaces the prekeys that the server holds.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The device's stamp on it.
    #[must_use]
    pub const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The device list in it.
    #[must_use]
    pub const fn list(&self) -> &DeviceList {
        &self.list
    }

    /// The prekeys in it.
    pub const fn prekeys(&self) -> &PublishedPrekeys {
        &self.prekeys
    }

    pub(super) fn into_parts(self) -> (Mode, Stamp, PublishedPrekeys) {
        (self.mode, self.stamp, self.prekeys)
    }
}

impl Mode {
    const fn byte(self) -> u8 {
        match self {
            Self::Add => 1,
            Self::Replace => 2,
        }
    }
}

/// `H("Subrosa v1 upload content" || mode:u8 || list_length:u16 || device list || prekeys)`
fn content(mode: Mode, list: &DeviceList, prekeys: &PublishedPrekeys) -> [u8; 32] {
    let list = list.encode();
    let length = list_length(&list).to_be_bytes();
    kdf::hash(&[CONTENT_LABEL, &[mode.byte()], &length, &list, &prekeys.encode()])
}

fn list_length(list: &[u8]) -> u16 {
    u16::try_from(list.len()).expect("a list of 32 devices has 1,294 bytes")
}

/// A device's signature on an upload. The server keeps the last one, and shows it to the device at
/// each connect (in a [`Summary`](super::Summary)).
///
/// ```text
/// identity:32 || number:u64 || last_id:u32 || content:32 || signature:64
/// ```
///
/// 140 bytes. The signature is Ed25519 by the identity over `"Subrosa v1 upload"` and everything
/// before it; `content` is a hash of what was uploaded. So the stamp verifies by itself, and only
/// the device can make one: a server can withhold the last stamp or show an older one, but it
/// cannot make a device believe that its store was restored from a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    identity: [u8; 32],
    number: u64,
    last_id: u32,
    content: [u8; 32],
    signature: [u8; 64],
}

/// What a stamp says, once it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StampInfo {
    /// The number of the upload. A device whose own last number is lower was restored from a copy.
    pub number: u64,
    /// The highest prekey id that the device had given out. New prekeys need higher ids.
    pub last_id: u32,
}

impl Stamp {
    /// 140 bytes.
    pub(super) const LENGTH: usize = 140;

    fn sign(identity: &IdentityKeyPair, number: u64, last_id: u32, content: [u8; 32]) -> Self {
        let key = identity.public_key().encode();
        let mut stamp = Self { identity: key, number, last_id, content, signature: [0; 64] };
        stamp.signature = identity.sign(&stamp.signed_bytes());
        stamp
    }

    fn signed_bytes(&self) -> Vec<u8> {
        self.write_fields(Writer::with_capacity(96).bytes(STAMP_LABEL)).done()
    }

    fn write_fields(&self, out: Writer) -> Writer {
        out.bytes(&self.identity).u64(self.number).u32(self.last_id).bytes(&self.content)
    }

    pub(super) fn write(&self, out: Writer) -> Writer {
        self.write_fields(out).bytes(&self.signature)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (identity, number, last_id) = (*reader.array()?, reader.u64()?, reader.u32()?);
        let (content, signature) = (*reader.array()?, *reader.array()?);
        Ok(Self { identity, number, last_id, content, signature })
    }

    /// Checks the signature.
    fn verify(&self) -> Result<StampInfo, Error> {
        let (_, key) = IdentityKey::verifying(&self.identity)?;
        key.verify(&self.signed_bytes(), &self.signature)?;
        Ok(StampInfo { number: self.number, last_id: self.last_id })
    }

    /// What the stamp says, if the identity `own` made it.
    #[must_use]
    pub fn verify_by(&self, own: &IdentityKey) -> Option<StampInfo> {
        if self.identity == *own.as_bytes() { self.verify().ok() } else { None }
    }

    pub(super) const fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn last_id(&self) -> u32 {
        self.last_id
    }

    pub(crate) const fn content(&self) -> &[u8; 32] {
        &self.content
    }
}

const CONTENT_LABEL: &[u8] = b"Subrosa v1 upload content";
const STAMP_LABEL: &[u8] = b"Subrosa v1 upload";
