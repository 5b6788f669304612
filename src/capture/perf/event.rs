//! Makes an event from a delivery and the state of its process.
//!
//! Perf events show less than a program in the kernel: every detail that an event
//! lacks for that reason is named in its `lost`, and none has a value that was
//! guessed. One fault address is certain all the same: that of a jump to where nothing
//! is ever mapped. Others the faulting instruction shows, in [`infer`](crate::analyze::cause::infer).

use super::delivery::Delivery;
use super::living::Look;
use super::processes::{Gap, KnownMapping, Process};
use super::stack;
use crate::base::address::{FileOffset, ProcessAddress};
use crate::base::bytes::until_nul;
use crate::crash::event::{
    Disposition, EarlierFault, Event, FileIdentity, Lost, MappedFile, Mapping, MemoryWindow,
    Siginfo, Trap, VmFlags,
};
use crate::crash::fault::{has_address, NULL_BYTES};
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{
    code::SEGV_MAPERR, code::SI_KERNEL, signal::SIGSEGV, trap::PAGE_FAULT,
};

const MISSING: &str = "perf events do not have it";
const GONE: &str = "perf events do not have it, and the process was gone";
/// x86: a page fault of the user's, fetching an instruction.
const X86_USER_FETCH: u64 = 0x14;
/// arm64: an instruction abort from user space, at a translation fault.
const ARM64_FETCH: u64 = 0x8200_0004;

/// What reports lack always, or as a rule.
pub(super) const USUALLY_MISSING: [(&str, &str); 10] = [
    ("access", MISSING),
    (
        "fault_address",
        "perf events do not have it; many instructions show it",
    ),
    ("sender", MISSING),
    ("data_mappings", ONLY_CODE),
    ("memory", MISSING),
    ("threads", MISSING),
    ("cgroup", GONE),
    ("ns_pid", GONE),
    ("uid", GONE),
    (
        "cmdline",
        "known only of programs that ran before, or with -t",
    ),
];
const ONLY_CODE: &str =
    "perf events have only mappings with code, and do not show what was unmapped";
const CHANGES_LOST: &str = "the ring had no room for all changes of processes";

/// The other input of an event.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    /// CPU << 48 | count.
    pub id: u64,
    /// When the delivery was, by `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    pub process: Option<&'a Process>,
    /// Its parent, where that is certain.
    pub parent: Option<u32>,
    /// What may be missing among its mappings.
    pub gap: Option<Gap>,
    /// It may have another name since.
    pub may_be_renamed: bool,
    pub first_fault: Option<EarlierFault>,
    /// What /proc still had about the process.
    pub look: Option<Look>,
    /// Counted at this place since the last report.
    pub repeats: u64,
    pub wants_stack: bool,
    pub wants_memory: bool,
    pub wants_threads: bool,
}

/// The address of a fault that can only be the address of its instruction: siginfo and trap
/// as the kernel must have set them. That is certain for addresses at which nothing is ever
/// mapped. At others there may be code that was moved there (mremap), for which perf has no
/// event.
#[must_use]
pub(super) fn certain_fault(delivery: &Delivery) -> Option<(ProcessAddress, Trap)> {
    let registers = delivery.registers?;
    let pc = registers.pc().0;
    let is_unmapped = (delivery.signal, delivery.code) == (SIGSEGV, SEGV_MAPERR);
    if !is_unmapped || pc >= NULL_BYTES {
        return None;
    }
    let (error_code, number) = match registers.arch() {
        Arch::X86_64 | Arch::I386 => (X86_USER_FETCH, PAGE_FAULT),
        Arch::Aarch64 | Arch::Arm => (ARM64_FETCH, 0),
    };
    let trap = Trap {
        address: pc,
        error_code,
        number,
    };
    Some((ProcessAddress(pc), trap))
}

/// The fault that a handler is about to take.
#[must_use]
pub(super) fn earlier_fault(
    delivery: &Delivery,
    boot_ns: u64,
    certain: Option<(ProcessAddress, Trap)>,
) -> Option<EarlierFault> {
    Some(EarlierFault {
        signal: delivery.signal,
        code: delivery.code,
        siginfo: siginfo(certain),
        pc: delivery.registers?.pc(),
        trap: certain.map(|(_, trap)| trap),
        boot_ns,
    })
}

