//! Rows in a vault.

use subrosa::store::{Lock, Memory, Store, Table, Vault};
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
