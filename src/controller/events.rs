//! Events on objects. Written by a task of their own, so that no reconcile waits for them; a repeated event
//! counts up instead of piling up.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Clock;

/// How events name their sender.
const COMPONENT: &str = "vmdeck-controller";
/// Repeats are remembered for so many distinct events.
const REMEMBERED: usize = 4096;

/// Normal or worth a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// As expected.
    Normal,
    /// Somebody should look.
    Warning,
}

#[derive(Debug, Clone, PartialEq)]
struct Post {
    object: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// Takes events from reconciles.
#[derive(Clone)]
pub struct Recorder(UnboundedSender<Post>);

impl Recorder {
    /// The recorder, and the task that writes what it takes.
    pub fn new(client: Client, clock: Clock) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), write_all(client, clock, receiver))
    }

    /// Records an event on `object`.
    pub fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        let post = Post { object: object.object_ref(&()), severity, reason, message: message.into() };
        // Closed only while the controllers shut down.
        let _ = self.0.send(post);
    }

    /// Records a normal event.
    pub fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.record(object, Severity::Normal, reason, message);
    }

    /// Records a warning.
    pub fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.record(object, Severity::Warning, reason, message);
    }
}

async fn write_all(client: Client, clock: Clock, mut posts: UnboundedReceiver<Post>) {
    let mut seen: HashMap<(String, &'static str, String), (String, i32)> = HashMap::new();
    let mut serial = 0u64;
    while let Some(post) = posts.recv().await {
        let namespace = post.object.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let now = Time(clock());
        let key = (post.object.uid.clone().unwrap_or_default(), post.reason, post.message.clone());
        if let Some((name, count)) = seen.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": now});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, "repeated event is gone, writing it anew"),
            }
        }
        serial += 1;
        let stamp = clock().as_nanosecond().unsigned_abs() + u128::from(serial);
        let event = describe(post, &namespace, stamp, now);
        match api.create(&PostParams::default(), &event).await {
            Ok(written) => {
                if seen.len() >= REMEMBERED {
                    seen.clear();
                }
                seen.insert(key, (written.name_any(), 1));
            }
            Err(error) => tracing::warn!(%error, "cannot write an event"),
        }
    }
}

fn describe(post: Post, namespace: &str, stamp: u128, now: Time) -> Event {
    let Post { object, severity, reason, message } = post;
    let base = object.name.as_deref().unwrap_or("object");
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{base}.{stamp:x}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: object,
        reason: Some(reason.to_owned()),
        message: Some(message),
        type_: Some(match severity {
            Severity::Normal => "Normal".into(),
            Severity::Warning => "Warning".into(),
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: None }),
        reporting_component: Some(COMPONENT.into()),
        ..Event::default()
    }
}