fn siginfo(certain: Option<(ProcessAddress, Trap)>) -> Siginfo {
    certain.map_or(Siginfo::Unknown, |(address, _)| Siginfo::Address(address))
}

#[must_use]
pub(super) fn disposition(handler: u64) -> Disposition {
    match handler {
        0 => Disposition::Fatal,
        1 => Disposition::Ignored,
        _ => Disposition::Handled,
    }
}

/// The whole event.
#[must_use]
pub(super) fn event(delivery: Delivery, around: Circumstances<'_>) -> Event {
    let nobody = Process::default();
    let process = around.process.unwrap_or(&nobody);
    let certain = certain_fault(&delivery);
    let sp = delivery.registers.map_or(0, |registers| registers.sp().0);
    let mut stack = delivery.stack;
    let word_bytes = match delivery.registers {
        Some(registers) => registers.arch().word_bytes(),
        None => Arch::NATIVE.word_bytes(),
    };
    let beginning = stack::beginning(&stack, sp, process.vdso, word_bytes);
    let start_stack = beginning.as_ref().map_or(0, |beginning| {
        // Above lie arguments and environment.
        stack.truncate(beginning.at);
        sp.wrapping_add(beginning.at as u64)
    });
    let (is_above, is_leader) = (process.is_above_files(sp), delivery.pid == delivery.tid);
    let room = delivery.stack_room;
    if beginning.is_none() && stack::may_have_strings(&stack, room, is_above, is_leader) {
        stack.clear();
    }
    let on_stack = beginning.and_then(|beginning| beginning.cmdline);
    let look = around.look.as_ref();
    let exe = process.exe.as_deref().filter(|exe| !exe.path.is_empty());
    let is_whole = around.gap != Some(Gap::Lost);
    let (exe, cmdline) = match is_whole {
        true => (exe, process.cmdline.as_ref()),
        false => (None, None),
    };
    let mut event = Event {
        id: around.id,
        boot_ns: around.boot_ns,
        tai_ns: None,
        start_ns: process.started_ns,
        signal: delivery.signal,
        code: delivery.code,
        siginfo: siginfo(certain),
        siginfo_more: None,
        repeats: around.repeats,
        disposition: disposition(delivery.handler),
        trap: certain.map(|(_, trap)| trap),
        first_fault: around.first_fault,
        // Events have ids in one namespace: ours.
        host_pid: delivery.pid,
        host_tid: delivery.tid,
        pid: Some(delivery.pid),
        tid: Some(delivery.tid),
        ppid: look.map_or(around.parent, |look| Some(look.parent)),
        ns_pid: look.map_or(delivery.pid, |look| look.own_pid),
        ns_tid: delivery.tid,
        uid: look.map(|look| look.uid),
        pid_ns: 0,
        mnt_ns: process.mnt_ns,
        cgroup_id: 0,
        comm: until_nul(&process.name).to_vec(),
        thread: until_nul(&process.thread_name(delivery.tid)).to_vec(),
        exe: exe.map(|exe| exe.path.clone()),
        exe_deleted: exe.is_some_and(|exe| exe.deleted),
        cmdline: on_stack.or_else(|| cmdline.map(|cmdline| cmdline.to_vec())),
        cgroup: look.and_then(|look| look.cgroup.clone()),
        registers: delivery.registers,
        fs_base: 0,
        gs_base: 0,
        compiled: Vec::new(),
        code_bytes: MemoryWindow {
            address: ProcessAddress(0),
            bytes: Vec::new(),
        },
        start_stack: ProcessAddress(start_stack),
        start_brk: ProcessAddress(0),
        brk: ProcessAddress(0),
        arg_start: ProcessAddress(0),
        env_end: ProcessAddress(0),
        vdso: ProcessAddress(process.vdso),
        map_count: 0,
        is_laid_out: true,
        mappings: process.mappings.iter().map(mapping).collect(),
        windows: Vec::new(),
        memory: Vec::new(),
        threads: None,
        capture_ns: 0,
        lost: Vec::new(),
    };
    if !stack.is_empty() {
        event.windows.push(MemoryWindow {
            address: ProcessAddress(sp),
            bytes: stack,
        });
    }
    name_what_is_lost(&mut event, &around);
    event
}

