//! Files as their first bytes in the process's memory show them.

use super::*;
use crate::crash::event::FileHead;

const HEAD_BYTES: usize = 1024;

/// The same, with what the capture program copies of its memory.
fn with_head(mut mapping: Mapping, path: &Path) -> Mapping {
    let bytes = std::fs::read(path).unwrap();
    file_of(&mut mapping).head = Some(FileHead {
        address: mapping.start,
        bytes: bytes[..HEAD_BYTES].into(),
    });
    mapping
}

fn change_head(mapping: &mut Mapping, change: impl FnOnce(&mut [u8])) {
    let head = file_of(mapping).head.as_mut().unwrap();
    let mut bytes = head.bytes.to_vec();
    change(&mut bytes);
    head.bytes = bytes.into();
}

/// Where the bytes have the build-id.
fn build_id_at(mapping: &Mapping) -> usize {
    let bytes = &mapping.file.as_ref().unwrap().head.as_ref().unwrap().bytes;
    let head = Head::of(mapping).unwrap();
    let id = head.build_id().unwrap();
    bytes.windows(id.len()).position(|at| at == id).unwrap()
}

#[test]
fn a_head_tells_what_the_file_does() {
    let dir = Scratch::new("head");
    let path = dir.program("prog");
    let (mut modules, _) = modules(Limits::default());
    let mut mapping = with_head(mapping_of(&path), &path);
    let opened = modules.open(&mapping, gone()).unwrap();
    let mut loads = opened.module.elf().loads().iter();
    let code = *loads.find(|load| load.executable).unwrap();
    file_of(&mut mapping).offset = code.offset;
    mapping.flags = VmFlags(5);
    let head = Head::of(&mapping).unwrap();
    assert_eq!(head.build_id(), opened.module.build_id());
    assert_eq!(head.bias(&mapping), opened.module.bias(&mapping));
}

/// Somebody wrote another program into the file and set its time back.
#[test]
fn a_file_of_another_build_is_refused() {
    let dir = Scratch::new("other");
    let path = dir.program("prog");
    let (mut modules, _) = modules(Limits::default());
    let mut mapping = with_head(mapping_of(&path), &path);
    assert!(modules.open(&mapping, gone()).is_ok());
    let at = build_id_at(&mapping);
    change_head(&mut mapping, |bytes| bytes[at] ^= 1);
    let refused = reason(modules.open(&mapping, gone()));
    assert_eq!(
        refused,
        "file is not what was mapped: its build-id is another"
    );
    change_head(&mut mapping, |bytes| bytes[0] = 0);
    assert!(modules.open(&mapping, gone()).is_ok(), "it says nothing");
}

#[test]
fn an_equal_file_stands_for_one_out_of_reach() {
    let dir = Scratch::new("equal");
    let [path, copy] = ["prog", "copy"].map(|name| dir.program(name));
    let mapping = with_head(mapping_of(&path), &path);
    std::fs::remove_file(&path).unwrap();
    let (mut modules, _) = modules(Limits::default());
    let refused = reason(modules.open(&mapping, gone()));
    assert_eq!(refused, "file deleted since the crash");
    modules.clear();
    let known = modules.open(&mapping_of(&copy), gone()).unwrap();
    let found = modules.open(&mapping, gone()).unwrap();
    assert!(Rc::ptr_eq(&known.module, &found.module));
    assert_eq!(found.bias, 0x7000_0000);

    // In a mount namespace that is gone it had the name that one has here.
    let mut elsewhere = with_head(mapping_of(&copy), &copy);
    file_of(&mut elsewhere).identity.inode ^= 1;
    let foreign = ProcessHint {
        mnt_ns: 1,
        ..gone()
    };
    modules.clear();
    assert!(modules.open(&elsewhere, foreign).is_ok());
    modules.clear();
    let at = build_id_at(&elsewhere);
    change_head(&mut elsewhere, |bytes| bytes[at] ^= 1);
    assert!(modules.open(&elsewhere, foreign).is_err());
}

/// A process may write anything into its own memory.
#[test]
fn any_bytes_are_a_head_or_none() {
    let mut mapping = with_head(mapping_of(Path::new("/bin/ls")), Path::new("/bin/ls"));
    let whole = file_of(&mut mapping).head.clone().unwrap();
    for len in 0..HEAD_BYTES {
        file_of(&mut mapping).head.as_mut().unwrap().bytes = whole.bytes[..len].into();
        let _ = Head::of(&mapping).map(|head| head.bias(&mapping));
    }
    let mut state = 1_u32;
    for _ in 0..5000 {
        file_of(&mut mapping).head = Some(whole.clone());
        change_head(&mut mapping, |bytes| {
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes[(state >> 8) as usize % HEAD_BYTES] = (state >> 24) as u8;
            }
        });
        let _ = Head::of(&mapping).map(|head| head.bias(&mapping));
    }
}
