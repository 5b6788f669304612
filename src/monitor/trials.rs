//! The faults that other runs of this tool make on purpose when they start.

use crate::crash::event::Disposition;
use crate::measure::facts;
use crate::report::Report;
use crate::sys::own_crash;

/// Whether a report is of such a fault: a handled one, in the code of this same build, by a
/// process or thread with the name of one that faults on purpose.
pub(super) fn is_trial(report: &Report) -> bool {
    report.delivery.disposition == Disposition::Handled
        && facts::is_thread_name(&report.process.thread)
        && report.state.instruction.build_id.as_deref() == own_crash::build_id()
        && own_crash::build_id().is_some()
}
