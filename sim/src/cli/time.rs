//! Spans of time on the command line: those of [`span`], hours and days, and none at all.

use kontiki_core::time::span;
use std::time::Duration;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// How long something is to last: `8h`, `2d`, or a span such as `90m`.
pub(super) fn long(text: &str) -> Result<Duration, String> {
    let units = [("h", HOUR), ("d", DAY)];
    let Some((number, unit)) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
    else {
        return span::parse(text).map_err(|error| error.to_string());
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
    let seconds = seconds.filter(|&seconds| seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("`{text}` is no time: write it as 8h, 2d or 90m"))
}

/// The same, or `0s` for not at all.
pub(super) fn long_or_none(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { long(text) }
}

/// How many of something a second.
pub(super) fn rate(count: u64, time: Duration) -> u128 {
    u128::from(count) * 1_000 / time.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("8h", 8 * HOUR), ("2d", 2 * DAY), ("90m", 90 * 60), ("10s", 10)] {
            assert_eq!(long(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(long_or_none("0s"), Ok(Duration::ZERO));
        for text in ["0h", "h", "-1h", "1.5h", "0s", "8", "99999999999999999999d"] {
            assert!(long(text).unwrap_err().contains("write it as"), "{text}");
        }
    }
}
