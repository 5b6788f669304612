//! The size of each CPU's rings, if each CPU has its own.
//!
//! The size that the user allows for all rings is divided among the CPUs. Since a ring has
//! a minimum size, many CPUs may take more than that. If `--memory-limit` has no room for
//! them, the start is refused.

use crate::base::error::{Error, Result};
use crate::config::{CaptureConfig, MEMORY_BESIDE_RING_MB};
use crate::sys::mmap::page_bytes;

/// The size that the rings of all CPUs may have together, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// `--ring-buffer`
    wanted: u64,
    /// Beyond which nothing that the user did not ask for is added.
    modest: u64,
    /// The part of `--memory-limit` that nothing else needs.
    most: u64,
}

impl Share {
    #[must_use]
    pub(super) fn of(config: &CaptureConfig) -> Share {
        let wanted = u64::from(config.ring_bytes);
        let beside = MEMORY_BESIDE_RING_MB << 20;
        let most = config.memory_limit_bytes.saturating_sub(beside);
        let modest = (config.memory_limit_bytes / 2).min(most).max(wanted);
        Share {
            wanted,
            modest,
            most,
        }
    }

    /// The size of one ring, with so many CPUs and `kinds` rings on each.
    #[must_use]
    pub(super) fn ring(&self, cpus: u64, kinds: u64, least: u64) -> u64 {
        whole_ring((self.wanted / cpus.max(1) / kinds).max(least))
    }

    /// The ring's size halved, as long as the rings of all CPUs together are more than modest.
    /// Each CPU has `beside` bytes in another ring.
    #[must_use]
    pub(super) fn modest(&self, mut ring: u64, least: u64, beside: u64, cpus: u64) -> u64 {
        let least = whole_ring(least);
        while ring > least && (ring + beside).saturating_mul(cpus) > self.modest {
            ring /= 2;
        }
        ring
    }

    /// The ring's size doubled as often as possible: up to `most`, and as long as the rings of
    /// all CPUs together stay modest. Each CPU has `beside` bytes in another ring.
    #[must_use]
    pub(super) fn larger(&self, mut ring: u64, most: u64, beside: u64, cpus: u64) -> u64 {
        while ring < most && (2 * ring + beside).saturating_mul(cpus) <= self.modest {
            ring *= 2;
        }
        ring
    }

    /// Refuses what `--memory-limit` cannot hold.
    pub(super) fn check(&self, all: u64, cpus: usize) -> Result<()> {
        if all <= self.most {
            return Ok(());
        }
        let least_mb = all.div_ceil(1 << 20) + MEMORY_BESIDE_RING_MB;
        Err(Error::usage(format!(
            "--memory-limit: {} MB cannot hold the rings of {cpus} CPUs, {} KB in all; {least_mb} MB or more can",
            (self.most >> 20) + MEMORY_BESIDE_RING_MB,
            all >> 10,
        )))
    }
}

/// The size of the largest ring with at most so many bytes, but at least a page.
#[must_use]
pub(super) fn whole_ring(most_bytes: u64) -> u64 {
    // A power of two.
    (1u64 << most_bytes.max(1).ilog2()).max(page_bytes() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(ring_kb: u32, limit_mb: u64) -> Share {
        Share::of(&CaptureConfig {
            ring_bytes: ring_kb << 10,
            memory_limit_bytes: limit_mb << 20,
            ..CaptureConfig::default()
        })
    }

    #[test]
    fn all_rings_together_are_what_the_user_said() {
        for (ring_kb, cpus) in [(4096, 1), (4096, 2), (4096, 24), (65536, 2), (256, 8)] {
            let ring = share(ring_kb, 100).ring(cpus, 1, 32 << 10);
            assert!(ring.is_power_of_two());
            assert!(ring * cpus <= u64::from(ring_kb) << 10);
            assert!(share(ring_kb, 100).check(ring * cpus, 1).is_ok());
        }
    }

    #[test]
    fn what_the_limit_cannot_hold_is_refused_with_what_it_takes() {
        let small = share(256, 5);
        let ring = small.ring(512, 1, 32 << 10);
        let error = small.check(ring * 512, 512).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--memory-limit: 5 MB cannot hold the rings of 512 CPUs, 16384 KB in all; 20 MB or more can"
        );
        assert!(share(256, 20).check(ring * 512, 512).is_ok());
    }
}
