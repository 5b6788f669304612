//! The processes that measurement needs: one that faults on purpose, handles the fault and
//! waits, and one that signals itself. Also the one for the proof of a capture: a copy of
//! this process that faults, handles the fault and ends.
//!
//! A function that runs in a child returns `None` if it fails: the parent learns no more
//! than that.
//!
//! # Safety
//!
//! The fault is a store to an address at which nothing is mapped, with registers
//! and stack pointer replaced, in code that never returns; its handler runs on a
//! stack of its own, makes two system calls, and never returns either. A second
//! thread shares everything with the first, which does nothing after the second has
//! started.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};

use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid};

/// Bytes of a thread's name, with its NUL.
pub const NAME_BYTES: usize = 16;

/// The values in a thread's registers when it faults, in the order of the instructions below.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub fault_address: u64,
    pub sp: u64,
    /// Six words.
    pub values: [u8; 48],
}

fn done(answer: libc::c_long) -> Option<libc::c_long> {
    (answer >= 0).then_some(answer)
}

/// Memory of this process for good: zeros, or of a file that is open. Its address.
fn map_for_good(file: Option<&OwnedFd>, offset: u64, bytes: usize, protection: i32) -> Option<u64> {
    let (fd, kind) = match file {
        Some(file) => (file.as_raw_fd(), 0),
        None => (-1, libc::MAP_ANONYMOUS),
    };
    let offset = libc::off_t::try_from(offset).ok()?;
    let kind = kind | libc::MAP_PRIVATE;
    // SAFETY: a new mapping at an address of the kernel's choosing.
    let start = unsafe { libc::mmap(null_mut(), bytes, protection, kind, fd, offset) };
    (start != libc::MAP_FAILED).then_some(start as u64)
}

/// Zeros that can be written.
pub fn map_memory(bytes: usize) -> Option<u64> {
    map_for_good(None, 0, bytes, libc::PROT_READ | libc::PROT_WRITE)
}

/// Part of a file, as if it were code.
pub fn map_file(file: &OwnedFd, offset: u64, bytes: usize) -> Option<u64> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    map_for_good(Some(file), offset, bytes, protection)
}

/// Writes to standard output.
pub fn say(bytes: &[u8]) -> Option<()> {
    // SAFETY: the bytes are live, as many as their length says.
    let written = unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) };
    (written == bytes.len().cast_signed()).then_some(())
}

extern "C" fn say_so_and_wait(_: libc::c_int) {
    let _ = say(b"F");
    wait()
}

fn wait() -> ! {
    loop {
        // SAFETY: sleeps until a signal comes.
        unsafe { libc::pause() };
    }
}

/// Installs a function as the handler of this signal; the result is the previous action.
fn set_handler(
    signal: i32,
    handler: extern "C" fn(libc::c_int),
    flags: i32,
) -> Option<libc::sigaction> {
    // SAFETY: zeros are a value of this struct.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = flags;
    let mut old = action;
    // SAFETY: both structs are live; the handlers of this file only do what is safe in a handler.
    let answer = unsafe { libc::sigaction(signal, &raw const action, &raw mut old) };
    done(answer.into()).map(|_| old)
}

/// Lets signals of this number through to this thread; the signals that were held back.
fn let_through(signal: i32) -> libc::sigset_t {
    // SAFETY: zeros are a value of this type.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    let mut old = set;
    // SAFETY: both sets are live.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, &raw mut old) };
    old
}

/// Has this thread's faults handled on the stack from `start` on.
pub fn handle_faults(start: u64, bytes: usize) -> Option<()> {
    handle(start, bytes, say_so_and_wait)
}

fn handle(start: u64, bytes: usize, handler: extern "C" fn(libc::c_int)) -> Option<()> {
    let stack = libc::stack_t {
        ss_sp: start as *mut libc::c_void,
        ss_flags: 0,
        ss_size: bytes,
    };
    // SAFETY: the struct is live; the stack is there for good.
    done(unsafe { libc::sigaltstack(&raw const stack, null_mut()) }.into())?;
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        set_handler(signal, handler, libc::SA_ONSTACK)?;
        let_through(signal);
    }
    Some(())
}

/// The instruction of [`fault`] that faults, and the one after it.
pub const FAULTING: &[u8] = if cfg!(target_arch = "aarch64") {
    b"\x29\x01\x00\xf9\x20\x00\x20\xd4"
} else {
    b"\x48\xc7\x00\x01\x00\x00\x00\x0f\x0b"
};

