//! The relocation engine against kernels that are not running here.
//!
//! `bpf/kernels.bpf.o` has one relocation after the other; `btf/` has what they
//! need of nine kernels. The values below were computed from the kernels' whole
//! BTF by another program, from what `bpftool btf dump` prints. No kernel takes
//! part: this runs anywhere.

use segfault_analyzer::loader::btf::Btf;
use segfault_analyzer::loader::link;
use segfault_analyzer::loader::relo::{self, Engine, Fixup};
use segfault_analyzer::loader::target::Target;
use segfault_analyzer::loader::Object;

const OBJECT: &[u8] = include_bytes!("bpf/kernels.bpf.o");

const KERNELS: [(&str, &[u8]); 9] = [
    ("x86_64-5.10", include_bytes!("btf/x86_64-5.10.btf")),
    ("x86_64-6.1", include_bytes!("btf/x86_64-6.1.btf")),
    ("x86_64-6.12", include_bytes!("btf/x86_64-6.12.btf")),
    ("x86_64-6.18", include_bytes!("btf/x86_64-6.18.btf")),
    ("x86_64-7.3", include_bytes!("btf/x86_64-7.3.btf")),
    ("aarch64-5.10", include_bytes!("btf/aarch64-5.10.btf")),
    ("aarch64-6.1", include_bytes!("btf/aarch64-6.1.btf")),
    ("aarch64-6.12", include_bytes!("btf/aarch64-6.12.btf")),
    ("aarch64-7.3", include_bytes!("btf/aarch64-7.3.btf")),
];

/// Poisoned: the kernel has no such thing.
const GONE: i64 = -1;

