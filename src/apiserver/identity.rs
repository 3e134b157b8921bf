//! Who asks, and what for. Rights are in [`super::rights`].

use std::fmt;

use axum::http::{HeaderMap, Method, StatusCode};

use super::rights::Rights;
use super::status::Failure;

/// Every identity that has shown who it is has this group.
const AUTHENTICATED: &str = "system:authenticated";

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// Rights; `None` for the few that everybody known has.
    pub role: Option<Role>,
}

impl Identity {
    /// Somebody known, with the highest role of the groups.
    pub fn new(user: &str, mut groups: Vec<String>) -> Self {
        let roles: Vec<Role> = groups.iter().filter_map(|g| Role::of_group(g)).collect();
        let role = if roles.contains(&Role::Admin) { Some(Role::Admin) } else { roles.first().copied() };
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { user: user.to_owned(), groups, role }
    }

    /// The owner of the daemon.
    pub fn owner() -> Self {
        Self::new("system:admin", vec![Role::Admin.group().to_owned()])
    }

    /// What it may do.
    pub fn rights(&self) -> &'static Rights {
        Rights::of(self.role)
    }

    /// Whether it may.
    pub fn may(&self, action: &Action) -> bool {
        self.rights().allow(action)
    }

    /// Refuses what it may not.
    ///
    /// # Errors
    /// 403 in the usual words.
    pub fn require(&self, action: &Action, namespace: Option<&str>) -> Result<(), Failure> {
        if self.may(action) {
            return Ok(());
        }
        let verb = &action.verb;
        let message = match &action.target {
            Target::Path(path) => format!("forbidden: User {:?} cannot {verb} path {path:?}", self.user),
            Target::Resource { group, resource, subresource } => {
                let dot = if group.is_empty() { "" } else { "." };
                let slash = if subresource.is_empty() { "" } else { "/" };
                let place = match namespace {
                    Some(namespace) => format!("in the namespace {namespace:?}"),
                    None => "at the cluster scope".to_owned(),
                };
                format!(
                    "{resource}{dot}{group} is forbidden: User {:?} cannot {verb} resource \
                     \"{resource}{slash}{subresource}\" in API group {group:?} {place}",
                    self.user
                )
            }
        };
        Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message))
    }

    /// Whom a request asks to be taken for, if it does (`kubectl --as`).
    ///
    /// # Errors
    /// 403 for everybody but admins: to pass over the wish would be to act with more rights than were asked for. 400
    /// for wishes that cannot be met.
    pub fn impersonated(&self, headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let mut wishes = headers.keys().map(axum::http::HeaderName::as_str).filter(|n| n.starts_with("impersonate-"));
        let Some(wish) = wishes.next() else { return Ok(None) };
        if self.role != Some(Role::Admin) {
            let message = format!("forbidden: User {:?} cannot impersonate anybody: only admins may", self.user);
            return Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
        let other =
            std::iter::once(wish).chain(wishes).find(|n| !["impersonate-user", "impersonate-group"].contains(n));
        if let Some(name) = other {
            return Err(Failure::bad_request(format!("{name} is not supported by this server: user and groups are")));
        }
        let words = |name: &str| -> Result<Vec<String>, Failure> {
            let text = |v: &axum::http::HeaderValue| v.to_str().map(str::to_owned);
            let all: Result<Vec<_>, _> = headers.get_all(name).iter().map(text).collect();
            all.map_err(|_| Failure::bad_request(format!("{name} is no text")))
        };
        match words("impersonate-user")?.as_slice() {
            [user] if !user.is_empty() => Ok(Some(Self::new(user, words("impersonate-group")?))),
            _ => Err(Failure::bad_request("impersonate-user must name one user")),
        }
    }
}

/// What an action is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Objects of a kind, or a part of them.
    Resource {
        /// API group; empty for core.
        group: String,
        /// Plural.
        resource: String,
        /// Subresource; may be empty.
        subresource: String,
    },
    /// A path that is no resource.
    Path(String),
}

