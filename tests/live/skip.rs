//! How a live test ends that finds out only while it runs that it cannot.
//!
//! What is known before belongs into [`Needs`](crate::Needs). Either way the test counts
//! as ignored, with its reason, and one that was skipped fails with CI=true. What can
//! never hold in this build (another architecture, a feature that is left out) is not
//! applicable: ignored, and no failure anywhere.

use std::any::Any;
use std::fmt::Display;
use std::panic::resume_unwind;

use libtest_mimic::{Completion, Failed};

use crate::host;

/// What ends such a test instead of a panic's message.
struct Ended {
    reason: String,
    applies: bool,
}

/// Ends this test: something is missing here.
pub fn skip(reason: impl Display) -> ! {
    end(reason, true)
}

/// Ends this test: it says nothing about this build, or about any host of this kind.
pub fn not_applicable(reason: impl Display) -> ! {
    end(reason, false)
}

/// Past the hook for panics: this is none.
fn end(reason: impl Display, applies: bool) -> ! {
    let reason = reason.to_string();
    resume_unwind(Box::new(Ended { reason, applies }))
}

/// What becomes of a test that was skipped for `reason`.
pub fn skipped(reason: String) -> Result<Completion, Failed> {
    if host::must_not_skip() {
        return Err(format!("skipped, and CI must not skip: {reason}").into());
    }
    Ok(Completion::ignored_with(reason))
}

/// The same of a test that ended with this; `None` if it panicked.
pub fn conclusion(payload: &(dyn Any + Send)) -> Option<Result<Completion, Failed>> {
    let ended = payload.downcast_ref::<Ended>()?;
    let reason = ended.reason.clone();
    Some(match ended.applies {
        true => skipped(reason),
        false => Ok(Completion::ignored_with(reason)),
    })
}

/// Ends this test in a build without call-frame information.
pub fn need_call_frame_information() {
    if !cfg!(feature = "dwarf") {
        not_applicable("the feature `dwarf` is not in this build");
    }
}

/// Ends this test in a build that knows no lines.
pub fn need_lines() {
    if !cfg!(feature = "lines") {
        not_applicable("the feature `lines` is not in this build");
    }
}

/// Ends this test on other processors.
pub fn need_x86_64() {
    if !cfg!(target_arch = "x86_64") {
        not_applicable("this is about x86_64");
    }
}
