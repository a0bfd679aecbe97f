//! This device's sender certificate, and what those of others say (docs/sealed.md, 4).

use super::Delivery;
use super::transaction::Open;
use super::wants::{self, Want};
use crate::certificate::{SenderCertificate, Vouches};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::store::Table;
use crate::time::UnixTime;

const CERTIFICATE: &[u8] = &[10];

/// Seconds before it expires that a certificate is renewed: 3 days.
const EARLY: u64 = 3 * 24 * 60 * 60;

/// Wants a certificate where the app trusts a server for them and there is none, or it is about to
/// expire.
pub(super) fn ensure(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    if open.policy.delivery != Delivery::Sealed || open.policy.trusted_servers.is_empty() {
        return Ok(());
    }
    let account = open.own()?.user.list.account();
    let own = own(open)?;
    // One of a key that the app trusts no more says nothing to others of its kind.
    let trusted = &open.policy.trusted_servers;
    let is_good = own.is_some_and(|own| {
        own.account() == account
            && own.expires() > now.as_secs().saturating_add(EARLY)
            && trusted.iter().any(|key| key.id == own.key_id())
    });
    if is_good { Ok(()) } else { wants::want(open, Want::Certificate, now) }
}

/// Whether a certificate was never asked for yet: a first message without one would make its
/// receiver ask the server, ten minutes later. What is not there in that time is not waited for.
pub(super) fn is_awaited(open: &mut Open<'_>, now: UnixTime) -> Result<bool, Error> {
    const MOST: u64 = 10 * 60;
    Ok(open.policy.delivery == Delivery::Sealed
        && wants::is_fresh(open, &Want::Certificate, now, MOST)?)
}

/// This account's certificate.
pub(super) fn own(open: &mut Open<'_>) -> Result<Option<SenderCertificate>, Error> {
    let row = open.get_readable(Table::Ticket, CERTIFICATE)?;
    Ok(row.and_then(|row| SenderCertificate::decode(&row).ok()))
}

/// Takes the certificate that the server issued.
///
/// # Errors
/// [`Error::BadSignature`]: it says nothing of this account that others would believe now.
/// Others as [`SenderCertificate::decode`].
pub(super) fn take(open: &mut Open<'_>, bytes: &[u8], now: UnixTime) -> Result<(), Error> {
    let certificate = SenderCertificate::decode(bytes)?;
    let own = open.own()?;
    let (user, account) = (&own.user.name, own.user.list.account());
    match certificate.vouches(user, &account, &open.policy.trusted_servers, now) {
        Vouches::Yes => {}
        Vouches::Expired | Vouches::No => return Err(Error::BadSignature),
    }
    open.put(Table::Ticket, CERTIFICATE, &certificate.encode())?;
    wants::have(open, &Want::Certificate)
}

/// What a certificate that came says of a user's account key.
pub(super) fn vouches(
    open: &Open<'_>,
    certificate: Option<&[u8]>,
    user: &str,
    account: &IdentityKey,
    now: UnixTime,
) -> Vouches {
    let certificate = certificate.and_then(|bytes| SenderCertificate::decode(bytes).ok());
    certificate.map_or(Vouches::No, |certificate| {
        certificate.vouches(user, account, &open.policy.trusted_servers, now)
    })
}
