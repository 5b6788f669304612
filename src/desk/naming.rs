//! Names for the frames of a report that came from elsewhere.
//!
//! In: frames, each with module, build-id and address in the file. Out: the names and
//! lines from the module's files, and what these lack, for the report's `lost`. A message
//! names each module without files once. Results are kept for the next reports, within
//! bounds.

use super::files::{Places, Unstripped};
use crate::analyze::located::{Located, Namer};
use crate::base::address::FileAddress;
use crate::config::CppNames;
#[cfg(feature = "lines")]
use crate::report::output::escape;
use crate::report::Location;
use crate::symbols::demangle::known;
#[cfg(feature = "desk")]
use crate::symbols::lines::TailCall;
#[cfg(feature = "lines")]
use crate::symbols::lines::{Lack, Refused};

/// Modules whose files stay open for the next report.
const MAX_OPEN: usize = 64;
/// Modules that are remembered, those without files too.
const MAX_MODULES: usize = 4096;
/// Linkers make no longer ones.
const MAX_BUILD_ID: usize = 64;
/// PATH_MAX, of bytes that all read `\xNN`.
const MAX_PATH: usize = 4 * 4096;
/// Names that are kept.
const MAX_NAMES: usize = 1 << 16;
/// C++ names that are kept readable, and their bytes.
const READABLE_NAMES: (usize, usize) = (8192, 8 << 20);

const TOO_MANY: &str = "too many to read in time";

/// Finds files, and asks them about the frames of one report at a time.
#[derive(Debug)]
pub(super) struct Desk {
    places: Places,
    modules: Vec<Unstripped>,
    namer: Namer,
    asked: Vec<Asked>,
    /// One entry for each frame that was asked for, with its names.
    pub(super) located: Vec<Located>,
    /// For each of them the calls before it that tail calls replaced, innermost first.
    #[cfg(feature = "desk")]
    pub(super) tail_calls: Vec<Vec<Replaced>>,
    /// What the report lacks: the detail and the reason.
    pub(super) lost: Vec<(&'static str, String)>,
    pub(super) cpp_names: CppNames,
}

/// A call that a tail call replaced.
#[cfg(feature = "desk")]
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    pub(super) located: Located,
    /// Its address is that of the tail call, and not the one after it.
    pub(super) is_exact: bool,
}

/// A frame that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The number of its module; none for code that is in no file, such as [anon].
    module: Option<usize>,
    /// It is not a return address.
    exact: bool,
    has_name: bool,
    /// It called the frame that was asked for before it.
    #[cfg(feature = "desk")]
    is_caller: bool,
}

impl Desk {
    pub(super) fn new(places: Places) -> Self {
        known::keep(READABLE_NAMES.0, READABLE_NAMES.1);
        Desk {
            namer: Namer::of_names(MAX_NAMES, &places.budget),
            places,
            modules: Vec::new(),
            asked: Vec::new(),
            located: Vec::new(),
            #[cfg(feature = "desk")]
            tail_calls: Vec::new(),
            lost: Vec::new(),
            cpp_names: CppNames::Short,
        }
    }

