//! What somebody may have meant who mistyped a name.

/// Names are shorter; what is longer is no mistyped one.
const MAX_LENGTH: usize = 32;

/// The one name that is closest to what was given: at most a third of its letters inserted,
/// left out, replaced or exchanged with the next. `None` if there is none, or more than one.
pub(super) fn nearest<'a>(
    given: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    let mut is_only = false;
    for name in names {
        let Some(distance) = distance(given.as_bytes(), name.as_bytes()) else {
            continue;
        };
        if distance > name.len() / 3 {
            continue;
        }
        match best {
            Some((least, _)) if distance > least => {}
            Some((least, known)) if distance == least => is_only &= known == name,
            _ => {
                best = Some((distance, name));
                is_only = true;
            }
        }
    }
    best.filter(|_| is_only).map(|(_, name)| name)
}

/// The optimal string alignment distance; `None` for long words.
fn distance(one: &[u8], other: &[u8]) -> Option<usize> {
    if one.len().max(other.len()) > MAX_LENGTH {
        return None;
    }
    // The rows of the two letters before, and of this one.
    let mut rows = [[0; MAX_LENGTH + 1]; 3];
    for (column, cell) in rows[1].iter_mut().enumerate() {
        *cell = column;
    }
    for (at, letter) in one.iter().enumerate() {
        rows[2][0] = at + 1;
        for (column, same) in other.iter().enumerate() {
            let replaced = rows[1][column] + usize::from(letter != same);
            let changed = rows[1][column + 1].min(rows[2][column]) + 1;
            let mut least = replaced.min(changed);
            let exchanged =
                at > 0 && column > 0 && one[at - 1] == *same && other[column - 1] == *letter;
            if exchanged {
                least = least.min(rows[0][column - 1] + 1);
            }
            rows[2][column + 1] = least;
        }
        rows.rotate_left(1);
    }
    Some(rows[1][other.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_recognized() {
        let names = ["stack-trace", "stats", "registers", "threads", "maps"];
        for (given, meant) in [
            ("stack-trcae", Some("stack-trace")),
            ("stacktrace", Some("stack-trace")),
            ("stat", Some("stats")),
            ("register", Some("registers")),
            ("Threads", Some("threads")),
            ("quiet", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names), meant, "{given}");
        }
        assert_eq!(nearest("xoxo", ["xaxo", "xoxa"]), None, "either");
        assert_eq!(nearest(&"x".repeat(99), names), None);
    }

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("ca", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), Some(expected));
        }
    }
}
