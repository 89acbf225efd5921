//! Spans of time as people write them.

use std::time::Duration;

/// `15s`, `1m30s`, `500ms`; a bare number is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 15s, 1m30s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit_or_seconds() {
        assert_eq!(parse("15"), Ok(Duration::from_secs(15)));
        assert_eq!(parse("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "s", "-1s", "15 parsecs"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
