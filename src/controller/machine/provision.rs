//! First-boot configuration: from the spec or a Secret to what the guest gets. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::host::Seed;
use crate::types::rules::provisioning::{self, UNATTEND_KEYS, USER_DATA_KEYS};
pub use crate::types::rules::provisioning::{CLOUD_INIT_SECRET, SYSPREP_SECRET};

/// What the guest gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Provided {
    /// For the host.
    pub seed: Seed,
    /// What looks wrong.
    pub warning: Option<String>,
}

/// `provisioning.userData`.
pub fn inline(user_data: Option<&str>, hostname: &str) -> Result<Provided, String> {
    match user_data.filter(|d| !d.trim().is_empty()) {
        Some(text) => Ok(cloud_init(text.as_bytes().to_vec(), hostname)),
        None => Err("Provisioning is defined but empty: fill spec.provisioning.userData or remove \
                     spec.provisioning."
            .into()),
    }
}

/// A Secret named by `provisioning.userDataRef`.
pub fn user_data(name: &str, secret: Option<&Secret>, hostname: &str) -> Result<Provided, String> {
    let data = checked(name, secret, CLOUD_INIT_SECRET)?;
    let text = USER_DATA_KEYS.iter().find_map(|key| data.get(*key)).filter(|b| !b.0.is_empty());
    match text {
        Some(bytes) => Ok(cloud_init(bytes.0.clone(), hostname)),
        None => Err(format!("Secret {name} has no key userData: put the cloud-init data there, base64-encoded.")),
    }
}

/// A Secret named by `provisioning.sysprepRef`.
pub fn sysprep(name: &str, secret: Option<&Secret>) -> Result<Provided, String> {
    let data = checked(name, secret, SYSPREP_SECRET)?;
    let known = UNATTEND_KEYS.iter().any(|key| data.contains_key(*key));
    let warning = (!known).then(|| {
        format!("Secret {name} has neither unattend.xml nor autounattend.xml: Windows will not find an answer file.")
    });
    let files = data.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    Ok(Provided { seed: Seed::Sysprep(files), warning })
}

fn checked<'a>(
    name: &str,
    secret: Option<&'a Secret>,
    wanted: &str,
) -> Result<&'a BTreeMap<String, ByteString>, String> {
    static EMPTY: BTreeMap<String, ByteString> = BTreeMap::new();
    let secret = secret.ok_or_else(|| {
        format!("Secret {name} does not exist. Create it with type {wanted}, or change spec.provisioning.")
    })?;
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    if type_ != wanted {
        return Err(format!("Secret {name} has type {type_}, but {wanted} is needed. Create it anew with that type."));
    }
    Ok(secret.data.as_ref().unwrap_or(&EMPTY))
}

fn cloud_init(user_data: Vec<u8>, hostname: &str) -> Provided {
    let warnings = provisioning::warnings(&user_data);
    let warning = (!warnings.is_empty()).then(|| format!("In the user data: {}.", warnings.join("; ")));
    Provided { seed: Seed::CloudInit { user_data, hostname: hostname.to_owned() }, warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(type_: &str, pairs: &[(&str, &str)]) -> Secret {
        Secret {
            type_: Some(type_.into()),
            data: Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn secrets_of_the_right_type_with_the_right_key() {
        let good = secret(CLOUD_INIT_SECRET, &[("userData", "#cloud-config\n")]);
        let Seed::CloudInit { user_data, hostname } = user_data("s", Some(&good), "vm").unwrap().seed else {
            panic!("not cloud-init")
        };
        assert_eq!((user_data.as_slice(), hostname.as_str()), (b"#cloud-config\n".as_slice(), "vm"));
        for (secret, word) in [
            (None, "does not exist"),
            (Some(secret("Opaque", &[("userData", "x")])), "has type Opaque"),
            (Some(secret(CLOUD_INIT_SECRET, &[("other", "x")])), "no key userData"),
        ] {
            let error = super::user_data("s", secret.as_ref(), "vm").unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn sysprep_takes_all_files_and_warns_without_answers() {
        let s = secret(SYSPREP_SECRET, &[("unattend.xml", "a"), ("x.ps1", "b")]);
        let provided = sysprep("s", Some(&s)).unwrap();
        assert_eq!(provided.warning, None);
        assert!(matches!(provided.seed, Seed::Sysprep(files) if files.len() == 2));
        assert!(sysprep("s", Some(&secret(SYSPREP_SECRET, &[("x", "b")]))).unwrap().warning.is_some());
        assert!(sysprep("s", Some(&secret(CLOUD_INIT_SECRET, &[]))).is_err());
    }

    #[test]
    fn data_that_cloud_init_ignores_is_a_warning() {
        for (text, fine) in [("#cloud-config\nusers: []\n", true), ("#!/bin/sh\n", true), ("users: []\n", false)] {
            assert_eq!(inline(Some(text), "h").unwrap().warning.is_none(), fine, "{text:?}");
        }
        assert!(inline(Some(" \n"), "h").is_err());
    }
}
