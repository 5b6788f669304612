//! The core file of an event: what [`crate::corefile`] makes of it, with the files that the
//! process had mapped.

use super::Analyzer;
use crate::analyze::space::Captured;
use crate::base::address::{FileAddress, ProcessAddress};
use crate::corefile::write::Material;
use crate::corefile::{short_id, Object};
use crate::crash::event::Event;
use crate::sys::mmap::page_bytes;

/// Loaded files in the list of a core.
const MAX_OBJECTS: usize = 1024;

impl Analyzer {
    /// The core, whole; `None` if the registers are not known. Called after
    /// [`Analyzer::report`], within whose time limit files are read.
    #[must_use]
    pub fn core(&mut self, event: &Event, unix_ms: u64) -> Option<Vec<u8>> {
        let objects = self.objects(event);
        let vdso = self.modules.vdso(event.vdso);
        let vdso_id = short_id(vdso.as_ref().and_then(|vdso| vdso.module.build_id()));
        Material {
            event,
            objects: &objects,
            unix_ms,
            window_bytes: self.window_bytes,
            page_bytes: page_bytes() as u64,
            vdso_id,
        }
        .core()
    }

    /// The files with code that the process had mapped, in the order of their addresses.
    fn objects(&mut self, event: &Event) -> Vec<Object> {
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        let mut objects: Vec<Object> = Vec::new();
        for mapping in &event.mappings {
            let file = mapping.file.as_ref().filter(|_| mapping.flags.executable());
            let Some(file) = file.filter(|_| objects.len() < MAX_OBJECTS) else {
                continue;
            };
            let Some(opened) = space.opened(mapping.start) else {
                continue;
            };
            // A file may have several mappings of code.
            if objects.iter().any(|known| known.bias == opened.bias) {
                continue;
            }
            let elf = opened.module.elf();
            let image = elf.image();
            let placed = |address: FileAddress| ProcessAddress(address.0.wrapping_add(opened.bias));
            let (headers, dynamic) = (image.headers, image.dynamic);
            objects.push(Object {
                path: file.path.clone(),
                bias: opened.bias,
                is_program: Some(&file.path) == event.exe.as_ref(),
                entry: elf.entry().map(placed),
                headers: headers.map(|(address, count)| (placed(address), count)),
                dynamic: dynamic.map(|(address, bytes)| (placed(address), bytes)),
                interpreter: image.interpreter,
            });
        }
        objects
    }
}
