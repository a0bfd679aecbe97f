//! Files that are saved: the blob comes part by part into a hidden file beside the place where the
//! file will be, as the relay has it, and is opened once it is whole.
//!
//! The hidden file shows how far that is, so a download goes on after any interruption. What is
//! opened comes into another hidden file, and under its name only when every chunk and the root
//! held: nothing that is there is overwritten, and nothing that is damaged is ever seen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use subrosa::Error;
use subrosa::file::Reader;

use crate::attached::{Attached, Info, bar, tenths};
use crate::connection::Offline;
use crate::file_names::{numbered, safe_name};
use crate::rows::{self, Key, Line};
use crate::wire::{Refused, Request, Response};
use crate::{Chat, Result, visible};

/// What is kept of a file until it is saved.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Download {
    /// The line that it is in.
    number: u64,
    /// Who can send it again.
    from: String,
    file: Attached,
    info: Info,
    folder: PathBuf,
    name: String,
    /// It came damaged once.
    again: bool,
}

/// The file that is being fetched.
pub(crate) struct Fetching {
    key: Key,
    download: Download,
    /// The blob, as far as it is here.
    part: File,
    held: u64,
    shown: u64,
}

/// Why a file is not saved.
enum Failed {
    Why(String),
    /// It is not what its sender sealed.
    Damaged,
    Offline,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Damaged,
            _ => Self::Why(error.to_string()),
        }
    }
}

impl From<Offline> for Failed {
    fn from(_: Offline) -> Self {
        Self::Offline
    }
}

impl Chat {
    /// `/save 12`, `/save 12 FOLDER`, `/save 12 FILE`
    pub(crate) fn save(&mut self, rest: &str) -> Result<()> {
        let (number, path) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(number) = number.trim_start_matches('#').parse() else {
            self.screen.say("* which file? /save 12 saves what is in #12");
            return Ok(());
        };
        let line = self.client.transact(|client| rows::line(&mut client.rows(), number))?;
        let files = line.as_ref().map_or(&[][..], |line| &line.files);
        let Some(line) = line.as_ref().filter(|_| !files.is_empty()) else {
            self.screen.say(&format!("* there is no file in #{number}"));
            return Ok(());
        };
        match downloads(number, line, path.trim()) {
            Ok(downloads) => {
                let is_new = self.client.transact(|client| {
                    let is_new = !rows::is_wanted(&mut client.rows(), number)?;
                    for (file, download) in downloads.iter().filter(|_| is_new) {
                        let key = rows::download_key(number, *file);
                        rows::put_download(&mut client.rows(), &key, download)?;
                    }
                    Ok::<_, Error>(is_new)
                })?;
                if !is_new {
                    self.screen.say(&format!("* file #{number} is being fetched already"));
                }
            }
            Err(why) => self.screen.text("* it is not saved: ", &visible(why.as_bytes())),
        }
        Ok(())
    }

    /// Fetches the next part of the oldest file that is wanted. Whether there was something to do.
    pub(crate) fn go_on_fetching(&mut self) -> Result<bool> {
        let mut fetching = match self.fetching.take() {
            Some(fetching) => fetching,
            None => {
                let wanted = self.client.transact(|client| rows::download(&mut client.rows()))?;
                let Some((key, download)) = wanted else { return Ok(false) };
                match Fetching::begin(key.clone(), download.clone()) {
                    Ok(fetching) => fetching,
                    Err(error) => {
                        self.give_up_fetching(&key, &download, &error.to_string())?;
                        return Ok(true);
                    }
                }
            }
        };
        match self.fetch_part(&mut fetching) {
            Ok(()) if fetching.is_whole() => {
                self.end_fetching(&fetching)?;
            }
            Ok(()) => self.fetching = Some(fetching),
            Err(Failed::Offline) => return Err(Offline.into()),
            Err(Failed::Why(why)) => {
                self.give_up_fetching(&fetching.key, &fetching.download, &why)?;
            }
            Err(Failed::Damaged) => self.damaged(&fetching)?,
        }
        Ok(true)
    }

    fn fetch_part(&mut self, fetching: &mut Fetching) -> std::result::Result<(), Failed> {
        if fetching.is_whole() {
            return Ok(());
        }
        let request = Request::Blob { id: fetching.download.info.blob, offset: fetching.held };
        let from = fetching.download.from.clone();
        let bytes = match self.ask_about(&from, &request)? {
            Response::Found(Some(bytes)) => bytes,
            Response::Found(None) => {
                return Err(Failed::Why("the relay does not have it any more".into()));
            }
            Response::Refused(Refused::Because(why)) => return Err(Failed::Why(why)),
            // It goes on a while later, as if the relay were away.
            Response::Refused(Refused::Busy) => return Err(Failed::Offline),
            _ => return Err(Failed::Why("the relay does not give it".into())),
        };
        let held = fetching.held.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if bytes.is_empty() || held > fetching.length() {
            return Err(Failed::Damaged);
        }
        fetching.part.write_all(&bytes)?;
        fetching.held = held;
        let done = tenths(held, fetching.length());
        if done != fetching.shown && !fetching.is_whole() {
            fetching.shown = done;
            let head = format!("* file #{} {} ", fetching.download.number, bar(done));
            self.screen.message(fetching.download.number, &head, &fetching.download.file.title());
        }
        Ok(())
    }

