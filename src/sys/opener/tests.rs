//! What is remembered of file systems that do not answer.

use super::*;

const MOUNTS: &[u8] = b"36 35 0:50 / /mnt/far rw,nosuid - fuse.sshfs host:/ rw";

#[test]
fn a_line_of_mountinfo_has_device_place_and_kind() {
    let optional = b"22 21 8:2 / /var rw shared:1 master:7 - ext4 /dev/sda2 rw";
    let expected = |minor, place: &'static str, kind: &'static str| {
        Some((minor, place.as_bytes(), kind.as_bytes()))
    };
    assert_eq!(mount(MOUNTS), expected(50, "/mnt/far", "fuse.sshfs"));
    assert_eq!(mount(optional), expected(u32::MAX, "/var", "ext4"));
    for end in 0..MOUNTS.len() - "fuse.sshfs host:/ rw".len() {
        assert!(mount(&MOUNTS[..end]).is_none_or(|(_, _, kind)| kind.is_empty()));
    }
}

#[test]
fn a_local_file_system_is_never_given_up() {
    let about = About {
        device: Some(8 << 20 | 2),
        path: b"/etc/passwd".to_vec(),
        is_below: false,
    };
    let widened = widened(about);
    assert_eq!(widened.device, None);
    assert_eq!(widened.path, b"/etc/passwd", "one path, not all of /etc");
}

#[test]
fn the_limit_is_the_one_that_reports_name() {
    let words = crate::sys::look_up::NO_ANSWER;
    assert!(words.ends_with(&format!(" within {LIMIT_MS} ms")));
}
