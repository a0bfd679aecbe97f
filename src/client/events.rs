//! What a person should hear of, beside texts.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Client;
use super::offer::HistoryOffer;
use super::transaction::Open;
use crate::address::Address;
use crate::at_rest;
use crate::codec;
use crate::content::{MessageId, ProposedChange};
use crate::group::{GroupId, GroupRole};
use crate::identity::IdentityKey;
use crate::reference::Reference;
#[cfg(doc)]
use crate::sesame::Trust;

/// Something that a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// The user has a device more. Of this account: say so clearly, somebody may have linked it.
    DeviceAdded {
        /// Whose device it is.
        user: String,
        /// Its number.
        device: u32,
    },
    /// The user has another account key. Nothing is written to the user, and what comes under that
    /// key is held, until somebody accepts it: [`Client::trust`], [`Client::accept_new_key`].
    KeyChanged {
        /// Whose account key it is.
        user: String,
        /// The new one.
        account: IdentityKey,
    },
    /// Another device of this account says that people compared the user's account key, or took
    /// that back. [`Client::trust`] has changed.
    VerifiedElsewhere {
        /// The user.
        user: String,
        /// Whether the key is verified now.
        verified: bool,
    },
    /// Somebody wrote under an account key that nobody has accepted: [`Client::held`] has it.
    Held {
        /// Under whose name.
        user: String,
    },
    /// Texts that were held went away: their author's account key was replaced before anybody
    /// accepted it, and the device that wrote them is not listed under the new one.
    HeldGone {
        /// Under whose name they were held.
        user: String,
        /// How many.
        texts: u32,
    },
    /// A message of this device could not be opened and cannot be sent again: it is lost.
    Lost {
        /// The device that wrote it.
        by: Address,
        /// The envelope that could not be opened.
        envelope: EnvelopeId,
    },
    /// A text of this user cannot be had by this device any more, which asked for it too late.
    NotReadable {
        /// The device that could not open it.
        by: Address,
        /// The text, where that is still known.
        message: Option<MessageId>,
    },
    /// A text was given up for a device that could not be reached, or its time was over before it
    /// could be. Of a text to a group that many devices lack, one of them is named.
    Undelivered {
        /// The text.
        message: MessageId,
        /// The user, and the device where it is known.
        to: String,
        /// The device; none where the user is not known to the server.
        device: Option<u32>,
    },
    /// A device wrote something that only a later version of this crate can show.
    Unsupported {
        /// The device.
        from: Address,
    },
    /// Another device of this account offers the account's history to this one, which was linked
    /// lately: [`Client::take_history`] takes it. Ask the person first: what a stolen device offers
    /// is whatever its thief wants.
    History {
        /// The device that offers it.
        from: Address,
        /// What it offers.
        offer: Box<HistoryOffer>,
    },
    /// This store was restored from a copy. What was sent and received after the copy was made may
    /// be missing here; everything is being renewed.
    Restored,
    /// This device was removed from the account.
    Unlinked,
    /// What was shown as [`Trust::Unvouched`] under a user's name came under an account key that is
    /// not the user's: the server's device list of the user has another one. Say so beside those
    /// texts.
    NotTheirs {
        /// The user whose name it was under.
        user: String,
        /// The account key that it was under.
        account: IdentityKey,
    },
    /// The server takes no sealed mail for this user from this account: it asks for a pass that the
    /// user did not give. The texts wait; [`Client::deliver`] sends them openly.
    SealedRefused {
        /// The user.
        to: String,
    },
    /// Sealed envelopes came for contacts that this device does not know
    /// ([`Client::unknown_contacts`]). Where the store was restored from a copy, ask the people
    /// whom it may lack to write anew.
    UnknownContact {
        /// How many came so far.
        envelopes: u64,
    },
    /// The code that this device shows was scanned: [`Client::confirm_scan`], once the person sees
    /// that the other phone shows success.
    CodeScanned {
        /// Whom the code was for.
        user: String,
    },
    /// The user wants to compare emoji or numbers: [`Client::accept_sas`].
    SasAsked {
        /// Who wants to.
        user: String,
    },
    /// There is something to compare: [`Client::sas`] has it.
    SasReady {
        /// With whom.
        user: String,
    },
    /// A comparison is over, and nobody was verified by it.
    SasEnded {
        /// With whom.
        user: String,
        /// Why.
        why: SasEnd,
    },
    /// Somebody added this user to a group: [`Client::join_group`] or [`Client::decline_group`].
    /// Where [`Client::trust`] of the user in `by` is [`Trust::Unvouched`], nobody but the message
    /// says who that is: say so, or wait.
    GroupInvited {
        /// The group.
        group: GroupId,
        /// The device that told this one.
        by: Address,
    },
    /// Another device of this account is in a group, and so is this one.
    GroupJoined {
        /// The group.
        group: GroupId,
    },
    /// This user is not in a group any more.
    GroupLeft {
        /// The group.
        group: GroupId,
    },
    /// Something changed in a group.
    GroupChanged {
        /// The group.
        group: GroupId,
        /// The user who did it. None where it follows from changes that do not count any more.
        by: Option<String>,
        /// What changed.
        what: GroupEvent,
    },
    /// A change of a group was made in another state than this device has for it: one of the two
    /// judges changes wrongly. Have people compare who is in.
    GroupSplit {
        /// The group.
        group: GroupId,
    },
    /// Another device of this account, which does not hold the account key, wants this change.
    /// Where `made` is true, this device signed it: the account left the group. Otherwise the
    /// person decides: ask, and give what was proposed to [`Client::change_group`], or
    /// do nothing. A stolen device proposes what its thief wants.
    GroupProposal {
        /// The group.
        group: GroupId,
        /// The device.
        by: Address,
        /// What it wants.
        changes: Vec<ProposedChange>,
        /// Whether this device signed it.
        made: bool,
    },
    /// No manager of this account signed in 7 days what this device proposed.
    GroupProposalExpired {
        /// The group.
        group: GroupId,
    },
    /// A user who was removed or demoted had changed the group without knowing of that, and it
    /// does not count: [`GroupInfo::voided`](super::GroupInfo::voided) says what it was.
    /// [`GroupIntention::Restore`](super::GroupIntention::Restore) does it after all.
    GroupVoided {
        /// The group.
        group: GroupId,
        /// The user who had made the changes.
        by: String,
    },
    /// A group that this user is invited to is to take the place of another one, by the word of
    /// its founder. [`Event::GroupInvited`] comes beside this one.
    GroupContinued {
        /// The group.
        group: GroupId,
        /// The group whose place it is to take.
        of: GroupId,
        /// The user who founded it.
        founder: String,
        /// What the founder is, or was, in the other group.
        was: FounderRole,
    },
}

