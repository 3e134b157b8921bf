//! What an operation says of itself after a step.

use std::time::Duration;

use super::act::Advance;
use crate::types::OperationResource;
use crate::types::condition::Status;

/// A condition: type, status, reason, message.
pub type Line = (&'static str, Status, &'static str, String);

/// The step's account.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Conditions, `Completed` aside.
    pub lines: Vec<Line>,
    /// `status.resources`, if they are told anew.
    pub resources: Option<Vec<OperationResource>>,
    /// Percent.
    pub progress: Option<u8>,
    /// What is being done, for the condition `Completed`.
    pub message: String,
    /// It is over: with a last word, or with the reason why it failed.
    pub end: Option<Result<String, String>>,
    /// Look again after that long, whatever happens.
    pub again: Option<Duration>,
}

impl Report {
    /// Going on.
    pub fn going(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Done.
    pub fn done(message: impl Into<String>) -> Self {
        Self { end: Some(Ok(message.into())), progress: Some(100), ..Self::default() }
    }

    /// Failed.
    pub fn failed(why: impl Into<String>) -> Self {
        Self { end: Some(Err(why.into())), ..Self::default() }
    }

    /// With a condition.
    #[must_use]
    pub fn line(mut self, type_: &'static str, status: Status, reason: &'static str, message: &str) -> Self {
        self.lines.push((type_, status, reason, message.to_owned()));
        self
    }

    /// With a share of the way.
    #[must_use]
    pub fn at(self, percent: u8) -> Self {
        Self { progress: Some(percent), ..self }
    }

    /// With these resources.
    #[must_use]
    pub fn of(self, resources: Vec<OperationResource>) -> Self {
        Self { resources: Some(resources), ..self }
    }
}

/// Percent after a step: from `from` on, all objects together are worth 60.
pub fn percent(from: u8, advance: &Advance) -> u8 {
    let done = advance.resources.iter().filter(|r| r.status == "Completed").count();
    let share = done * 60 / advance.resources.len().max(1);
    from.saturating_add(u8::try_from(share).unwrap_or(60))
}

/// At the end of an operation that failed: what was not made is not on its way any more.
pub fn give_up<'a>(resources: impl Iterator<Item = &'a mut OperationResource>) {
    for resource in resources.filter(|r| r.status == "InProgress") {
        "Failed".clone_into(&mut resource.status);
        "Not done: the operation failed before.".clone_into(&mut resource.message);
    }
}
