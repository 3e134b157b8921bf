//! What a request addresses, and its options, as types.

use axum::http::Uri;

use super::core_kinds::event;
use super::fixed::{Fixed, FixedKind};
use super::freeze::FreezeName;
use super::object::Object;
use super::status::{Cause, Failure};
use crate::store::Key;
use crate::types::class_version;
use crate::types::kinds::{self, GROUP, KindInfo, SUBRESOURCES_GROUP};

/// In which of its forms a kind is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// As it is stored.
    Native,
    /// `events.k8s.io/v1` over the events of core.
    EventsV1,
    /// The newer version of VirtualMachineClass.
    NewerClass,
}

impl Face {
    /// A stored object in this form.
    pub fn shown(self, object: Object) -> Object {
        match self {
            Face::Native => object,
            Face::EventsV1 => event::to_events_v1(object),
            Face::NewerClass => class_version::to_newer(object),
        }
    }

    /// An object of this form as it is stored.
    pub fn stored(self, object: Object) -> Object {
        match self {
            Face::Native => object,
            Face::EventsV1 => event::from_events_v1(object),
            Face::NewerClass => class_version::to_stored(object),
        }
    }
}

/// A kind, in a namespace or not.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    /// The kind as stored.
    pub kind: &'static KindInfo,
    /// The form in which it is asked for.
    pub face: Face,
}

impl Resource {
    /// `apiVersion` of objects in this form.
    pub fn api_version(&self) -> String {
        match self.face {
            Face::Native => self.kind.api_version(),
            Face::EventsV1 => "events.k8s.io/v1".to_owned(),
            Face::NewerClass => format!("{GROUP}/{}", class_version::NEWER),
        }
    }
}

/// A collection of objects.
#[derive(Debug, Clone)]
pub struct Collection {
    /// Of what.
    pub resource: Resource,
    /// Of which namespace; `None` for all, and for kinds without.
    pub namespace: Option<String>,
}

impl Collection {
    /// Where the store keeps `name` of this collection.
    pub fn key(&self, name: &str) -> Key {
        Key::new(&self.resource.kind.qualified(), self.namespace.as_deref().unwrap_or(""), name)
    }
}

/// Which part of an object a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status (where it has one of its own).
    Main,
    /// `/status`.
    Status,
    /// `/finalize` of a namespace.
    Finalize,
}

/// A stream of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    /// Serial console.
    Console,
    /// Screen.
    Vnc,
    /// Port of the guest.
    PortForward,
}

/// What a path means.
#[derive(Debug, Clone)]
pub enum Route {
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `/api`, `/apis` and below, down to group and version: the segments.
    Discovery(Vec<String>),
    /// `/openapi/...`: the segments after it.
    OpenApi(Vec<String>),
    /// What never changes; one or all.
    Fixed(Fixed),
    /// A review: its plural.
    Review(&'static str),
    /// A collection.
    Collection(Collection),
    /// One object or a part of it.
    Object(Collection, String, Part),
    /// A stream of a machine: namespace, name.
    Stream(String, String, StreamName),
    /// The file systems of a machine's guest: namespace, name.
    Freeze(String, String, FreezeName),
    /// `/upload/TOKEN`.
    Upload(String),
}

const REVIEWS: [(&str, &str); 3] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
];

/// The segments of a path, without their escapes.
///
/// # Errors
/// 400 for a path that is not well-formed.
pub fn segments(path: &str) -> Result<Vec<String>, Failure> {
    path.split('/').filter(|s| !s.is_empty()).map(decode_segment).collect()
}

/// Reads the segments of a path.
///
/// # Errors
/// 404 for what is not served.
pub fn route(segments: &[String]) -> Result<Route, Failure> {
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["version"] => Ok(Route::Version),
        ["healthz" | "livez" | "readyz"] | ["healthz" | "livez" | "readyz", "ping"] => Ok(Route::Health),
        ["upload", token] => Ok(Route::Upload((*token).to_owned())),
        ["openapi", ..] => Ok(Route::OpenApi(segments[1..].to_vec())),
        ["api"] | ["apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, _] => Ok(Route::Discovery(segments.to_vec())),
        ["api", "v1", "services"] | ["api", "v1", "namespaces", _, "services"] => fixed(FixedKind::Service, None),
        ["api", "v1", "namespaces", _, "services", name] => fixed(FixedKind::Service, Some(name)),
        ["api", "v1", "pods"] | ["api", "v1", "namespaces", _, "pods"] => fixed(FixedKind::Pod, None),
        ["api", "v1", "namespaces", _, "pods", name] => fixed(FixedKind::Pod, Some(name)),
        ["api", "v1", rest @ ..] => below("", "v1", rest),
        ["apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"] => fixed(FixedKind::Definition, None),
        ["apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions", name] => {
            fixed(FixedKind::Definition, Some(name))
        }
        ["apis", group, "v1", plural] if REVIEWS.contains(&(group, plural)) => {
            let review = REVIEWS.iter().find(|(g, p)| g == group && p == plural);
            review.map(|(_, plural)| Route::Review(plural)).ok_or_else(Failure::no_such_path)
        }
        ["apis", SUBRESOURCES_GROUP, kinds::VERSION, "namespaces", namespace, "virtualmachines", name, stream] => {
            let (namespace, name) = ((*namespace).to_owned(), (*name).to_owned());
            match *stream {
                "console" => Ok(Route::Stream(namespace, name, StreamName::Console)),
                "vnc" => Ok(Route::Stream(namespace, name, StreamName::Vnc)),
                "portforward" => Ok(Route::Stream(namespace, name, StreamName::PortForward)),
                "freeze" => Ok(Route::Freeze(namespace, name, FreezeName::Freeze)),
                "unfreeze" => Ok(Route::Freeze(namespace, name, FreezeName::Unfreeze)),
                _ => Err(Failure::no_such_path()),
            }
        }
        ["apis", group, version, rest @ ..] => below(group, version, rest),
        _ => Err(Failure::no_such_path()),
    }
}

