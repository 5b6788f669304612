//! The directory of core files: names, and how many are kept.
//!
//! In: whole cores. Out: files `core.NAME.PID.TIME`, with the time in milliseconds since
//! 1970. Before a core is written, the oldest are removed until it fits; only files with
//! such a name that are ours count. A core that cannot be written is counted and never
//! keeps a report back.

use std::os::unix::ffi::OsStrExt;

use crate::base::error::{Error, Result};
use crate::base::order;
use crate::config::CoreConfig;
use crate::sys::messages;
use crate::sys::own_files::{OwnFile, OwnFiles};

/// Counters for the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Figures {
    pub written: u64,
    pub lost: u64,
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: OwnFiles,
    config: CoreConfig,
    figures: Figures,
    /// The last core was lost, and a message said so.
    in_trouble: bool,
}

const PREFIX: &str = "core.";
const ASIDE: &str = ".core.";

impl Store {
    /// Opens the directory, which must exist, and removes what an earlier run left unfinished.
    pub fn open(config: CoreConfig) -> Result<Store> {
        let directory = OwnFiles::open(&config.directory).map_err(|error| {
            error.context(format!(
                "open core directory {}",
                config.directory.display()
            ))
        })?;
        let is_unfinished = |name: &str| {
            let rest = name.strip_prefix(ASIDE);
            rest.is_some_and(|rest| time_of(&format!("{PREFIX}{rest}")).is_some())
        };
        for file in directory.list(&is_unfinished) {
            directory.remove(&file.name);
        }
        Ok(Store {
            directory,
            config,
            figures: Figures::default(),
            in_trouble: false,
        })
    }

    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Writes a core; its path, or nothing where it is lost.
    pub fn save(&mut self, name: &[u8], pid: u32, unix_ms: u64, core: &[u8]) -> Option<Vec<u8>> {
        let name = format!("{PREFIX}{}.{pid}.{unix_ms}", plain(name));
        let fits = self.make_room(core.len() as u64);
        let aside = format!(".{name}");
        let written = match fits {
            true => self.directory.write(&name, &aside, core),
            false => Err(Error::failed("it is larger than --core-max-size")),
        };
        match written {
            Ok(()) => {
                self.figures.written += 1;
                self.in_trouble = false;
                Some(
                    self.config
                        .directory
                        .join(name)
                        .as_os_str()
                        .as_bytes()
                        .to_vec(),
                )
            }
            Err(error) => {
                self.figures.lost += 1;
                if !std::mem::replace(&mut self.in_trouble, true) {
                    let path = self.config.directory.display();
                    messages::say(&format!("Warning: no core file in {path}: {error}"));
                }
                None
            }
        }
    }

    /// Removes the oldest until one more fits; false if it never does.
    fn make_room(&self, bytes: u64) -> bool {
        let (files, most) = (self.config.keep_files, self.config.keep_bytes);
        if most.is_some_and(|most| bytes > most) {
            return false;
        }
        if files.is_none() && most.is_none() {
            return true;
        }
        let mut known = self.directory.list(&|name| time_of(name).is_some());
        order::sort(&mut known, |file: &OwnFile| {
            time_of(&file.name).unwrap_or(0)
        });
        let mut count = known.len() as u64;
        let sizes = known.iter().map(|file| file.bytes);
        let mut sum = sizes.fold(bytes, u64::saturating_add);
        for file in known {
            let too_many = files.is_some_and(|files| count >= files);
            if !too_many && most.is_none_or(|most| sum <= most) {
                break;
            }
            self.directory.remove(&file.name);
            count -= 1;
            sum = sum.saturating_sub(file.bytes);
        }
        true
    }
}

/// A process's name as part of a file's: whatever else it holds becomes `_`.
fn plain(name: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    let chars = name.iter().map(|&byte| match is_plain(byte) {
        true => char::from(byte),
        false => '_',
    });
    chars.collect()
}

/// The time in a name that [`Store::save`] gives; `None` for other names.
fn time_of(name: &str) -> Option<u64> {
    let mut parts = name.strip_prefix(PREFIX)?.rsplitn(3, '.');
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let time = number(parts.next()?)?;
    number(parts.next()?)?;
    parts.next().map(|_| time)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
