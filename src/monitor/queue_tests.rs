use super::*;
use crate::capture::record::assemble::Assembler;

/// As a record gives it that has its header alone.
fn event(uid: u32, exe: &str, pid: u32, disposition: Disposition) -> Event {
    let mut header = vec![0; crate::capture::record::abi::HEADER_IN_RING - 8];
    let size = (header.len() as u32).to_ne_bytes();
    header[..4].copy_from_slice(&1u32.to_ne_bytes());
    header[4..8].copy_from_slice(&size);
    let mut assembler = Assembler::new(4096, 1 << 20);
    assembler.feed(&header).expect("a header");
    let event = assembler.give_up().next().expect("an event");
    Event {
        uid: Some(uid),
        exe: Some(exe.as_bytes().to_vec()),
        host_pid: pid,
        disposition,
        ..event
    }
}

fn fatal(uid: u32, exe: &str, pid: u32) -> Event {
    event(uid, exe, pid, Disposition::Fatal)
}

fn handled(uid: u32, exe: &str, pid: u32) -> Event {
    event(uid, exe, pid, Disposition::Handled)
}

/// Users and processes in the order in which their turns come; each report takes `ns`.
fn turns(queue: &mut Queue, ns: u64) -> Vec<(u32, u32)> {
    let mut turns = Vec::new();
    while let Some((event, who)) = queue.pop() {
        queue.charge(who, ns);
        turns.push((event.uid.unwrap_or(0), event.host_pid));
    }
    assert!(queue.accounts.is_empty() && queue.bytes() == 0);
    turns
}

#[test]
fn one_user_waits_for_nothing_of_another() {
    let mut queue = Queue::new(1 << 20);
    for pid in 0..100 {
        queue.push(fatal(1, "flood", pid));
    }
    queue.push(fatal(2, "x", 500));
    queue.push(fatal(2, "x", 501));
    let turns = turns(&mut queue, 1000);
    let place = |pid| turns.iter().position(|&(_, known)| known == pid);
    assert!(place(501) < Some(5), "{turns:?}");
    let of_flood: Vec<_> = turns.iter().filter(|(uid, _)| *uid == 1).collect();
    assert!(of_flood.is_sorted() && of_flood.len() == 100, "in order");
}

#[test]
fn one_executable_waits_for_nothing_of_another() {
    let mut queue = Queue::new(1 << 20);
    for pid in 0..100 {
        queue.push(fatal(0, "flood", pid));
    }
    queue.push(fatal(0, "x", 500));
    let turns = turns(&mut queue, 1000);
    assert!(turns[..3].contains(&(0, 500)), "{turns:?}");
}

#[test]
fn who_takes_long_is_served_less_often() {
    let mut queue = Queue::new(1 << 20);
    for pid in 0..20 {
        queue.push(fatal(1, "slow", pid));
        queue.push(fatal(2, "quick", 100 + pid));
    }
    let mut slow = 0;
    for _ in 0..20 {
        let (event, who) = queue.pop().expect("one of forty");
        let is_slow = event.uid == Some(1);
        slow += u32::from(is_slow);
        queue.charge(who, if is_slow { 100_000_000 } else { 1_000_000 });
    }
    assert!(slow <= 2, "{slow}");
}

#[test]
fn deaths_come_first_but_not_always() {
    let mut queue = Queue::new(1 << 20);
    for pid in 0..4 {
        queue.push(handled(1, "x", pid));
    }
    for pid in 10..16 {
        queue.push(fatal(1, "x", pid));
    }
    let pids: Vec<u32> = turns(&mut queue, 1).iter().map(|&(_, pid)| pid).collect();
    assert_eq!(pids, [10, 11, 12, 0, 13, 14, 15, 1, 2, 3]);
}

#[test]
fn the_faults_of_a_process_come_before_its_death() {
    let mut queue = Queue::new(1 << 20);
    queue.push(handled(1, "x", 1));
    queue.push(handled(1, "x", 2));
    queue.push(fatal(1, "x", 2));
    let dispositions: Vec<_> = std::iter::from_fn(|| queue.pop())
        .map(|(event, _)| (event.host_pid, event.disposition))
        .collect();
    let [handled, fatal] = [Disposition::Handled, Disposition::Fatal];
    assert_eq!(dispositions, [(2, handled), (2, fatal), (1, handled)]);
}

#[test]
fn the_greediest_loses_its_last_and_all_are_counted() {
    let bytes = fatal(1, "x", 1).memory_bytes();
    let mut queue = Queue::new(10 * bytes + bytes / 2);
    queue.push(fatal(2, "y", 1000));
    queue.push(fatal(1, "flood", 0));
    for pid in 1..100 {
        queue.push(handled(1, "flood", pid));
    }
    queue.push(fatal(2, "y", 1001));
    assert!(queue.bytes() <= queue.max_bytes());
    let drops = queue.drops().clone();
    let turns = turns(&mut queue, 1);
    assert_eq!(drops.of_users(9), [(1, drops.all())]);
    assert_eq!(turns.len() as u64 + drops.all(), 102);
    for pid in [1000, 1001, 0, 1] {
        assert!(turns.iter().any(|&(_, known)| known == pid), "{pid}");
    }
}

#[test]
fn what_is_larger_than_the_queue_gets_its_report() {
    let mut queue = Queue::new(16);
    queue.push(fatal(1, "x", 1));
    queue.push(fatal(2, "x", 2));
    assert_eq!(turns(&mut queue, 1).len(), 1);
    assert_eq!(queue.drops().all(), 1);
}
