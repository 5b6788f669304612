//! What the program waits for: descriptors, signals and timers, through one epoll.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::base::error::{Error, Result};

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::syscall(call, errno as i32)
}

/// Waits on several descriptors at once; each has a token.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        Ok(Poller { epoll })
    }

    /// Wakes with `token` whenever `fd` can be read.
    pub fn watch(&self, fd: impl AsFd, token: u64) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(failed("epoll_ctl(EPOLL_CTL_ADD)"))
    }

    /// Wakes with `token` when the other end of `fd` goes away; false where
    /// that cannot happen (regular files).
    pub fn watch_hangup(&self, fd: impl AsFd, token: u64) -> Result<bool> {
        match self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::empty(), token))
        {
            Ok(()) => Ok(true),
            Err(Errno::EPERM | Errno::EEXIST) => Ok(false),
            Err(errno) => Err(failed("epoll_ctl(EPOLL_CTL_ADD)")(errno)),
        }
    }

    /// Wakes with `token` whenever `fd` takes something.
    pub fn watch_writable(&self, fd: impl AsFd, token: u64) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, token))
            .map_err(failed("epoll_ctl(EPOLL_CTL_ADD)"))
    }

    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = self.epoll.delete(fd);
    }

    /// Sleeps until something happens, or only looks when `block` is false;
    /// which tokens are ready.
    pub fn wait(&self, block: bool) -> Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 8];
        let timeout = if block {
            EpollTimeout::NONE
        } else {
            EpollTimeout::ZERO
        };
        match self.epoll.wait(&mut events, timeout) {
            Ok(ready) => Ok(events[..ready].iter().map(EpollEvent::data).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(failed("epoll_wait")(errno)),
        }
    }
}

/// What a user can say to a running tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGINT or SIGTERM: end cleanly.
    Stop,
    /// SIGHUP: open the output file anew, or end where there is none.
    Reopen,
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
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
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

    /// The next request, if one waits.
    pub fn read(&mut self) -> Result<Option<Request>> {
        let info = self.fd.read_signal().map_err(failed("read of signalfd"))?;
        Ok(info.map(|info| {
            if info.ssi_signo == Signal::SIGHUP as u32 {
                Request::Reopen
            } else {
                Request::Stop
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
