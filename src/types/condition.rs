//! Conditions: set and find. The time of the last transition moves only when the status does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// True.
    True,
    /// False.
    False,
    /// Not known yet.
    Unknown,
}

impl Status {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(yes: bool) -> Self {
        if yes { Self::True } else { Self::False }
    }
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// Sets a condition in place (new ones go to the end). `now` becomes the transition time only if the status
/// differs from before.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: Status,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: jiff::Timestamp,
) {
    let mut new = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// Removes the condition of this type.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|c| c.type_ != type_);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_with_the_status_only() {
        let (t1, t2) = (jiff::Timestamp::from_second(1).unwrap(), jiff::Timestamp::from_second(2).unwrap());
        let mut c = Vec::new();
        set(&mut c, "Ready", Status::False, "A", "", Some(1), t1);
        set(&mut c, "Ready", Status::False, "B", "why", Some(2), t2);
        assert_eq!((c[0].last_transition_time.0, c[0].reason.as_str()), (t1, "B"));
        set(&mut c, "Ready", Status::True, "B", "", Some(2), t2);
        assert_eq!(c[0].last_transition_time.0, t2);
        assert!(is_true(&c, "Ready"));
        remove(&mut c, "Ready");
        assert!(c.is_empty());
    }
}