/// Each relocation of the object in order, and its value on each kernel.
#[rustfmt::skip]
const EXPECTED: &[(&str, [i64; 9])] = &[
    ("<byte_off> struct kernel_siginfo.si_code", [8, 8, 8, 8, 8, 8, 8, 8, 8]),
    ("<byte_off> struct kernel_siginfo._sifields._kill._uid", [20, 20, 20, 20, 20, 20, 20, 20, 20]),
    ("<byte_off> struct kernel_siginfo._sifields._sigfault._addr", [16, 16, 16, 16, 16, 16, 16, 16, 16]),
    ("<type_size> struct kernel_siginfo", [48, 48, 48, 48, 48, 48, 48, 48, 48]),
    ("<type_size> struct pt_regs___size", [168, 168, 168, 168, 168, 336, 336, 336, 320]),
    ("<field_exists> struct pt_regs___x86.ip", [1, 1, 1, 1, 1, 0, 0, 0, 0]),
    ("<byte_off> struct pt_regs___x86.ip", [128, 128, 128, 128, 128, GONE, GONE, GONE, GONE]),
    ("<byte_off> struct pt_regs___x86.cs", [136, 136, 136, 136, 136, GONE, GONE, GONE, GONE]),
    ("<byte_off> struct pt_regs___x86.sp", [152, 152, 152, 152, 152, 248, 248, 248, 248]),
    ("<field_exists> struct pt_regs___arm64.pc", [0, 0, 0, 0, 0, 1, 1, 1, 1]),
    ("<byte_off> struct pt_regs___arm64.sp", [152, 152, 152, 152, 152, 248, 248, 248, 248]),
    ("<byte_off> struct pt_regs___arm64.pstate", [GONE, GONE, GONE, GONE, GONE, 264, 264, 264, 264]),
    ("<field_exists> struct mm_struct.mmap", [1, 0, 0, 0, 0, 1, 0, 0, 0]),
    ("<field_exists> struct mm_struct.mm_mt.ma_root", [0, 1, 1, 1, 1, 0, 1, 1, 1]),
    ("<byte_off> struct mm_struct.mm_mt.ma_root", [GONE, 8, 72, 72, 72, GONE, 8, 72, 72]),
    ("<byte_off> struct mm_struct.map_count", [112, 104, 160, 176, 400, 96, 88, 144, 336]),
    ("<byte_off> struct mm_struct.start_stack", [304, 296, 360, 472, 720, 288, 280, 344, 624]),
    ("<byte_off> struct mm_struct.context.vdso", [856, 872, 1096, 1240, 1472, 760, 752, 976, 1288]),
    ("<byte_off> struct maple_range_64.pivot[3]", [GONE, 32, 32, 32, 32, GONE, 32, 32, 32]),
    ("<byte_off> struct maple_range_64.slot", [GONE, 128, 128, 128, 128, GONE, 128, 128, 128]),
    ("<byte_off> struct maple_arange_64.slot[2]", [GONE, 96, 96, 96, 96, GONE, 96, 96, 96]),
    ("<byte_off> struct vm_area_struct.vm_start", [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("<byte_off> struct vm_area_struct.vm_end", [8, 8, 8, 8, 8, 8, 8, 8, 8]),
    ("<field_exists> struct vm_area_struct.vm_next", [1, 0, 0, 0, 0, 1, 0, 0, 0]),
    ("<byte_off> struct vm_area_struct.vm_flags", [80, 32, 32, 32, 32, 80, 32, 32, 32]),
    ("<byte_off> struct vm_area_struct.vm_file", [160, 112, 128, 88, 88, 160, 112, 128, 88]),
    ("<byte_off> struct task_struct.stack", [24, 32, 32, 32, 32, 32, 32, 32, 40]),
    ("<byte_off> struct task_struct.tgid", [2236, 2420, 2436, 1268, 2876, 1308, 1356, 1380, 1884]),
    ("<byte_off> struct task_struct.comm[5]", [2741, 2981, 2981, 1757, 3413, 1757, 1917, 1925, 2421]),
    ("<byte_off> struct task_struct.thread.cr2", [5096, 5416, 5480, 3192, 6040, GONE, GONE, GONE, GONE]),
    ("<byte_off> struct task_struct.thread.fault_address", [GONE, GONE, GONE, GONE, GONE, 3496, 3704, 3736, 4344]),
    ("<field_exists> struct task_struct.start_boottime", [1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ("<field_exists> struct task_struct.real_start_time", [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("<byte_off> struct task_struct.in_execve", [2168, 2344, 2360, 1192, 2800, 1240, 1280, 1304, 1808]),
    ("<lshift_u64> struct task_struct.in_execve", [62, 61, 60, 60, 61, 62, 61, 60, 61]),
    ("<rshift_u64> struct task_struct.in_execve", [63, 63, 63, 63, 63, 63, 63, 63, 63]),
    ("<byte_sz> struct task_struct.comm", [16, 16, 16, 16, 16, 16, 16, 16, 16]),
    ("<signed> struct task_struct.pid", [1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ("<byte_off> struct mnt_namespace.ns.inum", [24, 16, 16, 24, 88, 24, 16, 16, 88]),
    ("<byte_off> struct pid.numbers[0].ns", [104, 104, 120, 152, 136, 104, 104, 120, 136]),
    ("<type_size> struct upid", [16, 16, 16, 16, 16, 16, 16, 16, 16]),
    ("<byte_off> struct file.f_path.dentry", [24, 24, 72, 72, 72, 24, 24, 72, 72]),
    ("<byte_off> struct file.f_inode", [32, 32, 40, 32, 32, 32, 32, 40, 32]),
    ("<field_exists> struct backing_file.user_path", [0, 0, 1, 1, 1, 0, 0, 1, 1]),
    ("<byte_off> struct mount.mnt.mnt_root", [32, 32, 32, 32, 32, 32, 32, 32, 32]),
    ("<field_exists> struct kernfs_node.parent", [1, 1, 1, 0, 0, 1, 1, 1, 0]),
    ("<type_exists> struct fred_info", [0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ("<enumval_exists> enum bpf_func_id___any::BPF_FUNC_loop___any", [0, 1, 1, 1, 1, 0, 1, 1, 1]),
    ("<enumval_exists> enum bpf_func_id___any::BPF_FUNC_task_pt_regs___any", [0, 1, 1, 1, 1, 0, 1, 1, 1]),
    ("<enumval_exists> enum bpf_func_id___any::BPF_FUNC_ktime_get_tai_ns___any", [0, 1, 1, 1, 1, 0, 1, 1, 1]),
    ("<enumval_exists> enum bpf_func_id___any::BPF_FUNC_no_such___any", [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("<enumval_value> enum bpf_func_id___any::BPF_FUNC_get_current_task___any", [35, 35, 35, 35, 35, 35, 35, 35, 35]),
    ("<enumval_value> enum maple_type___any::maple_arange_64___any", [GONE, 3, 3, 3, 3, GONE, 3, 3, 3]),
];

fn object() -> Object {
    Object::parse(OBJECT).expect("our own object")
}

/// The relocations of the object's only program, each with its description and its fix-up.
fn fixups(object: &Object, kernel: &[u8]) -> Vec<(String, Fixup)> {
    let program = object.program("kernels").expect("is there");
    let joined = link::join(object, program).expect("one function");
    let source = kernel.to_vec();
    let names = relo::wanted_names(&object.btf).expect("names");
    let target = Target::scan(&source, names).expect("kernel types");
    let mut engine = Engine::new(&object.btf, &target);
    link::relocations(object, &joined)
        .iter()
        .map(|(_, record)| {
            let fixup = engine.fixup(record).expect("a value or poison");
            (plain(&engine.describe(record)), fixup)
        })
        .collect()
}

/// A description without the type's number and the offset in our own type.
fn plain(description: &str) -> String {
    let head = description.split(" (").next().unwrap_or_default();
    let words: Vec<&str> = head
        .split(' ')
        .filter(|word| !word.starts_with('['))
        .collect();
    words.join(" ")
}

#[test]
fn every_relocation_has_the_value_of_its_kernel() {
    let object = object();
    for (column, (kernel, bytes)) in KERNELS.iter().enumerate() {
        let computed = fixups(&object, bytes);
        assert_eq!(computed.len(), EXPECTED.len(), "{kernel}");
        for ((description, fixup), (name, values)) in computed.iter().zip(EXPECTED) {
            assert_eq!(description, name, "{kernel}");
            let value = if fixup.poison {
                GONE
            } else {
                i64::try_from(fixup.target).expect("small values")
            };
            assert_eq!(value, values[column], "{kernel}: {name}");
        }
    }
}

#[test]
fn a_cut_kernel_btf_is_an_error_and_no_panic() {
    let object = object();
    let (_, whole) = KERNELS[0];
    for len in (0..whole.len()).step_by(37) {
        let source = whole[..len].to_vec();
        let names = relo::wanted_names(&object.btf).expect("names");
        assert!(Target::scan(&source, names).is_err(), "cut at {len}");
        assert!(Btf::parse(&source).is_err(), "cut at {len}");
    }
}

/// Some bytes of the types changed at a time: whatever comes of it, it comes back.
#[test]
fn a_garbled_kernel_btf_does_not_panic_or_hang() {
    let object = object();
    let program = object.program("kernels").expect("is there");
    let joined = link::join(&object, program).expect("one function");
    let records = link::relocations(&object, &joined);
    let (_, whole) = KERNELS[1];
    for place in (24..whole.len() - 4).step_by(29) {
        let mut source = whole.to_vec();
        for (byte, garbage) in source[place..place + 4]
            .iter_mut()
            .zip([0x91, 0x02, 0, 0x84])
        {
            *byte ^= garbage;
        }
        let names = relo::wanted_names(&object.btf).expect("names");
        let Ok(target) = Target::scan(&source, names) else {
            continue;
        };
        let mut engine = Engine::new(&object.btf, &target);
        for (_, record) in &records {
            // Either a value or an error; both are fine here.
            let _ = engine.fixup(record).is_ok();
        }
    }
}

#[test]
fn a_garbled_object_does_not_panic() {
    for place in (0..OBJECT.len() - 4).step_by(3) {
        let mut bytes = OBJECT.to_vec();
        for byte in &mut bytes[place..place + 4] {
            *byte = !*byte;
        }
        if let Ok(object) = Object::parse(&bytes) {
            for program in &object.programs {
                if let Ok(joined) = link::join(&object, program) {
                    let _ = link::relocations(&object, &joined).len();
                }
            }
        }
        assert!(Object::parse(&bytes[..place]).is_err());
    }
}