fn name_what_is_lost(event: &mut Event, around: &Circumstances<'_>) {
    let mut lost = Vec::new();
    let mut lose = |detail, reason| lost.push(Lost { detail, reason });
    lose("data_mappings", ONLY_CODE);
    let has_fault = has_address(event.code) || event.code == SI_KERNEL;
    if has_fault && event.trap.is_none() {
        lose("fault_address", MISSING);
        lose("access", MISSING);
    }
    if event.code <= 0 {
        lose("sender", MISSING);
    }
    if around.look.is_none() {
        lose("uid", GONE);
        lose("ns_pid", GONE);
        lose("cgroup", GONE);
    }
    if let Some(gap) = around.gap {
        lose("mappings", gap_reason(gap));
    }
    if event.cmdline.is_none() {
        lose("cmdline", MISSING);
    }
    let unseen = match around.gap {
        Some(Gap::Lost) => CHANGES_LOST,
        _ => "the start of the process was not seen",
    };
    if event.exe.is_none() {
        lose("exe", unseen);
    }
    if around.process.is_none_or(|process| process.named_ns == 0) {
        lose("comm", unseen);
    } else if around.may_be_renamed {
        lose(
            "comm",
            "the name may be out of date: the ring had no room for all changes of processes",
        );
    }
    if event.ppid.is_none() {
        lose("ppid", "the parent had ended or was not seen");
    }
    if let Some(reason) = event.registers.as_ref().and_then(unknown_registers) {
        lose("registers", reason);
    }
    if around.wants_stack && event.windows.is_empty() {
        lose("stack", "the memory at the stack pointer could not be read");
    }
    if around.wants_memory {
        lose("memory", MISSING);
    }
    if around.wants_threads {
        lose("threads", MISSING);
    }
    event.lost = lost;
}

fn gap_reason(gap: Gap) -> &'static str {
    match gap {
        Gap::Unseen => "the start of the process was not seen",
        Gap::Lost => "the ring had no room for all of them",
        Gap::TooMany => "too many: only some are kept",
        Gap::Evicted => "--memory-limit left no room",
    }
}

/// Which registers this kernel leaves out of samples.
fn unknown_registers(registers: &Registers) -> Option<&'static str> {
    const RBX: u16 = 3;
    const RBP: u16 = 6;
    const RBP_OF_I386: u16 = 5;
    match registers.arch() {
        Arch::Aarch64 | Arch::Arm => Some("this kernel's samples lack pstate"),
        Arch::X86_64 | Arch::I386 if registers.dwarf(RBX).is_some() => None,
        Arch::X86_64 if registers.dwarf(RBP).is_some() => {
            Some("this kernel's samples lack rbx and r12 to r15")
        }
        Arch::X86_64 => Some("this kernel's samples lack rbx, rbp and r12 to r15"),
        Arch::I386 if registers.dwarf(RBP_OF_I386).is_some() => {
            Some("this kernel's samples lack ebx")
        }
        Arch::I386 => Some("this kernel's samples lack ebx and ebp"),
    }
}

fn mapping(known: &KnownMapping) -> Mapping {
    let file = known.file.as_ref().map(|file| MappedFile {
        identity: FileIdentity {
            inode: file.inode,
            device: file.device,
            mapped_unix_ns: Some(known.mapped_unix_ns),
            ..FileIdentity::default()
        },
        offset: FileOffset(known.file_offset),
        path: file.path.clone(),
        lower_path: None,
        deleted: file.deleted,
        detached: file.detached,
        truncated: false,
        head: None,
    });
    Mapping {
        start: ProcessAddress(known.start),
        end: ProcessAddress(known.end),
        flags: VmFlags(known.flags),
        file,
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
