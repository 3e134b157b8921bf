//! Who asks, and what they may do. Two roles: `admin` may do everything, `view` may read everything but Secrets.

use std::fmt;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::request::{Part, Route, StreamName};
use super::status::Failure;
use crate::types::kinds::{GROUP, KINDS, SUBRESOURCES_GROUP};

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

impl Role {
    /// The group whose members have it, as certificates name it.
    pub fn group(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::View => "vmdeck:view",
        }
    }

    /// The role of a group.
    pub fn of_group(group: &str) -> Option<Self> {
        [Self::Admin, Self::View].into_iter().find(|role| role.group() == group)
    }
}

/// Who is at the other end of a connection. Put into a request's extensions by the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who; `None` for somebody who has not shown who they are.
    pub identity: Option<Identity>,
    /// Where from: an address, or the user id at the other end of a socket.
    pub source: String,
}

/// Who asks.
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

impl Action {
    /// What a request does; `None` for what is open to everybody who is known.
    pub fn of<'a>(route: &'a Route, method: &Method, watch: bool) -> Option<(Self, Option<&'a str>)> {
        let (resource, namespace, name, subresource) = match route {
            Route::Collection(c) => ((c.resource.kind.group, c.resource.kind.plural), c.namespace.as_deref(), None, ""),
            Route::Object(c, name, part) => {
                let subresource = match part {
                    Part::Main => "",
                    Part::Status => "status",
                    Part::Finalize => "finalize",
                };
                let resource = (c.resource.kind.group, c.resource.kind.plural);
                (resource, c.namespace.as_deref(), Some(name.as_str()), subresource)
            }
            Route::Stream(namespace, name, stream) => {
                let subresource = match stream {
                    StreamName::Console => "console",
                    StreamName::Vnc => "vnc",
                    StreamName::PortForward => "portforward",
                };
                let resource = (SUBRESOURCES_GROUP, "virtualmachines");
                (resource, Some(namespace.as_str()), Some(name.as_str()), subresource)
            }
            Route::Upload(_) => ((GROUP, "virtualimages"), None, None, "upload"),
            _ => return None,
        };
        let verb = match (method.as_str(), name.is_some()) {
            ("GET" | "HEAD", _) if watch => "watch",
            ("GET" | "HEAD", true) => "get",
            ("GET" | "HEAD", false) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "update",
        };
        let action = Self {
            verb: verb.to_owned(),
            group: resource.0.to_owned(),
            resource: resource.1.to_owned(),
            subresource: subresource.to_owned(),
        };
        Some((action, namespace))
    }
}

impl Identity {
    /// Refuses what it may not.
    ///
    /// # Errors
    /// 403 in the usual words.
    pub fn require(&self, action: &Action, namespace: Option<&str>) -> Result<(), Failure> {
        if self.may(action) {
            return Ok(());
        }
        let Action { verb, group, resource, subresource } = action;
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if subresource.is_empty() { "" } else { "/" };
        let place = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let message = format!(
            "{resource}{dot}{group} is forbidden: User {:?} cannot {verb} resource \"{resource}{slash}{subresource}\" in \
             API group {group:?} {place}",
            self.user
        );
        Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message))
    }

    /// Whether it may.
    pub fn may(&self, action: &Action) -> bool {
        match self.role {
            Role::Admin => true,
            Role::View => {
                let reads = matches!(action.verb.as_str(), "get" | "list" | "watch");
                let about_self = action.verb == "create" && action.resource.starts_with("selfsubject");
                let secret = action.group.is_empty() && matches!(action.resource.as_str(), "secrets" | "*");
                let stream = action.group == SUBRESOURCES_GROUP;
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
                let core: Vec<&str> =
                    KINDS.iter().filter(|k| k.group.is_empty() && k.plural != "secrets").map(|k| k.plural).collect();
                let groups = [GROUP, "events.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io"];
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
