//! create, update and patch (k8s-api.md 1.3 and 1.4).

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::Api;
use super::admission::{self, Stored};
use super::apply::{self, Writer};
use super::audit::Named;
use super::decode::Decoded;
use super::media::{self, Wanted};
use super::object::{self, Object};
use super::patch::Patch;
use super::prepare;
use super::present::Presentation;
use super::request::{Collection, FieldValidation, Part, Query, WriteOptions};
use super::status::{Cause, Failure};
use crate::store::{Action, Entry, Expect, Key, Write, WriteError};
use crate::types::kinds::{self, KindInfo};
use crate::types::schema::Schema;

/// Rounds of reading and writing before a write gives up against other writers.
pub(super) const ATTEMPTS: usize = 64;

/// Largest stored object (etcd's usual).
const MAX_OBJECT: usize = 3 << 19;

/// One write request.
pub struct Call<'a> {
    /// The server.
    pub api: &'a Api,
    /// Of what.
    pub collection: &'a Collection,
    /// The query.
    pub query: &'a Query,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a Bytes,
    /// What the client takes.
    pub wanted: Wanted,
}

/// Whether who owns which field is still to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// By comparing before and after.
    Track,
    /// An apply has done it.
    Known,
}

/// What is done to an object.
enum Intent {
    Replace(Decoded),
    Patch(Patch, Vec<String>),
}

