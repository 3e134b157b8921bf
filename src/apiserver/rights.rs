//! What each role may do, in the form of Kubernetes' rules. Requests are judged by the same rules that
//! SelfSubjectRulesReview tells, so what it tells is true.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::identity::{Action, Role, Target};
use crate::types::kinds::{GROUP, KINDS};

const READ: &[&str] = &["get", "list", "watch"];
/// Methods of reading, as verbs of paths.
const READ_PATH: &[&str] = &["get", "head"];
/// Paths that everybody known may read.
const OPEN: &[&str] = &[
    "/",
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/healthz/*",
    "/livez",
    "/livez/*",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/readyz/*",
    "/version",
    "/version/",
];
/// Kinds of core that clients look for on the way to others. They are not served: to be told so is better than to be
/// told that one may not look.
const LOOKED_FOR: &[&str] = &[
    "pods",
    "pods/log",
    "services",
    "endpoints",
    "limitranges",
    "resourcequotas",
    "serviceaccounts",
    "persistentvolumeclaims",
    "persistentvolumes",
    "podtemplates",
    "replicationcontrollers",
    "componentstatuses",
];
/// Groups without secrets and without streams.
const GROUPS: &[&str] = &[
    GROUP,
    "apiextensions.k8s.io",
    "coordination.k8s.io",
    "events.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "discovery.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
];

struct ResourceRule {
    verbs: Vec<&'static str>,
    groups: Vec<&'static str>,
    resources: Vec<String>,
}

struct PathRule {
    verbs: Vec<&'static str>,
    paths: Vec<&'static str>,
}

/// The rules of a role.
pub struct Rights {
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

impl Rights {
    /// Of a role; without one those of everybody known.
    pub fn of(role: Option<Role>) -> &'static Self {
        static RIGHTS: LazyLock<[Rights; 3]> = LazyLock::new(|| [Rights::admin(), Rights::view(), Rights::everybody()]);
        match role {
            Some(Role::Admin) => &RIGHTS[0],
            Some(Role::View) => &RIGHTS[1],
            None => &RIGHTS[2],
        }
    }

    fn admin() -> Self {
        let every = ResourceRule { verbs: vec!["*"], groups: vec!["*"], resources: vec!["*".to_owned()] };
        Self { resources: vec![every], paths: vec![PathRule { verbs: vec!["*"], paths: vec!["*"] }] }
    }

    /// Reads about themselves and the shape of the API.
    fn everybody() -> Self {
        let review = |group: &'static str, resources: &[&str]| ResourceRule {
            verbs: vec!["create"],
            groups: vec![group],
            resources: resources.iter().map(|r| (*r).to_owned()).collect(),
        };
        Self {
            resources: vec![
                review("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                review("authentication.k8s.io", &["selfsubjectreviews"]),
            ],
            paths: vec![
                PathRule { verbs: READ_PATH.to_vec(), paths: OPEN.to_vec() },
                // The address itself is what shows that one may.
                PathRule { verbs: vec!["*"], paths: vec!["/upload/*"] },
            ],
        }
    }

    fn view() -> Self {
        let mut rights = Self::everybody();
        let readable = KINDS.iter().filter(|k| k.group.is_empty() && k.plural != "secrets");
        let mut core: Vec<String> = Vec::new();
        for kind in readable {
            core.push(kind.plural.to_owned());
            core.extend(kind.status.then(|| format!("{}/status", kind.plural)));
        }
        core.extend(LOOKED_FOR.iter().map(|word| (*word).to_owned()));
        let read = |groups: &[&'static str], resources| ResourceRule {
            verbs: READ.to_vec(),
            groups: groups.to_vec(),
            resources,
        };
        rights.resources.push(read(&[""], core));
        rights.resources.push(read(GROUPS, vec!["*".to_owned()]));
        rights.paths.push(PathRule { verbs: READ_PATH.to_vec(), paths: vec!["*"] });
        rights
    }

    /// Whether an action is allowed. A `*` in the action asks for all, so only a rule with `*` allows it.
    pub fn allow(&self, action: &Action) -> bool {
        let verb = |verbs: &[&str]| verbs.iter().any(|v| *v == "*" || *v == action.verb);
        match &action.target {
            Target::Path(path) => self
                .paths
                .iter()
                .any(|rule| verb(&rule.verbs) && rule.paths.iter().any(|pattern| path_matches(pattern, path))),
            Target::Resource { group, resource, subresource } => {
                let full = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
                self.resources.iter().any(|rule| {
                    verb(&rule.verbs)
                        && rule.groups.iter().any(|g| *g == "*" || g == group)
                        && rule.resources.iter().any(|r| r == "*" || *r == full)
                })
            }
        }
    }

    /// `status` of a SelfSubjectRulesReview.
    pub fn told(&self) -> Value {
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|r| json!({"verbs": r.verbs, "apiGroups": r.groups, "resources": r.resources}))
            .collect();
        let paths: Vec<Value> =
            self.paths.iter().map(|r| json!({"verbs": r.verbs, "nonResourceURLs": r.paths})).collect();
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::kinds::SUBRESOURCES_GROUP;

    #[test]
    fn what_roles_allow() {
        let resource = |verb: &str, group: &str, resource: &str, subresource: &str| Action {
            verb: verb.to_owned(),
            target: Target::Resource {
                group: group.to_owned(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
            },
        };
        for (verb, group, plural, sub, viewer, nobody) in [
            ("list", GROUP, "virtualmachines", "", true, false),
            ("get", GROUP, "virtualmachines", "status", true, false),
            ("create", GROUP, "virtualmachines", "", false, false),
            ("list", "", "secrets", "", false, false),
            ("list", "*", "secrets", "", false, false),
            ("list", "", "*", "", false, false),
            ("get", "", "namespaces", "status", true, false),
            ("watch", "", "events", "", true, false),
            ("get", SUBRESOURCES_GROUP, "virtualmachines", "console", false, false),
            ("update", SUBRESOURCES_GROUP, "virtualmachines", "freeze", false, false),
            ("update", SUBRESOURCES_GROUP, "virtualmachines", "unfreeze", false, false),
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", true, true),
            ("create", "authentication.k8s.io", "selfsubjectreviews", "", true, true),
            ("deletecollection", "", "events", "", false, false),
            ("impersonate", "", "users", "", false, false),
            ("*", "*", "*", "", false, false),
        ] {
            let action = resource(verb, group, plural, sub);
            let found = [Some(Role::View), None, Some(Role::Admin)].map(|role| Rights::of(role).allow(&action));
            assert_eq!(found, [viewer, nobody, true], "{action:?}");
        }
        for (verb, path, viewer, nobody) in [
            ("get", "/apis/x", true, true),
            ("head", "/version", true, true),
            ("get", "/metrics", true, false),
            ("put", "/upload/x", true, true),
            ("post", "/apis", false, false),
        ] {
            let action = Action { verb: verb.to_owned(), target: Target::Path(path.to_owned()) };
            let found = [Some(Role::View), None, Some(Role::Admin)].map(|role| Rights::of(role).allow(&action));
            assert_eq!(found, [viewer, nobody, true], "{action:?}");
        }
    }
}
