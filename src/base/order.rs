//! Sorting by a number, with one sort for all kinds of items: each of the standard library's
//! sorts is compiled anew for each of them, at some kilobytes.

/// Sorts by a number. Items with equal numbers stay in their order.
pub fn sort<T>(items: &mut [T], number: impl Fn(&T) -> u64) {
    if items.is_sorted_by_key(&number) {
        return;
    }
    let mut order: Vec<(u64, usize)> = items.iter().map(number).zip(0..).collect();
    order.sort_unstable();
    for first in 0..items.len() {
        let mut to = first;
        loop {
            let from = std::mem::replace(&mut order[to].1, to);
            if from == first || from == to {
                break;
            }
            items.swap(to, from);
            to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_keep_their_order() {
        let mut state = 1_u64;
        for count in 0..200 {
            let mut items: Vec<(u64, usize)> = (0..count)
                .map(|at| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 59, at)
                })
                .collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            sort(&mut items, |item| item.0);
            assert_eq!(items, expected);
        }
    }
}
