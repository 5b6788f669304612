//! Whether two sets of type information describe the same kernel.
//!
//! Only the fields that the capture programs read are compared: a field that both have
//! must have the same offset. A field that only one has does not count: type information
//! may be cut down to what is needed.

use crate::base::error::{Context, Error, Result};
use crate::loader::link;
use crate::loader::object::Object;
use crate::loader::relo::{self, Engine, RelocationKind};
use crate::loader::target::{Target, TypeSource};

/// The first thing that the object asks for and that is another in each, in words.
pub fn first_difference(
    object: &Object,
    named: &dyn TypeSource,
    kernels: &dyn TypeSource,
) -> Result<Option<String>> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(error.to_string());
    let names = relo::wanted_names(&object.btf).map_err(|error| failed(&error))?;
    let scan = |types| Target::scan(types, names.clone()).map_err(|error| failed(&error));
    let (named, kernels) = (scan(named)?, scan(kernels)?);
    let mut named = Engine::new(&object.btf, &named);
    let mut kernels = Engine::new(&object.btf, &kernels);
    for program in &object.programs {
        let joined = link::join(object, program).context(|| "join a program")?;
        for (_, record) in link::relocations(object, &joined) {
            if RelocationKind::from_number(record.kind) != Some(RelocationKind::ByteOffset) {
                continue;
            }
            let (Ok(one), Ok(other)) = (named.fixup(&record), kernels.fixup(&record)) else {
                continue;
            };
            if !one.poison && !other.poison && one.target != other.target {
                let what = relo::describe(&object.btf, &record);
                // "<byte_off> [7] struct task_struct.comm (0:5 @ offset 64)"
                let named = what.split_once("] ").map_or(&*what, |(_, named)| named);
                let named = named.split_once(" (").map_or(named, |(named, _)| named);
                return Ok(Some(format!(
                    "{named} is at {}, and at {} in this kernel",
                    one.target, other.target
                )));
            }
        }
    }
    Ok(None)
}