/// Faults with these registers; [`handle_faults`] takes it from there.
pub fn fault(registers: &Registers) -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing after this runs but the handler, on its own stack; it never returns.
    unsafe {
        std::arch::asm!(
            "mov rax, [rdi]",
            "mov rsp, [rdi + 8]",
            "mov r15, [rdi + 16]",
            "mov r14, [rdi + 24]",
            "mov r13, [rdi + 32]",
            "mov r12, [rdi + 40]",
            "mov rbp, [rdi + 48]",
            "mov rbx, [rdi + 56]",
            "mov qword ptr [rax], 1",
            "ud2",
            in("rdi") std::ptr::from_ref(registers),
            options(noreturn)
        )
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: nothing after this runs but the handler, on its own stack; it never returns.
    unsafe {
        std::arch::asm!(
            "ldr x9, [x0]",
            "ldr x10, [x0, #8]",
            "mov sp, x10",
            "ldp x19, x20, [x0, #16]",
            "ldp x21, x22, [x0, #32]",
            "ldp x23, x24, [x0, #48]",
            "str x9, [x9]",
            "brk #1",
            in("x0") std::ptr::from_ref(registers),
            options(noreturn)
        )
    }
}

/// Lets a second thread go on with `work`, on the stack that ends at `stack_end`, and waits;
/// returns only if there can be none.
pub fn go_on_in_thread(stack_end: u64, work: extern "C" fn(u64) -> !, argument: u64) {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let answer: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: in the new thread nothing runs but `work`, on its own stack; it never returns.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone => answer,
            in("rdi") i64::from(flags),
            in("rsi") stack_end,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r12") argument,
            in("r13") work as usize,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: in the new thread nothing runs but `work`, on its own stack; it never returns.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone,
            inlateout("x0") i64::from(flags) => answer,
            in("x1") stack_end,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            in("x20") argument,
            in("x21") work as usize,
        );
    }
    if answer > 0 {
        wait();
    }
}

/// Ends this process, its other thread as well.
pub fn end() -> ! {
    // SAFETY: nothing of the process is used after this.
    unsafe { libc::_exit(1) }
}

/// The end of the heap.
#[must_use]
pub fn heap_end() -> u64 {
    // SAFETY: zero changes nothing; the kernel answers where the break is.
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
    end.cast_unsigned()
}

/// This thread's number. The library remembers only that of the first thread.
#[must_use]
pub fn tid() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) };
    tid.cast_unsigned()
}

/// A mount namespace of our own, from which nothing spreads.
pub fn own_mounts() -> Option<()> {
    // SAFETY: changes which mounts this process sees and nothing of its memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the path ends with NUL; this kind of call reads no other argument.
    done(unsafe { libc::mount(null(), c"/".as_ptr(), null(), flags, null()) }.into())?;
    Some(())
}

/// Enters a directory, on which a file system in memory is mounted first.
pub fn mount_and_enter(path: &CStr) -> Option<()> {
    let (kind, options) = (c"tmpfs", c"size=1m,mode=700");
    // SAFETY: all strings end with NUL.
    let answer = unsafe {
        libc::mount(
            kind.as_ptr(),
            path.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    done(answer.into())?;
    enter(path)
}

/// Makes this the current directory.
pub fn enter(path: &CStr) -> Option<()> {
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::chdir(path.as_ptr()) }.into()).map(|_| ())
}

pub fn make_directory(path: &CStr) -> Option<()> {
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::mkdir(path.as_ptr(), 0o700) }.into()).map(|_| ())
}

pub fn remove(path: &CStr) -> Option<()> {
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::unlink(path.as_ptr()) }.into()).map(|_| ())
}

/// A new file of so many bytes that was last written at that time.
pub fn make_file(path: &CStr, bytes: u64, seconds: u32, nanoseconds: u32) -> Option<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: the path ends with NUL.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
    done(fd.into())?;
    // SAFETY: just opened, and nothing else uses it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes numbers by value.
    done(unsafe { libc::ftruncate(fd, bytes.cast_signed()) }.into())?;
    let time = [i64::from(seconds), i64::from(nanoseconds)];
    let times = [time, time];
    let no_path: *const libc::c_char = null();
    // SAFETY: without a path it is the descriptor's file; two times of two words are live.
    done(unsafe { libc::syscall(libc::SYS_utimensat, fd, no_path, times.as_ptr(), 0) })?;
    Some(file)
}

/// The name of this thread.
#[must_use]
pub fn thread_name() -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    // SAFETY: the kernel writes that many bytes at most.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Names this thread.
pub fn set_thread_name(name: &[u8; NAME_BYTES]) {
    // SAFETY: the kernel reads no more bytes than that.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Ends this process when its parent ends.
pub fn die_with_parent() {
    // SAFETY: takes numbers by value.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// A program that was executed; it ends with this.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    /// What it writes to its standard output.
    pub output: File,
}

/// Executes a program under a name, with one argument and no environment.
#[must_use]
pub fn spawn(program: &CStr, name: &CStr, argument: &CStr) -> Option<Spawned> {
    let (output, written) = nix::unistd::pipe2(OFlag::O_CLOEXEC).ok()?;
    let arguments = [name.as_ptr(), argument.as_ptr(), null()];
    let environment = [null()];
    // SAFETY: the child makes three system calls and no others.
    let pid = match unsafe { nix::unistd::fork() }.ok()? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: takes descriptors by value.
            unsafe { libc::dup2(written.as_raw_fd(), 1) };
            // SAFETY: the strings end with NUL and the lists with null.
            unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            // SAFETY: ends the child alone.
            unsafe { libc::_exit(127) }
        }
    };
    let output = output.into();
    Some(Spawned { pid, output })
}

