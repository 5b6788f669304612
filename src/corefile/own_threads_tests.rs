use super::*;
use crate::base::address::ProcessAddress;
use crate::crash::event::MemoryWindow;

fn thread(number: u32) -> Thread {
    Thread {
        host_tid: number,
        tid: Some(number),
        ns_tid: number,
        name: b"a name of more than fifteen bytes".to_vec(),
        state: State::Stopped,
        system_call: None,
        registers: None,
        windows: vec![MemoryWindow {
            address: ProcessAddress(number.into()),
            bytes: vec![0; 16],
        }],
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_note_that_is_cut_off_has_the_threads_before() {
    let threads = Threads {
        list: vec![thread(1), thread(2)],
        count: 3,
    };
    let whole = bytes(&words(&threads));
    let read = OwnThreads::read(&whole).expect("a note");
    assert_eq!((read.count, read.list.len()), (3, 2));
    assert_eq!(read.list[0].thread.name, b"a name of more ");
    assert_eq!(read.list[0].thread.state, State::Stopped);
    assert_eq!(read.list[1].windows, [(2, 16)]);
    let head = 16;
    let each = (whole.len() - head) / 2;
    for len in 0..whole.len() {
        let read = OwnThreads::read(&whole[..len]);
        let expected = len.saturating_sub(head) / each;
        assert_eq!(
            read.map(|read| read.list.len()),
            (len >= head).then_some(expected)
        );
    }
}

#[test]
fn numbers_of_a_note_have_limits() {
    assert!(OwnThreads::read(&bytes(&[VERSION + 1, 1])).is_none());
    let many = Threads {
        list: (0..MAX_THREADS as u32 + 10).map(thread).collect(),
        count: u32::MAX,
    };
    let words = words(&many);
    let read = OwnThreads::read(&bytes(&words)).expect("a note");
    assert_eq!(read.list.len(), MAX_THREADS);
    // A note that claims more windows than there are, and a state that is none.
    let mut one = super::words(&Threads {
        list: vec![thread(1)],
        count: 0,
    });
    let (state, windows) = (2 + 3, one.len() - 3);
    one[state] = 77;
    assert_eq!(one[windows], 1);
    let read = OwnThreads::read(&bytes(&one)).expect("a note");
    assert_eq!(read.list[0].thread.state, State::Unknown);
    one[windows] = u64::MAX;
    assert!(OwnThreads::read(&bytes(&one))
        .expect("a note")
        .list
        .is_empty());
    one.resize(one.len() + 1000, 5);
    let read = OwnThreads::read(&bytes(&one)).expect("a note");
    assert_eq!(read.list[0].windows.len() as u64, MAX_WINDOWS);
}
