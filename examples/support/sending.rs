//! Files that are sent: the blob first, part by part, and then the message that opens it.
//!
//! Before the first part leaves, the chat's own rows have the manifest, and which message it is. So
//! an upload goes on after any interruption, from where the relay says that it ended; and a file
//! that has changed meanwhile is not sent at all, since two texts under one key would tell each
//! other (docs/files.md, 5). A turn of the chat sends one part: lines go in between.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use subrosa::file::{ChunkSize, Manifest, ManifestBuilder, Sealer};
use subrosa::{Attachment, Error, Outgoing, SystemRng, UnixTime};

use crate::attached::{Attached, Info, bar, tenths};
use crate::connection::Offline;
use crate::failure::{Failure, is_fatal};
use crate::handles::is_handle;
use crate::rows::{self, Author, Line, Mark};
use crate::wire::{BlobPart, MAX_BLOB, MAX_PART, Refused, Request, Response};
use crate::{Chat, Result};

/// What is kept of a file until the relay has it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Upload {
    to: String,
    path: PathBuf,
    info: Info,
    manifest: Manifest,
}

/// The file that is being sent.
pub(crate) struct Sending {
    /// Its line.
    number: u64,
    upload: Upload,
    source: File,
    sealer: Sealer,
    length: u64,
    /// How many bytes of the blob the relay has.
    held: u64,
    /// How far the bar is.
    shown: u64,
}

/// Why a file is not sent.
enum Failed {
    /// This one is given up.
    Why(String),
    /// The chat itself cannot go on, or waits for the relay.
    Chat(Failure),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::SourceChanged.into(),
            _ => Self::Why(error.to_string()),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::SourceChanged => Self::Why("it has changed since; send it again".into()),
            Error::UnknownGroup => Self::Why("you are not in that group any more".into()),
            error if is_fatal(&error) => Self::Chat(error.into()),
            error => Self::Why(error.to_string()),
        }
    }
}

impl From<Offline> for Failed {
    fn from(offline: Offline) -> Self {
        Self::Chat(offline.into())
    }
}

impl Chat {
    /// Begins to send a file to the one whom lines are for.
    pub(crate) fn send_file(&mut self, path: &str, chunk_size: ChunkSize) -> Result<()> {
        let Some(to) = self.to.clone() else {
            self.screen.say("* for whom? Type \"/to bob\" first");
            return Ok(());
        };
        if is_handle(&to) && self.find_joined(&to, "/file rose.jpg")?.is_none() {
            return Ok(());
        }
        match prepare(&to, Path::new(path), chunk_size) {
            Ok(upload) => {
                let now = UnixTime::now()?;
                let file = Attached {
                    descriptor: upload.manifest.descriptor().clone(),
                    info: Some(upload.info.clone()),
                };
                let line = Line {
                    user: to,
                    author: Author::Here(Mark::Waiting),
                    text: Vec::new(),
                    at: now.as_secs(),
                    message: None,
                    files: vec![file],
                };
                let number = self.client.transact(|client| {
                    let number = rows::add(&mut client.rows(), &line)?;
                    rows::put_upload(&mut client.rows(), number, &upload)?;
                    Ok::<_, Error>(number)
                })?;
                self.show_line(number, &line);
            }
            Err(Failed::Why(why)) => {
                self.screen.text("* it is not sent: ", &crate::visible(why.as_bytes()))
            }
            Err(Failed::Chat(failure)) => return Err(failure),
        }
        Ok(())
    }

    /// Sends the next part of the oldest file that waits. Whether there was something to do.
    pub(crate) fn go_on_sending(&mut self) -> Result<bool> {
        let mut sending = match self.sending.take() {
            Some(sending) => sending,
            None => {
                let waiting = self.client.transact(|client| rows::upload(&mut client.rows()))?;
                let Some((number, upload)) = waiting else { return Ok(false) };
                match self.begin(number, upload) {
                    Ok(sending) => sending,
                    Err(failed) => return self.give_up(number, failed),
                }
            }
        };
        let number = sending.number;
        match self.send_part(&mut sending) {
            Ok(()) if sending.held >= sending.length => {
                let ended = self.end_sending(sending);
                ended.or_else(|failed| self.give_up(number, failed))
            }
            Ok(()) => {
                self.sending = Some(sending);
                Ok(true)
            }
            Err(failed) => self.give_up(number, failed),
        }
    }

    /// Asks the relay where to go on.
    fn begin(&mut self, number: u64, upload: Upload) -> std::result::Result<Sending, Failed> {
        let source = File::open(&upload.path)?;
        let length = upload.manifest.descriptor().blob_length();
        let sealer = Sealer::resume(upload.manifest.clone(), 0)?;
        let mut sending = Sending { number, upload, source, sealer, length, held: 0, shown: 0 };
        let held = self.store(&sending, Vec::new())?;
        sending.go_on_from(held)?;
        Ok(sending)
    }

    fn send_part(&mut self, sending: &mut Sending) -> std::result::Result<(), Failed> {
        let part = sending.next_part()?;
        let expected = sending.held.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        let held = self.store(sending, part)?;
        if held != expected {
            sending.go_on_from(held)?;
        }
        sending.held = held;
        let done = tenths(held, sending.length);
        if done != sending.shown && held < sending.length {
            sending.shown = done;
            let file = Attached {
                descriptor: sending.upload.manifest.descriptor().clone(),
                info: Some(sending.upload.info.clone()),
            };
            let head = format!("#{} {} -> {}: ", sending.number, bar(done), sending.upload.to);
            self.screen.message(sending.number, &head, &file.title());
        }
        Ok(())
    }

