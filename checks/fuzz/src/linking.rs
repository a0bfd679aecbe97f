//! Linking: a code that is typed in, and the grant that comes back.

use std::cell::RefCell;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use subrosa::store::Memory;
use subrosa::{Client, DeviceList, NewDevice, Role};

use crate::household::{BEGIN, HOUSEHOLD, contents, copy, open};
use crate::network::Seeded;

/// A code of any bytes, with a sum that holds (0 first) or in letters as they are (anything else
/// first): a device is linked, or nothing changes.
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
    let (mut store, mut post) = HOUSEHOLD.with(|all| (all.phone.clone(), copy(&all.post)));
    let before = contents(&mut store);
    let mut client = open(store);
    let role = if data.len().is_multiple_of(2) { Role::Manager } else { Role::Device };
    match client.link(&code, role, BEGIN, rng) {
        Ok(_) => {
            let devices =
                client.devices("bob").expect("the store is sound").expect("it is its own");
            let last = devices.devices().last().map(|listed| (listed.device, listed.role));
            assert_eq!(last, Some((3, role)));
            post.settle(&mut client, BEGIN, rng);
            assert_eq!(post.users["bob"].list(), Some(&devices));
            assert_eq!(DeviceList::decode(&devices.encode()), Ok(devices));
        }
        Err(_) => {
            assert!(contents(&mut client.into_store()) == before, "an error changed the store")
        }
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
        let grant = phone.link(&device.code(), Role::Manager, BEGIN, rng).expect("it is linked");
        Joining { device, grant }
    };
    static EMPTY: RefCell<Memory> = const { RefCell::new(Memory::new()) };
}

/// A grant that nobody gave makes no account.
pub fn grant(data: &[u8]) {
    JOINING.with(|joining| {
        EMPTY.with_borrow_mut(|store| {
            let rng = &mut Seeded::new(1, "grant");
            let joined = Client::join(&mut *store, &joining.device, data, BEGIN, rng).map(drop);
            assert_eq!(joined.is_ok(), data == joining.grant);
            match joined {
                Ok(()) => *store = Memory::new(),
                Err(_) => assert!(contents(store).is_empty(), "an error changed the store"),
            }
        });
    });
}
