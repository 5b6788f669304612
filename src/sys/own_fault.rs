//! A thread that faults on purpose, handles it and waits, and one that signals
//! itself: what finds a kernel's offsets without its help.
//!
//! # Safety
//!
//! The fault is a store to an address at which nothing is mapped, with registers
//! and stack pointer replaced, in code that never returns; its handler runs on a
//! stack of its own, makes two system calls, and never returns either.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::mman::{mmap_anonymous, MapFlags, ProtFlags};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// What a thread has when it faults. The order is that of the instructions below.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub fault_address: u64,
    pub sp: u64,
    pub values: [u64; 6],
}

fn failed(call: &'static str) -> impl Fn(nix::errno::Errno) -> Error {
    move |errno| Error::syscall(call, errno as i32)
}

/// Maps private zeroed memory that stays for good; its address.
pub fn map_for_good(bytes: usize) -> Result<u64> {
    let bytes =
        std::num::NonZeroUsize::new(bytes).ok_or_else(|| Error::failed("mmap of no bytes"))?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choosing.
    let start = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE) };
    Ok(start.map_err(failed("mmap"))?.as_ptr() as u64)
}

/// Maps one page of a file, readable and executable or readable, for good.
pub fn map_file_for_good(file: impl AsFd, offset: u64, bytes: usize, code: bool) -> Result<()> {
    let bytes =
        std::num::NonZeroUsize::new(bytes).ok_or_else(|| Error::failed("mmap of no bytes"))?;
    let mut protection = ProtFlags::PROT_READ;
    if code {
        protection |= ProtFlags::PROT_EXEC;
    }
    let offset =
        libc::off_t::try_from(offset).map_err(|_| Error::failed("mmap offset out of range"))?;
    // SAFETY: a new mapping at an address of the kernel's choosing.
    let start = unsafe {
        nix::sys::mman::mmap(None, bytes, protection, MapFlags::MAP_PRIVATE, file, offset)
    };
    start.map(drop).map_err(failed("mmap"))
}

/// Writes a byte to standard output and waits for the end.
extern "C" fn say_so_and_wait(_: libc::c_int) {
    let _ = nix::unistd::write(std::io::stdout(), b"F");
    loop {
        nix::unistd::pause();
    }
}

/// Has this thread's faults handled on an alternate stack at `start`.
pub fn handle_faults(start: u64, bytes: u64) -> Result<()> {
    let stack = libc::stack_t {
        ss_sp: start as *mut libc::c_void,
        ss_flags: 0,
        ss_size: bytes as usize,
    };
    // SAFETY: the struct is live; the stack was mapped for good by the caller.
    let done = unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
    if done != 0 {
        return Err(Error::syscall("sigaltstack", nix::errno::Errno::last_raw()));
    }
    let handler = SigHandler::Handler(say_so_and_wait);
    let action = SigAction::new(handler, SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the handler only writes to a descriptor and pauses.
    let old = unsafe { sigaction(Signal::SIGSEGV, &action) };
    old.map_err(failed("sigaction"))?;
    let mut segv = SigSet::empty();
    segv.add(Signal::SIGSEGV);
    segv.thread_unblock().map_err(failed("sigprocmask"))
}

/// Faults with these registers; [`handle_faults`] takes it from there.
pub fn fault(registers: &Registers) -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing after this runs but the handler, on its own stack; it never returns.
    unsafe {
        std::arch::asm!(
            "mov rax, [rdi]",
            "mov rsp, [rdi + 8]",
            "mov rbx, [rdi + 16]",
            "mov rbp, [rdi + 24]",
            "mov r12, [rdi + 32]",
            "mov r13, [rdi + 40]",
            "mov r14, [rdi + 48]",
            "mov r15, [rdi + 56]",
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

/// This thread's segment bases, the second one set; zero where there are none.
#[must_use]
pub fn segment_bases(gs_base: u64) -> (u64, bool) {
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_SET_GS: libc::c_long = 0x1001;
        const ARCH_GET_FS: libc::c_long = 0x1003;
        let mut fs_base = 0u64;
        // SAFETY: the kernel writes one word to a live variable.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_FS, &raw mut fs_base) };
        // SAFETY: nothing in this program uses gs.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, gs_base) };
        (fs_base, set == 0)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = gs_base;
        (0, false)
    }
}

/// Where the heap ends.
#[must_use]
pub fn heap_end() -> u64 {
    // SAFETY: zero changes nothing; the kernel answers where the break is.
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
    end.cast_unsigned()
}

/// A mount namespace of our own, from which nothing spreads.
pub fn own_mounts() -> Result<()> {
    // SAFETY: changes which mounts this process sees and nothing of its memory.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if done != 0 {
        return Err(Error::syscall("unshare", nix::errno::Errno::last_raw()));
    }
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(failed("mount"))
}

/// A file system in memory, here in our namespace alone.
pub fn mount_memory(path: &str) -> Result<()> {
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(
        Some("segfault"),
        path,
        Some("tmpfs"),
        flags,
        Some("size=1m,mode=700"),
    )
    .map_err(failed("mount"))
}

/// Sets when a file was last written.
pub fn set_mtime(file: impl AsFd, seconds: i64, nanoseconds: u32) -> Result<()> {
    let time = nix::sys::time::TimeSpec::new(seconds, i64::from(nanoseconds));
    nix::sys::stat::futimens(file, &time, &time).map_err(failed("futimens"))
}

/// The name of this thread.
pub fn name() -> Result<CString> {
    nix::sys::prctl::get_name().map_err(failed("prctl"))
}

/// Names this thread.
pub fn set_name(name: &CStr) -> Result<()> {
    nix::sys::prctl::set_name(name).map_err(failed("prctl"))
}

/// A program that was executed with pipes for its standard input and output; it ends with this.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    pub stdin: File,
    pub stdout: File,
}