fn fixed(kind: FixedKind, name: Option<&str>) -> Result<Route, Failure> {
    Ok(Route::Fixed(Fixed { kind, name: name.map(str::to_owned) }))
}

/// The part of a resource's path after group and version.
fn below(group: &str, version: &str, rest: &[&str]) -> Result<Route, Failure> {
    let resource = |plural: &str| -> Result<Resource, Failure> {
        let (kind, face) = match (group, version, plural) {
            ("events.k8s.io", _, "events") => (kinds::by_resource("", "events"), Face::EventsV1),
            (GROUP, class_version::NEWER, class_version::PLURAL) => {
                (kinds::by_resource(group, plural), Face::NewerClass)
            }
            _ => (kinds::by_resource(group, plural), Face::Native),
        };
        let kind = kind.filter(|k| face != Face::Native || k.version == version).ok_or_else(Failure::no_such_path)?;
        Ok(Resource { kind, face })
    };
    let part = |resource: Resource, word: &str| match word {
        "status" if resource.kind.status => Ok(Part::Status),
        "finalize" if resource.kind.plural == "namespaces" => Ok(Part::Finalize),
        _ => Err(Failure::no_such_path()),
    };
    let (namespace, plural, rest) = match rest {
        ["namespaces", name] if group.is_empty() => (None, "namespaces", vec![*name]),
        ["namespaces", name, word @ ("status" | "finalize")] if group.is_empty() => {
            (None, "namespaces", vec![*name, *word])
        }
        ["namespaces", namespace, plural, rest @ ..] => (Some((*namespace).to_owned()), *plural, rest.to_vec()),
        [plural, rest @ ..] => (None, *plural, rest.to_vec()),
        [] => return Err(Failure::no_such_path()),
    };
    let resource = resource(plural)?;
    // A collection over all namespaces has no objects of its own; a kind without namespaces is in none.
    let placed = match namespace {
        Some(_) => resource.kind.namespaced(),
        None => !resource.kind.namespaced() || rest.is_empty(),
    };
    if !placed {
        return Err(Failure::no_such_path());
    }
    let collection = Collection { resource, namespace };
    match rest.as_slice() {
        [] => Ok(Route::Collection(collection)),
        [name] => Ok(Route::Object(collection, (*name).to_owned(), Part::Main)),
        [name, word] => Ok(Route::Object(collection, (*name).to_owned(), part(resource, word)?)),
        _ => Err(Failure::no_such_path()),
    }
}

/// One segment of a path, without its escapes.
///
/// # Errors
/// 400 for what cannot be part of a name.
pub(super) fn decode_segment(segment: &str) -> Result<String, Failure> {
    let bad = || Failure::bad_request("the path is not well-formed");
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(bad);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).map_err(|_| bad())?);
        } else {
            out.push(byte);
        }
    }
    let text = String::from_utf8(out).map_err(|_| bad())?;
    // None of these can be part of a name; some would be taken for something else further in.
    if text.contains(['/', '\0']) || text == "." || text == ".." { Err(bad()) } else { Ok(text) }
}

/// The query of a request.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// 400 when it is not well-formed.
    pub fn of(uri: &Uri) -> Result<Self, Failure> {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|query| Self(query.0))
            .map_err(|e| Failure::bad_request(format!("the query is not well-formed: {e}")))
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A switch: `true`, `1`, `false`, `0`.
    ///
    /// # Errors
    /// 400 for another word.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(Failure::bad_request(format!("{name}={other:?} is neither true nor false"))),
        }
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.get(name)
            .map(|v| v.parse().map_err(|_| Failure::bad_request(format!("{name}={v:?} is not a whole number"))))
            .transpose()
    }
}

/// Treatment of fields that the schema does not know, and of duplicate ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse.
    Strict,
    /// Drop and say so.
    Warn,
    /// Drop.
    Ignore,
}

