//! How a device hands its chain to another one, in a message of their session.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use serde::{Deserialize, Serialize};

use super::label::LabelKey;
use crate::codec::Reader;
use crate::crypto::secret::Secret;
use crate::crypto::signature::VerifyingKey;
use crate::error::Error;
use crate::ratchet::sender_key::{ChainId, MAX_MESSAGES, ReceivingChain};

/// A device's chain in a group, as it gives it to a device of a member.
///
/// ```text
/// group:32 || number:u32 || chain key:32 || verifying key:32 || label key:32 ||
/// previous chain:8 || its end:u32 || receiver's list:8 || count:u8 (1 to 16) || count * head:32
/// ```
///
/// 185 to 665 bytes, secret. `number` (at most 999) is that of the message that the chain key
/// gives. The previous chain has no message from `its end` (at most 1,000) on; both are zero where
/// there was none. The receiver's list is its digest ([`DeviceList::digest`](crate::DeviceList)).
/// Heads are those of the sender's roster, in ascending order.
#[derive(Debug)]
pub struct Distribution {
    /// The group that the chain is for.
    pub group: [u8; 32],
    pub(super) label_key: LabelKey,
    pub(super) previous: Option<Previous>,
    /// The digest of the receiver's device list, as the sender knows it.
    pub list: [u8; 8],
    /// The heads of the roster that the sender gave the chain by.
    pub heads: Vec<[u8; 32]>,
    pub(super) chain: ReceivingChain,
}

/// The chain before, and the number that its last message has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) chain: ChainId,
    pub(super) end: u32,
}

const MAX_HEADS: usize = 16;

/// What comes before the heads.
const HEAD_LENGTH: usize = 153;

/// Who the chain is given to, and by which roster.
pub(super) struct Given<'a> {
    pub(super) group: &'a [u8; 32],
    pub(super) list: &'a [u8; 8],
    pub(super) heads: &'a [[u8; 32]],
}

/// What is given.
pub(super) struct Keys<'a> {
    pub(super) number: u32,
    pub(super) chain_key: &'a Secret<32>,
    pub(super) verifying_key: [u8; 32],
    pub(super) label_key: &'a LabelKey,
    pub(super) previous: Option<Previous>,
}

/// # Errors
/// [`Error::Malformed`]: no heads, or more than 16, or not in ascending order.
pub(super) fn encode(given: &Given<'_>, keys: &Keys<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
    if !are_heads(given.heads) {
        return Err(Error::Malformed);
    }
    let heads = given.heads.as_flattened();
    let none = Previous { chain: ChainId([0; 8]), end: 0 };
    let previous = keys.previous.unwrap_or(none);
    let parts: [&[u8]; 10] = [
        given.group,
        &keys.number.to_be_bytes(),
        keys.chain_key.expose(),
        &keys.verifying_key,
        keys.label_key.secret().expose(),
        &previous.chain.0,
        &previous.end.to_be_bytes(),
        given.list,
        &[u8::try_from(given.heads.len()).map_err(|_| Error::Malformed)?],
        heads,
    ];
    let length = HEAD_LENGTH.saturating_add(heads.len());
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(bytes)
}

impl Distribution {
    /// From the bytes that [`SenderKey::distribution`](super::SenderKey::distribution) made.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the layout. [`Error::InvalidKey`]: the verifying key is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let group = *reader.array()?;
        let number = reader.u32()?;
        let chain_key = Secret::new(*reader.array()?);
        let verifying_key = reader.array()?;
        let label_key = LabelKey::new(Secret::new(*reader.array()?));
        let previous = Previous { chain: ChainId(*reader.array()?), end: reader.u32()? };
        let list = *reader.array()?;
        let count = usize::from(reader.u8()?);
        let (heads, rest) = reader.rest().as_chunks();
        let is_none = previous == Previous { chain: ChainId([0; 8]), end: 0 };
        let is_first = previous.chain == ChainId([0; 8]);
        if !rest.is_empty()
            || heads.len() != count
            || !are_heads(heads)
            || number >= MAX_MESSAGES
            || previous.end > MAX_MESSAGES
            || is_first && !is_none
        {
            return Err(Error::Malformed);
        }
        let verifying_key = VerifyingKey::decode(verifying_key)?;
        let chain = ReceivingChain::new(&group, verifying_key, chain_key, number);
        let previous = (!is_none).then_some(previous);
        Ok(Self { group, label_key, previous, list, heads: heads.to_vec(), chain })
    }

    /// The chain that is given.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain.id()
    }
}

fn are_heads(heads: &[[u8; 32]]) -> bool {
    (1..=MAX_HEADS).contains(&heads.len()) && heads.is_sorted_by(|one, other| one < other)
}
