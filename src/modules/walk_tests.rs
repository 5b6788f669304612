//! Modules as a stack walk asks them for code and call-frame information.

use super::*;

#[test]
fn modules_answer_a_stack_walk() {
    let Some(path) = host::libc() else {
        return;
    };
    let path = Path::new(&path).canonicalize().unwrap();
    let (mut modules, _) = modules(Limits::default());
    let module = modules.open(&mapping_of(&path), gone()).unwrap().module;
    let range = module.section(CfiSection::EhFrameHdr).unwrap();
    let (mut by_section, mut by_address) = ([0; 64], [0; 64]);
    module
        .read_section(CfiSection::EhFrameHdr, 0, &mut by_section)
        .unwrap();
    assert_eq!(module.read(range.address, &mut by_address), 64);
    assert_eq!(by_section, by_address);
    let past = module.read_section(CfiSection::EhFrameHdr, range.size - 63, &mut by_section);
    assert!(past.is_none());

    let mut resolver = Resolver::new(10, Rc::new(MemoryBudget::new(1 << 20)));
    // The code of the first function with a name in a stretch of the text.
    let text = module
        .elf()
        .loads()
        .iter()
        .find(|load| load.executable)
        .unwrap();
    let addresses: Vec<FileAddress> = (0..0x4000)
        .map(|n| FileAddress(text.address.0 + n))
        .collect();
    let symbols = resolver.resolve(&*module, &addresses);
    let (address, symbol) = addresses
        .iter()
        .zip(&symbols)
        .find_map(|(address, symbol)| Some((address, symbol.as_ref()?)))
        .unwrap();
    assert_eq!(module.function_start(*address), Some(symbol.start));
    assert_eq!(module.function_start(*address), Some(symbol.start));
    assert_eq!(module.function_start(FileAddress(u64::MAX)), None);
}

#[test]
fn the_vdso_is_a_module_too() {
    let (mut modules, _) = modules(Limits::default());
    let Some(opened) = modules.vdso(ProcessAddress(0x7fff_1234_5000)) else {
        return host::skip("the kernel gives this process no vdso");
    };
    assert_eq!(opened.bias, 0x7fff_1234_5000);
    let mut magic = [0; 4];
    opened.placed().data.read(FileAddress(0), &mut magic);
    assert_eq!(&magic, b"\x7fELF");
}
