//! Times as the API writes them: RFC 3339 in UTC, whole seconds.

/// `2026-11-21T23:00:00Z` of seconds since 1970; the epoch for what is before it.
pub(crate) fn rfc3339(seconds: i64) -> String {
    use k8s_openapi::jiff::Timestamp;
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Seconds since 1970 of an RFC 3339 time.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    text.parse::<k8s_openapi::jiff::Timestamp>().ok().map(|time| time.as_second())
}

/// How long something took, as kubectl tells it: `45s`, `3m20s`, `5h10m`, `2d3h`, `400d`
/// (`k8s.io/apimachinery/pkg/util/duration`, `HumanDuration`).
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |big: i64, unit: char, small: i64, other: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{other}") }
    };
    match seconds {
        ..=-2 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_the_api_does() {
        assert_eq!(rfc3339(1_795_302_000), "2026-11-21T23:00:00Z");
        assert_eq!(seconds("2026-11-21T23:00:00Z"), Some(1_795_302_000));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn durations_are_short_and_have_two_units_at_most() {
        let told: Vec<String> =
            [0, 119, 120, 200, 600, 10_799, 18_600, 7200 * 7, 86_400 * 2 + 3600, 86_400 * 400]
                .map(human_duration)
                .into();
        assert_eq!(told, ["0s", "119s", "2m", "3m20s", "10m", "179m", "5h10m", "14h", "2d1h", "400d"]);
    }
}
