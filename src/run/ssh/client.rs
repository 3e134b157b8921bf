//! Our own SSH client, for computers without one: over the engine's port forwarding, with the user's known hosts,
//! agent and keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use russh::MethodKind;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{PrivateKeyWithHashAlg, PublicKey};

use crate::client::PortStream;

use super::super::failure::Failure;
use super::super::{out, terminal};

/// How often a password is asked for.
const TRIES: u32 = 3;

/// Who logs in where.
pub struct Login {
    /// Login name.
    pub user: String,
    /// Name under which the machine's key is known; see [`super`].
    pub key_alias: String,
    /// `--identity-file`.
    pub identity: Option<PathBuf>,
    /// `--known-hosts`.
    pub known_hosts: Option<PathBuf>,
}

/// Checks the machine's key against the known hosts; a first key is remembered.
pub struct KeyCheck {
    alias: String,
    file: PathBuf,
    problem: Arc<Mutex<Option<String>>>,
}

impl KeyCheck {
    /// Whether the key is the machine's, or why not.
    fn judge(&self, key: &PublicKey) -> Result<(), String> {
        let file = self.file.display();
        match russh::keys::check_known_hosts_path(&self.alias, 22, key, &self.file) {
            Ok(true) => Ok(()),
            Ok(false) => {
                russh::keys::known_hosts::learn_known_hosts_path(&self.alias, 22, key, &self.file)
                    .map_err(|e| format!("its host key cannot be remembered in {file}: {e}"))?;
                out::note(&format!("vmdeck: the host key of {} is remembered in {file}", self.alias));
                Ok(())
            }
            Err(russh::keys::Error::KeyChanged { line }) => Err(format!(
                "its host key is not the one of {file}, line {line}: somebody may be in between\n\
                 If the machine was given a new key on purpose, remove that line."
            )),
            Err(e) => Err(format!("{file} cannot be read: {e}")),
        }
    }
}

impl client::Handler for KeyCheck {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &russh::keys::PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let judged = match key {
            russh::keys::PublicKeyOrCertificate::PublicKey { key, .. } => self.judge(key),
            russh::keys::PublicKeyOrCertificate::Certificate(_) => {
                Err("it shows a host certificate, which only the ssh program can check".to_owned())
            }
        };
        match judged {
            Ok(()) => Ok(true),
            Err(text) => {
                *self.problem.lock() = Some(text);
                Ok(false)
            }
        }
    }
}

/// Connects and logs in.
pub async fn open(stream: PortStream, login: &Login) -> Result<Handle<KeyCheck>, Failure> {
    let file = match &login.known_hosts {
        Some(file) => file.clone(),
        None => home()?.join(".ssh/known_hosts"),
    };
    let problem = Arc::new(Mutex::new(None));
    let check = KeyCheck { alias: login.key_alias.clone(), file, problem: Arc::clone(&problem) };
    let config = client::Config { keepalive_interval: Some(std::time::Duration::from_secs(30)), ..Default::default() };
    let mut handle = client::connect_stream(Arc::new(config), stream, check).await.map_err(|e| {
        let told = problem.lock().take();
        Failure::new(told.unwrap_or_else(|| format!("the machine's SSH server cannot be talked to: {e}")))
    })?;
    if by_agent(&mut handle, login).await
        || by_keys(&mut handle, login).await?
        || by_password(&mut handle, login).await?
    {
        return Ok(handle);
    }
    Err(Failure::new(format!("the machine does not let \"{}\" in", login.user)))
}

fn home() -> Result<PathBuf, Failure> {
    let dirs =
        directories::BaseDirs::new().ok_or_else(|| Failure::new("no home directory: set HOME, or --known-hosts"))?;
    Ok(dirs.home_dir().to_path_buf())
}

/// Whatever goes wrong with an agent, there are other ways.
async fn by_agent(handle: &mut Handle<KeyCheck>, login: &Login) -> bool {
    let Ok(mut agent) = AgentClient::connect_env().await else { return false };
    let Ok(identities) = agent.request_identities().await else { return false };
    let hash = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = key.algorithm().is_rsa().then_some(hash).flatten();
        if handle.authenticate_publickey_with(&login.user, key, hash, &mut agent).await.is_ok_and(|r| r.success()) {
            return true;
        }
    }
    false
}

async fn by_keys(handle: &mut Handle<KeyCheck>, login: &Login) -> Result<bool, Failure> {
    let (files, named) = match &login.identity {
        Some(file) => (vec![file.clone()], true),
        None => {
            let dir = home()?.join(".ssh");
            (["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| dir.join(name)).to_vec(), false)
        }
    };
    for file in files.iter().filter(|f| named || f.exists()) {
        let Some(key) = load_key(file, named)? else { continue };
        let hash = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        if handle.authenticate_publickey(&login.user, key).await.is_ok_and(|r| r.success()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A key that the user named must be readable; one of the usual names is a bonus.
fn load_key(file: &Path, named: bool) -> Result<Option<russh::keys::PrivateKey>, Failure> {
    let mut loaded = russh::keys::load_secret_key(file, None);
    if matches!(loaded, Err(russh::keys::Error::KeyIsEncrypted)) {
        let Some(phrase) = terminal::ask_secret(&format!("Passphrase of {}: ", file.display()))? else {
            return Ok(None);
        };
        loaded = russh::keys::load_secret_key(file, Some(&phrase));
    }
    match loaded {
        Ok(key) => Ok(Some(key)),
        Err(e) if named => Err(Failure::new(format!("the key {} cannot be used: {e}", file.display()))),
        Err(_) => Ok(None),
    }
}

async fn by_password(handle: &mut Handle<KeyCheck>, login: &Login) -> Result<bool, Failure> {
    let broken = |e: russh::Error| Failure::new(format!("the connection broke: {e}"));
    for _ in 0..TRIES {
        let Some(password) = terminal::ask_secret(&format!("{}'s password: ", login.user))? else { return Ok(false) };
        let remaining = match handle.authenticate_password(&login.user, &password).await.map_err(broken)? {
            AuthResult::Success => return Ok(true),
            AuthResult::Failure { remaining_methods, .. } => remaining_methods,
        };
        // Some servers take the same password only as an answer to a question; others count that as another failure.
        if !remaining.contains(&MethodKind::KeyboardInteractive) {
            continue;
        }
        let mut answer = handle.authenticate_keyboard_interactive_start(&login.user, None).await.map_err(broken)?;
        loop {
            match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => break,
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| password.clone()).collect();
                    answer = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(broken)?;
                }
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::{Algorithm, PrivateKey};

    #[test]
    fn a_first_key_is_remembered_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known");
        let check = KeyCheck { alias: "vm.ns.uid".into(), file: file.clone(), problem: Arc::default() };
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone();
        let (first, second) = (key(), key());
        assert_eq!(check.judge(&first), Ok(()));
        assert!(std::fs::read_to_string(&file).unwrap().contains("vm.ns.uid ssh-ed25519 "));
        assert_eq!(check.judge(&first), Ok(()));
        let refusal = check.judge(&second).unwrap_err();
        // russh begins a new file with an empty line.
        assert!(refusal.contains("line 2"), "{refusal}");
    }
}
