//! A vault whose rows somebody changed.

use std::cell::RefCell;

use subrosa::Error;
use subrosa::store::{Argon2Cost, Lock, Memory, Store, StoreFault, Table, Vault};

use crate::household::{Cell, contents, store_of};
use crate::input::{Input, changed};
use crate::network::Seeded;

const KEY: [u8; 32] = [7; 32];
const VALUE: &[u8] = b"the value of a row";

thread_local! {
    /// One locked by a key, one by a passphrase.
    static VAULTS: [RefCell<Vec<Cell>>; 2] = [Lock::Key(&KEY), Lock::Passphrase("rose")].map(|lock| {
        let rng = &mut Seeded::new(1, "vault");
        let mut store = Memory::new();
        let mut vault = Vault::open_with(&mut store, lock, cheapest(), rng).expect("it is empty");
        let write = vault.transact(|tx| tx.put(Table::Inbox, b"key", VALUE));
        write.map_err(|error: Error| error).expect("memory does not fail");
        RefCell::new(contents(&mut store))
    });
}

fn cheapest() -> Argon2Cost {
    Argon2Cost::new(8, 1)
}

/// The lock row or a sealed row is not what it was: the vault does not open, or the row does not.
pub fn vault(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.small();
    let is_passphrase = choice % 2 == 1;
    let rows = VAULTS.with(|vaults| vaults[choice % 2].borrow().clone());
    let mut now = rows.clone();
    let at = (choice / 2) % now.len();
    now[at].2 = match choice / 8 % 3 {
        0 => changed(&now[at].2, &mut input),
        1 => input.rest().to_vec(),
        _ => {
            // The head of the lock anew, around what it seals.
            let head = input.rest();
            let kept = now[at].2.get(head.len().min(99)..).unwrap_or_default();
            [&head[..head.len().min(99)], kept].concat()
        }
    };
    let lock_row = now.iter_mut().find(|row| row.0 == Table::Vault).expect("there is a lock");
    if is_passphrase {
        bear(&mut lock_row.2);
    }
    let is_changed = now != rows;
    let mut store = store_of(&now);
    let before = contents(&mut store);
    let lock = if is_passphrase { Lock::Passphrase("rose") } else { Lock::Key(&KEY) };
    let opened = Vault::open_with(&mut store, lock, cheapest(), &mut Seeded::new(2, "vault"));
    let read = opened.and_then(|mut vault| vault.transact(|tx| tx.get(Table::Inbox, b"key")));
    match read {
        Ok(value) => {
            assert!(!is_changed);
            assert_eq!(value.as_deref().map(Vec::as_slice), Some(VALUE));
        }
        Err(error) => {
            assert!(is_changed);
            let expected =
                [Error::WrongPassphrase, StoreFault::Corrupt.into(), StoreFault::Newer.into()];
            assert!(expected.contains(&error), "{error:?}");
            assert!(contents(&mut store) == before, "an error changed the store");
        }
    }
}

/// A lock may ask for a gigabyte, by design: here for 8 MiB and one pass at most.
fn bear(lock: &mut [u8]) {
    for (at, most) in [(23, 8_192_u32), (27, 1)] {
        let Some(bytes) = lock.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) else {
            return;
        };
        let asked = u32::from_be_bytes(*bytes);
        // What nobody should bear is refused without a trial, and stays as it is.
        if asked <= [1 << 20, 64][usize::from(at == 27)] {
            *bytes = asked.min(most).to_be_bytes();
        }
    }
}
