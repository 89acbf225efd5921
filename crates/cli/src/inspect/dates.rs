//! When something was.

use std::time::{Duration, SystemTime};

fn moment(since: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))
}

/// As `2026-11-22T10:20:30Z`; what no calendar knows is left as it is.
pub(super) fn date(since: u64) -> String {
    // The calendar of `humantime` ends with the year 9999, and then it panics.
    const END: u64 = 253_402_300_800;
    match moment(since) {
        Some(moment) if since < END => humantime::format_rfc3339_seconds(moment).to_string(),
        _ => since.to_string(),
    }
}

/// The date, and how long ago that is by our own clock, if that makes sense.
pub(super) fn since(since: u64, now: SystemTime) -> String {
    let ago = moment(since).and_then(|moment| now.duration_since(moment).ok());
    let ago = ago.map(|ago| Duration::from_secs(ago.as_secs()));
    let ago = ago.map_or_else(String::new, |ago| format!(" ({})", humantime::format_duration(ago)));
    format!("{}{ago}", date(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_any_date_is_shown() {
        let now = moment(1_800_000_090).unwrap();
        assert_eq!(since(1_800_000_000, now), "2027-01-15T08:00:00Z (1m 30s)");
        assert_eq!(since(1_800_000_100, now), "2027-01-15T08:01:40Z");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
        assert_eq!(date(253_402_300_800), "253402300800");
    }
}
