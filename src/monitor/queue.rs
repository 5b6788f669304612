//! Events that wait for their reports, and whose turn is next.
//!
//! The queue has a size in bytes. Each user has a share of it and of the time that reports
//! take, and within a user each executable: whoever crashes a thousand times a second waits
//! for his own crashes and not others for him. Deaths come before faults that a handler
//! takes, unless three deaths went before. Events of one executable come out in the order
//! in which they came in.
//!
//! If there is no room, the executable with the most bytes, of the user with the most bytes,
//! loses its last event: a handled fault if there is one.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use crate::crash::event::{Disposition, Event};
use crate::keyed::Key;
use crate::monitor::statistics::Drops;

/// Deaths in a row while a handled fault waits.
const DEATHS_IN_A_ROW: u32 = 3;

/// Who crashed: a user, and with `exe` one of the user's executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// `None` where the capture method does not report it.
    uid: Option<u32>,
    exe: Option<u64>,
}

impl Who {
    #[must_use]
    pub(super) fn of(event: &Event) -> Who {
        let exe = event.exe.as_ref().unwrap_or(&event.comm);
        Who {
            uid: event.uid,
            exe: Some(Key::default().hash_one(exe)),
        }
    }

    fn user(self) -> Who {
        Who { exe: None, ..self }
    }
}

#[derive(Debug)]
struct Waiting {
    event: Box<Event>,
    bytes: u64,
    who: Who,
    is_death: bool,
}

impl Waiting {
    /// Its number in the first pid namespace, and when it began.
    fn process(&self) -> (u32, u64) {
        (self.event.host_pid, self.event.start_ns)
    }
}

/// Somebody's events in the queue.
#[derive(Debug)]
struct Account {
    who: Who,
    deaths: usize,
    handled: usize,
    bytes: u64,
    /// Time that reports took; whoever comes anew begins with the least of the others.
    served_ns: u64,
}

impl Account {
    fn waits(&self, deaths: bool) -> bool {
        match deaths {
            true => self.deaths > 0,
            false => self.handled > 0,
        }
    }
}

/// The events, in the order in which they came in.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    accounts: Vec<Account>,
    bytes: u64,
    max_bytes: u64,
    deaths_in_a_row: u32,
    /// What found no room.
    drops: Drops,
}

impl Queue {
    #[must_use]
    pub(super) fn new(max_bytes: u64) -> Self {
        Queue {
            waiting: VecDeque::new(),
            accounts: Vec::new(),
            bytes: 0,
            max_bytes,
            deaths_in_a_row: 0,
            drops: Drops::default(),
        }
    }

    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[must_use]
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// What found no room, by user.
    #[must_use]
    pub(super) fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Puts an event behind the others; one of the greediest goes if there is no room.
    pub(super) fn push(&mut self, event: Event) {
        let waiting = Waiting {
            bytes: event.memory_bytes(),
            who: Who::of(&event),
            is_death: event.disposition == Disposition::Fatal,
            event: Box::new(event),
        };
        self.bytes += waiting.bytes;
        for who in [waiting.who.user(), waiting.who] {
            let account = self.account(who);
            match waiting.is_death {
                true => account.deaths += 1,
                false => account.handled += 1,
            }
            account.bytes += waiting.bytes;
        }
        self.waiting.push_back(waiting);
        // One always stays, however large it is.
        while self.bytes > self.max_bytes && self.waiting.len() > 1 {
            let Some(dropped) = self.greediest().and_then(|place| self.remove(place)) else {
                return;
            };
            self.drops.add(dropped.event.uid, 1);
        }
    }

    /// The next event for a report, and whom to charge for it.
    pub(super) fn pop(&mut self) -> Option<(Event, Who)> {
        let waits = |deaths: bool| self.accounts.iter().any(|account| account.waits(deaths));
        let is_enough = self.deaths_in_a_row >= DEATHS_IN_A_ROW && waits(false);
        let deaths = waits(true) && !is_enough;
        self.deaths_in_a_row = if deaths { self.deaths_in_a_row + 1 } else { 0 };
        let least = |is_one: &dyn Fn(Who) -> bool| {
            let accounts = self.accounts.iter();
            let wanted = accounts.filter(|account| is_one(account.who) && account.waits(deaths));
            wanted
                .min_by_key(|account| account.served_ns)
                .map(|account| account.who)
        };
        let user = least(&|who| who.exe.is_none())?;
        let who = least(&|who| who.exe.is_some() && who.user() == user)?;
        let is_next = |waiting: &Waiting| waiting.who == who && waiting.is_death == deaths;
        let process = self
            .waiting
            .iter()
            .find(|waiting| is_next(waiting))?
            .process();
        // What the process did before.
        let place = self
            .waiting
            .iter()
            .position(|waiting| waiting.process() == process)?;
        let waiting = self.remove(place)?;
        Some((*waiting.event, waiting.who))
    }

    /// A report took so long.
    pub(super) fn charge(&mut self, who: Who, ns: u64) {
        for account in &mut self.accounts {
            if account.who == who || account.who == who.user() {
                account.served_ns = account.served_ns.saturating_add(ns);
            }
        }
    }

    fn account(&mut self, who: Who) -> &mut Account {
        let place = self.accounts.iter().position(|account| account.who == who);
        let place = place.unwrap_or_else(|| {
            let is_equal = |account: &&Account| match who.exe {
                Some(_) => account.who.exe.is_some() && account.who.uid == who.uid,
                None => account.who.exe.is_none(),
            };
            let equals = self.accounts.iter().filter(is_equal);
            let served_ns = equals.map(|account| account.served_ns).min().unwrap_or(0);
            self.accounts.push(Account {
                who,
                deaths: 0,
                handled: 0,
                bytes: 0,
                served_ns,
            });
            self.accounts.len() - 1
        });
        &mut self.accounts[place]
    }

    /// The place of the event to be dropped.
    fn greediest(&self) -> Option<usize> {
        let most = |is_one: &dyn Fn(Who) -> bool| {
            let accounts = self.accounts.iter().filter(|account| is_one(account.who));
            accounts
                .max_by_key(|account| account.bytes)
                .map(|account| account.who)
        };
        let user = most(&|who| who.exe.is_none())?;
        let who = most(&|who| who.exe.is_some() && who.user() == user)?;
        let last = |deaths: bool| {
            let is_one = |waiting: &Waiting| waiting.who == who && waiting.is_death == deaths;
            self.waiting.iter().rposition(is_one)
        };
        last(false).or_else(|| last(true))
    }

    fn remove(&mut self, place: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(place)?;
        self.bytes -= waiting.bytes;
        for who in [waiting.who.user(), waiting.who] {
            let account = self.account(who);
            match waiting.is_death {
                true => account.deaths -= 1,
                false => account.handled -= 1,
            }
            account.bytes -= waiting.bytes;
        }
        self.accounts
            .retain(|account| account.deaths + account.handled > 0);
        Some(waiting)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
