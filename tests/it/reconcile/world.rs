//! The real server in memory, the real controllers, a fake host, and words to talk about objects.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use vmdeck::apiserver;
use vmdeck::controller::{self, Options, UploadBase};
use vmdeck::store::{self, Store};
use vmdeck::types::kinds;

use super::fake_host::FakeHost;

/// How long a state may take to come about. Generous: a loaded machine is not a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub client: Client,
    pub host: Arc<FakeHost>,
    now: Arc<Mutex<jiff::Timestamp>>,
    controllers: Option<tokio::task::JoinHandle<()>>,
    options: Options,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with_store_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn with_store_in(dir: tempfile::TempDir) -> Self {
        let store = Store::open(dir.path(), store::Options::default()).unwrap();
        let client = Client::new(apiserver::router(store, apiserver::Options::default()), "default");
        let now = Arc::new(Mutex::new(jiff::Timestamp::now()));
        let clock = now.clone();
        let options = Options {
            cidrs: vec!["10.66.10.0/24".parse().unwrap()],
            node_name: "node".into(),
            capacity: controller::node::Capacity { cpu_percent: 100, memory_percent: 100, reserved_memory: 0 },
            lease_retention: Duration::from_secs(600),
            upload: UploadBase { socket: "/run/api.sock".into(), external: None },
            upload_timeout: Duration::from_secs(600),
            store: "store".into(),
            spared: dir.path().join("spared.json"),
            clock: Arc::new(move || *clock.lock()),
        };
        let mut world = Self { client, host: FakeHost::new(), now, controllers: None, options, _dir: dir };
        world.start();
        world
    }

    /// Starts the controllers.
    pub fn start(&mut self) {
        let (client, host, options) = (self.client.clone(), self.host.clone(), self.options.clone());
        self.controllers = Some(tokio::spawn(async move {
            controller::run(client, host, options, std::future::pending()).await.unwrap();
        }));
    }

    /// Ends the controllers, as when the daemon is killed.
    pub async fn stop(&mut self) {
        if let Some(task) = self.controllers.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Moves the controllers' clock.
    pub fn pass(&self, time: Duration) {
        let mut now = self.now.lock();
        *now = now.checked_add(time).unwrap();
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let info = kinds::find(kind).unwrap();
        let gvk = GroupVersionKind::gvk(info.group, info.version, info.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, info.plural);
        if info.namespaced() {
            Api::default_namespaced_with(self.client.clone(), &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    pub async fn create(&self, kind: &str, name: &str, body: Value) -> Value {
        let made = self.try_create(kind, name, body).await;
        let made = made.unwrap_or_else(|e| panic!("cannot create {kind} {name}: {e}"));
        serde_json::to_value(made).unwrap()
    }

    /// The server's words when it does not take the object.
    pub async fn refused(&self, kind: &str, name: &str, body: Value) -> String {
        self.try_create(kind, name, body).await.unwrap_err().to_string()
    }

    pub async fn try_create(&self, kind: &str, name: &str, body: Value) -> Result<DynamicObject, kube::Error> {
        let info = kinds::find(kind).unwrap();
        let mut object = json!({
            "apiVersion": info.api_version(), "kind": info.kind, "metadata": {"name": name},
        });
        json_patch::merge(&mut object, &body);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api(kind).create(&PostParams::default(), &object).await
    }

    pub async fn try_patch(&self, kind: &str, name: &str, patch: Value) -> Result<DynamicObject, kube::Error> {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        let patched = self.try_patch(kind, name, patch).await;
        patched.unwrap_or_else(|e| panic!("cannot patch {kind} {name}: {e}"));
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.api(kind).get_opt(name).await.unwrap().map(|o| serde_json::to_value(o).unwrap())
    }

    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.api(kind).list(&Default::default()).await.unwrap();
        list.into_iter().map(|o| serde_json::to_value(o).unwrap()).collect()
    }

    /// Waits until the object satisfies `wanted`; the answer is the object.
    pub async fn until(&self, kind: &str, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let object = self.get(kind, name).await.unwrap_or(Value::Null);
            if wanted(&object) {
                return object;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{kind} {name} is not {what}: {object:#}\nsteps: {:?}",
                self.host.steps()
            );
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    pub async fn phase(&self, kind: &str, name: &str, phase: &str) -> Value {
        self.until(kind, name, phase, |o| o["status"]["phase"] == phase).await
    }

    pub async fn gone(&self, kind: &str, name: &str) {
        self.until(kind, name, "gone", Value::is_null).await;
    }

    /// Waits until everything has settled: no object changes for a while.
    pub async fn settle(&self) {
        let mut before = String::new();
        let mut calm = 0;
        while calm < 8 {
            let mut versions = Vec::new();
            for info in kinds::KINDS {
                let gvk = GroupVersionKind::gvk(info.group, info.version, info.kind);
                let api: Api<DynamicObject> =
                    Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&gvk, info.plural));
                let list = api.list(&Default::default()).await.unwrap();
                versions.extend(list.iter().map(|o| (o.name_any(), o.resource_version())));
            }
            let now = format!("{versions:?}");
            calm = if now == before { calm + 1 } else { 0 };
            before = now;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A blank disk, ready.
    pub async fn disk(&self, name: &str) -> Value {
        self.create("vd", name, json!({"spec": {"persistentVolumeClaim": {"size": "1Gi"}}})).await;
        self.phase("vd", name, "Ready").await
    }

    /// A machine like the user guide's first example; `spec` is merged over it.
    pub async fn machine(&self, name: &str, spec: Value) -> Value {
        let mut body = json!({"spec": {
            "virtualMachineClassName": "host",
            "provisioning": {"type": "UserData", "userData": "#cloud-config\nusers: []\n"},
            "cpu": {"cores": 1, "coreFraction": "10%"},
            "memory": {"size": "1Gi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": format!("{name}-root")}],
        }});
        json_patch::merge(&mut body["spec"], &spec);
        self.create("vm", name, body).await
    }

    /// A disk and a machine that runs from it.
    pub async fn running(&self, name: &str, spec: Value) -> Value {
        self.disk(&format!("{name}-root")).await;
        self.machine(name, spec).await;
        self.phase("vm", name, "Running").await
    }

    pub async fn operation(&self, name: &str, type_: &str, vm: &str, force: Option<bool>) -> Value {
        let mut spec = json!({"type": type_, "virtualMachineName": vm});
        if let Some(force) = force {
            spec["force"] = force.into();
        }
        self.create("vmop", name, json!({ "spec": spec })).await
    }

    pub async fn events(&self, name: &str) -> Vec<String> {
        let events = self.list("events").await;
        let of = events.iter().filter(|e| e["involvedObject"]["name"] == name);
        of.filter_map(|e| e["reason"].as_str().map(str::to_owned)).collect()
    }
}

/// UID of an object.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// Status, reason and message of a condition.
pub fn condition<'a>(object: &'a Value, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_);
    let text = |key: &str| found.and_then(|c| c[key].as_str()).unwrap_or("");
    (text("status"), text("reason"), text("message"))
}
