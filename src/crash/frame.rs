//! One call of a stack: where it is, how it was found, and why a walk ended.

use crate::base::address::ProcessAddress;

/// How a frame was found, from the least to the most trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// A word on the stack that follows a call instruction.
    Scan,
    /// The same, and one step from there by call-frame information gives another such word.
    ScanCfi,
    /// The same, and that call's target is the function being left.
    ScanDirect,
    /// The frame pointer's chain.
    FramePointer,
    /// Return address of a leaf or of a call to a bad pc, at \[sp\] or in the link register.
    Leaf,
    /// The registers that the kernel saved for a signal handler.
    Signal,
    /// Call-frame information of `.debug_frame`, which strip(1) takes off.
    DebugFrame,
    /// Call-frame information that the program itself needs.
    Cfi,
    /// The registers of the crash itself.
    Context,
}

impl Trust {
    pub const ALL: [Trust; 9] = [
        Trust::Scan,
        Trust::ScanCfi,
        Trust::ScanDirect,
        Trust::FramePointer,
        Trust::Leaf,
        Trust::Signal,
        Trust::DebugFrame,
        Trust::Cfi,
        Trust::Context,
    ];

    /// The stable word that JSON uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Trust::Scan => "scan",
            Trust::ScanCfi => "scan_cfi",
            Trust::ScanDirect => "scan_direct",
            Trust::FramePointer => "frame_pointer",
            Trust::Leaf => "leaf",
            Trust::Signal => "signal",
            Trust::DebugFrame | Trust::Cfi => "cfi",
            Trust::Context => "context",
        }
    }

    /// Whether a frame found so is always an instruction's own address, never one
    /// after a call.
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Trust::Context | Trust::Signal)
    }
}

/// An instruction's own address, or the address after a call.
///
/// Symbols, lines and call-frame information of a caller are looked up one byte
/// before its return address, because a call may be the last instruction of its
/// function; those of the crash and of a frame that a signal interrupted are
/// looked up exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeAddress {
    Exact(ProcessAddress),
    Return(ProcessAddress),
}

impl CodeAddress {
    /// The address that a report prints.
    #[must_use]
    pub fn address(self) -> ProcessAddress {
        match self {
            CodeAddress::Exact(address) | CodeAddress::Return(address) => address,
        }
    }

    /// The address that is looked up.
    #[must_use]
    pub fn lookup(self) -> ProcessAddress {
        match self {
            CodeAddress::Exact(address) => address,
            CodeAddress::Return(address) => ProcessAddress(address.0.wrapping_sub(1)),
        }
    }
}

/// One call, as the walk found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub code: CodeAddress,
    pub trust: Trust,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The outermost frame: call-frame information says so, or the stack's start.
    Outermost,
    /// As many frames as were asked for.
    Depth,
    /// The stack at this address was not captured.
    StackNotCaptured(ProcessAddress),
    /// Nothing found a caller for the code at this address.
    NoCaller(ProcessAddress),
    /// The stack pointer would not advance.
    NoProgress(ProcessAddress),
    /// The last frame would return to this address, which is not code: its return address
    /// was overwritten, or its library was unloaded.
    BadReturn(ProcessAddress),
}
