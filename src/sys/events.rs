//! Waits for descriptors, signals and timers through one epoll.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::base::error::{Error, Result};

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::syscall(call, errno as i32)
}

/// Waits on several descriptors at once. A `T` says what became ready.
///
/// The kernel returns a number for each descriptor: the place of its `T` in `reasons`.
/// Only this type converts between the two.
#[derive(Debug)]
pub struct Poller<T> {
    epoll: Epoll,
    reasons: Vec<T>,
}

impl<T: Copy + PartialEq> Poller<T> {
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        Ok(Poller {
            epoll,
            reasons: Vec::new(),
        })
    }

    /// Wakes with `reason` whenever `fd` can be read.
    pub fn watch(&mut self, fd: impl AsFd, reason: T) -> Result<()> {
        self.add(fd, EpollFlags::EPOLLIN, reason)
            .map_err(failed("epoll_ctl(EPOLL_CTL_ADD)"))
    }

    /// Wakes with `reason` when the other end of `fd` goes away; false if that cannot
    /// happen (regular files).
    pub fn watch_hangup(&mut self, fd: impl AsFd, reason: T) -> Result<bool> {
        match self.add(fd, EpollFlags::empty(), reason) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM | Errno::EEXIST) => Ok(false),
            Err(errno) => Err(failed("epoll_ctl(EPOLL_CTL_ADD)")(errno)),
        }
    }

    /// Wakes with `reason` whenever `fd` takes something.
    pub fn watch_writable(&mut self, fd: impl AsFd, reason: T) -> Result<()> {
        self.add(fd, EpollFlags::EPOLLOUT, reason)
            .map_err(failed("epoll_ctl(EPOLL_CTL_ADD)"))
    }

    fn add(&mut self, fd: impl AsFd, flags: EpollFlags, reason: T) -> nix::Result<()> {
        let known = self.reasons.iter().position(|known| *known == reason);
        let place = known.unwrap_or_else(|| {
            self.reasons.push(reason);
            self.reasons.len() - 1
        });
        self.epoll.add(fd, EpollEvent::new(flags, place as u64))
    }

    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = self.epoll.delete(fd);
    }

    /// Sleeps until something happens, or only looks when `block` is false; the reasons
    /// that are ready.
    pub fn wait(&self, block: bool) -> Result<Vec<T>> {
        let mut events = [EpollEvent::empty(); 8];
        let timeout = if block {
            EpollTimeout::NONE
        } else {
            EpollTimeout::ZERO
        };
        let reason = |event: &EpollEvent| self.reasons.get(event.data() as usize).copied();
        match self.epoll.wait(&mut events, timeout) {
            Ok(ready) => Ok(events[..ready].iter().filter_map(reason).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(failed("epoll_wait")(errno)),
        }
    }
}

/// A request from the user to the running tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGINT or SIGTERM, whose number this is: end cleanly. A terminal, which does not send
    /// it to the tool alone, is no process.
    Stop { signal: i32, by_process: bool },
    /// SIGUSR1: print statistics.
    Statistics,
    /// SIGCHLD: a child has ended.
    ChildEnded,
    /// SIGHUP: open the output file again, or end if there is none.
    Reopen { signal: i32, by_process: bool },
}

/// Signals as something to be read.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// From here on these signals are read instead of delivered, and a file that
    /// has reached the size limit fails a write instead of ending us.
    pub fn new() -> Result<Self> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: to ignore a signal installs no handler that could do harm.
        unsafe { sigaction(Signal::SIGXFSZ, &ignore) }.map_err(failed("rt_sigaction"))?;
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGCHLD,
        ] {
            set.add(signal);
        }
        set.thread_block().map_err(failed("rt_sigprocmask"))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(failed("signalfd4"))?;
        Ok(Signals { fd })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits until there is a request.
    pub fn wait(&self) {
        let mut polled = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut polled, PollTimeout::NONE);
    }

    /// The next request, if one waits.
    pub fn read(&mut self) -> Result<Option<Request>> {
        let info = self.fd.read_signal().map_err(failed("read of signalfd"))?;
        Ok(info.map(|info| {
            let signal = info.ssi_signo as i32;
            let by_process = info.ssi_code <= 0;
            match signal {
                libc::SIGHUP => Request::Reopen { signal, by_process },
                libc::SIGUSR1 => Request::Statistics,
                libc::SIGCHLD => Request::ChildEnded,
                _ => Request::Stop { signal, by_process },
            }
        }))
    }
}

/// One timer, armed and disarmed at will.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
}

impl Timer {
    pub fn new() -> Result<Self> {
        Self::of(ClockId::CLOCK_MONOTONIC)
    }

    fn of(clock: ClockId) -> Result<Self> {
        let fd = TimerFd::new(clock, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .map_err(failed("timerfd_create"))?;
        Ok(Timer { fd })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Expires once, `after` from now.
    pub fn once(&self, after: Duration) -> Result<()> {
        self.set(Expiration::OneShot(TimeSpec::from_duration(after)))
    }

    /// Expires again and again, every `interval`.
    pub fn every(&self, interval: Duration) -> Result<()> {
        self.set(Expiration::Interval(TimeSpec::from_duration(interval)))
    }

    fn set(&self, expiration: Expiration) -> Result<()> {
        self.fd
            .set(expiration, TimerSetTimeFlags::empty())
            .map_err(failed("timerfd_settime"))
    }

    /// Takes note of an expiry, so that the descriptor is not ready any more.
    pub fn acknowledge(&self) {
        let mut count = [0; 8];
        // EAGAIN: it did not expire after all; ECANCELED: the clock was set.
        let _ = nix::unistd::read(self.fd.as_fd(), &mut count);
    }
}

/// Becomes readable whenever the wall clock is set.
#[derive(Debug)]
pub struct ClockSet {
    timer: Timer,
}

impl ClockSet {
    pub fn new() -> Result<Self> {
        let watch = ClockSet {
            timer: Timer::of(ClockId::CLOCK_REALTIME)?,
        };
        watch.rearm()?;
        Ok(watch)
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.timer.fd()
    }

    /// Must be called after each time that it became readable.
    pub fn rearm(&self) -> Result<()> {
        self.timer.acknowledge();
        // Far away, yet inside the clock's range: it is there to be cancelled.
        let far = TimeSpec::new(i64::from(u32::MAX), 0);
        self.timer
            .fd
            .set(
                Expiration::OneShot(far),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET,
            )
            .map_err(failed("timerfd_settime"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_gives_the_reasons_of_what_is_ready() {
        let mut poller = Poller::new().expect("a poller");
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let (other, _kept) = nix::unistd::pipe().expect("a pipe");
        poller.watch(&other, "other").expect("watched");
        poller.watch(&reader, "data").expect("watched");
        let wait = |poller: &Poller<&'static str>| poller.wait(false).expect("a wait");
        assert!(wait(&poller).is_empty());
        nix::unistd::write(&writer, b"x").expect("written");
        assert_eq!(wait(&poller), ["data"]);
        poller.forget(reader.as_fd());
        assert!(wait(&poller).is_empty());
        // The same reason again, for another direction.
        poller.watch_writable(&writer, "data").expect("watched");
        assert_eq!(wait(&poller), ["data"]);
    }
}
