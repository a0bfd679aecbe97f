//! Linking: a code that is typed in, and the grant that comes back.

use std::cell::RefCell;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use subrosa::store::Memory;
use subrosa::{Client, NewDevice};

use crate::household::{HOUSEHOLD, contents, open};
use crate::network::{NOW, Seeded};

/// A code of any bytes, with a sum that holds (0 first) or in letters as they are (anything else first): a device is linked, or nothing changes.
pub fn link(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let code = match kind {
        0 => BASE32_NOPAD.encode(&[data, &Sha256::digest(data)[..3]].concat()),
        _ => match str::from_utf8(data) {
            Ok(code) => code.to_owned(),
            Err(_) => return,
        },
    };
    let rng = &mut Seeded::new(1, "link");
    let mut store = HOUSEHOLD.with(|household| household.phone.clone());
    let before = contents(&mut store);
    let mut client = open(store);
    let is_manager = data.len().is_multiple_of(2);
    match client.link(&code, is_manager, NOW, rng) {
        Ok(_) => {
            let devices = client.devices("bob").expect("the store is sound").expect("it is one's own");
            assert_eq!(
                devices.devices().last().map(|listed| (listed.device, listed.manager)),
                Some((3, is_manager))
            );
            assert_eq!(subrosa::DeviceList::decode(&devices.encode()), Ok(devices));
            assert!(client.upload(100, NOW, rng).expect("the store is sound").is_some());
        }
        Err(_) => assert!(contents(&mut client.into_store()) == before, "an error changed the store"),
    }
}

/// A new device, and the grant that is genuine.
pub(crate) struct Joining {
    device: NewDevice,
    pub(crate) grant: Vec<u8>,
}

thread_local! {
    pub(crate) static JOINING: Joining = {
        let rng = &mut Seeded::new(1, "joining");
        let device = NewDevice::generate(rng);
        let mut phone = open(HOUSEHOLD.with(|household| household.phone.clone()));
        let grant = phone.link(&device.code(), true, NOW, rng).expect("it is linked");
        Joining { device, grant }
    };
    static EMPTY: RefCell<Memory> = const { RefCell::new(Memory::new()) };
}

/// A grant that nobody gave makes no account.
pub fn grant(data: &[u8]) {
    JOINING.with(|joining| {
        EMPTY.with_borrow_mut(|store| {
            let rng = &mut Seeded::new(1, "grant");
            let joined = Client::join(&mut *store, &joining.device, data, NOW, rng).map(drop);
            assert_eq!(joined.is_ok(), data == joining.grant);
            match joined {
                Ok(()) => *store = Memory::new(),
                Err(_) => assert!(contents(store).is_empty(), "an error changed the store"),
            }
        });
    });
}
