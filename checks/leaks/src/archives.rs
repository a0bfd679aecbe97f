//! An archive that is written, not opened, and restored.

use std::io::Cursor;

use subrosa::archive::{Archive, Lock};
use subrosa::store::Memory;
use subrosa::{Client, Contents, Error, Others, UnixTime, Zeroizing};

use crate::{Drawn, NOW};

/// A backup of an account with a few lines, under a key.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell(lines: usize, rng: &mut Drawn) -> Result<(), Error> {
    let now = UnixTime::from_secs(NOW)?;
    let key: Zeroizing<Vec<u8>> = Zeroizing::new(rng.text(32));
    let key: &[u8; 32] = key.as_slice().try_into().expect("32 bytes");
    let mut client = Client::create(Memory::new(), "rosa", now, rng)?;
    let texts: Vec<_> = (0..lines).map(|line| Zeroizing::new(rng.text(1_000 * line))).collect();
    let frames = texts.iter().map(|text| Ok(&**text));
    let locks = [Lock::Key(key)];
    let file = client.export(&locks, &Contents::default(), frames, Vec::new(), now, rng);
    let file = file.expect("a vector does not fail");
    let other = Archive::open(Cursor::new(&file), Lock::Key(&[0; 32]));
    assert!(other.is_err());
    let mut archive = Archive::open(Cursor::new(&file), locks[0]).expect("it is the key");
    let list = client.devices("rosa")?;
    let list = list.as_ref();
    let mut count = 0_u32;
    let put = |rows: &mut subrosa::Rows<'_>, line: &[u8]| {
        count += 1;
        rows.put(&count.to_be_bytes(), line)
    };
    Client::restore(Memory::new(), &mut archive, list, Others::Remove, put, now, rng)
        .map(drop)
        .expect("it is whole");
    Ok(())
}
