//! Rows in a vault, and its locks.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use subrosa::store::{Argon2Cost, Lock, Memory, Store, Table, Vault};
use subrosa::{Error, Zeroizing};

use crate::Drawn;

/// Rows of the app's own, put and read again by who has the key.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell(rows: usize, rng: &mut Drawn) -> Result<(), Error> {
    let key: Zeroizing<Vec<u8>> = Zeroizing::new(rng.text(32));
    let key: &[u8; 32] = key.as_slice().try_into().expect("32 bytes");
    let mut memory = Memory::new();
    for round in 0..2 {
        let mut vault = Vault::open(&mut memory, Lock::Key(key), rng)?;
        for row in 0..rows {
            let name = row.to_be_bytes();
            let text = Zeroizing::new(rng.text(100 * row));
            vault.transact(|tx| {
                let before = tx.get(Table::App, &name)?;
                assert_eq!(before.is_some(), round > 0);
                tx.put(Table::App, &name, &text)
            })?;
        }
    }
    Ok(())
}

/// A vault that is opened, not opened, and locked anew, by passphrases and by a key.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn lock(rng: &mut Drawn) -> Result<(), Error> {
    let [one, other] = [passphrase(rng), passphrase(rng)];
    let key: Zeroizing<Vec<u8>> = Zeroizing::new(rng.text(32));
    let key: &[u8; 32] = key.as_slice().try_into().expect("32 bytes");
    let (mut memory, cost) = (Memory::new(), Argon2Cost::new(8, 1));
    drop(Vault::open_with(&mut memory, Lock::Passphrase(&one), cost, rng)?);
    let row = memory.transact(|tx| tx.get(Table::Vault, b"lock"))?.expect("there is a lock");
    tell_last_block(&one, &row);

    for wrong in [Lock::Passphrase(&other), Lock::Key(key)] {
        let opened = Vault::open_with(&mut memory, wrong, cost, rng);
        assert_eq!(opened.err(), Some(Error::WrongPassphrase));
    }
    let mut vault =
        Vault::open_with(&mut memory, Lock::Passphrase(&one), Argon2Cost::new(9, 1), rng)?;
    vault.change_lock(Lock::Passphrase(&other), rng)?;
    drop(vault);
    Vault::open_with(&mut memory, Lock::Passphrase(&other), cost, rng)?
        .change_lock(Lock::Key(key), rng)?;
    Vault::open(&mut memory, Lock::Key(key), rng).map(drop)
}

/// 48 letters.
fn passphrase(rng: &mut Drawn) -> Zeroizing<String> {
    let mut letters = Zeroizing::new(rng.text(48));
    letters.iter_mut().for_each(|letter| *letter = b'a' + *letter % 26);
    subrosa_marks::secret(&mut letters);
    Zeroizing::new(String::from_utf8_lossy(&letters).into_owned())
}

/// What the key of a lock follows from without the passphrase: the last block of Argon2id's memory.
fn tell_last_block(passphrase: &str, row: &[u8]) {
    let number = |at: usize| u32::from_be_bytes(row[at..at + 4].try_into().expect("four bytes"));
    let params = Params::new(number(23), number(27), number(31), Some(32)).expect("they were used");
    let mut blocks = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    let (out, memory) = (&mut *key, blocks.as_mut_slice());
    argon2
        .hash_password_into_with_memory(passphrase.as_bytes(), &row[35..67], out, memory)
        .expect("as before");
    subrosa_marks::secret(&mut *key);
    let last: &[u64] = blocks.last().expect("there are blocks").as_ref();
    let mut bytes =
        Zeroizing::new(last.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    subrosa_marks::secret(&mut bytes);
}
