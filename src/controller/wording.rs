//! How the making of disks and images is told: upload addresses, speeds, durations.

use jiff::Timestamp;

use super::UploadBase;
use crate::host::Speed;
use crate::types::quantity::human_bytes;
use crate::types::{DownloadSpeed, ImageUploadUrls};

/// Where to upload to, and the command that does it.
pub fn upload(base: &UploadBase, token: &str) -> (ImageUploadUrls, String) {
    let local = format!("http://localhost/upload/{token}");
    let socket = quote(&base.socket.display().to_string());
    let command = format!("curl --unix-socket {socket} -T FILE {local}");
    let external = base.external.as_ref().map(|b| format!("{}/upload/{token}", b.trim_end_matches('/')));
    (ImageUploadUrls { external, in_cluster: Some(local) }, command)
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Transfer speed for status.
pub fn speed(speed: Speed) -> DownloadSpeed {
    let told = |bytes: u64| (Some(format!("{}/s", human_bytes(bytes))), Some(bytes.to_string()));
    let ((avg, avg_bytes), (current, current_bytes)) = (told(speed.average), told(speed.current));
    DownloadSpeed { avg, avg_bytes, current, current_bytes }
}

/// What stays of a transfer's speed when the transfer is over.
pub fn past_speed(before: Option<&DownloadSpeed>) -> Option<DownloadSpeed> {
    let before = before.filter(|speed| speed.avg.is_some())?;
    Some(DownloadSpeed { current: None, current_bytes: None, ..before.clone() })
}

/// Time between two moments as the API writes durations: `1.5s`, `2m3s`.
pub fn duration(from: Timestamp, to: Timestamp) -> String {
    let span = to.duration_since(from);
    let seconds = span.as_secs().max(0);
    let millis = span.subsec_millis().max(0);
    match (seconds / 3600, (seconds / 60) % 60, seconds % 60) {
        (0, 0, s) if millis > 0 => format!("{s}.{millis:03}").trim_end_matches('0').to_owned() + "s",
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_outlives_the_transfer() {
        let now = speed(Speed { current: 2 << 20, average: 1 << 20 });
        assert_eq!((now.current.as_deref(), now.avg_bytes.as_deref()), (Some("2Mi/s"), Some("1048576")));
        let past = past_speed(Some(&now)).unwrap();
        assert_eq!((past.avg.as_deref(), past.current, past.current_bytes), (Some("1Mi/s"), None, None));
        assert_eq!(past_speed(None), None);
    }

    #[test]
    fn upload_commands_are_safe_to_paste() {
        let base = UploadBase { socket: "/a b/it's".into(), external: Some("https://h:1/".into()) };
        let (urls, command) = upload(&base, "T");
        assert_eq!(command, r"curl --unix-socket '/a b/it'\''s' -T FILE http://localhost/upload/T");
        assert_eq!(urls.external.as_deref(), Some("https://h:1/upload/T"));
    }

    #[test]
    fn durations() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        for (ms, text) in [(0, "0s"), (1500, "1.5s"), (60_000, "1m0s"), (3_723_000, "1h2m3s"), (20, "0.02s")] {
            assert_eq!(duration(at(0), at(ms)), text);
        }
    }
}