impl Spawned {
    /// Its process id, as we see it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// A page before one that is mapped but has no memory: an access to that one gives SIGBUS.
/// Both are unmapped when this is dropped.
#[derive(Debug)]
pub struct Brink {
    start: u64,
    page: usize,
    stack: u64,
    stack_bytes: usize,
    has_next: bool,
}

impl Brink {
    /// The page is filled with `fill`; a child's stack pointer points into it. Next to it is a
    /// stack for the child's handler.
    #[must_use]
    pub fn new(page: usize, stack_bytes: usize, fill: u8) -> Option<Brink> {
        let stack = map_memory(stack_bytes)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choosing.
        let start = unsafe { libc::mmap(null_mut(), page, protection, kind, -1, 0) };
        let mut brink = Brink {
            start: 0,
            page,
            stack,
            stack_bytes,
            has_next: false,
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page is ours and writable, and nothing else refers to it.
        unsafe { start.cast::<u8>().write_bytes(fill, page) };
        // The memory of a shared mapping does not grow with it.
        // SAFETY: the mapping is ours, and nothing refers to it but this struct.
        let moved = unsafe { libc::mremap(start, page, 2 * page, libc::MREMAP_MAYMOVE) };
        brink.has_next = moved != libc::MAP_FAILED;
        brink.start = if brink.has_next { moved } else { start } as u64;
        Some(brink)
    }

    /// The middle of the page.
    #[must_use]
    pub fn middle(&self) -> u64 {
        self.start + self.page as u64 / 2
    }

    /// An address that is mapped but has no memory, if one can be made.
    #[must_use]
    pub fn beyond(&self) -> Option<u64> {
        self.has_next
            .then_some(self.start + self.page as u64 + 0x128)
    }

    /// Brings the page into this process's page tables: a forked process lacks the entries of
    /// shared memory, and a BPF program cannot read a page without an entry.
    fn touch(&self) {
        let middle = self.middle() as *const u8;
        // SAFETY: the page is there for as long as this.
        unsafe { middle.read_volatile() };
    }

    /// Lets a copy of this process, with this name, fault with these registers and end;
    /// its process id. `None` if there was none, or it did not end as it should.
    #[must_use]
    pub fn fault_in_child(&self, name: &[u8; NAME_BYTES], registers: &Registers) -> Option<u32> {
        // SAFETY: the child makes system calls and no others.
        match unsafe { nix::unistd::fork() }.ok()? {
            ForkResult::Child => {
                set_thread_name(name);
                end_in_any_case();
                self.touch();
                if handle(self.stack, self.stack_bytes, leave).is_some() {
                    fault(registers)
                }
                end()
            }
            ForkResult::Parent { child } => {
                let pid = child.as_raw().unsigned_abs();
                let ended = loop {
                    match nix::sys::wait::waitpid(child, None) {
                        Err(nix::errno::Errno::EINTR) => {}
                        // Our parent ignored SIGCHLD, and so do we: no status is kept.
                        Err(nix::errno::Errno::ECHILD) => return Some(pid),
                        ended => break ended.ok()?,
                    }
                };
                let is_right = matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0));
                is_right.then_some(pid)
            }
        }
    }
}

impl Drop for Brink {
    fn drop(&mut self) {
        let pages = 1 + usize::from(self.has_next);
        for (start, bytes) in [
            (self.start, self.page * pages),
            (self.stack, self.stack_bytes),
        ] {
            // SAFETY: mapped by `new`, and nothing refers to it any more.
            unsafe { libc::munmap(start as *mut libc::c_void, bytes) };
        }
    }
}

extern "C" fn leave(_: libc::c_int) {
    // SAFETY: ends this process, and runs nothing of it.
    unsafe { libc::_exit(0) }
}

/// Makes this process end in two seconds, whatever signal settings it inherited.
fn end_in_any_case() {
    // SAFETY: the default is not a function of ours.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
    let_through(libc::SIGALRM);
    // SAFETY: takes a number by value.
    unsafe { libc::alarm(2) };
}

/// For as long as this lives SIGUSR1 is delivered, to a handler that does nothing.
pub struct OwnSignal {
    action: libc::sigaction,
    mask: libc::sigset_t,
}

impl std::fmt::Debug for OwnSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnSignal")
    }
}

extern "C" fn nothing(_: libc::c_int) {}

impl OwnSignal {
    #[must_use]
    pub fn new() -> Option<Self> {
        let action = set_handler(libc::SIGUSR1, nothing, libc::SA_RESTART)?;
        let mask = let_through(libc::SIGUSR1);
        Some(OwnSignal { action, mask })
    }

    /// Sends it to this very thread; on return it was delivered.
    pub fn send(&self) {
        // SAFETY: takes a number by value.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
}

impl Drop for OwnSignal {
    fn drop(&mut self) {
        // SAFETY: the set that was there before.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, null_mut()) };
        // SAFETY: as above.
        unsafe { libc::sigaction(libc::SIGUSR1, &raw const self.action, null_mut()) };
    }
}
