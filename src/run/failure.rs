//! Errors at the edge: text, hint and exit code.

use crate::client::{ClientError, ConnectError, ConsoleError, ErrorKind, ManifestError};

/// Exit codes; the help text lists them.
pub mod code {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// No connection.
    pub const UNREACHABLE: u8 = 3;
    /// No such object.
    pub const NOT_FOUND: u8 = 4;
    /// Conflict, or exists already.
    pub const CONFLICT: u8 = 5;
    /// Refused as invalid.
    pub const INVALID: u8 = 6;
    /// Interrupted by the user.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What is told on standard error; empty = nothing (a closed pipe, or it has been told).
    pub text: String,
}

impl Failure {
    /// An ordinary failure.
    pub fn new(text: impl Into<String>) -> Self {
        Self { code: code::FAILED, text: text.into() }
    }

    /// Wrong usage.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { code: code::USAGE, text: text.into() }
    }

    /// Ends with this code and says nothing.
    pub fn quiet(code: u8) -> Self {
        Self { code, text: String::new() }
    }

    /// Names what was being done.
    #[must_use]
    pub fn context(mut self, what: &str) -> Self {
        if !self.text.is_empty() {
            self.text = format!("{what}: {}", self.text);
        }
        self
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => code::NOT_FOUND,
            ErrorKind::AlreadyExists | ErrorKind::Conflict { .. } => code::CONFLICT,
            ErrorKind::Invalid { .. } | ErrorKind::BadRequest => code::INVALID,
            ErrorKind::Unreachable => code::UNREACHABLE,
            _ => code::FAILED,
        };
        Self { code, text: error.to_string() }
    }
}

impl From<ConsoleError> for Failure {
    fn from(error: ConsoleError) -> Self {
        match error {
            // An answer with 400, but nothing is wrong with the request.
            ConsoleError::NotReady(e) => Self::new(e.to_string()),
            ConsoleError::NotFound(e) | ConsoleError::Failed(e) => e.into(),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = if matches!(error, ConnectError::BadHost { .. }) { code::USAGE } else { code::UNREACHABLE };
        Self { code, text: error.to_string() }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self { code: code::INVALID, text: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // The reader of our output has seen enough: no reason to complain.
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::quiet(0) } else { Self::new(error.to_string()) }
    }
}