/// Executes a program, with no environment; the first argument is its name.
pub fn spawn(program: &CStr, args: &[&CStr]) -> Result<Spawned> {
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed("pipe2"));
    let (stdin, our_stdin) = pipe()?;
    let (our_stdout, stdout) = pipe()?;
    let mut pid = 0;
    let mut argv: Vec<*mut libc::c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let environment = [std::ptr::null_mut()];
    let mut actions = std::mem::MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    // SAFETY: initializes what is behind the pointer, and allocates nothing.
    unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) };
    let mut failure = 0;
    for (fd, number) in [(&stdin, 0), (&stdout, 1)] {
        let fd = fd.as_raw_fd();
        // SAFETY: the list was initialized above; the descriptors live until the call below is done.
        let errno =
            unsafe { libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), fd, number) };
        failure = failure.max(errno);
    }
    if failure == 0 {
        // SAFETY: the strings end with NUL and the lists with null; all live for this call.
        failure = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions.as_ptr(),
                std::ptr::null(),
                argv.as_ptr(),
                environment.as_ptr(),
            )
        };
    }
    // SAFETY: initialized above and not used after this.
    unsafe { libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr()) };
    if failure != 0 {
        return Err(Error::syscall("posix_spawn", failure));
    }
    Ok(Spawned {
        pid: Pid::from_raw(pid),
        stdin: our_stdin.into(),
        stdout: our_stdout.into(),
    })
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
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

type Work = Box<dyn FnOnce()>;

extern "C" fn run(work: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `in_thread` made this of a box, which it has let go of.
    let work = unsafe { Box::from_raw(work.cast::<Work>()) };
    work();
    std::ptr::null_mut()
}

/// Runs `work` in a thread of its own until it ends.
pub fn in_thread(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let work: Work = Box::new(work);
    let work = Box::into_raw(Box::new(work));
    let mut thread = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    let attributes = std::ptr::null();
    // SAFETY: `run` takes the box over; what it captured may go to another thread.
    let errno = unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, work.cast()) };
    if errno != 0 {
        return Err(Error::syscall("pthread_create", errno));
    }
    // SAFETY: without an error the thread was written.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: it was not joined yet.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    Ok(())
}

/// Ends this process when its parent ends.
pub fn die_with_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("prctl"))
}

/// This thread's number.
#[must_use]
pub fn tid() -> u64 {
    nix::unistd::gettid().as_raw().unsigned_abs().into()
}

/// For as long as this lives SIGUSR1 is delivered to a handler that does nothing.
#[derive(Debug)]
pub struct OwnSignal {
    action: SigAction,
    mask: SigSet,
}

extern "C" fn nothing(_: libc::c_int) {}

impl OwnSignal {
    pub fn new() -> Result<Self> {
        let mut usr1 = SigSet::empty();
        usr1.add(Signal::SIGUSR1);
        let mask = SigSet::thread_get_mask().map_err(failed("sigprocmask"))?;
        let handler = SigHandler::Handler(nothing);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing.
        let old = unsafe { sigaction(Signal::SIGUSR1, &action) };
        let action = old.map_err(failed("sigaction"))?;
        usr1.thread_unblock().map_err(failed("sigprocmask"))?;
        Ok(OwnSignal { action, mask })
    }

    /// Sends it to this very thread; on return it was delivered.
    pub fn send(&self) -> Result<()> {
        nix::sys::signal::raise(Signal::SIGUSR1).map_err(failed("raise"))
    }
}

impl Drop for OwnSignal {
    fn drop(&mut self) {
        let _ = self.mask.thread_set_mask();
        // SAFETY: this is what was there before.
        let _ = unsafe { sigaction(Signal::SIGUSR1, &self.action) };
    }
}
