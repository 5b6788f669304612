use super::*;
use std::path::PathBuf;

#[test]
fn names_hold_nothing_that_leads_elsewhere() {
    assert_eq!(plain(b"a/../b c\n\xff"), "a_.._b_c__");
    assert_eq!(plain(b"nginx-1.2+x_y"), "nginx-1.2+x_y");
}

#[test]
fn only_names_of_ours_have_a_time() {
    assert_eq!(time_of("core.a.7.1700"), Some(1700));
    assert_eq!(time_of("core.a.b.c.7.1700"), Some(1700));
    assert_eq!(time_of("core..7.1700"), Some(1700));
    for other in [
        "core",
        "core.7",
        "core.7.1700",
        "core.a.b.1700",
        "core.a.7.",
        "core.a.7.x",
        ".core.a.7.1700",
        "core.a.7.+17",
        "xcore.a.7.1700",
        "core.a.7.99999999999999999999",
    ] {
        assert_eq!(time_of(other), None, "{other}");
    }
}

fn store(keep_files: Option<u64>, keep_bytes: Option<u64>) -> (Store, PathBuf) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("cores-{}-{next}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    let config = CoreConfig {
        directory: directory.clone(),
        keep_files,
        keep_bytes,
    };
    (Store::open(config).unwrap(), directory)
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_oldest_make_room() {
    let (mut store, directory) = store(Some(2), None);
    for time in [5000, 900, 7000] {
        let path = store.save(b"p", 1, time, b"core").unwrap();
        assert!(path.ends_with(format!("/core.p.1.{time}").as_bytes()));
    }
    // By the time in the name, as a number.
    assert_eq!(names(&directory), ["core.p.1.5000", "core.p.1.7000"]);
    assert_eq!(
        store.figures(),
        Figures {
            written: 3,
            lost: 0
        }
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_core_that_never_fits_removes_nothing() {
    let (mut store, directory) = store(None, Some(10));
    assert!(store.save(b"p", 1, 1, b"12345").is_some());
    assert!(store.save(b"p", 1, 2, b"12345").is_some());
    assert!(store.save(b"p", 1, 3, b"12345678901").is_none());
    assert_eq!(names(&directory), ["core.p.1.1", "core.p.1.2"]);
    assert!(store.save(b"p", 1, 4, b"123456").is_some());
    assert_eq!(names(&directory), ["core.p.1.4"]);
    assert_eq!(
        store.figures(),
        Figures {
            written: 3,
            lost: 1
        }
    );
    std::fs::remove_dir_all(directory).unwrap();
}
