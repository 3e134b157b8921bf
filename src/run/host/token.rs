//! `host token`: bearer tokens, kept in a file that a running daemon notices by itself.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::apiserver::Tokens;
use crate::apiserver::identity::Role;
use crate::cli::{RoleWord, TokenCommand};
use crate::config::Paths;

use super::super::failure::{Failure, code};
use super::super::out;
use super::super::print::Grid;
use super::private_dir;

/// Runs the command.
pub fn run(paths: &Paths, command: TokenCommand) -> Result<(), Failure> {
    let tokens = Tokens::at(&file(paths));
    match command {
        TokenCommand::Create { name, role, duration } => {
            private_dir(&paths.state)?;
            let (token, made) =
                tokens.create(&name, self::role(role), duration, Timestamp::now()).map_err(|e| failed(&e))?;
            out::note(&format!("token {} of {}, {}, until {}", made.id, made.user, made.role, second(made.expires)));
            out::line(&token)
        }
        TokenCommand::List => {
            let now = Timestamp::now();
            let mut rows = vec![["ID", "USER", "ROLE", "CREATED", "EXPIRES"].map(ToOwned::to_owned).to_vec()];
            for token in tokens.list().map_err(|e| failed(&e))? {
                let expires = second(token.expires).to_string();
                let expires = if now < token.expires { expires } else { format!("{expires} (over)") };
                rows.push(vec![
                    token.id,
                    token.user,
                    token.role.to_string(),
                    second(token.created).to_string(),
                    expires,
                ]);
            }
            out::block(&Grid::default().lines(&rows))
        }
        TokenCommand::Revoke { which } => {
            let gone = tokens.revoke(&which).map_err(|e| failed(&e))?;
            if gone.is_empty() {
                let text = format!("there is no token with the id or user {which}\nSee: vmdeck host token list");
                return Err(Failure { code: code::NOT_FOUND, ..Failure::new(text) });
            }
            gone.iter().try_for_each(|token| out::line(&format!("token {} of {} revoked", token.id, token.user)))
        }
    }
}

/// The file of the tokens.
pub fn file(paths: &Paths) -> PathBuf {
    paths.state.join("tokens.json")
}

/// A role by its word.
pub fn role(word: RoleWord) -> Role {
    match word {
        RoleWord::Admin => Role::Admin,
        RoleWord::View => Role::View,
    }
}

/// For people: without fractions.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn failed(error: &crate::apiserver::tokens::TokenError) -> Failure {
    Failure::new(error.to_string())
}
