//! Every method of the client as a value, so that one call can be made again and again, on a store
//! and inside a transaction.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use subrosa::file::{self, ChunkSize};
use subrosa::group::GroupId;
use subrosa::{
    Address, Admins, Attachment, Client, Completed, Delivery, DeviceList, Error, GroupInfo,
    GroupIntention, GroupPreview, IdentityKey, InboxId, Incoming, MessageId, Outgoing, Progress,
    Received, Role, SasStage, SasValue, Scanned, Scope, SessionInfo, Task, TaskId, UnixTime,
    UserTrust,
};

use super::network::Seeded;
use super::post::Reply;

/// A call of a method.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Write(String, Vec<u8>),
    WriteDisappearing(String, Vec<u8>, u64),
    Encrypt(String, Vec<u8>),
    Withdraw(MessageId),
    Progress(MessageId),
    Tasks(usize),
    Complete(TaskId, Reply),
    Receive(Option<Address>, Vec<u8>),
    Inbox(usize),
    Held(String, usize),
    Acknowledge(InboxId),
    UpdateDevices(String, Vec<u8>),
    AddBundle(Address, Vec<u8>),
    Trust(String),
    Verify(String, IdentityKey),
    Unverify(String),
    AcceptNewKey(String, IdentityKey),
    Devices(String),
    Sessions(String),
    Reset(Address),
    Forget(String),
    Link(String, Role),
    RemoveDevice(u32),
    ApplyPolicy,
    Connected,
    SafetyNumber(String),
    ShowCode(String),
    HideCode(String),
    Scan(String, String),
    ConfirmScan(String),
    StartSas(String),
    AcceptSas(String),
    Sas(String),
    ConfirmSas(String, SasValue),
    RejectSas(String),
    CancelSas(String),
    Block(String),
    Unblock(String),
    IsBlocked(String),
    Deliver(String, Delivery),
    UnknownContacts,
    CreateGroup(Vec<String>, Vec<u8>),
    AddToGroup(GroupId, String),
    RemoveFromGroup(GroupId, String),
    LeaveGroup(GroupId),
    JoinGroup(GroupId),
    DeclineGroup(GroupId),
    WriteToGroup(GroupId, Vec<u8>),
    RefreshGroup(GroupId),
    Group(GroupId),
    Groups,
    PromoteInGroup(GroupId, String),
    DemoteInGroup(GroupId, String),
    WriteFileToGroup(GroupId, Vec<u8>),
    SetInGroup(GroupId, Vec<u8>),
    RestoreInGroup(GroupId, String),
    PreviewRemoval(GroupId, String),
    ContinueGroup(GroupId, String),
}

/// What a call returns.
#[derive(Debug, PartialEq)]
pub(crate) enum Did {
    Nothing,
    Message(MessageId),
    Flag(bool),
    Progress(Progress),
    Tasks(Vec<Task>),
    Completed(Completed),
    Received(Received),
    Inbox(Vec<Incoming>),
    Trust(Option<UserTrust>),
    Devices(Option<DeviceList>),
    Sessions(Vec<SessionInfo>),
    Grant(Vec<u8>),
    Letters(String),
    Scanned(Scanned),
    Sas(Option<SasStage>),
    Count(u64),
    Groups(Vec<GroupId>),
    Group(GroupInfo),
    Preview(GroupPreview),
}

