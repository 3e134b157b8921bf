//! Watches and streams end with the token that they were asked for with.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use http_body_util::BodyExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::tokens::Tokens;

/// Pause between looks at a token.
const LOOK: Duration = Duration::from_secs(1);

/// A request that lasts, for as long as this is kept.
pub struct Held(DropGuard);

/// For a request that lasts. `token` is what it was asked with, if it was: it is looked at every second.
pub fn hold(token: Option<(Arc<Tokens>, String)>, shutdown: &CancellationToken) -> Held {
    let life = shutdown.child_token();
    if let Some((tokens, id)) = token {
        let life = life.clone();
        tokio::spawn(async move {
            while tokio::time::timeout(LOOK, life.cancelled()).await.is_err() {
                if !tokens.holds(&id, jiff::Timestamp::now()) {
                    life.cancel();
                }
            }
        });
    }
    Held(life.drop_guard())
}

impl Held {
    /// Cancelled when it has to end.
    pub fn life(&self) -> CancellationToken {
        self.0.token().clone()
    }

    /// Keeps it until the answer's body is gone.
    pub fn with(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _kept = &self;
                frame
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::identity::Role;

    #[tokio::test]
    async fn it_ends_with_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Arc::new(Tokens::at(&dir.path().join("tokens.json")));
        let (_, made) = tokens.create("anna", Role::View, Duration::from_secs(3600), jiff::Timestamp::now()).unwrap();
        let held = hold(Some((Arc::clone(&tokens), made.id.clone())), &CancellationToken::new());
        let life = held.life();
        assert!(tokio::time::timeout(2 * LOOK, life.cancelled()).await.is_err());
        tokens.revoke(&made.id).unwrap();
        tokio::time::timeout(Duration::from_secs(30), life.cancelled()).await.unwrap();
    }
}
