//! What strangers may cost the relay: on connections that carry no name, a network address is all
//! that it can count by.
//!
//! Each network address has a number of requests, which come back with time, and a number of open
//! connections. A connection counts from its first byte until it carries a name, so that nobody
//! keeps others out by opening connections and saying nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Open connections without a name: of one network address, and of all.
const MAX_OPEN: usize = 64;
const MAX_OPEN_OF_ALL: usize = 192;

/// Requests at once, in seconds' worth of requests.
const BURST: u64 = 20;

/// Network addresses that are remembered. Where there are more, those go that did nothing lately.
const MAX_NETWORKS: usize = 4_096;

pub(crate) struct Gate {
    /// Requests a second, of one network address.
    rate: u64,
    networks: Mutex<BTreeMap<Network, Spent>>,
}

/// A network address: of the sixth version, the 64 bits that a customer gets, since the others can
/// be had without end.
pub(crate) type Network = u64;

#[derive(Default)]
struct Spent {
    open: usize,
    /// Thousandths of a request, which come back with time.
    spent: u64,
    at: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, networks: Mutex::default() }
    }

    /// A connection is there. None: there are too many of its network address.
    pub(crate) fn enter(&self, from: IpAddr) -> Option<Inside<'_>> {
        let network = network(from);
        let mut networks = self.lock();
        if networks.len() >= MAX_NETWORKS {
            let rate = self.rate;
            networks.retain(|_, spent| {
                spent.refill(rate);
                spent.open > 0 || spent.spent > 0
            });
        }
        let of_all: usize = networks.values().map(|spent| spent.open).sum();
        let is_known = networks.contains_key(&network);
        if of_all >= MAX_OPEN_OF_ALL || !is_known && networks.len() >= MAX_NETWORKS {
            return None;
        }
        let spent = networks.entry(network).or_default();
        if spent.open >= MAX_OPEN {
            return None;
        }
        spent.open = spent.open.saturating_add(1);
        Some(Inside { gate: self, network })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Network, Spent>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that carries no name, until it is dropped.
pub(crate) struct Inside<'a> {
    gate: &'a Gate,
    network: Network,
}

impl Inside<'_> {
    /// Whether one more request is taken.
    pub(crate) fn may_ask(&self) -> bool {
        let rate = self.gate.rate;
        let mut networks = self.gate.lock();
        let Some(spent) = networks.get_mut(&self.network) else { return false };
        spent.refill(rate);
        let is_left =
            spent.spent <= rate.saturating_mul(BURST).saturating_sub(1).saturating_mul(1_000);
        if is_left {
            spent.spent = spent.spent.saturating_add(1_000);
        }
        is_left
    }

    /// What prekeys are counted by, instead of a user's name: no name begins like this.
    pub(crate) fn asker(&self) -> String {
        format!("@{:016x}", self.network)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(spent) = self.gate.lock().get_mut(&self.network) {
            spent.open = spent.open.saturating_sub(1);
        }
    }
}

impl Spent {
    fn refill(&mut self, rate: u64) {
        let now = Instant::now();
        let passed = self.at.map_or(0, |at| now.saturating_duration_since(at).as_millis());
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.spent = self.spent.saturating_sub(passed.saturating_mul(rate));
        self.at = Some(now);
    }
}

fn network(from: IpAddr) -> Network {
    match from.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
    }
}
