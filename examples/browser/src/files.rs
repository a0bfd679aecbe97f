//! Files, pictures and voice notes: the blob goes to the server first, then the message that opens
//! it; what comes is fetched when the page wants to show it.
//!
//! They are sealed and opened in memory, which is right for pictures and notes. What is longer goes
//! through `subrosa::file::Sealer` and `Opener`, chunk by chunk.

use serde::{Deserialize, Serialize};
use subrosa::file::{self, ChunkSize, Descriptor};
use subrosa::{Attachment, Error, Outgoing, Progress, SystemRng};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::failure::Result;
use crate::history::{self, Line};
use crate::server::BlobId;
use crate::{Device, now, settle};

/// The longest file: what a page can well hold a few times over.
const MAX_FILE: usize = 16 << 20;

/// A file in a line.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// What its sender calls it: any text at all.
    pub name: String,
    /// Its media type, as its sender says.
    pub media: String,
    /// How many bytes it has.
    pub size: f64,
    /// What tells it from others on the page.
    pub id: String,
    /// What to ask the server for.
    #[wasm_bindgen(skip)]
    pub blob: [u8; 16],
    /// What opens it.
    #[wasm_bindgen(skip)]
    pub descriptor: Descriptor,
}

/// What travels beside a descriptor, in postcard's form: as `examples/chat.rs` has it.
#[derive(Serialize, Deserialize)]
struct Info {
    blob: BlobId,
    name: String,
    media: String,
}

impl Attached {
    /// None where another program wrote it.
    pub(crate) fn of(file: &Attachment) -> Option<Self> {
        let info = postcard::from_bytes(file.info()).ok()?;
        Some(Self::new(info, file.descriptor().clone()))
    }

    fn new(info: Info, descriptor: Descriptor) -> Self {
        let Info { blob, name, media } = info;
        let id = blob.iter().map(|byte| format!("{byte:02x}")).collect();
        // No file here is so long that this is not exact.
        let size = u32::try_from(descriptor.size()).map_or(f64::INFINITY, f64::from);
        Self { name, media, size, id, blob, descriptor }
    }
}

#[wasm_bindgen]
impl Device {
    /// Sends a file. When this resolves, the server has it, and the message is safe as one that
    /// [`Device::write`] wrote. Where it does not come so far, nothing was sent.
    ///
    /// # Errors
    /// As [`Device::open`]: the file is too long, or the name of the user is none.
    #[wasm_bindgen(js_name = sendFile)]
    pub async fn send_file(
        &self,
        to: &str,
        name: String,
        media: String,
        content: Vec<u8>,
    ) -> Result<(), JsValue> {
        self.seal_and_send(to, name, media, &content).await?;
        Ok(())
    }

    /// The bytes of a file that came or was sent, all of them checked.
    ///
    /// # Errors
    /// As [`Device::open`]: it is damaged, or the server does not have it any more.
    pub async fn fetch(&self, file: &Attached) -> Result<Vec<u8>, JsValue> {
        Ok(self.fetch_and_open(file).await?)
    }

    async fn seal_and_send(
        &self,
        to: &str,
        name: String,
        media: String,
        content: &[u8],
    ) -> Result<()> {
        if content.len() > MAX_FILE {
            return Err(Error::TooLong.into());
        }
        let is_played = media.starts_with("audio/");
        let chunk_size = if is_played { ChunkSize::VOICE } else { ChunkSize::DEFAULT };
        let (descriptor, sealed) = file::seal(content, chunk_size, &mut SystemRng)?;
        let blob = self.server.put_blob(&sealed).await?;
        let info = Info { blob, name: short(name, 200), media: short(media, 100) };
        let bytes = postcard::to_allocvec(&info).map_err(|_| Error::TooLong)?;
        let files = [Attachment::new(descriptor.clone(), &bytes)?];
        let attached = Attached::new(info, descriptor);
        let written = self.rows.act(|client| {
            let now = now()?;
            let message = settle::write(client, to, Outgoing::new("").files(&files), now)?;
            let waiting = client.progress(message)? == Progress::Waiting;
            let line = Line::written(String::new(), message, now);
            let line = Line { waiting, files: vec![attached.clone()], ..line };
            history::add_line(&mut client.rows(), to, &line)
        });
        written.await
    }

    async fn fetch_and_open(&self, file: &Attached) -> Result<Vec<u8>> {
        // Its length is known before anything is fetched.
        let most = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
        if file.descriptor.size() > most {
            return Err(Error::TooLong.into());
        }
        let blob = self.server.blob(&file.blob).await?;
        Ok(file::open(&file.descriptor, &blob)?)
    }
}

/// The beginning of a text, of at most so many bytes.
fn short(mut text: String, most: usize) -> String {
    while text.len() > most {
        text.pop();
    }
    text
}