    fn end_fetching(&mut self, fetching: &Fetching) -> Result<()> {
        let download = &fetching.download;
        match download.open() {
            Ok(path) => {
                self.remove_download(&fetching.key, download)?;
                let path = visible(path.to_string_lossy().as_bytes());
                self.screen.text(&format!("* file #{} is saved: ", download.number), &path);
                Ok(())
            }
            Err(Failed::Damaged) => self.damaged(fetching),
            Err(Failed::Why(why)) => self.give_up_fetching(&fetching.key, download, &why),
            Err(Failed::Offline) => Ok(()),
        }
    }

    /// It is fetched again once. If it comes the same, only its sender can help.
    fn damaged(&mut self, fetching: &Fetching) -> Result<()> {
        let Fetching { key, download, .. } = fetching;
        if download.again {
            let why = format!("it is damaged; ask {} to send it again", download.from);
            return self.give_up_fetching(key, download, &why);
        }
        fs::remove_file(download.part()).ok();
        let download = Download { again: true, ..download.clone() };
        self.client.transact(|client| rows::put_download(&mut client.rows(), key, &download))?;
        self.screen.say(&format!("* file #{} came damaged: it is fetched again", download.number));
        Ok(())
    }

    fn give_up_fetching(&mut self, key: &Key, download: &Download, why: &str) -> Result<()> {
        self.remove_download(key, download)?;
        let head = format!("* file #{} is not saved: ", download.number);
        self.screen.text(&head, &visible(why.as_bytes()));
        Ok(())
    }

    fn remove_download(&mut self, key: &Key, download: &Download) -> Result<()> {
        self.client.transact(|client| rows::remove(&mut client.rows(), key))?;
        fs::remove_file(download.part()).ok();
        Ok(())
    }
}

impl Fetching {
    fn begin(key: Key, download: Download) -> io::Result<Self> {
        let part = OpenOptions::new().create(true).append(true).open(download.part())?;
        let held = part.metadata()?.len();
        let mut fetching = Self { key, download, part, held, shown: 0 };
        if held > fetching.length() {
            fetching.part.set_len(0)?;
            fetching.held = 0;
        }
        Ok(fetching)
    }

    fn length(&self) -> u64 {
        self.download.file.descriptor.blob_length()
    }

    fn is_whole(&self) -> bool {
        self.held >= self.length()
    }
}

impl Download {
    fn part(&self) -> PathBuf {
        self.hidden("part")
    }

    /// A name that nobody else chose.
    fn hidden(&self, ending: &str) -> PathBuf {
        let id: String = self.info.blob.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!(".{id}.{}.{ending}", self.number))
    }

    /// Opens the blob, and gives the file its name.
    fn open(&self) -> std::result::Result<PathBuf, Failed> {
        let opened = self.hidden("open");
        let written = self.open_into(&opened);
        if written.is_err() {
            fs::remove_file(&opened).ok();
        }
        written?;
        let path = self.claim()?;
        fs::rename(&opened, &path)?;
        Ok(path)
    }

    fn open_into(&self, path: &Path) -> io::Result<()> {
        let mut reader = Reader::new(File::open(self.part())?, &self.file.descriptor);
        let mut file = File::create(path)?;
        io::copy(&mut reader, &mut file)?;
        file.sync_all()
    }

    /// A new file, under the first name that is free.
    fn claim(&self) -> io::Result<PathBuf> {
        let names = (2..100).map(|number| numbered(&self.name, number));
        for name in std::iter::once(self.name.clone()).chain(names) {
            let path = self.folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return opened.map(|_| path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// What is to be fetched of a line, with the numbers of its files. A folder or a name that was
/// typed here is taken as it is; a name that came from somebody is made harmless.
fn downloads(
    number: u64,
    line: &Line,
    path: &str,
) -> std::result::Result<Vec<(u8, Download)>, String> {
    let mut folder = PathBuf::from(if path.is_empty() { "." } else { path });
    let mut typed = None;
    if !folder.is_dir() {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        typed = Some(name.ok_or("that is no name")?);
        folder.pop();
        if folder.as_os_str().is_empty() {
            folder.push(".");
        }
    }
    // A later run may be elsewhere.
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let mut downloads = Vec::new();
    for (at, file) in (0..).zip(&line.files) {
        let info = file.info.clone().ok_or("another program has put it elsewhere")?;
        let name = typed.clone().unwrap_or_else(|| safe_name(&info.name));
        let (from, folder, file) = (line.sender().to_owned(), folder.clone(), file.clone());
        downloads.push((at, Download { number, from, file, info, folder, name, again: false }));
    }
    Ok(downloads)
}