/// What the founder of a group is in the group that it is to continue, as this device knows that
/// one. Say it to people before they join: anybody can found a group and say that it continues
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FounderRole {
    /// An admin of it.
    Admin,
    /// A member of it.
    Member,
    /// It was a member, and is not any more.
    Former,
    /// Nobody who ever was a member of it, or somebody under another account key.
    Stranger,
    /// This device does not know the other group.
    Unknown,
}

/// Why a comparison is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SasEnd {
    /// The other person does not want to compare now, or stopped.
    Cancelled,
    /// The other person says that the two values differ. Somebody may be in between: compare again,
    /// and if they differ again, talk about nothing secret. Where the person here had said that
    /// they are the same, the user is not verified any more.
    Mismatch,
    /// Another device compares: one of this account that answered first, or the other user's, which
    /// began at the same time.
    Taken,
    /// The other device compares with somebody else of this account.
    Busy,
    /// Ten minutes are over.
    Expired,
    /// One of the two users has another account key than when it began.
    KeyChanged,
    /// The other device did not keep to what it had committed itself to. No honest one does that.
    Forged,
    /// This store was restored from a copy.
    Interrupted,
}

/// What changed in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GroupEvent {
    /// Somebody is in.
    Added {
        /// Who.
        user: String,
    },
    /// Somebody left, or was removed.
    Removed {
        /// Who.
        user: String,
    },
    /// Somebody became an admin, or is one no more.
    Role {
        /// Who.
        user: String,
        /// What the member is now.
        role: GroupRole,
    },
    /// Somebody is given no keys any more, or is again.
    Suspended {
        /// Who.
        user: String,
        /// Whether the member is suspended.
        suspended: bool,
    },
    /// The settings changed.
    Settings,
}

/// Names an envelope that came and could not be opened, until what was in it comes again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvelopeId(#[serde(with = "at_rest::array")] [u8; 16]);

impl EnvelopeId {
    /// Its sender is in the name: nobody else can say that a text stands for it.
    pub(super) fn of(open: &Open<'_>, from: &Address, reference: Reference) -> Self {
        Self(open.envelope_name(from, &reference.0))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl core::fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EnvelopeId(")?;
        codec::hex(f, &self.0)?;
        f.write_str(")")
    }
}
