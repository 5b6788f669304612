//! Writes the core file of a crash whose report is printed.

use crate::corefile::store::Store;
use crate::crash::event::Lost;
use crate::report::repeats::Outgoing;

/// Adds a core to the report that it belongs to: not if the report was folded, and not to one
/// that stands for reports that were.
pub(super) fn add(store: &mut Store, core: &[u8], admitted: &mut [Outgoing]) {
    let own = admitted.iter_mut().find(|outgoing| !outgoing.is_held);
    let Some(Outgoing { report, .. }) = own else {
        return;
    };
    let (pid, unix_ms) = (report.process.pid, report.time.unix_ms);
    report.core = store.save(&report.process.comm, pid, unix_ms, core);
    if report.core.is_none() {
        report.lost.push(Lost {
            detail: "core",
            reason: "the core file could not be written",
        });
    }
}
