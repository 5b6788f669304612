//! A moment as `--since` takes it.
//!
//! `2026-11-30T20:00:00Z` with a zone as RFC 3339 has it, `2026-11-30`,
//! `2026-11-30 20:00` and `2026-11-30 20:00:00` by local time, or how long ago: `90s`,
//! `30m`, `2h`, `3d`, `1w`, with or without a minus sign.

/// A moment, as far as it is known without a clock and a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So many milliseconds ago.
    Ago(u64),
    /// Unix time in milliseconds.
    Utc(i64),
    /// The same as if the local time were UTC.
    Local(i64),
}

/// What a moment is, in the words of a message.
pub(super) const EXPECTED: &str = "a time such as 2026-11-30, '2026-11-30 20:00' or \
    2026-11-30T20:00:00Z, or how long ago, such as 2h";

/// `None` for anything else.
#[must_use]
pub fn read(text: &str) -> Option<Moment> {
    ago(text.strip_prefix('-').unwrap_or(text)).or_else(|| point(text))
}

fn ago(text: &str) -> Option<Moment> {
    let unit_s = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        b'w' => 7 * 86_400,
        _ => return None,
    };
    let count = digits(&text[..text.len() - 1], 1, 9)?;
    Some(Moment::Ago(count.unsigned_abs() * unit_s * 1000))
}

fn point(text: &str) -> Option<Moment> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let day_ms = days(date)? * 86_400_000;
    if rest.is_empty() {
        return Some(Moment::Local(day_ms));
    }
    let mark = rest.as_bytes()[0];
    if !matches!(mark, b'T' | b't' | b' ') {
        return None;
    }
    let rest = &rest[1..];
    let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(end);
    let ms = day_ms + clock_ms(clock)?;
    Some(match zone {
        "" => Moment::Local(ms),
        "Z" | "z" => Moment::Utc(ms),
        _ => {
            let (sign, zone) = zone.split_at(1);
            let ahead_ms = clock_ms(zone).filter(|_| zone.len() == 5)?;
            Moment::Utc(if sign == "+" {
                ms - ahead_ms
            } else {
                ms + ahead_ms
            })
        }
    })
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff` since midnight.
fn clock_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let mut part = |below| digits(parts.next()?, 2, 2).filter(|number| *number < below);
    let (hour, minute) = (part(24)?, part(60)?);
    let second = match whole.len() {
        5 if text.len() == 5 => 0,
        // A leap second.
        8 => part(61)?,
        _ => return None,
    };
    digits(fraction, 1, 9)?;
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Days since 1970 of `YYYY-MM-DD`.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4, 4)?;
    let month = digits(parts.next()?, 2, 2).filter(|month| (1..=12).contains(month))?;
    let day = digits(parts.next()?, 2, 2)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length).contains(&day) || parts.next().is_some() {
        return None;
    }
    // Years counted from March, so that the leap day is last.
    let (year, from_march) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + (153 * from_march + 2) / 5 + day - 1 - 719_468)
}

fn digits(text: &str, least: usize, most: usize) -> Option<i64> {
    let fits = (least..=most).contains(&text.len());
    let are = fits && text.bytes().all(|byte| byte.is_ascii_digit());
    are.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{read, Moment};

    #[test]
    fn moments() {
        for (text, expected) in [
            ("2h", Moment::Ago(7_200_000)),
            ("-30m", Moment::Ago(1_800_000)),
            ("1w", Moment::Ago(604_800_000)),
            ("1970-01-01", Moment::Local(0)),
            ("2024-02-29", Moment::Local(1_709_164_800_000)),
            ("2024-02-15 10:30", Moment::Local(1_707_993_000_000)),
            ("2024-02-15 10:30:45", Moment::Local(1_707_993_045_000)),
            ("2024-02-15T10:30:45.123Z", Moment::Utc(1_707_993_045_123)),
            (
                "2024-02-15T12:30:45.1+02:00",
                Moment::Utc(1_707_993_045_100),
            ),
            ("2024-02-15T08:30:45-02:00", Moment::Utc(1_707_993_045_000)),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "h",
            "2",
            "-",
            "2y",
            "2024",
            "2024-02-30",
            "2024-13-01",
            "2024-02-15 25:00",
            "2024-02-15 10",
            "2024-02-15T10:30:45+2",
            "2024-02-15x10:30",
            "2024-02-15 10:30.5",
            "99999999999h",
            "2024-02-15 10:30:45.",
            "é2h",
            "2024-02-1é 10:30",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