    fn store(&mut self, sending: &Sending, bytes: Vec<u8>) -> std::result::Result<u64, Failed> {
        let (id, length, offset) = (sending.upload.info.blob, sending.length, sending.held);
        let part = BlobPart { id, length, offset, bytes };
        match self.connection.ask(&Request::StoreBlob(part))? {
            Response::Held(held) => Ok(held),
            Response::Refused(Refused::Because(why)) => Err(Failed::Why(why)),
            _ => Err(Failed::Why("the relay does not take it".into())),
        }
    }

    /// The relay has all of it: now the message. One transaction: it is written, or the upload is
    /// still there.
    fn end_sending(&mut self, sending: Sending) -> std::result::Result<bool, Failed> {
        let Sending { number, upload, .. } = sending;
        let descriptor = upload.manifest.descriptor().clone();
        let files = [Attachment::new(descriptor, &upload.info.encode())?];
        let now = UnixTime::now()?;
        let line = self.client.transact(|client| {
            let message = Outgoing::new("").files(&files);
            let group = rows::group(&mut client.rows(), &upload.to)?;
            let message = match group {
                Some(group) => client.write_to_group(group, message, now, &mut SystemRng)?,
                None => client.write(&upload.to, message, now, &mut SystemRng)?,
            };
            rows::remove_upload(&mut client.rows(), number)?;
            rows::set_message(&mut client.rows(), number, message)
        })?;
        if let Some(line) = line {
            self.to_groups.extend(line.message.filter(|_| is_handle(&line.user)));
            self.show_line(number, &line);
        }
        Ok(true)
    }

    /// Where the file is at fault, it is taken off the list.
    fn give_up(&mut self, number: u64, failed: Failed) -> Result<bool> {
        match failed {
            Failed::Chat(failure) => Err(failure),
            Failed::Why(why) => {
                if let Some(line) = self.withdraw_upload(number)? {
                    self.show_line(number, &line);
                }
                let why = crate::visible(why.as_bytes());
                self.screen.text(&format!("* the file of #{number} is not sent: "), &why);
                Ok(true)
            }
        }
    }

    /// Takes a file back that the relay does not have yet. None where there is none.
    pub(crate) fn withdraw_upload(&mut self, number: u64) -> Result<Option<Line>> {
        self.sending.take_if(|sending| sending.number == number);
        Ok(self.client.transact(|client| {
            if !rows::remove_upload(&mut client.rows(), number)? {
                return Ok::<_, Error>(None);
            }
            rows::mark_line(&mut client.rows(), number, Mark::Withdrawn)
        })?)
    }
}

impl Sending {
    /// What the relay has decides. It may end within a chunk, if the relay was killed.
    fn go_on_from(&mut self, held: u64) -> std::result::Result<(), Failed> {
        let whole = held.checked_div(self.sealed()).unwrap_or(0);
        let whole = whole.min(self.upload.manifest.descriptor().chunk_count());
        self.sealer = Sealer::resume(self.upload.manifest.clone(), whole)?;
        self.held = held;
        Ok(())
    }

    /// A full chunk in the blob.
    fn sealed(&self) -> u64 {
        let chunk = self.upload.manifest.descriptor().chunk_size().bytes();
        u64::try_from(chunk).unwrap_or(u64::MAX).saturating_add(TAG)
    }

    /// Whole chunks, as many as go into a frame, without what the relay has of the first.
    fn next_part(&mut self) -> std::result::Result<Vec<u8>, Failed> {
        let from = self.sealer.blob_position();
        let had = self.held.saturating_sub(from);
        let end = self.held.saturating_add(MAX_PART).saturating_sub(self.sealed());
        let mut part = Vec::new();
        while let Some(length) = self.sealer.next_length() {
            if self.sealer.blob_position() > end && !part.is_empty() {
                break;
            }
            let mut content = vec![0; length];
            self.source.seek(SeekFrom::Start(self.sealer.position()))?;
            self.source.read_exact(&mut content)?;
            part.extend(self.sealer.seal(&content)?);
        }
        Ok(part.split_off(usize::try_from(had).unwrap_or(usize::MAX).min(part.len())))
    }
}

/// A pass over the file: everything of it is sealed once, and nothing is handed out.
fn prepare(to: &str, path: &Path, chunk_size: ChunkSize) -> std::result::Result<Upload, Failed> {
    let path = path.canonicalize()?;
    // A pipe would have the chat wait.
    if !fs::metadata(&path)?.is_file() {
        return Err(Failed::Why("that is no file".into()));
    }
    let mut source = File::open(&path)?;
    let size = source.metadata()?.len();
    let mut blob = [0; 16];
    SystemRng.fill_bytes(&mut blob);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let info = Info::new(blob, &name.unwrap_or_default());
    let chunk = u64::try_from(chunk_size.bytes()).unwrap_or(1);
    if size > MOST_BYTES.min(chunk.saturating_mul(MOST_CHUNKS)) {
        return Err(Failed::Why("it is too long".into()));
    }
    let mut builder = ManifestBuilder::new(size, chunk_size, &mut SystemRng)?;
    while let Some(length) = builder.next_length() {
        let mut content = vec![0; length];
        source.read_exact(&mut content)?;
        builder.add(&content)?;
    }
    Ok(Upload { to: to.into(), path, info, manifest: builder.finish()? })
}

const TAG: u64 = 16;

/// With its padding it is no longer than a blob may be.
const MOST_BYTES: u64 = MAX_BLOB / 8 * 7;

/// A manifest is one row, and has 32 bytes for each chunk.
const MOST_CHUNKS: u64 = 1 << 15;
