//! The files of a text: what opens each, and what the app says of it.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::error::Error;
use crate::file::Descriptor;

/// A file in a message: the descriptor that opens its blob, and what the app says of it.
///
/// The blob travels apart, by way of the app ([`file`](crate::file), [`guide::files`]). `info` is
/// the app's own: where the blob lies, what the file is called and what kind it is. It comes from
/// the other side, so a name in it is no path, and a length in it is no fact.
///
/// ```
/// use subrosa::file::{self, ChunkSize};
/// use subrosa::{Attachment, Client, Outgoing, SystemRng, UnixTime, store::Memory};
///
/// let (rng, now) = (&mut SystemRng, UnixTime::now()?);
/// let mut client = Client::create(Memory::new(), "alice", now, rng)?;
/// let (descriptor, blob) = file::seal(b"a photograph", ChunkSize::DEFAULT, rng)?;
/// // Upload the blob, and only then:
/// let photograph = Attachment::new(descriptor, b"https://blobs.example/7f3a rose.jpg")?;
/// client.write("bob", Outgoing::new(b"the garden").files(&[photograph]), now, rng)?;
/// # drop(blob);
/// # Ok::<(), subrosa::Error>(())
/// ```
///
/// [`guide::files`]: crate::guide::files
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    descriptor: Descriptor,
    info: Zeroizing<Vec<u8>>,
}

impl Attachment {
    /// The longest `info`: 1,024 bytes.
    pub const MAX_INFO: usize = 1_024;

    /// The most files in one message: 16.
    pub const MOST: usize = 16;

    /// A file, and what the app says of it.
    ///
    /// # Errors
    /// [`Error::TooLong`]: `info` has more than [`Attachment::MAX_INFO`] bytes.
    pub fn new(descriptor: Descriptor, info: &[u8]) -> Result<Self, Error> {
        if info.len() > Self::MAX_INFO {
            return Err(Error::TooLong);
        }
        Ok(Self { descriptor, info: Zeroizing::new(info.to_vec()) })
    }

    /// What opens the blob.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// What the app of its sender says of it; wiped when dropped.
    #[must_use]
    pub fn info(&self) -> &[u8] {
        &self.info
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let descriptor = Descriptor::decode(reader.bytes(Descriptor::LENGTH)?)?;
        let length = usize::from(reader.u16()?);
        let info = reader.bytes(length)?;
        Self::new(descriptor, info).map_err(|_| Error::Malformed)
    }
}

/// Shows how long the blob and `info` are.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blob, info) = (self.descriptor.blob_length(), self.info.len());
        write!(f, "Attachment({blob} bytes, {info} bytes about it)")
    }
}

/// The files of a text, as they travel and as they are stored: empty where there are none, else
///
/// ```text
/// count:u8 (1 to 16) || count * (descriptor:74 || length:u16 (at most 1,024) || info)
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Files<'a>(&'a [u8]);

impl<'a> Files<'a> {
    /// What [`encode`] made, or nothing.
    pub(crate) const fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// The value of the field.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnsupportedVersion`] where a descriptor is of a later
    /// version.
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, Error> {
        if value.is_empty() {
            return Err(Error::Malformed);
        }
        decode(value)?;
        Ok(Self(value))
    }

    pub(crate) const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The files of a text that is written.
///
/// # Errors
/// [`Error::TooLong`]: there are more than 16.
pub(crate) fn encode(files: &[Attachment]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if files.len() > Attachment::MOST {
        return Err(Error::TooLong);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let Some(count) = u8::try_from(files.len()).ok().filter(|count| *count > 0) else {
        return Ok(bytes);
    };
    let length = |file: &Attachment| file.info.len().saturating_add(AROUND_INFO);
    // All at once: a vector that grows leaves a copy behind.
    bytes.reserve_exact(files.iter().map(length).fold(1, usize::saturating_add));
    bytes.push(count);
    for file in files {
        let length = u16::try_from(file.info.len()).expect("it has at most 1,024 bytes");
        bytes.extend_from_slice(&file.descriptor.encode());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&file.info);
    }
    Ok(bytes)
}

/// The files that are in there; none in an empty run.
///
/// # Errors
/// As [`Files::read`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Attachment>, Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let count = usize::from(reader.u8()?);
    if !(1..=Attachment::MOST).contains(&count) {
        return Err(Error::Malformed);
    }
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push(Attachment::read(&mut reader)?);
    }
    reader.end()?;
    Ok(files)
}

/// A descriptor and a length.
const AROUND_INFO: usize = Descriptor::LENGTH.saturating_add(2);

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::file::{self, ChunkSize};
    use crate::testing::Replay;

    fn files(count: usize, info: usize) -> Vec<Attachment> {
        let rng = &mut Replay::counting();
        let file = |_| {
            let (descriptor, _) = file::seal(b"a file", ChunkSize::DEFAULT, rng).unwrap();
            Attachment::new(descriptor, &vec![b'i'; info]).unwrap()
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn files_are_read_as_they_were_written() {
        for (count, info) in [(0, 0), (1, 0), (1, 1_024), (16, 0), (16, 1_024)] {
            let files = files(count, info);
            let bytes = encode(&files).unwrap();
            assert_eq!(bytes.len(), if count == 0 { 0 } else { 1 + count * (76 + info) });
            assert_eq!(decode(&bytes).unwrap(), files);
            for length in 1..bytes.len() {
                assert_eq!(decode(&bytes[..length]).err(), Some(Error::Malformed), "{length}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_not_written() {
        assert_eq!(encode(&files(17, 0)).err(), Some(Error::TooLong));
        let descriptor = files(1, 0).remove(0).descriptor;
        assert_eq!(Attachment::new(descriptor, &[0; 1_025]).err(), Some(Error::TooLong));
    }

    #[test]
    fn every_fault_of_the_layout_is_refused() {
        let one = encode(&files(1, 3)).unwrap().to_vec();
        let changed = |at: usize, to: u8| {
            let mut bytes = one.clone();
            bytes[at] = to;
            bytes
        };
        let long = [&[1][..], &one[1..75], &1_025_u16.to_be_bytes(), &[0; 1_025]].concat();
        let many = [&[17][..], &one[1..].repeat(17)].concat();
        for (name, bytes, error) in [
            ("no file", vec![0], Error::Malformed),
            ("nothing", vec![], Error::Malformed),
            ("17 files", many, Error::Malformed),
            ("more than it says", [&one[..], &[0]].concat(), Error::Malformed),
            ("fewer than it says", changed(0, 2), Error::Malformed),
            ("a chunk size that there is not", changed(2, 11), Error::Malformed),
            ("a file that is too long", changed(3, 1), Error::Malformed),
            ("info that is too long", long, Error::Malformed),
            ("a later descriptor", changed(1, 2), Error::UnsupportedVersion),
        ] {
            assert_eq!(Files::read(&bytes).err(), Some(error), "{name}");
        }
    }

    #[test]
    fn it_shows_lengths_alone() {
        let file = files(1, 3).remove(0);
        assert_eq!(alloc::format!("{file:?}"), "Attachment(1040 bytes, 3 bytes about it)");
    }
}
