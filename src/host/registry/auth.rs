//! Who asks a registry: credentials from a `.dockerconfigjson`, and the tokens that registries give for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::reference::Reference;

/// Credentials of one registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// User and password.
    Password(String, String),
    /// A token for which access is given.
    Identity(String),
}

/// Not to be printed by accident.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    /// `Authorization: Basic`, where there is a password.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password(user, password) = self else { return None };
        sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }
}

/// A header's value that is not logged.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Auth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for an image; `None` if there are none for its registry.
pub(super) fn login(config: &[u8], image: &Reference) -> Result<Option<Login>, String> {
    // The text is a secret: where it is wrong is not told.
    let config: DockerConfig =
        serde_json::from_slice(config).map_err(|_| "the pull secret is no valid .dockerconfigjson".to_owned())?;
    let nearest = config.auths.into_iter().filter(|(key, _)| image.belongs_to(key)).max_by_key(|(key, _)| key.len());
    let Some((key, auth)) = nearest else { return Ok(None) };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = filled(auth.identitytoken) {
        return Ok(Some(Login::Identity(token)));
    }
    if let (Some(user), Some(password)) = (filled(auth.username), auth.password) {
        return Ok(Some(Login::Password(user, password)));
    }
    let pair = filled(auth.auth).and_then(|text| String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => Ok(Some(Login::Password(user.to_owned(), password.to_owned()))),
        None => Err(format!("the pull secret's entry for {key:?} has neither auth nor username and password")),
    }
}

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// Where tokens are.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// What the headers of a 401 ask for; tokens are preferred.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let words = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let found: Vec<Challenge> = words.filter_map(one_challenge).collect();
    found.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. })).or(found.first()).cloned()
}

fn one_challenge(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (key, value) in parameters(rest) {
        match key.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// `key="value",key=value`: commas may be inside of the quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim().trim_start_matches(',').trim().to_owned();
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((key, value.trim().to_owned()));
        rest = next;
    }
    found
}

/// What a token server answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// `Authorization` from a token server's answer.
pub(super) fn bearer(answer: &[u8]) -> Option<HeaderValue> {
    let answer: Token = serde_json::from_slice(answer).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    sensitive(&format!("Bearer {token}"))
}

/// Whether credentials may be sent to a token server: not in the clear, unless the registry itself is on this computer.
pub(super) fn may_send(realm: &reqwest::Url, registry_is_loopback: bool) -> bool {
    realm.scheme() == "https" || realm.scheme() == "http" && registry_is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Reference {
        Reference::parse("r.example/team/disk").unwrap()
    }

    #[test]
    fn secrets_are_read_in_every_form() {
        let password = Some(Login::Password("anna".into(), "p:w".into()));
        for (config, expected) in [
            (r#"{"auths":{"r.example":{"auth":"YW5uYTpwOnc="}}}"#, password.clone()),
            (r#"{"auths":{"https://r.example/v2/":{"username":"anna","password":"p:w"}}}"#, password.clone()),
            (r#"{"auths":{"r.example":{"auth":"","identitytoken":"t"}}}"#, Some(Login::Identity("t".into()))),
            (r#"{"auths":{"r.example":{"auth":"eDp5"},"r.example/team":{"auth":"YW5uYTpwOnc="}}}"#, password),
            (r#"{"auths":{"other.example":{"auth":"YW5uYTpwOnc="}}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(login(config.as_bytes(), &image()), Ok(expected), "{config}");
        }
        for (config, words) in [
            ("not json, hunter2", ".dockerconfigjson"),
            (r#"{"auths":{"r.example":{}}}"#, "neither"),
            (r#"{"auths":{"r.example":{"auth":"hunter2"}}}"#, "neither"),
        ] {
            let error = login(config.as_bytes(), &image()).unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", Login::Password("u".into(), "hunter2".into()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn challenges_are_understood() {
        let told = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            challenge(&headers)
        };
        let full = r#"Bearer realm="https://a.example/token?x=1",service="r.example",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://a.example/token?x=1".into(),
            service: Some("r.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(told(&[full]), Some(expected.clone()));
        assert_eq!(told(&["Basic realm=\"x\"", full]), Some(expected), "tokens are preferred");
        assert_eq!(told(&["basic realm=x"]), Some(Challenge::Basic));
        for nothing in [&[][..], &["Negotiate"], &["Bearer service=\"no realm\""], &["Bearer realm"]] {
            assert_eq!(told(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn passwords_travel_only_where_they_are_safe() {
        let may = |realm: &str, loopback| may_send(&realm.parse().unwrap(), loopback);
        assert!(may("https://a.example/t", false) && may("http://127.0.0.1:1/t", true));
        assert!(!may("http://a.example/t", false) && !may("ftp://a.example/t", true));
        assert!(bearer(b"{\"access_token\":\"x\"}").is_some_and(|value| value == "Bearer x" && value.is_sensitive()));
        assert!(bearer(b"{\"token\":\"\"}").is_none() && bearer(b"<html>").is_none());
    }
}