impl Call {
    /// The name of the method.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::WriteDisappearing { .. } => "write, disappearing",
            Self::Encrypt { .. } => "encrypt",
            Self::Withdraw { .. } => "withdraw",
            Self::Progress { .. } => "progress",
            Self::Tasks { .. } => "tasks",
            Self::Complete { .. } => "complete",
            Self::Receive { .. } => "receive",
            Self::Inbox { .. } => "inbox",
            Self::Held { .. } => "held",
            Self::Acknowledge { .. } => "acknowledge",
            Self::UpdateDevices { .. } => "update_devices",
            Self::AddBundle { .. } => "add_bundle",
            Self::Trust { .. } => "trust",
            Self::Verify { .. } => "verify",
            Self::Unverify { .. } => "unverify",
            Self::AcceptNewKey { .. } => "accept_new_key",
            Self::Devices { .. } => "devices",
            Self::Sessions { .. } => "sessions",
            Self::Reset { .. } => "reset",
            Self::Forget { .. } => "forget",
            Self::Link { .. } => "link",
            Self::RemoveDevice { .. } => "remove_device",
            Self::ApplyPolicy { .. } => "apply_policy",
            Self::Connected { .. } => "connected",
            Self::SafetyNumber { .. } => "safety_number",
            Self::ShowCode { .. } => "show_code",
            Self::HideCode { .. } => "hide_code",
            Self::Scan { .. } => "scan",
            Self::ConfirmScan { .. } => "confirm_scan",
            Self::StartSas { .. } => "start_sas",
            Self::AcceptSas { .. } => "accept_sas",
            Self::Sas { .. } => "sas",
            Self::ConfirmSas { .. } => "confirm_sas",
            Self::RejectSas { .. } => "reject_sas",
            Self::CancelSas { .. } => "cancel_sas",
            Self::Block { .. } => "block",
            Self::Unblock { .. } => "unblock",
            Self::IsBlocked { .. } => "is_blocked",
            Self::Deliver { .. } => "deliver",
            Self::UnknownContacts => "unknown_contacts",
            Self::CreateGroup { .. } => "create_group",
            Self::AddToGroup { .. } => "change_group, add",
            Self::RemoveFromGroup { .. } => "change_group, remove",
            Self::LeaveGroup { .. } => "change_group, leave",
            Self::JoinGroup { .. } => "join_group",
            Self::DeclineGroup { .. } => "decline_group",
            Self::WriteToGroup { .. } => "write_to_group",
            Self::RefreshGroup { .. } => "refresh_group",
            Self::Group { .. } => "group",
            Self::Groups { .. } => "groups",
            Self::PromoteInGroup { .. } => "change_group, promote",
            Self::DemoteInGroup { .. } => "change_group, demote",
            Self::WriteFileToGroup { .. } => "write_to_group, with a file",
            Self::SetInGroup { .. } => "change_group, set",
            Self::RestoreInGroup { .. } => "change_group, restore",
            Self::PreviewRemoval { .. } => "preview_change",
            Self::ContinueGroup { .. } => "continue_group",
        }
    }

    pub(crate) fn make<S: Scope>(
        &self,
        client: &mut Client<S>,
        now: UnixTime,
        rng: &mut Seeded,
    ) -> Result<Did, Error> {
        Ok(match self {
            Self::Write(to, text) => Did::Message(client.write(to, text, now, rng)?),
            Self::WriteDisappearing(to, text, keep) => {
                let message = Outgoing::new(text).disappears_after(*keep);
                Did::Message(client.write(to, message, now, rng)?)
            }
            Self::Encrypt(to, text) => Did::Message(client.encrypt(to, text, now, rng)?),
            Self::Withdraw(message) => Did::Flag(client.withdraw(*message)?),
            Self::Progress(message) => Did::Progress(client.progress(*message)?),
            Self::Tasks(most) => Did::Tasks(client.tasks(*most, now, rng)?),
            Self::Complete(task, reply) => {
                Did::Completed(client.complete(task, reply.answer(), now, rng)?)
            }
            Self::Receive(from, envelope) => {
                Did::Received(client.receive(from.as_ref(), envelope, now, rng)?)
            }
            Self::Inbox(most) => Did::Inbox(client.inbox(*most)?),
            Self::Held(user, most) => Did::Inbox(client.held(user, *most)?),
            Self::Acknowledge(id) => nothing(client.acknowledge(*id))?,
            Self::UpdateDevices(user, list) => {
                nothing(client.update_devices(user, list, now, rng))?
            }
            Self::AddBundle(of, bundle) => nothing(client.add_bundle(of, bundle, now, rng))?,
            Self::Trust(user) => Did::Trust(client.trust(user)?),
            Self::Verify(user, account) => nothing(client.verify(user, account, now, rng))?,
            Self::Unverify(user) => nothing(client.unverify(user, now, rng))?,
            Self::AcceptNewKey(user, account) => {
                nothing(client.accept_new_key(user, account, now, rng))?
            }
            Self::Devices(user) => Did::Devices(client.devices(user)?),
            Self::Sessions(user) => Did::Sessions(client.sessions(user)?),
            Self::Reset(with) => nothing(client.reset(with))?,
            Self::Forget(user) => nothing(client.forget(user))?,
            Self::Link(code, role) => Did::Grant(client.link(code, *role, now, rng)?),
            Self::RemoveDevice(device) => nothing(client.remove_device(*device, now, rng))?,
            Self::ApplyPolicy => nothing(client.apply_policy(now))?,
            Self::Connected => nothing(client.connected())?,
            Self::SafetyNumber(user) => Did::Letters(client.safety_number(user)?.to_string()),
            Self::ShowCode(user) => Did::Letters(client.show_code(user, now, rng)?.to_string()),
            Self::HideCode(user) => nothing(client.hide_code(user))?,
            Self::Scan(user, text) => Did::Scanned(client.scan(user, text, now, rng)?),
            Self::ConfirmScan(user) => nothing(client.confirm_scan(user, now, rng))?,
            Self::StartSas(user) => nothing(client.start_sas(user, now, rng))?,
            Self::AcceptSas(user) => nothing(client.accept_sas(user, now, rng))?,
            Self::Sas(user) => Did::Sas(client.sas(user, now)?),
            Self::ConfirmSas(user, value) => nothing(client.confirm_sas(user, value, now, rng))?,
            Self::RejectSas(user) => nothing(client.reject_sas(user, now, rng))?,
            Self::CancelSas(user) => nothing(client.cancel_sas(user, now, rng))?,
            Self::Block(user) => nothing(client.block(user, now, rng))?,
            Self::Unblock(user) => nothing(client.unblock(user))?,
            Self::IsBlocked(user) => Did::Flag(client.is_blocked(user)?),
            Self::Deliver(user, delivery) => nothing(client.deliver(user, *delivery, now, rng))?,
            Self::UnknownContacts => Did::Count(client.unknown_contacts()?),
            _ => self.make_of_group(client, now, rng)?,
        })
    }

    fn make_of_group<S: Scope>(
        &self,
        client: &mut Client<S>,
        now: UnixTime,
        rng: &mut Seeded,
    ) -> Result<Did, Error> {
        Ok(match self {
            Self::CreateGroup(members, settings) => {
                let members: Vec<&str> = members.iter().map(String::as_str).collect();
                Did::Groups(Vec::from([client.create_group(&members, settings, now, rng)?]))
            }
            Self::AddToGroup(group, user) => {
                changed(client, *group, GroupIntention::Add(user), now, rng)?
            }
            Self::RemoveFromGroup(group, user) => {
                changed(client, *group, GroupIntention::Remove(user), now, rng)?
            }
            Self::LeaveGroup(group) => changed(client, *group, GroupIntention::Leave, now, rng)?,
            Self::JoinGroup(group) => nothing(client.join_group(*group, now, rng))?,
            Self::DeclineGroup(group) => nothing(client.decline_group(*group, now, rng))?,
            Self::WriteToGroup(group, text) => {
                Did::Message(client.write_to_group(*group, text, now, rng)?)
            }
            Self::RefreshGroup(group) => nothing(client.refresh_group(*group))?,
            Self::Group(group) => Did::Group(client.group(*group)?),
            Self::Groups => Did::Groups(client.groups()?),
            Self::PromoteInGroup(group, user) => {
                changed(client, *group, GroupIntention::Promote(user), now, rng)?
            }
            Self::DemoteInGroup(group, user) => {
                changed(client, *group, GroupIntention::Demote(user), now, rng)?
            }
            Self::WriteFileToGroup(group, text) => {
                let (descriptor, _) = file::seal(text, ChunkSize::VOICE, rng)?;
                let files = [Attachment::new(descriptor, b"where it is")?];
                let message = Outgoing::new(text).files(&files).disappears_after(60);
                Did::Message(client.write_to_group(*group, message, now, rng)?)
            }
            Self::SetInGroup(group, bytes) => {
                changed(client, *group, GroupIntention::Set(bytes), now, rng)?
            }
            Self::RestoreInGroup(group, user) => {
                changed(client, *group, GroupIntention::Restore(user), now, rng)?
            }
            Self::PreviewRemoval(group, user) => {
                Did::Preview(client.preview_change(*group, &[GroupIntention::Remove(user)])?)
            }
            Self::ContinueGroup(group, without) => {
                let without = [without.as_str()];
                let next = client.continue_group(*group, &without, Admins::Kept, now, rng)?;
                Did::Groups(Vec::from([next]))
            }
            other => panic!("{other:?}"),
        })
    }
}

fn changed<S: Scope>(
    client: &mut Client<S>,
    group: GroupId,
    what: GroupIntention<'_>,
    now: UnixTime,
    rng: &mut Seeded,
) -> Result<Did, Error> {
    client.change_group(group, &[what], now, rng).map(|_| Did::Nothing)
}

fn nothing(done: Result<(), Error>) -> Result<Did, Error> {
    done.map(|()| Did::Nothing)
}