impl Call<'_> {
    pub(super) fn kind(&self) -> &'static KindInfo {
        self.collection.resource.kind
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As k8s-api.md 1.3 says.
    pub async fn create(&self) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::of(self.query, "CreateOptions")?;
        self.only_apply_forces(&options)?;
        let decoded = media::object(self.headers, self.body)?;
        let given = object::text(&decoded.object, "resourceVersion");
        if !given.is_empty() && given != "0" {
            return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let mut warnings = Vec::new();
        self.note_duplicates(&options, &decoded.duplicates, &mut warnings)?;
        let entry = self.create_object(decoded.object, &options, Owners::Track, &mut warnings).await?;
        self.answer(StatusCode::CREATED, &entry, warnings)
    }

    pub(super) async fn create_object(
        &self,
        body: Object,
        options: &WriteOptions,
        owners: Owners,
        warnings: &mut Vec<String>,
    ) -> Result<Entry, Failure> {
        let kind = self.kind();
        let mut object = body;
        prepare::check_kind(kind, &self.collection.resource.api_version(), &mut object)?;
        prepare::check_place(kind, self.collection.namespace.as_deref(), &mut object)?;
        object = self.collection.resource.face.stored(object);
        let prefix = object::text(&object, "generateName").to_owned();
        let generated = object::name(&object).is_empty() && !prefix.is_empty();
        admission::conform(&self.world(), kind, &mut object, options, warnings)?;
        prepare::fresh(kind, &mut object, &uuid::Uuid::new_v4().to_string(), &object::now());

        for _ in 0..ATTEMPTS {
            let mut object = object.clone();
            if generated {
                let name = super::metadata::generate_name(&prefix);
                object::metadata_mut(&mut object).insert("name".to_owned(), name.into());
            }
            let requires = self.living_namespace(object::name(&object))?;
            prepare::check(kind, None, &mut object)?;
            let _alone = self.rule(Part::Main, None, &mut object, warnings).await?;
            if owners == Owners::Track {
                self.track(None, &mut object, Part::Main, options);
            }
            let key = self.collection.key(object::name(&object));
            let body = object::encode(&object);
            fits(&body)?;
            if options.dry_run {
                if self.api.store.get(&key).is_some() {
                    return Err(Failure::already_exists(kind, &key.name));
                }
                return Ok(unversioned(key, &object));
            }
            let name = key.name.to_string();
            let action = Action::Put(body);
            match self.api.store.write(Write { key, expect: Expect::Absent, requires, action }).await {
                Ok(written) => return Ok((*written.entry).clone()),
                Err(WriteError::Requirement(_)) => {}
                Err(WriteError::Exists(_)) if generated => {}
                Err(error) => return Err(Failure::from_write(error, kind, &name)),
            }
        }
        Err(Failure::already_exists(kind, &prefix))
    }

    /// The namespace must be there and must not be going; that has to hold still when the object is written.
    fn living_namespace(&self, name: &str) -> Result<Vec<(Key, Expect)>, Failure> {
        let Some(namespace) = &self.collection.namespace else { return Ok(Vec::new()) };
        let kind = kinds::by_resource("", "namespaces").ok_or_else(Failure::no_such_path)?;
        let key = Key::new(&kind.qualified(), "", namespace);
        let entry = self.api.store.get(&key).ok_or_else(|| Failure::not_found(kind, namespace))?;
        if object::head(&entry.bytes).deletion_timestamp.is_some() {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(Failure::forbidden(self.kind(), name, &why));
        }
        Ok(vec![(key, Expect::At(entry.revision))])
    }

    /// Replaces an object or a part of it.
    ///
    /// # Errors
    /// As k8s-api.md 1.3 says.
    pub async fn update(&self, name: &str, part: Part) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::of(self.query, "UpdateOptions")?;
        self.only_apply_forces(&options)?;
        let mut decoded = media::object(self.headers, self.body)?;
        prepare::check_kind(self.kind(), &self.collection.resource.api_version(), &mut decoded.object)?;
        self.modify(name, part, &options, Intent::Replace(decoded)).await
    }

    /// Patches an object or a part of it.
    ///
    /// # Errors
    /// As k8s-api.md 1.4 says.
    pub async fn patch(&self, name: &str, part: Part) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::of(self.query, "PatchOptions")?;
        let (patch, duplicates) = Patch::of(self.kind(), self.headers, self.body)?;
        match patch {
            Patch::Apply(decoded) => self.apply(name, part, &options, decoded).await,
            patch => {
                self.only_apply_forces(&options)?;
                self.modify(name, part, &options, Intent::Patch(patch, duplicates)).await
            }
        }
    }

    fn only_apply_forces(&self, options: &WriteOptions) -> Result<(), Failure> {
        if options.force.is_none() {
            return Ok(());
        }
        let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
        Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &[cause]))
    }

    async fn modify(
        &self,
        name: &str,
        part: Part,
        options: &WriteOptions,
        intent: Intent,
    ) -> Result<Response<Body>, Failure> {
        let key = self.collection.key(name);
        for _ in 0..ATTEMPTS {
            let mut warnings = Vec::new();
            let Some(entry) = self.api.store.get(&key) else {
                return self.create_by_update(name, part, options, intent).await;
            };
            let old = object::parse(&entry);
            let wanted = self.intended(&old, &intent, options, &mut warnings)?;
            self.check_version(&entry, &wanted, &intent)?;
            if let Some(response) = self.settle(&entry, &old, wanted, part, options, Owners::Track, warnings).await? {
                return Ok(response);
            }
        }
        Err(Failure::modified(self.kind(), name))
    }

    /// Stores what `wanted` makes of `old` and answers; `None` when somebody else wrote in between.
    #[expect(clippy::too_many_arguments, reason = "two callers, and no two of them belong together")]
    pub(super) async fn settle(
        &self,
        entry: &Entry,
        old: &Object,
        wanted: Object,
        part: Part,
        options: &WriteOptions,
        owners: Owners,
        mut warnings: Vec<String>,
    ) -> Result<Option<Response<Body>>, Failure> {
        let kind = self.kind();
        let mut new = prepare::updated(kind, part, old, wanted)?;
        admission::conform(&self.world(), kind, &mut new, options, &mut warnings)?;
        prepare::check(kind, Some(old), &mut new)?;
        let _alone = self.rule(part, Some(old), &mut new, &mut warnings).await?;
        if owners == Owners::Track {
            self.track(Some(old), &mut new, part, options);
        }
        if prepare::same(old, &new) {
            return self.answer(StatusCode::OK, entry, warnings).map(Some);
        }
        prepare::count_generation(kind, old, &mut new);
        let body = object::encode(&new);
        // What is on its way out has to be able to go.
        if !object::is_terminating(&new) {
            fits(&body)?;
        }
        if options.dry_run {
            let bytes = body.render(entry.revision);
            let shown = Entry { bytes, ..entry.clone() };
            return self.answer(StatusCode::OK, &shown, warnings).map(Some);
        }
        let action = match (object::is_terminating(&new), object::may_vanish(&new)) {
            (true, true) => Action::Delete(body),
            // On its way out: finalizers must be able to go even when the disk is full.
            (true, false) => Action::Retire(body),
            (false, _) => Action::Put(body),
        };
        let write = Write { key: entry.key.clone(), expect: Expect::At(entry.revision), requires: Vec::new(), action };
        match self.api.store.write(write).await {
            Ok(written) => self.answer(StatusCode::OK, &written.entry, warnings).map(Some),
            // Read it again: with a version in the request the next round refuses, without one it is redone.
            Err(WriteError::Moved(_) | WriteError::Missing | WriteError::Requirement(_)) => Ok(None),
            Err(error) => Err(Failure::from_write(error, kind, &entry.key.name)),
        }
    }

    /// Applies the rules of the kind. What is given back has to be held until the write is done, so that no two writes
    /// that must not both be done are checked at the same time.
    async fn rule(
        &self,
        part: Part,
        old: Option<&Object>,
        new: &mut Object,
        warnings: &mut Vec<String>,
    ) -> Result<Option<MutexGuard<'_, ()>>, Failure> {
        let kind = self.kind();
        if part != Part::Main || kind.crd.is_none() {
            return Ok(None);
        }
        let alone = match admission::across::concerns(kind) {
            true => Some(self.api.alone.lock().await),
            false => None,
        };
        admission::rule(&self.world(), kind, old, new, warnings)?;
        Ok(alone)
    }

    fn world(&self) -> Stored<'_> {
        Stored { store: &self.api.store, networks: self.api.options.networks.as_deref() }
    }

    /// Records who owns the fields that a plain write changed.
    fn track(&self, old: Option<&Object>, new: &mut Object, part: Part, options: &WriteOptions) {
        let manager = self.manager(options);
        let api_version = self.collection.resource.kind.api_version();
        let writer = self.writer(&manager, &api_version, part);
        let old = old.map(|o| Value::Object(o.clone()));
        let mut value = Value::Object(std::mem::take(new));
        apply::track(old.as_ref(), &mut value, &Schema::of(self.kind()), &writer);
        if let Value::Object(object) = value {
            *new = object;
        }
    }

    /// `fieldManager`, else the program that the User-Agent names.
    fn manager(&self, options: &WriteOptions) -> String {
        let agent = || {
            let value = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
            value.split('/').next().filter(|a| !a.is_empty()).unwrap_or("unknown").chars().take(128).collect()
        };
        options.manager.clone().unwrap_or_else(agent)
    }

    pub(super) fn writer<'a>(&self, manager: &'a str, api_version: &'a str, part: Part) -> Writer<'a> {
        Writer {
            manager,
            subresource: match part {
                Part::Main => None,
                Part::Status => Some("status"),
                Part::Finalize => Some("finalize"),
            },
            api_version,
            status_apart: self.kind().status,
            now: jiff::Timestamp::now(),
        }
    }

    /// What the client wants the object to be, in its stored form.
    fn intended(
        &self,
        old: &Object,
        intent: &Intent,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Failure> {
        let face = self.collection.resource.face;
        let wanted = match intent {
            Intent::Replace(decoded) => {
                self.note_duplicates(options, &decoded.duplicates, warnings)?;
                decoded.object.clone()
            }
            Intent::Patch(patch, duplicates) => {
                self.note_duplicates(options, duplicates, warnings)?;
                let mut wanted = patch.apply(self.kind(), &face.shown(old.clone()))?;
                prepare::check_kind(self.kind(), &self.collection.resource.api_version(), &mut wanted)?;
                wanted
            }
        };
        Ok(face.stored(wanted))
    }

    /// The version that the client worked from must be the present one.
    fn check_version(&self, entry: &Entry, wanted: &Object, intent: &Intent) -> Result<(), Failure> {
        let kind = self.kind();
        let given = object::text(wanted, "resourceVersion");
        if given == entry.revision.to_string() {
            return Ok(());
        }
        let unconditional = kind.crd.is_none() && kind.plural != "leases";
        let is_replace = matches!(intent, Intent::Replace(_));
        match given {
            "" | "0" if !is_replace || unconditional => Ok(()),
            "" | "0" => {
                let cause = Cause::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
                Err(Failure::invalid_object(kind, &entry.key.name, &[cause]))
            }
            _ => Err(Failure::modified(kind, &entry.key.name)),
        }
    }

    /// A PUT of something that is not there creates it for some kinds; an apply does for all.
    async fn create_by_update(
        &self,
        name: &str,
        part: Part,
        options: &WriteOptions,
        intent: Intent,
    ) -> Result<Response<Body>, Failure> {
        let kind = self.kind();
        let body = match intent {
            Intent::Replace(decoded) if matches!(kind.plural, "leases" | "events") && part == Part::Main => decoded,
            _ => return Err(Failure::not_found(kind, name)),
        };
        let mut warnings = Vec::new();
        let mut object = body.object;
        match object::name(&object) {
            "" => {
                object::metadata_mut(&mut object).insert("name".to_owned(), name.into());
            }
            given if given == name => {}
            given => {
                return Err(Failure::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
        }
        let entry = self.create_object(object, options, Owners::Track, &mut warnings).await?;
        self.answer(StatusCode::CREATED, &entry, warnings)
    }

    pub(super) fn note_duplicates(
        &self,
        options: &WriteOptions,
        duplicates: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let told: Vec<String> = duplicates.iter().map(|d| format!("duplicate field {d:?}")).collect();
        note_fields(self.kind(), options.validation, told, warnings)
    }

    pub(super) fn answer(
        &self,
        code: StatusCode,
        entry: &Entry,
        warnings: Vec<String>,
    ) -> Result<Response<Body>, Failure> {
        let presentation = Presentation::of(self.collection.resource, self.wanted, self.query)?;
        let mut response = media::json_bytes(code, presentation.object(entry), self.wanted);
        add_warnings(&mut response, &warnings);
        response.extensions_mut().insert(Named(entry.key.name.to_string()));
        Ok(response)
    }
}

/// Refuses what is larger than an object may be in the store.
fn fits(body: &crate::store::Body) -> Result<(), Failure> {
    match body.head.len() + body.tail.len() {
        size if size > MAX_OBJECT => Err(Failure::too_large(MAX_OBJECT)),
        _ => Ok(()),
    }
}

/// Refuses unknown or duplicate fields, warns of them, or is silent.
///
/// # Errors
/// 400 with `Strict`.
pub fn note_fields(
    kind: &KindInfo,
    validation: FieldValidation,
    told: Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    match validation {
        _ if told.is_empty() => {}
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(told),
        FieldValidation::Strict => {
            return Err(Failure::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                told.join(", ")
            )));
        }
    }
    Ok(())
}

/// Adds `Warning` headers.
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen = std::collections::HashSet::new();
    for warning in warnings.iter().filter(|w| seen.insert(*w)).take(50) {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// An object that is not stored: it has no version.
fn unversioned(key: Key, object: &Object) -> Entry {
    Entry { key, revision: 0, bytes: Value::Object(object.clone()).to_string().into() }
}
