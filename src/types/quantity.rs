//! Kubernetes quantities: `1Gi`, `512M`, `1.5Gi`, `1e9`, `500m`.

/// What a quantity looks like (upstream's pattern).
pub const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Keeps fractions of small quantities exact while they are divided.
const NANO: u128 = 1_000_000_000;

const BINARY: [(&str, u32); 6] = [("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];
const DECIMAL: [(&str, u32); 6] = [("k", 1), ("M", 2), ("G", 3), ("T", 4), ("P", 5), ("E", 6)];

/// A quantity's value in whole units (bytes, for sizes), rounded up; `None` if it is not a quantity, negative, or
/// above `u64::MAX`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (mantissa, scale) = split(text)?;
    let value = match scale {
        Scale::Times(factor) => times(mantissa, factor)?,
        Scale::Per(divisor) => times(mantissa, NANO)?.div_ceil(divisor).div_ceil(NANO),
        Scale::Exponent(exp) => {
            let f: f64 = mantissa.parse().ok()?;
            let v = (f * 10f64.powf(exp)).ceil();
            if !(0.0..=u64::MAX as f64).contains(&v) {
                return None;
            }
            v as u128
        }
    };
    u64::try_from(value).ok()
}

#[derive(Clone, Copy)]
enum Scale {
    Times(u128),
    Per(u128),
    Exponent(f64),
}

fn split(text: &str) -> Option<(&str, Scale)> {
    let text = text.strip_prefix('+').unwrap_or(text);
    for (suffix, power) in BINARY {
        if let Some(m) = text.strip_suffix(suffix) {
            return Some((m, Scale::Times(1024u128.pow(power))));
        }
    }
    for (suffix, power) in DECIMAL {
        if let Some(m) = text.strip_suffix(suffix)
            && m.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        {
            return Some((m, Scale::Times(1000u128.pow(power))));
        }
    }
    for (suffix, divisor) in [("m", 1_000u128), ("u", 1_000_000), ("n", 1_000_000_000)] {
        if let Some(m) = text.strip_suffix(suffix) {
            return Some((m, Scale::Per(divisor)));
        }
    }
    if let Some((m, e)) = text.split_once(['e', 'E']) {
        return Some((m, Scale::Exponent(e.parse().ok()?)));
    }
    Some((text, Scale::Times(1)))
}

/// `mantissa` (digits with at most one point) times `factor`, rounded up.
fn times(mantissa: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().ok()?;
        value = value.checked_add(digits.checked_mul(factor)?.div_ceil(10u128.pow(fraction.len() as u32)))?;
    }
    Some(value)
}

/// Bytes as the shortest exact binary quantity: `1Gi`, `1536Mi`, `1000`.
pub fn format_bytes(bytes: u64) -> String {
    for (suffix, power) in BINARY.iter().rev() {
        let unit = 1024u64.pow(*power);
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// Bytes for people, one digit after the point: `95.9Mi`, `1Gi`.
pub fn human_bytes(bytes: u64) -> String {
    for (suffix, power) in BINARY.iter().rev() {
        let unit = 1024u64.pow(*power) as f64;
        let value = bytes as f64 / unit;
        if value >= 1.0 {
            let rounded = (value * 10.0).round() / 10.0;
            return if rounded.fract() == 0.0 {
                format!("{rounded:.0}{suffix}")
            } else {
                format!("{rounded:.1}{suffix}")
            };
        }
    }
    bytes.to_string()
}

/// `10%` to 10; 1 to 100 only.
pub fn parse_percent(text: &str) -> Option<u8> {
    let n: u8 = text.strip_suffix('%')?.parse().ok()?;
    (1..=100).contains(&n).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, bytes) in [
            ("1Gi", Some(1 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("0.5Mi", Some(512 << 10)),
            (".5Ki", Some(512)),
            ("512M", Some(512_000_000)),
            ("100", Some(100)),
            ("1e9", Some(1_000_000_000)),
            ("1E3", Some(1000)),
            ("2E", Some(2_000_000_000_000_000_000)),
            ("1500m", Some(2)),
            ("1m", Some(1)),
            ("0", Some(0)),
            ("1n", Some(1)),
            ("-1Gi", None),
            ("Gi", None),
            ("", None),
            ("1 Gi", None),
            ("abc", None),
            ("99999999999Ei", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn formats() {
        assert_eq!(format_bytes(1 << 30), "1Gi");
        assert_eq!(format_bytes(1536 << 20), "1536Mi");
        assert_eq!(format_bytes(1000), "1000");
        assert_eq!(human_bytes(100_558_438), "95.9Mi");
        assert_eq!(human_bytes(1 << 30), "1Gi");
        assert_eq!(parse_percent("10%"), Some(10));
        assert_eq!(parse_percent("0%"), None);
        assert_eq!(parse_percent("101%"), None);
        assert_eq!(parse_percent("Auto"), None);
    }
}