/// Something that a request does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// For resources `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths the
    /// method in small letters.
    pub verb: String,
    /// To what.
    pub target: Target,
}

/// What a request does, and to which object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What.
    pub action: Action,
    /// Where; `None` over all namespaces and for kinds without.
    pub namespace: Option<String>,
    /// To which one.
    pub name: Option<String>,
}

impl Attributes {
    /// Reads a request by the general form of paths, whether it is served or not: so nothing can be reached in a way
    /// that rights do not know. `segments` are the path's, without escapes.
    pub fn of(segments: &[String], method: &Method, watch: bool) -> Self {
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, rest) = match words.as_slice() {
            ["api", _, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => {
                let target = Target::Path(format!("/{}", segments.join("/")));
                let action = Action { verb: method.as_str().to_ascii_lowercase(), target };
                return Self { action, namespace: None, name: None };
            }
        };
        let (namespace, rest) = match rest {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let name = Some(at(1)).filter(|n| !n.is_empty());
        let target = Target::Resource { group: group.to_owned(), resource: at(0), subresource: at(2) };
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
        Self { action: Action { verb: verb.to_owned(), target }, namespace, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::request;

    fn told(method: &str, path: &str) -> String {
        let attributes = Attributes::of(&request::segments(path).unwrap(), &method.parse().unwrap(), false);
        let at = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
        let (namespace, name) = (at(&attributes.namespace), at(&attributes.name));
        match attributes.action.target {
            Target::Path(path) => format!("{} {path}", attributes.action.verb),
            Target::Resource { group, resource, subresource } => {
                format!("{} {group}:{resource}/{subresource} {namespace} {name}", attributes.action.verb)
            }
        }
    }

    #[test]
    fn what_requests_do() {
        for (method, path, want) in [
            ("GET", "/apis/g/v1", "get /apis/g/v1"),
            ("POST", "//upload//x", "post /upload/x"),
            ("GET", "/api/v1/namespaces", "list :namespaces/ - -"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update :namespaces/finalize - a"),
            ("DELETE", "/api/v1/namespaces/a", "delete :namespaces/ - a"),
            ("GET", "/api/v1//namespaces/a/%73ecrets", "list :secrets/ a -"),
            ("DELETE", "/apis/g/v1/namespaces/a/things", "deletecollection g:things/ a -"),
            ("GET", "/apis/g/v1/namespaces/a/things/b/console", "get g:things/console a b"),
        ] {
            assert_eq!(told(method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn who_may_be_somebody_else() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let view = Identity::new("anna", vec!["vmdeck:view".to_owned()]);
        let told = |who: &Identity, pairs: &[(&'static str, &str)]| {
            let found = who.impersonated(&headers(pairs)).map_err(|f| f.code().as_u16())?;
            Ok::<_, u16>(found.map(|i| (i.user, i.role)))
        };
        let owner = Identity::owner();
        let user = ("impersonate-user", "bob");
        assert_eq!(told(&view, &[]), Ok(None));
        assert_eq!(told(&view, &[user]), Err(403));
        assert_eq!(told(&view, &[("impersonate-extra-scopes", "x")]), Err(403));
        assert_eq!(told(&owner, &[user]), Ok(Some(("bob".to_owned(), None))));
        for (groups, role) in [
            (&["vmdeck:view"][..], Some(Role::View)),
            (&["x", "vmdeck:view", "system:masters"], Some(Role::Admin)),
            (&["x"], None),
        ] {
            let mut pairs = vec![user];
            pairs.extend(groups.iter().map(|g| ("impersonate-group", *g)));
            assert_eq!(told(&owner, &pairs), Ok(Some(("bob".to_owned(), role))));
        }
        for wrong in [&[("impersonate-group", "x")][..], &[user, user], &[user, ("impersonate-uid", "1")]] {
            assert_eq!(told(&owner, wrong), Err(400), "{wrong:?}");
        }
    }
}
