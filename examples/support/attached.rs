//! What the chat says of a file in a message, and what it makes of what others say.

use serde::{Deserialize, Serialize};
use subrosa::Attachment;
use subrosa::file::Descriptor;

use crate::screen::visible;
use crate::wire::BlobId;

/// What travels beside a descriptor, in postcard's form.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    /// What to ask the relay for.
    pub(crate) blob: BlobId,
    /// What its sender calls it: any text at all.
    pub(crate) name: String,
    /// Its media type, as its sender says.
    pub(crate) media: String,
}

/// A file in a line of the history.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) descriptor: Descriptor,
    /// None where another program wrote it.
    pub(crate) info: Option<Info>,
}

impl Info {
    /// Of a file that is sent from here. Nothing of its path travels but the end.
    pub(crate) fn new(blob: BlobId, file_name: &str) -> Self {
        let mut name = file_name.to_owned();
        while name.len() > MAX_NAME {
            name.pop();
        }
        let media = media_type(&name).into();
        Self { blob, name, media }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }
}

impl Attached {
    pub(crate) fn of(file: &Attachment) -> Self {
        let info = postcard::from_bytes(file.info()).ok();
        Self { descriptor: file.descriptor().clone(), info }
    }

    /// `1.2 MB`
    pub(crate) fn size(&self) -> String {
        size(self.descriptor.size())
    }

    /// As it may be shown.
    pub(crate) fn title(&self) -> String {
        match &self.info {
            Some(Info { name, media, .. }) => {
                format!("{} ({})", visible(name.as_bytes()), visible(media.as_bytes()))
            }
            None => "of another program".into(),
        }
    }
}

/// The longest name that travels.
const MAX_NAME: usize = 200;

/// In the units that people know.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| bytes.saturating_mul(10).checked_div(unit).unwrap_or(0);
    let in_units = |unit: u64, name: &str| {
        let tenths = tenths(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => in_units(1_000, "kB"),
        1_000_000..1_000_000_000 => in_units(1_000_000, "MB"),
        _ => in_units(1_000_000_000, "GB"),
    }
}

/// How far something is: `[####......]`.
pub(crate) fn bar(tenths: u64) -> String {
    (0..10).fold("[".to_owned(), |bar, at| bar + if at < tenths { "#" } else { "." }) + "]"
}

/// How many tenths of `length` are done.
pub(crate) fn tenths(done: u64, length: u64) -> u64 {
    done.saturating_mul(10).checked_div(length).unwrap_or(10)
}

fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "wav" => "audio/wav",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        _ => "application/octet-stream",
    }
}
