//! Spans of time as people write them: `150ms`, `10s`, `2m`. One reader for command lines, configuration
//! files and scenarios.

use core::fmt;
use core::time::Duration;

/// The longest span that is read: longer than any timeout, and short enough for every clock.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The units and their lengths in nanoseconds, the longest first.
const UNITS: [(&str, u64); 5] =
    [("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Why a text is not a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanError {
    /// It is a number without a unit.
    NoUnit,
    /// It is not a whole number with a unit.
    Malformed,
    /// It is zero.
    Zero,
    /// It is longer than [`LONGEST`].
    TooLong,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUnit => "a time needs a unit: write it as 500ms, 10s or 2m",
            Self::Malformed => "a time is a whole number with a unit: write it as 500ms, 10s or 2m",
            Self::Zero => "a time must be longer than zero: write it as 500ms, 10s or 2m",
            Self::TooLong => "a time must not exceed one day: write 1440m or less",
        })
    }
}

impl core::error::Error for SpanError {}

/// Reads a whole number with one of the units `ns`, `us`, `ms`, `s` and `m`.
///
/// # Errors
///
/// Returns what is wrong where the text is not a span longer than zero and at most [`LONGEST`].
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use kontiki_core::time::span::{self, SpanError};
///
/// assert_eq!(span::parse("150ms"), Ok(Duration::from_millis(150)));
/// assert_eq!(span::parse("150"), Err(SpanError::NoUnit));
/// ```
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SpanError::Malformed);
    }
    if unit.is_empty() {
        return Err(SpanError::NoUnit);
    }
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(SpanError::Malformed)?;
    // A number that does not fit, or a product that does not, is far beyond a day.
    let nanos = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*length));
    match nanos.map(Duration::from_nanos) {
        Some(Duration::ZERO) => Err(SpanError::Zero),
        Some(span) if span <= LONGEST => Ok(span),
        Some(_) | None => Err(SpanError::TooLong),
    }
}

/// The same span as text, in the longest unit that loses nothing; none where [`parse`] would not read it.
#[cfg(feature = "serde")]
fn write(span: Duration) -> Option<alloc::string::String> {
    let nanos = u64::try_from(span.as_nanos()).ok().filter(|_| !span.is_zero() && span <= LONGEST)?;
    let (name, length) = UNITS.iter().find(|(_, length)| nanos.is_multiple_of(*length))?;
    Some(alloc::format!("{}{name}", nanos / length))
}

/// Writes a span as text where the format is for people, for `#[serde(with = "span")]`. Other formats keep
/// what serde has for [`Duration`].
///
/// # Errors
///
/// Returns the serializer's errors.
#[cfg(feature = "serde")]
pub fn serialize<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match write(*span).filter(|_| serializer.is_human_readable()) {
        Some(text) => serializer.serialize_str(&text),
        None => serde::Serialize::serialize(span, serializer),
    }
}

/// Reads what [`serialize`] wrote; where the format is for people, also the `secs` and `nanos` that serde has
/// for [`Duration`].
///
/// # Errors
///
/// Returns what is wrong with the text, or that a time was expected.
#[cfg(feature = "serde")]
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};

    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time as text, such as \"500ms\", \"10s\" or \"2m\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(|error| E::custom(format_args!("{text:?}: {error}")))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Duration, A::Error> {
            serde::Deserialize::deserialize(MapAccessDeserializer::new(map))
        }
    }

    if deserializer.is_human_readable() {
        deserializer.deserialize_any(Text)
    } else {
        serde::Deserialize::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, span) in [
            ("500ms", Duration::from_millis(500)),
            ("10s", Duration::from_secs(10)),
            ("2m", Duration::from_secs(120)),
            ("1440m", LONGEST),
            ("7us", Duration::from_micros(7)),
            ("1ns", Duration::from_nanos(1)),
        ] {
            assert_eq!(parse(text), Ok(span), "{text}");
        }
        for (text, error) in [
            ("", SpanError::Malformed),
            ("s", SpanError::Malformed),
            ("-1s", SpanError::Malformed),
            ("1h", SpanError::Malformed),
            ("1.5s", SpanError::Malformed),
            ("1 s", SpanError::Malformed),
            ("500", SpanError::NoUnit),
            ("0", SpanError::NoUnit),
            ("0ms", SpanError::Zero),
            ("1441m", SpanError::TooLong),
            ("99999999999999999999s", SpanError::TooLong),
            ("18446744073709551615m", SpanError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn what_is_written_is_read_as_the_same() {
        for nanos in
            [1, 999, 1_000, 1_500_000, 150_000_000, 1_000_000_000, 61_000_000_000, 86_400_000_000_000]
        {
            let span = Duration::from_nanos(nanos);
            assert_eq!(write(span).as_deref().map(parse), Some(Ok(span)), "{nanos}");
        }
        assert_eq!(write(Duration::from_millis(1_500)).as_deref(), Some("1500ms"));
        assert_eq!((write(Duration::ZERO), write(Duration::MAX)), (None, None));
    }
}
