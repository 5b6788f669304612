//! Pieces of a core's memory, copied into an event.

use super::read::Core;
use crate::base::address::ProcessAddress;
use crate::crash::event::MemoryWindow;

/// Windows in the order of their addresses, without overlaps.
#[derive(Default)]
pub(super) struct Windows(pub(super) Vec<MemoryWindow>);

impl Windows {
    pub(super) fn holds(&self, address: u64) -> bool {
        self.0
            .iter()
            .any(|window| window.get(ProcessAddress(address), 1).is_some())
    }

    pub(super) fn add(&mut self, core: &Core, mut start: u64, len: usize) {
        let mut end = start.saturating_add(len as u64);
        for window in &self.0 {
            let (low, high) = (
                window.address.0,
                window.address.0 + window.bytes.len() as u64,
            );
            if low <= start && start < high {
                start = high;
            } else if start < low {
                end = end.min(low);
            }
        }
        let bytes = match end.checked_sub(start) {
            Some(len) => core.memory(start, usize::try_from(len).unwrap_or(0)),
            None => return,
        };
        if bytes.is_empty() {
            return;
        }
        let place = self.0.partition_point(|window| window.address.0 < start);
        let before = place.checked_sub(1).and_then(|at| self.0.get_mut(at));
        if let Some(window) = before.filter(|it| it.address.0 + it.bytes.len() as u64 == start) {
            window.bytes.extend_from_slice(&bytes);
            return;
        }
        let window = MemoryWindow {
            address: ProcessAddress(start),
            bytes,
        };
        self.0.insert(place, window);
    }
}
