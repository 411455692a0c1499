//! Who is here. A connection is entered before anything about it is decided, so that a kick also reaches one that
//! was admitted a moment ago and is not yet connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::DeviceId;
use tokio_util::sync::CancellationToken;

/// Number of a connection, unique in this process.
pub(super) type ConnectionNumber = u64;

#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_number: ConnectionNumber,
    devices: BTreeMap<DeviceId, BTreeMap<ConnectionNumber, Entry>>,
}

struct Entry {
    cut: CancellationToken,
    connected: bool,
}

impl Registry {
    /// Enters a connection of `device`; `cut` is what ends it.
    pub(super) fn enter(&self, device: &DeviceId, cut: CancellationToken) -> ConnectionNumber {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.devices.entry(device.clone()).or_default().insert(number, Entry { cut, connected: false });
        number
    }

    /// The connection was accepted by us.
    pub(super) fn connected(&self, device: &DeviceId, number: ConnectionNumber) {
        if let Some(entry) = self.lock().devices.get_mut(device).and_then(|all| all.get_mut(&number)) {
            entry.connected = true;
        }
    }

    /// The connection ended. True when it had been connected and no other one of the device is.
    pub(super) fn leave(&self, device: &DeviceId, number: ConnectionNumber) -> bool {
        let mut state = self.lock();
        let Some(all) = state.devices.get_mut(device) else { return false };
        let Some(entry) = all.remove(&number) else { return false };
        let last = !all.values().any(|other| other.connected);
        if all.is_empty() {
            state.devices.remove(device);
        }
        entry.connected && last
    }

    /// Whether no later connection of the device exists.
    pub(super) fn is_latest(&self, device: &DeviceId, number: ConnectionNumber) -> bool {
        let state = self.lock();
        state.devices.get(device).is_none_or(|all| all.keys().all(|other| *other <= number))
    }

    /// Ends every connection of `device`; false when there is none.
    pub(super) fn cut(&self, device: &DeviceId) -> bool {
        let state = self.lock();
        let Some(all) = state.devices.get(device) else { return false };
        all.values().for_each(|entry| entry.cut.cancel());
        true
    }

    /// Whether a device is connected.
    pub(super) fn is_connected(&self, device: &DeviceId) -> bool {
        self.lock().devices.get(device).is_some_and(|all| all.values().any(|entry| entry.connected))
    }

    /// How many devices are connected.
    pub(super) fn count(&self) -> usize {
        let state = self.lock();
        state.devices.values().filter(|all| all.values().any(|entry| entry.connected)).count()
    }

    /// Every connected device.
    pub(super) fn devices(&self) -> BTreeSet<DeviceId> {
        let state = self.lock();
        let connected = state.devices.iter().filter(|(_, all)| all.values().any(|entry| entry.connected));
        connected.map(|(device, _)| device.clone()).collect()
    }

    /// Nothing here can leave the state half-changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        DeviceId::new("cam-7").unwrap()
    }

    #[test]
    fn a_kick_reaches_connections_that_are_still_being_made() {
        let (registry, cut) = (Registry::default(), CancellationToken::new());
        registry.enter(&device(), cut.clone());
        assert!(registry.devices().is_empty());
        assert!(registry.cut(&device()));
        assert!(cut.is_cancelled());
    }

    #[test]
    fn a_takeover_is_not_a_departure() {
        let registry = Registry::default();
        let old = registry.enter(&device(), CancellationToken::new());
        registry.connected(&device(), old);
        let new = registry.enter(&device(), CancellationToken::new());
        registry.connected(&device(), new);
        assert!(!registry.is_latest(&device(), old));
        assert!(!registry.leave(&device(), old));
        assert_eq!((registry.devices().len(), registry.count()), (1, 1));
        assert!(registry.is_connected(&device()));
        assert!(registry.leave(&device(), new));
        assert!(registry.devices().is_empty() && !registry.is_connected(&device()));
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn a_connection_that_was_refused_departs_unnoticed() {
        let registry = Registry::default();
        let number = registry.enter(&device(), CancellationToken::new());
        assert!(!registry.leave(&device(), number));
        assert!(!registry.leave(&device(), number));
        assert!(!registry.cut(&device()));
    }
}
