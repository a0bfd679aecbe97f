//! What things are called on the servers, and what they are set to.

use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{Context, object_store, stream};
use async_nats::{Client, ConnectOptions};
use subrosa::Address;

use crate::Result;

/// The stream of all mailboxes.
pub(crate) const MAIL: &str = "MAIL";
/// The bucket of what is kept of the users: a key is a user.
pub(crate) const USERS: &str = "users";
/// The bucket of the blobs.
pub(crate) const BLOBS: &str = "blobs";
/// Parts that the users are divided into. Each has one desk.
pub(crate) const PARTS: u32 = 64;

/// A server that is gone for longer than this is as good as no server: clients come again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// All mailboxes together: 1 GiB.
const MAX_MAIL_BYTES: i64 = 1 << 30;
/// A little more than the longest envelope that the crate makes.
const MAX_ENVELOPE: i32 = 1_100_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The subject of an envelope. The server lets a device write to those alone that end with its own
/// address, so the receiver may believe it.
pub(crate) fn mail(to: &Address, from: &Address) -> String {
    format!("mail.{}.{}.{}.{}", to.user, to.device, from.user, from.device)
}

/// The subjects of all envelopes for a device.
pub(crate) fn mailbox(of: &Address) -> String {
    format!("mail.{}.{}.>", of.user, of.device)
}

/// Whom the subject says that an envelope is from.
pub(crate) fn sender(subject: &str) -> Option<Address> {
    match subject.split('.').collect::<Vec<_>>()[..] {
        ["mail", _, _, user, device] => Some(Address::new(user, device.parse().ok()?)),
        _ => None,
    }
}

/// The consumer of a mailbox, and the login of a device: a name has no `.`, and a number no `-`.
pub(crate) fn name(of: &Address) -> String {
    format!("{}-{}", of.user, of.device)
}

/// The subject of a request about a user: the server lets a device write to its own alone.
pub(crate) fn request(about: &str, verb: &str, by: &Address) -> String {
    format!("desk.{}.{verb}.{}.{}", part(about), by.user, by.device)
}

/// What a desk listens to for a part: a verb, and who asks.
pub(crate) fn requests(part: u32) -> String {
    format!("desk.{part}.*.*.*")
}

/// The part of a user. Every device and every desk has to agree on it (FNV-1a).
pub(crate) fn part(user: &str) -> u32 {
    let hash = user
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.checked_rem(PARTS).unwrap_or(0)
}

/// Whether somebody may be called that: it is a part of subjects.
pub(crate) fn is_name(user: &str) -> bool {
    let is_letter = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=32).contains(&user.len()) && user.bytes().all(is_letter)
}

/// A connection under a login. The password is the login itself: a real one is a token or a key.
pub(crate) async fn connect(servers: &[String], login: &str) -> Result<Context> {
    let options = ConnectOptions::with_user_and_password(login.into(), login.into())
        .name(login)
        // Answers come here, and nobody else may listen to it.
        .custom_inbox_prefix(format!("_INBOX.{login}"))
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .reconnect_delay_callback(|tries| match tries {
            0..=1 => Duration::ZERO,
            _ => Duration::from_millis(300),
        })
        .ping_interval(Duration::from_secs(10));
    let nats: Client = options.connect(servers).await?;
    Ok(ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).build(nats))
}

/// Makes what all servers keep together, where it is not there yet.
pub(crate) async fn create(servers: &Context, replicas: usize) -> Result {
    servers
        .get_or_create_stream(stream::Config {
            name: MAIL.into(),
            subjects: vec!["mail.>".into()],
            // What was acknowledged is deleted.
            retention: RetentionPolicy::WorkQueue,
            num_replicas: replicas,
            // Whoever finds it full keeps the envelope, and tries again.
            discard: DiscardPolicy::New,
            max_bytes: MAX_MAIL_BYTES,
            max_message_size: MAX_ENVELOPE,
            max_age: DAY.saturating_mul(60),
            ..stream::Config::default()
        })
        .await?;
    // A bucket is a stream. `create_key_value` would ask about the account first, in a way that
    // version 2.9 of the server does not answer. Nor may a row be read from any server that has a
    // copy: one that has just come back may know nothing yet of a user.
    servers
        .get_or_create_stream(stream::Config {
            name: format!("KV_{USERS}"),
            subjects: vec![format!("$KV.{USERS}.>")],
            num_replicas: replicas,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: false,
            ..stream::Config::default()
        })
        .await?;
    let blobs = object_store::Config {
        bucket: BLOBS.into(),
        num_replicas: replicas,
        max_age: DAY.saturating_mul(30),
        ..Default::default()
    };
    servers.create_object_store(blobs).await?;
    Ok(())
}
