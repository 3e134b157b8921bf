//! Bearer tokens: random words that stand for a user. Only their hashes are kept, in one file (0600) that the daemon
//! reads again whenever it has changed: so tokens are made and revoked with and without a running daemon, and at once.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::identity::{Identity, Role};
use super::tls::write_private;

/// Longest name of a user.
const MAX_NAME: usize = 253;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// By which it is revoked; also the part of the token before the point.
    pub id: String,
    /// For whom it stands.
    pub user: String,
    /// With which rights.
    pub role: Role,
    /// Of the whole token, in hexadecimal digits.
    sha256: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// What goes wrong with tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be used.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be made like that.
    #[error("{0}")]
    Refused(String),
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    tokens: Vec<Token>,
}

/// The tokens of one file.
pub struct Tokens {
    path: PathBuf,
    known: Mutex<(Option<Stamp>, Vec<Token>)>,
}

/// Tells a file's content from an earlier one: device, inode, size, time.
type Stamp = (u64, u64, u64, i64, i64);

impl Tokens {
    /// Those in this file, which need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), known: Mutex::default() }
    }

    /// For whom a token stands now, and its id.
    pub fn find(&self, token: &str, now: Timestamp) -> Option<(Identity, String)> {
        let hash = hash(token);
        let (id, _) = token.split_once('.')?;
        let tokens = self.present();
        let found = tokens.iter().find(|t| t.id == id && same(&t.sha256, &hash) && now < t.expires)?;
        Some((Identity::new(&found.user, vec![found.role.group().to_owned()]), found.id.clone()))
    }

    /// Whether the token with this id is still good.
    pub fn holds(&self, id: &str, now: Timestamp) -> bool {
        self.present().iter().any(|t| t.id == id && now < t.expires)
    }

    /// All, expired ones too.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn list(&self) -> Result<Vec<Token>, TokenError> {
        match std::fs::read(&self.path) {
            Ok(text) => {
                let kept: Kept = serde_json::from_slice(&text).map_err(|e| self.failed(e.into()))?;
                Ok(kept.tokens)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Makes one and gives it; it cannot be had again. Blocking.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create(
        &self,
        user: &str,
        role: Role,
        life: Duration,
        now: Timestamp,
    ) -> Result<(String, Token), TokenError> {
        let refuse = |text: String| Err(TokenError::Refused(text));
        let printable = user.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if user.is_empty() || user.len() > MAX_NAME || !printable || user.starts_with("system:") {
            return refuse(format!(
                "{user:?} cannot be a user's name: up to {MAX_NAME} characters without spaces, not beginning with \
                 \"system:\""
            ));
        }
        let expires =
            now.checked_add(life).map_err(|e| TokenError::Refused(format!("the duration is too long: {e}")))?;
        if life.is_zero() {
            return refuse("a duration of 0 would end the token before it is used".to_owned());
        }
        let id = hex(&rand::random::<[u8; 5]>());
        let token = format!("{id}.{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let made = Token { id, user: user.to_owned(), role, sha256: hash(&token), created: now, expires };
        self.change(|tokens| {
            // Nobody asks for what ended long ago.
            tokens.retain(|t| now.duration_since(t.expires) < jiff::SignedDuration::from_hours(24 * 30));
            tokens.push(made.clone());
        })?;
        Ok((token, made))
    }

    /// Revokes the one with this id, or all of this user; gives those. Blocking.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn revoke(&self, which: &str) -> Result<Vec<Token>, TokenError> {
        let mut gone = Vec::new();
        self.change(|tokens| {
            let by_id = tokens.iter().any(|t| t.id == which);
            let meant = |t: &Token| if by_id { t.id == which } else { t.user == which };
            gone.extend(tokens.iter().filter(|t| meant(t)).cloned());
            tokens.retain(|t| !meant(t));
        })?;
        Ok(gone)
    }

    /// One change at a time, over all processes.
    fn change(&self, edit: impl FnOnce(&mut Vec<Token>)) -> Result<(), TokenError> {
        let lock = self.path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(|e| self.failed(e))?;
        file.lock().map_err(|e| self.failed(e))?;
        let mut kept = Kept { tokens: self.list()? };
        edit(&mut kept.tokens);
        let text = serde_json::to_string_pretty(&kept).map_err(|e| self.failed(e.into()))?;
        write_private(&self.path, &text).map_err(|e| self.failed(io::Error::other(e.to_string())))
    }

    fn failed(&self, cause: io::Error) -> TokenError {
        TokenError::File { path: self.path.clone(), cause }
    }

    /// Those of the file as it is now. A file that cannot be read lets nobody in.
    fn present(&self) -> Vec<Token> {
        let stamp = std::fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        let mut known = self.known.lock();
        if known.0 != stamp {
            let tokens = self.list().unwrap_or_else(|error| {
                tracing::error!(%error, "no token is good while their file cannot be read");
                Vec::new()
            });
            *known = (stamp, tokens);
        }
        known.1.clone()
    }
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares in a time that tells nothing of where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_life_of_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        // As in life: the daemon reads what another process writes.
        let (daemon, command) = (Tokens::at(&path), Tokens::at(&path));
        assert!(daemon.find("a.b", now()).is_none());
        let (anna, kept) = command.create("anna", Role::View, DAY, now()).unwrap();
        let (bob, _) = command.create("bob", Role::Admin, DAY, now()).unwrap();
        let (who, id) = daemon.find(&anna, now()).unwrap();
        assert_eq!((who.user.as_str(), who.role, &id), ("anna", Some(Role::View), &kept.id));
        assert_eq!(daemon.find(&bob, now()).unwrap().0.role, Some(Role::Admin));

        let text = std::fs::read_to_string(&path).unwrap();
        let (_, secret) = anna.split_once('.').unwrap();
        assert!(secret.len() == 43 && !text.contains(secret), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let (_, of_bob) = bob.split_once('.').unwrap();
        for wrong in ["", ".", &anna[..anna.len() - 1], secret, &format!("{id}.{of_bob}"), &format!("{anna}x")] {
            assert!(daemon.find(wrong, now()).is_none(), "{wrong}");
        }
        let later = now().checked_add(DAY).unwrap();
        assert!(daemon.find(&anna, later).is_none() && !daemon.holds(&id, later) && daemon.holds(&id, now()));

        assert_eq!(command.revoke(&id).unwrap(), [kept]);
        assert!(daemon.find(&anna, now()).is_none() && !daemon.holds(&id, now()));
        assert!(daemon.find(&bob, now()).is_some());
        assert_eq!(command.revoke("bob").unwrap().len(), 1);
        assert_eq!(command.revoke("bob").unwrap(), []);
        assert!(daemon.find(&bob, now()).is_none());
    }

    #[test]
    fn wrong_names_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(&dir.path().join("tokens.json"));
        for name in ["", "system:admin", "a b", "a\u{1b}", &"x".repeat(254)] {
            assert!(matches!(tokens.create(name, Role::View, DAY, now()), Err(TokenError::Refused(_))), "{name}");
        }
        for life in [Duration::ZERO, Duration::MAX] {
            assert!(matches!(tokens.create("a", Role::View, life, now()), Err(TokenError::Refused(_))));
        }
        let (token, _) = tokens.create("a", Role::View, DAY, now()).unwrap();
        assert!(tokens.find(&token, now()).is_some());
        std::fs::write(&tokens.path, "{").unwrap();
        assert!(tokens.find(&token, now()).is_none(), "a damaged file lets nobody in");
        assert!(matches!(tokens.create("a", Role::View, DAY, now()), Err(TokenError::File { .. })));
    }
}
