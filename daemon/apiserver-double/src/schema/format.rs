//! Formats of strings and numbers that servers check (`k8s.io/kube-openapi/pkg/validation/strfmt`). Others are not
//! checked, as in the real server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `text` is of the format; formats that nobody knows are met by everything.
pub(super) fn is_met(format: &str, text: &str) -> bool {
    match format {
        "cidr" => is_cidr(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "mac" => is_mac(text),
        "date-time" | "datetime" => text.parse::<k8s_openapi::jiff::Timestamp>().is_ok(),
        "date" => text.parse::<k8s_openapi::jiff::civil::Date>().is_ok() && text.len() == 10,
        "duration" => is_duration(text),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.bytes().all(|digit| digit.is_ascii_digit())
        && length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    [6, 8, 20].contains(&parts.len())
        && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

/// As Go's `time.ParseDuration`: `1h30m`, `1.5s`, `0`.
fn is_duration(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let unit = rest[number..]
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len() - number);
        if rest[..number].parse::<f64>().is_err()
            || !["ns", "us", "µs", "ms", "s", "m", "h"].contains(&&rest[number..number + unit])
        {
            return false;
        }
        rest = &rest[number + unit..];
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_and_refuse() {
        let cases = [
            ("cidr", "10.0.0.0/8", true),
            ("cidr", "2001:db8::/32", true),
            ("cidr", "10.0.0.0/33", false),
            ("cidr", "10/8", false),
            ("ipv4", "::1", false),
            ("ipv6", "::1", true),
            ("mac", "02:00:00:00:00:01", true),
            ("mac", "02:00", false),
            ("date-time", "2026-11-21T23:00:00Z", true),
            ("date-time", "today", false),
            ("duration", "1h30m", true),
            ("duration", "1.5s", true),
            ("duration", "5", false),
            ("duration", "", false),
            ("nobody-knows", "x", true),
        ];
        for (format, text, expected) in cases {
            assert_eq!(is_met(format, text), expected, "{format} {text}");
        }
    }
}