    /// New messages for the user since the last call.
    pub(super) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.places.said)
    }

    /// Turns to another report.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.located.clear();
        #[cfg(feature = "desk")]
        self.tail_calls.clear();
        self.lost.clear();
        self.places.allowance.begin();
        let open = self.modules.iter().filter(|module| module.is_found());
        if open.count() > MAX_OPEN || self.modules.len() > MAX_MODULES {
            self.modules.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn modules_known(&self) -> usize {
        self.modules.len()
    }

    /// Asks for the name of a frame whose module and place are known.
    pub(super) fn ask(&mut self, location: Location, exact: bool, has_name: bool) {
        let module = self.module(&location);
        self.asked.push(Asked {
            module,
            exact,
            has_name,
            #[cfg(feature = "desk")]
            is_caller: false,
        });
        self.located.push(Located {
            location,
            ..Located::default()
        });
    }

    /// The frame that was asked for last called the one before it, as call-frame information
    /// or the link register says.
    #[cfg(feature = "desk")]
    pub(super) fn last_is_caller(&mut self) {
        if let Some(last) = self.asked.last_mut() {
            last.is_caller = !last.exact;
        }
    }

    /// Looks for the calls that tail calls replaced, and names them.
    #[cfg(feature = "desk")]
    fn find_tail_calls(&mut self) {
        self.tail_calls = vec![Vec::new(); self.asked.len()];
        for (at, pair) in self.asked.windows(2).enumerate() {
            let [callee, caller] = pair else { continue };
            let place = |at: usize| self.located[at].location.module_offset;
            let (Some(number), Some(in_callee), Some(return_to)) =
                (caller.module, place(at), place(at + 1))
            else {
                continue;
            };
            if !caller.is_caller || callee.module != caller.module {
                continue;
            }
            let module = &self.modules[number];
            let in_callee = in_callee.0.wrapping_sub(u64::from(!callee.exact));
            self.places.allowance.begin();
            let found = module.tail_calls(FileAddress(in_callee), return_to);
            let outer = &self.located[at + 1].location;
            let mut calls: Vec<Located> = found
                .iter()
                .map(|call| Located {
                    location: Location {
                        module: outer.module.clone(),
                        module_offset: Some(call.at),
                        build_id: outer.build_id.clone(),
                        ..Location::default()
                    },
                    ..Located::default()
                })
                .collect();
            let lookup = |call: &TailCall| FileAddress(call.at.0 - u64::from(!call.is_exact));
            let which: Vec<(usize, FileAddress)> = found.iter().map(lookup).enumerate().collect();
            self.namer.add_names(module, &mut calls, &which);
            self.namer.add_lines(module, &mut calls, &which);
            let is_exact = found.iter().map(|call| call.is_exact);
            let calls = calls.into_iter().zip(is_exact);
            self.tail_calls[at + 1] = calls
                .map(|(located, is_exact)| Replaced { located, is_exact })
                .collect();
        }
    }

    /// Adds names to all frames.
    pub(super) fn name(&mut self) {
        for (number, module) in self.modules.iter().enumerate() {
            if self.asked.iter().all(|asked| asked.module != Some(number)) {
                continue;
            }
            let mut which = Vec::new();
            let mut has_names = true;
            #[cfg(feature = "lines")]
            let innermost = self.asked[0].module == Some(number);
            for (index, asked) in self.asked.iter().enumerate() {
                if asked.module != Some(number) {
                    continue;
                }
                has_names &= asked.has_name;
                if let Some(at) = self.located[index].location.module_offset {
                    let lookup = at.0.wrapping_sub(u64::from(!asked.exact));
                    which.push((index, FileAddress(lookup)));
                }
            }
            self.places.allowance.begin();
            let timeouts = self.namer.stats().timeouts;
            self.namer.add_names(module, &mut self.located, &which);
            #[cfg(feature = "lines")]
            let mut lines = self.namer.add_lines(module, &mut self.located, &which);
            #[cfg(feature = "lines")]
            let is_too_large = |lack: &Lack| matches!(lack.reason, Refused::TooLarge(_));
            #[cfg(feature = "lines")]
            if lines.as_ref().is_some_and(is_too_large) {
                // What is held of other modules takes the room.
                self.modules.iter().for_each(Unstripped::forget);
                lines = self.namer.add_lines(module, &mut self.located, &which);
            }
            #[cfg(feature = "lines")]
            match lines {
                // Not for outer frames in libraries: their lines are not needed.
                Some(lack) if innermost => {
                    let mut reason = lack.reason.as_str().to_owned();
                    if let Some(file) = lack.file {
                        reason.push_str(": ");
                        escape::text(&mut reason, &file);
                    }
                    self.lost.push(("lines", reason));
                }
                _ => {}
            }
            let late = self.namer.stats().timeouts > timeouts;
            let reason = if late { TOO_MANY } else { &*module.refused };
            if !(has_names || reason.is_empty()) {
                self.lost.push(("symbols", reason.into()));
            }
        }
        #[cfg(feature = "desk")]
        self.find_tail_calls();
    }

    /// The number of the module that a frame is in, looked for if it is a new one.
    fn module(&mut self, location: &Location) -> Option<usize> {
        let path = location.module.as_deref().unwrap_or(b"");
        let build_id = location.build_id.as_deref().unwrap_or(b"");
        let is_file = !build_id.is_empty() || path.starts_with(b"/");
        if !is_file || build_id.len() > MAX_BUILD_ID || path.len() > MAX_PATH {
            return None;
        }
        let same = |known: &Unstripped| known.is_of(build_id, path);
        self.modules.iter().position(same).or_else(|| {
            let module = self.places.find(build_id, path);
            if !module.is_found() {
                self.places.say(path, &module.refused);
            }
            self.modules.push(module);
            Some(self.modules.len() - 1)
        })
    }
}
