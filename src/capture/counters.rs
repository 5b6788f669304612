//! The counters of a capture: how many deliveries it saw, and what became of them.

/// The capture program's counters: the sum over all CPUs, since it was attached.
///
/// `detected = filtered + folded + submitted + dropped`, exactly. The names and meanings
/// are those of `struct counters` in bpf/event.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KernelCounters {
    /// Deliveries of a watched signal.
    pub detected: u64,
    /// How many of these were left out by `-p`, `-n`, `--fatal-only`, or because they are our own.
    pub filtered: u64,
    /// Passed the filters; handled, and equal to one that was already sent.
    pub folded: u64,
    /// Passed the filters, not folded, and found a free scratch.
    pub captured: u64,
    /// Whose header is in the ring.
    pub submitted: u64,
    /// Passed the filters, but cannot get a report.
    pub dropped: u64,
    /// How many of these: scratch in use.
    pub dropped_busy: u64,
    /// How many of these: ring full.
    pub dropped_ring: u64,
    /// Detected with a fault address.
    pub fault_info_captured: u64,
    /// Detected without.
    pub fault_info_missed: u64,
    /// Captured, registers not readable.
    pub register_failures: u64,
    /// A stack was wanted and nothing of it arrived.
    pub stack_failures: u64,
    /// Parts that found no room.
    pub parts_lost: u64,
    /// Deliveries that the kernel kept from the program, which was at work on that CPU:
    /// of any signal, watched or not. In none of the other figures.
    pub missed: u64,
}

impl KernelCounters {
    /// As if handled faults had been filtered: those that were only counted, and those whose
    /// records the tool `dropped`.
    #[must_use]
    pub fn without_handled(mut self, dropped: u64) -> Self {
        self.filtered = self.filtered.saturating_add(self.folded + dropped);
        self.captured = self.captured.saturating_sub(dropped);
        self.submitted = self.submitted.saturating_sub(dropped);
        self.folded = 0;
        self
    }
}
