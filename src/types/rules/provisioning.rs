//! cloud-init user data: its size limit, and what about it cloud-init will probably not understand.

use serde_json::Value;

/// Most characters of user data inside a machine's spec.
pub const MAX_USER_DATA: usize = 2048;

/// Type of Secrets with user data.
pub const CLOUD_INIT_SECRET: &str = "provisioning.virtualization.deckhouse.io/cloud-init";
/// Type of Secrets with Windows answer files.
pub const SYSPREP_SECRET: &str = "provisioning.virtualization.deckhouse.io/sysprep";
/// Keys of user data in such a Secret.
pub const USER_DATA_KEYS: [&str; 2] = ["userData", "userdata"];
/// Keys of answer files in such a Secret.
pub const UNATTEND_KEYS: [&str; 2] = ["unattend.xml", "autounattend.xml"];

/// First lines that cloud-init knows.
const HEADERS: [&str; 12] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#!",
    "#include",
    "#include-once",
    "#cloud-boothook",
    "#part-handler",
    "#upstart-job",
    "## template: jinja",
    "MIME-Version:",
    "Content-Type:",
];

/// What about user data is probably not meant. Empty for data that is compressed or not text: such data passes unseen.
pub fn warnings(user_data: &[u8]) -> Vec<String> {
    match std::str::from_utf8(user_data) {
        Ok(text) => text_warnings(text),
        Err(_) => Vec::new(),
    }
}

fn text_warnings(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return vec!["the user data is empty: the guest will not be set up".to_owned()];
    }
    let first = text.lines().next().unwrap_or_default().trim_end();
    if !HEADERS.iter().any(|header| first.starts_with(header)) {
        return vec![format!(
            "the user data begins with {:?}, which cloud-init does not know: begin with #cloud-config or #!",
            first.chars().take(40).collect::<String>()
        )];
    }
    if first != "#cloud-config" {
        return Vec::new();
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(config)) => {
            let mut out = Vec::new();
            if config.contains_key("run_cmd") {
                out.push("the user data has run_cmd, which cloud-init ignores: it is called runcmd".to_owned());
            }
            out
        }
        Ok(_) => vec!["the user data is not a YAML mapping: cloud-init will ignore it".to_owned()],
        Err(error) => {
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default();
            vec![format!("the user data is not valid YAML, cloud-init will ignore it: {line}")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_init_would_stumble_over() {
        for (data, part) in [
            ("#cloud-config\nusers: []\n", None),
            ("#cloud-config\r\nusers: []\n", None),
            ("#!/bin/sh\necho", None),
            ("## template: jinja\n#cloud-config\n{{ x }}", None),
            ("MIME-Version: 1.0\n", None),
            ("", Some("empty")),
            ("\n \n", Some("empty")),
            ("users: []\n", Some("does not know")),
            ("#cloud-config\n- a\n", Some("not a YAML mapping")),
            ("#cloud-config\na: [\n", Some("not valid YAML")),
            ("#cloud-config\nrun_cmd: [ls]\n", Some("runcmd")),
        ] {
            let found = warnings(data.as_bytes());
            match part {
                None => assert_eq!(found, Vec::<String>::new(), "{data:?}"),
                Some(part) => assert!(found.len() == 1 && found[0].contains(part), "{data:?}: {found:?}"),
            }
        }
        assert!(warnings(&[0x1f, 0x8b, 0xff]).is_empty());
    }
}
