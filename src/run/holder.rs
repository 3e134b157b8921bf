//! Before a console or screen is opened: who has it.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use super::failure::Failure;
use super::{Context, out};
use crate::client::Holder;

/// How often "wait" looks again.
const AGAIN: Duration = Duration::from_secs(2);

/// What to do about a holder.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    /// Nobody is disturbed; what to tell.
    Share(String),
    /// Take it, as was asked.
    Take,
    /// Ask the user.
    Ask,
    /// Nobody is there to ask.
    Refuse(String),
}

fn course(holder: &Holder, what: &str, force: bool, terminal: bool, now: jiff::Timestamp) -> Course {
    match holder.shared {
        Some(1) => Course::Share(format!("vmdeck: also on this {what}: {}", holder.words(now))),
        Some(n) => Course::Share(format!("vmdeck: also on this {what}: {} and {} more", holder.words(now), n - 1)),
        None if force => Course::Take,
        None if terminal => Course::Ask,
        None => Course::Refuse(format!(
            "the {what} is in use by {}; opening it would end that session: use --force to do so",
            holder.words(now)
        )),
    }
}

/// Asks the server, and the user where somebody would be thrown out. `what` is `console` or `vnc`.
pub async fn consider(context: &Context, namespace: &str, name: &str, what: &str, force: bool) -> Result<(), Failure> {
    loop {
        let Some(holder) = context.session.holder(namespace, name, what).await else { return Ok(()) };
        let now = jiff::Timestamp::now();
        match course(&holder, what, force, std::io::stdin().is_terminal(), now) {
            Course::Share(text) => {
                out::note(&text);
                return Ok(());
            }
            Course::Take => return Ok(()),
            Course::Refuse(text) => return Err(Failure::new(text)),
            Course::Ask => match ask(&holder, what, now)? {
                Answer::Take => return Ok(()),
                Answer::Leave => return Err(Failure::quiet(1)),
                Answer::Wait => {
                    out::note("vmdeck: waiting until it is free; ctrl-c ends the wait");
                    while context.session.holder(namespace, name, what).await.is_some() {
                        // There is no event to wait for: the server only answers questions.
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Take,
    Leave,
    Wait,
}

fn ask(holder: &Holder, what: &str, now: jiff::Timestamp) -> Result<Answer, Failure> {
    let mut err = std::io::stderr().lock();
    let width = holder.name.chars().count().max("HOLDER".len());
    writeln!(err, "{:width$}   AGE\n{:width$}   {}", "HOLDER", holder.name, holder.age(now).unwrap_or("?".into()))?;
    write!(err, "The {what} is in use. End that session and connect? [y/N/w (wait until it is free)] ")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(answer(&line))
}

fn answer(line: &str) -> Answer {
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => Answer::Take,
        "w" | "wait" => Answer::Wait,
        _ => Answer::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(shared: Option<u64>) -> Holder {
        Holder { name: "anna".into(), since: String::new(), client: "d8".into(), shared }
    }

    #[test]
    fn only_an_exclusive_session_is_asked_about() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for (shared, force, terminal, expected) in [
            (Some(1), false, true, Course::Share("vmdeck: also on this console: anna (d8)".into())),
            (Some(3), true, false, Course::Share("vmdeck: also on this console: anna (d8) and 2 more".into())),
            (None, true, true, Course::Take),
            (None, true, false, Course::Take),
            (None, false, true, Course::Ask),
        ] {
            assert_eq!(
                course(&holder(shared), "console", force, terminal, now),
                expected,
                "{shared:?} {force} {terminal}"
            );
        }
        let refused = course(&holder(None), "vnc", false, false, now);
        assert!(matches!(&refused, Course::Refuse(text) if text.contains("anna (d8)") && text.contains("--force")));
    }

    #[test]
    fn no_is_the_default() {
        for (line, expected) in [
            ("y\n", Answer::Take),
            ("W\n", Answer::Wait),
            ("\n", Answer::Leave),
            ("", Answer::Leave),
            ("yy", Answer::Leave),
        ] {
            assert_eq!(answer(line), expected, "{line:?}");
        }
    }
}
