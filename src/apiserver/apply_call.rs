//! Server-side apply requests: the checks around [`apply::apply`].

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::Value;

use super::admission;
use super::apply::{self, ApplyError};
use super::decode::Decoded;
use super::object::{self, Object};
use super::prepare;
use super::request::{Part, WriteOptions};
use super::status::{Cause, Failure};
use super::write::{ATTEMPTS, Call, Owners};
use crate::types::schema::Schema;

impl Call<'_> {
    /// Applies the fields of a body for their manager.
    ///
    /// # Errors
    /// As k8s-api.md 1.4 says: 409 with the conflicts, 400, 404 (status of a missing object), 422.
    pub(super) async fn apply(
        &self,
        name: &str,
        part: Part,
        options: &WriteOptions,
        decoded: Decoded,
    ) -> Result<Response<Body>, Failure> {
        let kind = self.kind();
        let Some(manager) = options.manager.as_deref() else {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
        };
        let mut warnings = Vec::new();
        self.note_duplicates(options, &decoded.duplicates, &mut warnings)?;
        let body = self.applied(name, decoded.object, options, &mut warnings)?;
        let schema = Schema::of(kind);
        let api_version = kind.api_version();
        let writer = self.writer(manager, &api_version, part);
        let force = options.force.unwrap_or(false);
        let refused = |error| match error {
            ApplyError::Conflicts(conflicts) => {
                let told: Vec<_> =
                    conflicts.into_iter().map(|c| (format!("conflict with {}", c.manager), c.path)).collect();
                Failure::apply_conflict(&told)
            }
            ApplyError::Invalid(errors) => {
                let causes: Vec<Cause> = errors.into_iter().map(Cause::from).collect();
                Failure::invalid_object(kind, name, &causes)
            }
        };

        let key = self.collection.key(name);
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.api.store.get(&key) else {
                if part != Part::Main {
                    return Err(Failure::not_found(kind, name));
                }
                let uid = object::text(&body, "uid");
                if !uid.is_empty() {
                    let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
                    return Err(Failure::conflict(kind, name, &why));
                }
                let merged =
                    apply::apply(None, &Value::Object(body.clone()), &schema, &writer, force).map_err(refused)?;
                let mut warnings = warnings.clone();
                match self.create_object(map(merged), options, Owners::Known, &mut warnings).await {
                    // Somebody else created it meanwhile: apply to that.
                    Err(failure) if failure.code() == StatusCode::CONFLICT => continue,
                    created => return self.answer(StatusCode::CREATED, &created?, warnings),
                }
            };
            let old = object::parse(&entry);
            let version = object::text(&body, "resourceVersion");
            if !version.is_empty() && version != entry.revision.to_string() {
                return Err(Failure::modified(kind, name));
            }
            let uid = object::text(&body, "uid");
            if !uid.is_empty() && uid != object::text(&old, "uid") {
                let live = object::text(&old, "uid");
                let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {live}");
                return Err(Failure::conflict(kind, name, &why));
            }
            let live = Value::Object(old.clone());
            let merged =
                apply::apply(Some(&live), &Value::Object(body.clone()), &schema, &writer, force).map_err(refused)?;
            let settled =
                self.settle(&entry, &old, map(merged), part, options, Owners::Known, warnings.clone()).await?;
            if let Some(response) = settled {
                return Ok(response);
            }
        }
        Err(Failure::modified(kind, name))
    }

    /// The body in its stored form, checked for what an apply may not say.
    fn applied(
        &self,
        name: &str,
        mut body: Object,
        options: &WriteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Failure> {
        let kind = self.kind();
        if object::metadata(&body).and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let resource = self.collection.resource;
        prepare::check_kind(kind, &resource.api_version(), &mut body)
            .map_err(|f| Failure::bad_request(f.message().to_owned()))?;
        prepare::check_place(kind, self.collection.namespace.as_deref(), &mut body)?;
        match object::name(&body) {
            "" => {
                object::metadata_mut(&mut body).insert("name".to_owned(), name.into());
            }
            given if given == name => {}
            given => {
                return Err(Failure::bad_request(format!(
                    "metadata.name: the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
        }
        body = resource.face.stored(body);
        // Nobody shall own what is not stored.
        let mut value = Value::Object(body);
        let unknown = Schema::of(kind).prune(&mut value);
        admission::note_unknown(kind, options.validation, &unknown, warnings)?;
        Ok(map(value))
    }
}

fn map(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
