//! Makes an event from the header of a record; later parts add to it.

use crate::base::address::ProcessAddress;
use crate::capture::record::abi::{self, RawHeader};
use crate::crash::event::{Disposition, EarlierFault, Event, Lost, MemoryWindow, Siginfo, Trap};
use crate::crash::fault::{self, has_address};
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{code, signal};

pub(super) fn begin(raw: &RawHeader, boot_ahead_ns: u64) -> Event {
    let ahead_ns = if raw.flags & abi::header_flags::MONOTONIC != 0 {
        boot_ahead_ns
    } else {
        0
    };
    let arch = if raw.flags & abi::header_flags::AARCH64 != 0 {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };
    let has_registers = raw.flags & abi::header_flags::REGISTERS != 0;
    let registers = has_registers.then(|| Registers::new(arch, raw.regs));
    let known = |number: u32| (number != 0).then_some(number);
    let code_bytes = (raw.code_bytes as usize).min(raw.code_at.len());
    Event {
        id: raw.part.id,
        boot_ns: raw.boot_ns.wrapping_add(ahead_ns),
        tai_ns: (raw.tai_ns != 0).then_some(raw.tai_ns),
        start_ns: raw.start_ns,
        signal: raw.signal,
        code: raw.code,
        siginfo: siginfo(raw, registers.as_ref()),
        siginfo_more: Some(raw.siginfo_more),
        repeats: raw.repeats,
        disposition: match raw.handler {
            0 => Disposition::Fatal,
            1 => Disposition::Ignored,
            _ => Disposition::Handled,
        },
        trap: Some(Trap {
            address: raw.thread_address,
            error_code: raw.error_code,
            number: raw.trap,
        }),
        first_fault: first_fault(raw, ahead_ns),
        host_pid: raw.host_pid,
        host_tid: raw.host_tid,
        pid: known(raw.pid),
        tid: known(raw.tid),
        ppid: known(raw.ppid),
        ns_pid: raw.ns_pid,
        ns_tid: raw.ns_tid,
        uid: Some(raw.uid),
        pid_ns: raw.pid_ns,
        mnt_ns: raw.mnt_ns,
        cgroup_id: raw.cgroup_id,
        comm: crate::base::bytes::until_nul(&raw.comm).to_vec(),
        thread: crate::base::bytes::until_nul(&raw.thread).to_vec(),
        exe: None,
        exe_deleted: false,
        cmdline: None,
        cgroup: None,
        registers,
        fs_base: raw.fs_base,
        gs_base: raw.gs_base,
        compiled: Vec::new(),
        code_bytes: MemoryWindow {
            address: ProcessAddress(raw.code_address),
            bytes: raw.code_at[..code_bytes].to_vec(),
        },
        start_stack: ProcessAddress(raw.start_stack),
        start_brk: ProcessAddress(raw.start_brk),
        brk: ProcessAddress(raw.brk),
        arg_start: ProcessAddress(raw.arg_start),
        env_end: ProcessAddress(raw.env_end),
        is_laid_out: is_laid_out(raw),
        vdso: ProcessAddress(raw.vdso),
        map_count: raw.map_count,
        mappings: Vec::new(),
        windows: Vec::new(),
        memory: Vec::new(),
        threads: None,
        capture_ns: 0,
        lost: lost_sender(raw),
    }
}

/// As bpf/hidden.h has it: otherwise no memory was copied.
fn is_laid_out(raw: &RawHeader) -> bool {
    raw.start_stack != 0
        && raw.arg_end != 0
        && raw.arg_start <= raw.arg_end
        && raw.start_stack < raw.env_start
        && raw.env_start <= raw.env_end
}

/// Where the kernel shows no siginfo, the processor has named the address of a page fault;
/// these signals name their instruction.
fn siginfo(raw: &RawHeader, registers: Option<&Registers>) -> Siginfo {
    let shown = raw.flags & abi::header_flags::NO_SENDER == 0;
    let of_instruction = matches!(
        raw.signal,
        signal::SIGILL | signal::SIGFPE | signal::SIGTRAP | signal::SIGSYS
    );
    match registers {
        _ if !shown && raw.code <= code::SI_USER => Siginfo::Unknown,
        Some(registers) if !shown && of_instruction && has_address(raw.code) => {
            Siginfo::Address(registers.pc())
        }
        _ => fault::siginfo(raw.code, raw.siginfo),
    }
}

/// The details that the header itself lacks.
fn lost_sender(raw: &RawHeader) -> Vec<Lost> {
    let is_sent = raw.code <= 0;
    let is_lost = is_sent && raw.flags & abi::header_flags::NO_SENDER != 0;
    is_lost
        .then_some(Lost {
            detail: "sender",
            reason: "this kernel's tracepoint does not report it",
        })
        .into_iter()
        .collect()
}

fn first_fault(raw: &RawHeader, ahead_ns: u64) -> Option<EarlierFault> {
    let first = raw.first;
    (raw.flags & abi::header_flags::FIRST_FAULT != 0).then_some(EarlierFault {
        signal: first.signal,
        code: first.code,
        siginfo: fault::siginfo(first.code, first.address),
        pc: ProcessAddress(first.pc),
        trap: Some(Trap {
            address: first.thread_address,
            error_code: first.error_code,
            number: first.trap,
        }),
        boot_ns: first.boot_ns.wrapping_add(ahead_ns),
    })
}
