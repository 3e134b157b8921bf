//! Who asks, and what they may do. Two roles: `admin` may do everything, `view` may read everything but Secrets.

use std::fmt;

use serde_json::{Value, json};

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading, but no Secrets and no streams into machines.
    View,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::View => "view",
        })
    }
}

/// Who asks. Put into a request's extensions by the listener; without one, the request comes from this process or
/// through the socket that only its owner can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Rights.
    pub role: Role,
}

impl Identity {
    /// The owner of the daemon.
    pub fn owner() -> Self {
        Self {
            user: "system:admin".to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            role: Role::Admin,
        }
    }
}

/// Something that a request does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Action {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Plural; empty for paths that are no resources.
    pub resource: String,
    /// Subresource; may be empty.
    pub subresource: String,
}

impl Identity {
    /// Whether it may.
    pub fn may(&self, action: &Action) -> bool {
        match self.role {
            Role::Admin => true,
            Role::View => {
                let reads = matches!(action.verb.as_str(), "get" | "list" | "watch");
                let about_self = action.verb == "create" && action.resource.starts_with("selfsubject");
                let secret = action.group.is_empty() && matches!(action.resource.as_str(), "secrets" | "*");
                let stream = action.group == crate::types::kinds::SUBRESOURCES_GROUP;
                about_self || (reads && !secret && !stream)
            }
        }
    }

    /// `status` of a SelfSubjectRulesReview.
    pub fn rules(&self) -> Value {
        let verbs: &[&str] = match self.role {
            Role::Admin => &["*"],
            Role::View => &["get", "list", "watch"],
        };
        let resources = match self.role {
            Role::Admin => json!([{"verbs": verbs, "apiGroups": ["*"], "resources": ["*"]}]),
            Role::View => {
                let core: Vec<&str> = crate::types::kinds::KINDS
                    .iter()
                    .filter(|k| k.group.is_empty() && k.plural != "secrets")
                    .map(|k| k.plural)
                    .collect();
                let groups =
                    [crate::types::kinds::GROUP, "events.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io"];
                json!([
                    {"verbs": verbs, "apiGroups": groups, "resources": ["*"]},
                    {"verbs": verbs, "apiGroups": [""], "resources": core},
                    {"verbs": ["create"], "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
                        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"]},
                ])
            }
        };
        json!({
            "resourceRules": resources,
            "nonResourceRules": [{"verbs": verbs, "nonResourceURLs": ["*"]}],
            "incomplete": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roles_allow() {
        let action = |verb: &str, group: &str, resource: &str| Action {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
        };
        let view = Identity { role: Role::View, ..Identity::owner() };
        for (verb, group, resource, viewer) in [
            ("list", "virtualization.deckhouse.io", "virtualmachines", true),
            ("create", "virtualization.deckhouse.io", "virtualmachines", false),
            ("list", "", "secrets", false),
            ("watch", "", "events", true),
            ("get", "subresources.virtualization.deckhouse.io", "virtualmachines", false),
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews", true),
            ("deletecollection", "", "events", false),
            ("*", "*", "*", false),
        ] {
            let action = action(verb, group, resource);
            assert_eq!(view.may(&action), viewer, "{action:?}");
            assert!(Identity::owner().may(&action));
        }
    }
}
