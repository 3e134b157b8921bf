//! Names of images in registries: `[registry/]path[:tag][@digest]`.

/// The registry of names without one.
const HUB: &str = "docker.io";

/// Where that is reached.
fn hub_host() -> String {
    format!("registry-1.{HUB}")
}

/// A parsed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The registry as written: host and perhaps port.
    pub(super) registry: String,
    /// Path in the registry.
    pub(super) repository: String,
    /// Tag or digest to ask for.
    pub(super) version: String,
    /// `ALGORITHM:HEX` that the manifest must have.
    pub(super) digest: Option<String>,
}

impl Reference {
    /// Reads a name as Docker does: the first part is a registry if it looks like a host.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no name of a container image; write registry/path:tag or path@sha256:…");
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let is_host = |part: &str| part == "localhost" || part.contains(['.', ':']);
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path.to_owned()),
            _ if name.contains('/') => (HUB, name.to_owned()),
            _ => (HUB, format!("library/{name}")),
        };
        // What is put into addresses must not have a meaning there.
        let plain = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c))
        };
        let hex = digest.map(|digest| digest.split_once(':').ok_or_else(wrong)).transpose()?;
        let fine = plain(registry, ":")
            && plain(&path, "/")
            && !path.split('/').any(|part| part.is_empty() || part.chars().all(|c| c == '.'))
            && tag.is_none_or(|tag| plain(tag, ""))
            && hex.is_none_or(|(algorithm, hex)| plain(algorithm, "") && hex.chars().all(|c| c.is_ascii_hexdigit()));
        if !fine {
            return Err(wrong());
        }
        let digest = digest.map(str::to_ascii_lowercase);
        let version = digest.clone().unwrap_or_else(|| tag.unwrap_or("latest").to_owned());
        Ok(Self { registry: registry.to_owned(), repository: path, version, digest })
    }

    /// Host and perhaps port of the registry's API.
    pub(super) fn host(&self) -> String {
        if self.registry == HUB { hub_host() } else { self.registry.clone() }
    }

    /// The registry is this computer: it may be reached without TLS.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether credentials for `key` (of a `.dockerconfigjson`) are for this image; longer keys are nearer.
    pub(super) fn belongs_to(&self, key: &str) -> bool {
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let key = key.trim_end_matches('/');
        let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        let same_host = host.eq_ignore_ascii_case(&self.registry)
            || self.registry == HUB && [hub_host(), format!("index.{HUB}")].contains(&host.to_ascii_lowercase());
        let below = path.is_empty()
            || self.repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same_host && below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let at_digest = format!("r.example/d@{digest}");
        let both = format!("r.example:5000/a/b:v1@{digest}");
        let hub = hub_host();
        for (text, registry, host, repository, version) in [
            ("ubuntu", "docker.io", hub.as_str(), "library/ubuntu", "latest"),
            ("team/disk:1.2", "docker.io", hub.as_str(), "team/disk", "1.2"),
            ("docker.io/team/disk", "docker.io", hub.as_str(), "team/disk", "latest"),
            ("localhost/disk", "localhost", "localhost", "disk", "latest"),
            ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000", "127.0.0.1:5000", "a/b", "x"),
            (&at_digest, "r.example", "r.example", "d", &digest),
            (&both, "r.example:5000", "r.example:5000", "a/b", &digest),
        ] {
            let found = Reference::parse(text).unwrap();
            assert_eq!(
                (found.registry.as_str(), found.host().as_str(), found.repository.as_str(), found.version.as_str()),
                (registry, host, repository, version),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_a_meaning_in_addresses_is_refused() {
        for text in [
            "",
            "a b",
            "r.example/../x",
            "r.example//x",
            "r.example/x:a?b",
            "x@sha256",
            "x@sha256:zz",
            "u:p@h/x",
            "r.example/",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_computer_is_reached_without_tls() {
        for (text, loopback) in
            [("localhost:5000/x", true), ("127.0.0.9/x", true), ("r.example/x", false), ("10.0.0.1:80/x", false)]
        {
            assert_eq!(Reference::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn credentials_are_found_by_host_and_path() {
        let image = Reference::parse("r.example:5000/team/disk").unwrap();
        for (key, yes) in [
            ("r.example:5000", true),
            ("https://r.example:5000/v2/", true),
            ("R.example:5000/team", true),
            ("r.example:5000/team/disk", true),
            ("r.example:5000/tea", false),
            ("r.example", false),
            ("r.example:5000.evil.example", false),
        ] {
            assert_eq!(image.belongs_to(key), yes, "{key}");
        }
        assert!(Reference::parse("team/disk").unwrap().belongs_to("https://index.docker.io/v1/"));
    }
}
