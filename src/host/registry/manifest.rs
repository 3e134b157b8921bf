//! What a registry tells of an image: manifests, and indexes of manifests for several architectures.

use serde::Deserialize;

/// Media types that are asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// Longest manifest.
pub(super) const MAX_LENGTH: u64 = 4 << 20;

/// An index may point to an index, but not for ever.
pub(super) const MAX_DEPTH: usize = 4;

/// Most layers of an image.
const MAX_LAYERS: usize = 256;

/// Points to content by its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// `ALGORITHM:HEX`.
    pub(super) digest: String,
    /// Bytes.
    pub(super) size: u64,
    /// For whom, in an index.
    #[serde(default)]
    platform: Option<Platform>,
}

impl Descriptor {
    /// Algorithm and hexadecimal digits: what is put into paths and addresses has no meaning there.
    pub(super) fn parts(&self) -> Result<(&str, &str), String> {
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        self.digest
            .split_once(':')
            .filter(|(algorithm, hex)| plain(algorithm) && plain(hex))
            .ok_or_else(|| format!("{:?} in the image's manifest is no digest", self.digest))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// A parsed document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// One image: its layers, the lowest first.
    Image(Vec<Descriptor>),
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default, rename = "schemaVersion")]
    version: u64,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// Reads a document.
pub(super) fn parse(text: &[u8]) -> Result<Document, String> {
    let fields: Fields =
        serde_json::from_slice(text).map_err(|error| format!("the image's manifest cannot be read: {error}"))?;
    match fields {
        Fields { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
        Fields { layers: Some(layers), .. } if layers.len() > MAX_LAYERS => {
            Err(format!("the image has {} layers; at most {MAX_LAYERS} are looked through", layers.len()))
        }
        Fields { layers: Some(layers), .. } => Ok(Document::Image(layers)),
        Fields { version: 1, .. } => {
            Err("the image's manifest is of schema version 1, which is not supported: push the image again".into())
        }
        _ => Err("the image's manifest has neither layers nor manifests".into()),
    }
}

/// The entry of an index for this computer's architecture (as Go calls it).
pub(super) fn choose<'a>(index: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, String> {
    let exact = |d: &&Descriptor| {
        d.platform.as_ref().is_some_and(|p| p.architecture == architecture && (p.os == "linux" || p.os.is_empty()))
    };
    // An index of one image often does not say for whom it is.
    let whoever: Vec<&Descriptor> = index.iter().filter(|d| d.platform.is_none()).collect();
    if let Some(found) = index.iter().find(exact).or(if let [one] = whoever.as_slice() { Some(*one) } else { None }) {
        return Ok(found);
    }
    let has: Vec<String> = index
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .filter(|p| p.architecture != "unknown")
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    let has = if has.is_empty() { "nothing that tells its platform".to_owned() } else { has.join(", ") };
    Err(format!("the image is not there for linux/{architecture}; there is {has}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digest: &str, platform: Option<(&str, &str)>) -> Descriptor {
        let platform = platform.map(|(os, architecture)| Platform { os: os.into(), architecture: architecture.into() });
        Descriptor { digest: digest.into(), size: 1, platform }
    }

    #[test]
    fn the_images_own_architecture_is_chosen() {
        let index = [
            entry("arm", Some(("linux", "arm64"))),
            entry("win", Some(("windows", "amd64"))),
            entry("attestation", Some(("unknown", "unknown"))),
            entry("ours", Some(("linux", "amd64"))),
        ];
        assert_eq!(choose(&index, "amd64").unwrap().digest, "ours");
        assert_eq!(choose(&index, "arm64").unwrap().digest, "arm");
        let error = choose(&index, "riscv64").unwrap_err();
        assert!(error.contains("linux/arm64, windows/amd64, linux/amd64") && !error.contains("unknown"), "{error}");
        assert_eq!(choose(&[entry("one", None)], "amd64").unwrap().digest, "one");
        assert!(choose(&[entry("one", None), entry("two", None)], "amd64").is_err());
        assert!(choose(&[], "amd64").is_err());
    }

    #[test]
    fn documents_are_told_apart() {
        let layer = r#"{"mediaType":"x","digest":"sha256:aa","size":3}"#;
        let image = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layer}]}}"#);
        assert!(matches!(parse(image.as_bytes()).unwrap(), Document::Image(layers) if layers[0].size == 3));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{layer}]}}"#);
        assert!(matches!(parse(index.as_bytes()).unwrap(), Document::Index(_)));
        let many = vec![layer; 300].join(",");
        for (text, words) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema version 1"),
            ("{}".to_owned(), "neither"),
            ("<html>".to_owned(), "cannot be read"),
            (r#"{"layers":[{"digest":"x","size":-1}]}"#.to_owned(), "cannot be read"),
            (format!(r#"{{"layers":[{many}]}}"#), "300 layers"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
