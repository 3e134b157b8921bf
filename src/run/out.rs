//! Writing to the user's terminal or pipe. The one place where text of others meets standard output.

use std::io::{IsTerminal, Write};

use crate::types::text::{printable, printable_block};

use super::failure::Failure;

/// Prints one line; control characters become escapes.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable(text))?;
    Ok(out.flush()?)
}

/// Prints lines as they are, except control characters.
pub fn block(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(printable_block(text).as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints data exactly for a pipe, made printable for a terminal. No newline is added.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        out.write_all(printable_block(text).as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Prints bytes of our own making.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Tells something beside the result, on standard error.
pub fn note(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell it to.
    let _ = writeln!(err, "{}", printable_block(text));
}

/// Tells warnings of the server.
pub fn warnings(texts: &[String]) {
    for text in texts {
        note(&format!("Warning: {text}"));
    }
}
