//! Finds out who asks, from the connection, the token and the wish to be somebody else.

use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;

use super::identity::{Identity, Peer};
use super::status::Failure;
use super::tokens::Tokens;

/// Who asks, as far as it is known.
#[derive(Debug, Default)]
pub struct Caller {
    /// Who has shown who they are.
    pub user: Option<Identity>,
    /// Whom they ask to be taken for, and may.
    pub acting: Option<Identity>,
    /// The id of the token that they have shown.
    pub token: Option<String>,
    /// Why nothing is done for them.
    pub refused: Option<Failure>,
}

impl Caller {
    /// Of a request. Without a word from a listener it comes from this process. Whoever shows a token is who the token
    /// says, or nobody: not who the connection says.
    pub fn of(parts: &Parts, tokens: Option<&Tokens>, now: Timestamp) -> Self {
        let mut caller = Self::default();
        if parts.headers.contains_key(header::AUTHORIZATION) {
            match bearer(parts).and_then(|token| tokens?.find(token, now)) {
                Some((user, id)) => (caller.user, caller.token) = (Some(user), Some(id)),
                None => {
                    caller.refused = Some(Failure::unauthorized());
                    return caller;
                }
            }
        } else {
            caller.user = match parts.extensions.get::<Peer>() {
                Some(peer) => peer.identity.clone(),
                None => Some(Identity::owner()),
            };
        }
        match caller.user.as_ref().map(|user| user.impersonated(&parts.headers)) {
            Some(Ok(acting)) => caller.acting = acting,
            Some(Err(failure)) => caller.refused = Some(failure),
            None => {}
        }
        caller
    }

    /// In whose name the request is done.
    pub fn who(&self) -> Option<&Identity> {
        self.acting.as_ref().or(self.user.as_ref())
    }
}

/// The one bearer token of a request.
fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::Request;

    use super::*;
    use crate::apiserver::identity::Role;

    #[test]
    fn who_asks() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(&dir.path().join("tokens.json"));
        let now = Timestamp::now();
        let day = Duration::from_secs(86_400);
        let (anna, _) = tokens.create("anna", Role::View, day, now).unwrap();
        let (bob, _) = tokens.create("bob", Role::Admin, day, now).unwrap();
        let (anna, bob) = (format!("Bearer {anna}"), format!("bearer {bob}"));
        let told = |identity: Option<Identity>, authorization: &[&str], as_user: Option<&str>| {
            let mut request = Request::get("/").extension(Peer { identity, source: String::new() });
            for value in authorization {
                request = request.header(header::AUTHORIZATION, *value);
            }
            request = as_user.into_iter().fold(request, |request, user| request.header("impersonate-user", user));
            let caller = Caller::of(&request.body(()).unwrap().into_parts().0, Some(&tokens), now);
            match &caller.refused {
                Some(failure) => Err(failure.code().as_u16()),
                None => Ok(caller.who().map(|who| who.user.clone())),
            }
        };
        let owner = Some(Identity::owner());
        let known = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(told(None, &[], None), Ok(None));
        assert_eq!(told(owner.clone(), &[], None), known("system:admin"));
        assert_eq!(told(owner.clone(), &[&anna], None), known("anna"), "not who the connection says");
        assert_eq!(told(None, &[&bob], None), known("bob"));
        assert_eq!(told(None, &[&bob], Some("carl")), known("carl"));
        assert_eq!(told(None, &[&anna], Some("carl")), Err(403));
        assert_eq!(told(None, &[], Some("carl")), Ok(None));
        let (basic, half) = (anna.replace("Bearer", "Basic"), &anna[..anna.len() - 3]);
        for wrong in [&["Bearer x.y"][..], &["Bearer"], &[""], &[&basic], &[half], &[&anna, &bob]] {
            assert_eq!(told(owner.clone(), wrong, None), Err(401), "{wrong:?}");
        }
        let caller = Caller::of(
            &Request::get("/").header(header::AUTHORIZATION, &anna).body(()).unwrap().into_parts().0,
            None,
            now,
        );
        assert!(caller.refused.is_some(), "a server without tokens knows none");
    }
}
