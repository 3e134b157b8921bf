//! `kubeconfig`: what stock clients need for the TLS port.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::apiserver::identity::Role;
use crate::apiserver::tls::Credential;
use crate::apiserver::{Authority, Tokens};
use crate::cli::KubeconfigArgs;
use crate::config::Paths;

use super::super::failure::Failure;
use super::super::out;
use super::token;

/// How long new certificates are good.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// How long new tokens are good: they pass through more hands.
const TOKEN_LIFE: Duration = Duration::from_secs(86_400);

/// Prints the file that the daemon writes beside its TLS port, or one with new credentials.
pub fn kubeconfig(paths: &Paths, args: &KubeconfigArgs) -> Result<(), Failure> {
    let file = paths.state.join("kubeconfig");
    let owners = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "this host has no TLS port\nSet listen = \"127.0.0.1:6443\" under [host] in {} and run \"vmdeck host restart\".",
                paths.settings_file().display()
            )));
        }
        Err(e) => return Err(Failure::new(format!("cannot read {}: {e}", file.display()))),
    };
    if args.role.is_none() && args.user.is_none() && !args.token && args.duration.is_none() {
        return out::bytes(owners.as_bytes());
    }
    let server = server(&owners).ok_or_else(|| Failure::new(format!("{} names no server", file.display())))?;
    // New credentials are for others, most likely: they get as little as is useful.
    let role = args.role.map_or(Role::View, token::role);
    let user = args.user.clone().unwrap_or_else(|| role.to_string());
    let authority = Authority::open(&paths.state.join("tls")).map_err(|e| Failure::new(e.to_string()))?;
    let credential = if args.token {
        let life = args.duration.unwrap_or(TOKEN_LIFE);
        let made = Tokens::at(&token::file(paths)).create(&user, role, life, Timestamp::now());
        let (token, _) = made.map_err(|e| Failure::new(e.to_string()))?;
        Credential::Token(token)
    } else {
        let life = args.duration.unwrap_or(CERTIFICATE_LIFE);
        Credential::Certificate(authority.client(&user, role, life).map_err(|e| Failure::new(e.to_string()))?)
    };
    let config = authority.kubeconfig(&server, &user, &credential).map_err(|e| Failure::new(e.to_string()))?;
    out::bytes(config.as_bytes())
}

fn server(kubeconfig: &str) -> Option<String> {
    let config: Value = serde_saphyr::from_str(kubeconfig).ok()?;
    config["clusters"][0]["cluster"]["server"].as_str().map(str::to_owned)
}
