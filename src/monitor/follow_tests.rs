use super::*;
use crate::base::address::ProcessAddress;
use crate::report::{Cause, Counts, Delivery, Process, State, Timestamp, Why};

const SECOND: Duration = Duration::from_secs(1);

fn item(process: u32, disposition: Disposition, uptime_ms: u64) -> Item {
    let report = Report {
        time: Timestamp {
            unix_ms: 1_000_000 + uptime_ms,
            uptime_ms,
        },
        process: Process {
            pid: process,
            tid: process,
            host_pid: None,
            ns_pid: None,
            comm: b"x".to_vec(),
            thread: b"x".to_vec(),
            ppid: None,
            uid: None,
            exe: None,
            cmdline: None,
            cgroup: None,
        },
        delivery: Delivery {
            signal: 11,
            code: 1,
            fault_address: None,
            access: None,
            disposition,
            first_fault: None,
            sender: None,
        },
        state: State::default(),
        stack: None,
        threads: None,
        why: Why {
            cause: Cause::Unknown,
            text: Vec::new(),
            signature: None,
            group: None,
        },
        counts: Counts::default(),
        same_death: false,
        exit: None,
        core: None,
        lost: Vec::new(),
    };
    Item {
        report: Box::new(report),
        site: Some(FaultSite {
            pc: ProcessAddress(1),
            host_pid: process,
            signal: 11,
            code: 1,
        }),
        repeats: 0,
        process: (process, 7),
        core: None,
    }
}

fn handled(process: u32, uptime_ms: u64) -> Item {
    item(process, Disposition::Handled, uptime_ms)
}

fn end(process: u32, status: u32) -> Ended {
    Ended {
        host_pid: process,
        start_ns: 7,
        status: Some(status),
    }
}

fn nothing(_: &FaultSite) -> Option<(u64, u64)> {
    None
}

fn exits(items: &[Item]) -> Vec<(u64, Option<Exit>)> {
    let of = |item: &Item| (item.report.time.uptime_ms, item.report.exit);
    items.iter().map(of).collect()
}

#[test]
fn the_last_fault_before_the_end_is_the_one() {
    let mut followed = Followed::new(false);
    for (process, at) in [(1, 10), (2, 20), (1, 30)] {
        let out = followed.admit(handled(process, at), SECOND, true);
        assert!(out.is_empty(), "it waits");
    }
    let item = followed.ended(&end(1, 2 << 8), &mut nothing).unwrap();
    assert_eq!(exits(&[item]), [(30, Some(Exit::Status(2)))]);
    assert_eq!(followed.next_due(), Some(SECOND + WAIT));
    assert!(followed.due(SECOND).is_empty());
    let rest = followed.due(SECOND + WAIT);
    assert_eq!(exits(&rest), [(10, None), (20, None)]);
    assert_eq!(followed.next_due(), None);
    let other = Ended {
        start_ns: 8,
        ..end(2, 6)
    };
    assert!(
        followed.ended(&other, &mut nothing).is_none(),
        "a successor"
    );
}

#[test]
fn a_fatal_report_goes_out_at_once_and_tells_of_the_death_itself() {
    for fatal_only in [false, true] {
        let mut followed = Followed::new(fatal_only);
        followed.admit(handled(1, 10), SECOND, true);
        followed.admit(handled(2, 15), SECOND, true);
        let out = followed.admit(item(1, Disposition::Fatal, 20), SECOND, true);
        let expected: &[_] = match fatal_only {
            true => &[(20, None)],
            false => &[(10, None), (20, None)],
        };
        assert_eq!(exits(&out), expected);
        assert!(followed.ended(&end(1, 11), &mut nothing).is_none());
        assert_eq!(followed.unwanted(), u64::from(fatal_only));
    }
}

#[test]
fn with_fatal_only_the_living_are_dropped() {
    let mut followed = Followed::new(true);
    for process in 1..=3 {
        followed.admit(handled(process, 10), SECOND, true);
    }
    assert!(followed.ended(&end(1, 0), &mut nothing).is_none());
    let died = followed.ended(&end(2, 6), &mut nothing).unwrap();
    assert_eq!(died.report.exit, Some(Exit::Signal(6)));
    assert!(followed.due(Duration::MAX).is_empty());
    assert_eq!(followed.unwanted(), 2);
}

#[test]
fn a_repetition_that_was_only_counted_may_be_the_last() {
    let mut followed = Followed::new(true);
    followed.admit(handled(1, 10), SECOND, true);
    assert!(followed.due(Duration::MAX).is_empty());
    let mut take = |_: &FaultSite| Some((5, 4000));
    let died = followed.ended(&end(1, 2 << 8), &mut take).unwrap();
    assert_eq!(died.report.time.uptime_ms, 4000);
    assert_eq!(died.report.time.unix_ms, 1_004_000);
    assert_eq!(died.repeats, 4, "and itself");
    assert!(followed.ended(&end(1, 2 << 8), &mut take).is_none(), "once");
    // Of one that ends well nothing is taken.
    followed.admit(handled(1, 10), SECOND, false);
    let well = followed.ended(&end(1, 0), &mut take);
    assert!(well.is_none(), "left out");
    // The same within a second.
    followed.admit(handled(1, 10), SECOND, true);
    let died = followed.ended(&end(1, 2 << 8), &mut take).unwrap();
    assert_eq!((died.report.time.uptime_ms, died.repeats), (4000, 5));
}

#[test]
fn what_is_held_is_bounded() {
    let mut followed = Followed::new(false);
    let mut out = 0;
    for process in 0..1000 {
        out += followed.admit(handled(process, 1), SECOND, true).len();
        assert!(followed.held.len() <= MAX_HELD && followed.last.len() <= MAX_LAST);
    }
    assert_eq!(out + followed.due(Duration::MAX).len(), 1000);
}

#[test]
fn what_a_user_or_a_shell_asked_for_is_no_death() {
    for (status, death) in [
        (0, false),
        (1 << 8, true),
        (2 << 8, true),
        (143 << 8, false),
        (134 << 8, true),
        (15, false),
        (9, false),
        (6 | 0x80, true),
        (11, true),
    ] {
        assert_eq!(exit(Some(status)).is_death(), death, "{status:#x}");
    }
    assert!(exit(None).is_death());
}
