//! The command that the tool watches and the processes of `-p`: with their ends the
//! monitoring ends.

use super::Monitor;
use crate::sys::command;
use crate::sys::messages::say;

/// The command, which is a child of the tool.
#[derive(Debug)]
pub(super) struct Command {
    pid: u32,
    /// As a shell has it, once it has ended.
    status: Option<u8>,
}

impl Monitor {
    /// Monitors until this child ends.
    pub fn follow_command(&mut self, pid: u32) {
        self.command = Some(Command { pid, status: None });
    }

    /// Waits for the command, if there is one; its status. Signals reach it meanwhile.
    pub fn command_status(&mut self) -> Option<u8> {
        while self.command.as_ref()?.status.is_none() {
            self.signals.wait();
            if let Err(error) = self.obey() {
                say(&format!("Warning: {error}"));
            }
        }
        self.command.as_ref()?.status
    }

    /// Children that have ended: the command, and those whose parents have ended before.
    pub(super) fn reap(&mut self) {
        while let Some((pid, status)) = command::reap() {
            self.ended(pid, status);
        }
    }

    fn ended(&mut self, pid: u32, status: u8) {
        if let Some(command) = self.command.as_mut().filter(|command| command.pid == pid) {
            command.status = Some(status);
            self.stopping = true;
        }
    }

    /// A signal asks the tool to end. A command gets it, too, unless the terminal has sent
    /// it to both; then it ends, or goes on, as it likes.
    pub(super) fn stop(&mut self, signal: i32, by_process: bool) {
        match &self.command {
            Some(command) if by_process => command::signal(command.pid, signal),
            Some(_) => {}
            None => self.stopping = true,
        }
    }

    /// Processes of `-p` have ended: the last of them ends the monitoring.
    pub(super) fn forget_ended(&mut self) {
        let poller = &self.poller;
        self.watched.retain(|watch| {
            let is_over = watch.ended().is_some();
            if let (true, Some(fd)) = (is_over, watch.fd()) {
                poller.forget(fd);
            }
            !is_over
        });
        self.stopping |= self.watched.is_empty();
    }
}
