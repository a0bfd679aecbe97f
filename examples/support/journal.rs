//! What the relay learns: a line for each request, for people who want to see what there is to see.
//!
//! ```text
//! 12 from alice/1: fetches a summary -> done
//! 13 from nobody: sends 530 sealed bytes to bob/1 -> done
//! ```
//!
//! The number is that of the connection. The relay itself needs none of this.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use subrosa::Address;

use crate::Result;
use crate::wire::{Refused, Request, Response};

pub(crate) struct Journal(Option<Mutex<File>>);

impl Journal {
    /// None is written without a file.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let file = path.map(|path| File::options().create(true).append(true).open(path));
        Ok(Self(file.transpose()?.map(Mutex::new)))
    }

    pub(crate) fn note(&self, connection: u64, from: Option<&Address>, what: &dyn Display) {
        let Some(file) = &self.0 else { return };
        let from = from.map_or_else(|| "nobody".to_owned(), Address::to_string);
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // Names are as they came: none begins a line.
        let what = what.to_string();
        // One call for each line: what is there after a kill is whole.
        let line = format!("{connection} from {from}: {}\n", what.escape_debug());
        file.write_all(line.as_bytes()).ok();
    }
}

/// What a request tells the relay.
pub(crate) fn asked(request: &Request) -> String {
    match request {
        Request::Hello(_) => "says hello".into(),
        Request::Ping => "is there".into(),
        Request::Summary => "fetches a summary".into(),
        Request::Upload(upload) => format!("uploads {} bytes", upload.len()),
        Request::Devices(user) => format!("fetches the device list of {user}"),
        Request::AwaitDevices(user) => format!("waits for {user}"),
        Request::Bundle(of) => format!("fetches a bundle of {of}"),
        Request::Send { to, envelope } => format!("sends {} open bytes to {to}", envelope.len()),
        Request::SendSealed { to, envelope, .. } => {
            format!("sends {} sealed bytes to {to}", envelope.len())
        }
        Request::Acknowledge(number) => format!("has mail {number}"),
        Request::LeaveGrant { .. } => "leaves a grant".into(),
        Request::Grant(_) => "asks for a grant".into(),
        Request::StoreBlob(part) => format!("stores {} bytes of a blob", part.bytes.len()),
        Request::Blob { .. } => "fetches a blob".into(),
        Request::SetPass { number, .. } => format!("sets pass {number}"),
        Request::Certificate => "fetches a certificate".into(),
        Request::IssuerKey => "fetches the key of certificates".into(),
    }
}

/// How it ended.
pub(crate) const fn ended(response: &Response) -> &'static str {
    match response {
        Response::Refused(Refused::Busy) => "busy",
        Response::Refused(Refused::BadPass) => "bad pass",
        Response::Refused(_) => "refused",
        Response::Found(None) => "nothing",
        _ => "done",
    }
}
