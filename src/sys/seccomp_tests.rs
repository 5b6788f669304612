//! What filters answer, by an interpreter of the few instructions that they have, and by
//! the kernel.

use super::*;

fn ran(filter: &[libc::sock_filter], arch: u32, call: i64, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend((call as u32).to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    data.extend(arguments.iter().flat_map(|word| word.to_ne_bytes()));
    let (mut at, mut value) = (0, 0);
    loop {
        let step = &filter[at];
        let is_so = match u32::from(step.code) {
            0x20 => {
                let bytes = &data[step.k as usize..][..4];
                value = u32::from_ne_bytes(bytes.try_into().unwrap());
                at += 1;
                continue;
            }
            0x06 => return step.k,
            0x15 => value == step.k,
            0x25 => value > step.k,
            0x45 => value & step.k != 0,
            code => panic!("{code:#x}"),
        };
        at += 1 + usize::from(if is_so { step.jt } else { step.jf });
    }
}

#[test]
fn what_is_not_listed_fails() {
    let conditions = [
        Condition {
            call: libc::SYS_kill,
            argument: 1,
            test: Test::OneOf(&[0, 15]),
        },
        Condition {
            call: libc::SYS_mmap,
            argument: 2,
            test: Test::Without(4),
        },
    ];
    let filter = filter(&[libc::SYS_read, libc::SYS_close], &conditions);
    let of = |call, argument: usize, value| {
        let mut arguments = [0; 6];
        arguments[argument] = value;
        ran(&filter, ARCH, call, arguments)
    };
    let (not_permitted, unknown) = (ERRNO | Errno::EPERM as u32, ERRNO | Errno::ENOSYS as u32);
    assert_eq!(of(libc::SYS_read, 0, 3), ALLOW);
    assert_eq!(of(libc::SYS_close, 0, 3), ALLOW);
    assert_eq!(of(libc::SYS_execve, 0, 3), not_permitted);
    assert_eq!(of(libc::SYS_kill, 1, 0), ALLOW);
    assert_eq!(of(libc::SYS_kill, 1, 15), ALLOW);
    assert_eq!(of(libc::SYS_kill, 1, 9), not_permitted);
    assert_eq!(of(libc::SYS_mmap, 2, 3), ALLOW);
    assert_eq!(of(libc::SYS_mmap, 2, 5), not_permitted);
    assert_eq!(of(i64::from(LAST_KNOWN), 0, 0), not_permitted);
    assert_eq!(of(i64::from(LAST_KNOWN) + 1, 0, 0), unknown);
    // As x32 programs number them.
    assert_eq!(of(1 << 30, 0, 0), unknown);
    // i386
    assert_eq!(ran(&filter, 0x4000_0003, libc::SYS_read, [0; 6]), unknown);
}

/// In a thread, which keeps it to itself.
#[test]
fn the_kernel_takes_it() {
    let thread = std::thread::spawn(|| {
        nix::sys::prctl::set_no_new_privs().unwrap();
        let one_errno = |call: libc::c_long| {
            // SAFETY: these calls take no pointer, and fail here.
            let answer = unsafe { libc::syscall(call, 0, 0) };
            (answer < 0).then(Errno::last)
        };
        let all: Vec<libc::c_long> = (0..i64::from(LAST_KNOWN))
            .filter(|call| *call != libc::SYS_getsid)
            .collect();
        match permit_only(&all, &[]) {
            Ok(false) => (Some(Errno::EPERM), Some(Errno::ENOSYS)),
            done => {
                done.unwrap();
                let new = i64::from(LAST_KNOWN) + 1;
                (one_errno(libc::SYS_getsid), one_errno(new))
            }
        }
    });
    let seen = thread.join().unwrap();
    assert_eq!(seen, (Some(Errno::EPERM), Some(Errno::ENOSYS)));
}