/// Options common to all writes.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Answer as if done, store nothing.
    pub dry_run: bool,
    /// See [`FieldValidation`].
    pub validation: FieldValidation,
    /// Who writes; from the query only.
    pub manager: Option<String>,
    /// `force` of an apply.
    pub force: Option<bool>,
}

impl WriteOptions {
    /// Reads them; `of` names the options kind in errors, for example `CreateOptions`.
    ///
    /// # Errors
    /// 422 for values that are not known.
    pub fn of(query: &Query, of: &str) -> Result<Self, Failure> {
        let refuse = |cause: Cause| Failure::invalid("meta.k8s.io", of, "", &[cause]);
        let dry_run = dry_run(query.all("dryRun"), of)?;
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return Err(refuse(Cause::not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"])));
            }
        };
        let manager = query.get("fieldManager").map(str::to_owned);
        if let Some(name) = &manager
            && (name.len() > 128 || name.chars().any(char::is_control))
        {
            let value = name.as_str().into();
            return Err(refuse(Cause::invalid("fieldManager", &value, "may have at most 128 printable characters")));
        }
        Ok(Self { dry_run, validation, manager, force: query.flag("force")? })
    }
}

/// Whether the values of `dryRun` ask for a dry run.
///
/// # Errors
/// 422 for another value than `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, of: &str) -> Result<bool, Failure> {
    let mut dry = false;
    for value in values {
        if value != "All" {
            let cause = Cause::not_supported("dryRun", value, &["All"]);
            return Err(Failure::invalid("meta.k8s.io", of, "", &[cause]));
        }
        dry = true;
    }
    Ok(dry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        match segments(path).and_then(|segments| route(&segments)) {
            Ok(Route::Collection(c)) => format!("{} in {:?}", c.resource.kind.plural, c.namespace),
            Ok(Route::Object(c, name, part)) => {
                format!("{} in {:?}: {name} {part:?}", c.resource.kind.plural, c.namespace)
            }
            Ok(other) => format!("{other:?}"),
            Err(failure) => failure.code().as_str().to_owned(),
        }
    }

    #[test]
    fn paths() {
        let vms = "/apis/virtualization.deckhouse.io/v1alpha2";
        let sub = "/apis/subresources.virtualization.deckhouse.io/v1alpha2";
        for (path, want) in [
            ("/api/v1/namespaces", "namespaces in None"),
            ("/api/v1/namespaces/a", "namespaces in None: a Main"),
            ("/api/v1/namespaces/a/status", "namespaces in None: a Status"),
            ("/api/v1/namespaces/a/finalize", "namespaces in None: a Finalize"),
            ("/api/v1/namespaces/a/configmaps", "configmaps in Some(\"a\")"),
            ("/api/v1/namespaces/a/configmaps/b", "configmaps in Some(\"a\"): b Main"),
            ("/api/v1/namespaces/a/configmaps/b/status", "404"),
            ("/api/v1/configmaps", "configmaps in None"),
            ("/api/v1/configmaps/b", "404"),
            ("/api/v1/nodes/n/status", "nodes in None: n Status"),
            ("/api/v1/namespaces/a/nodes", "404"),
            ("/api/v1/namespaces/a/endpoints", "404"),
            ("/api/v1/namespaces/a/services/b", "Fixed(Fixed { kind: Service, name: Some(\"b\") })"),
            ("/apis/events.k8s.io/v1/events", "events in None"),
            (&format!("{vms}/namespaces/a/virtualmachines/b%2Dc"), "virtualmachines in Some(\"a\"): b-c Main"),
            (&format!("{vms}/virtualmachineclasses/g"), "virtualmachineclasses in None: g Main"),
            ("/apis/virtualization.deckhouse.io/v1/virtualmachines", "404"),
            (&format!("{sub}/namespaces/a/virtualmachines/b/vnc"), "Stream(\"a\", \"b\", Vnc)"),
            (&format!("{sub}/namespaces/a/virtualmachines/b/start"), "404"),
            ("/api/v1/namespaces/a%2fb/configmaps", "400"),
            ("/api/v1/namespaces/%00/configmaps", "400"),
            ("/api/v1/namespaces/../configmaps", "400"),
            ("/api/v1/namespaces/%zz", "400"),
            ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "Review(\"selfsubjectaccessreviews\")"),
            ("/", "404"),
        ] {
            assert_eq!(told(path), want, "{path}");
        }
    }

    #[test]
    fn write_options() {
        let read = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            WriteOptions::of(&Query::of(&uri).unwrap(), "CreateOptions").map_err(|f| f.code().as_u16())
        };
        let plain = read("").unwrap();
        assert!(!plain.dry_run && plain.validation == FieldValidation::Warn && plain.manager.is_none());
        assert!(read("dryRun=All&fieldManager=a%20b").is_ok_and(|o| o.dry_run && o.manager.as_deref() == Some("a b")));
        for (query, code) in [("dryRun=Some", 422), ("fieldValidation=x", 422), ("force=maybe", 400)] {
            assert_eq!(read(query).unwrap_err(), code, "{query}");
        }
    }
}
