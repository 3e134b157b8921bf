//! kube-rs and its runtime, as a controller author uses them: discovery, watchers, reflectors, a `Controller` with
//! owned objects, finalizers, events, waits. Requests are counted on their way out, so that "no list again" is seen.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Secret};
use k8s_openapi::api::events::v1::Event as EventsEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, DeleteParams, GroupVersionKind, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams,
    Resource, ResourceExt,
};
use kube::core::GroupVersion;
use kube::discovery::{self, Discovery, Scope};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event as Note, EventType, Recorder, Reporter};
use kube::runtime::reflector;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, finalizer, watcher as watch};
use serde_json::json;
use tokio::sync::watch as news;
use vmdeck::types::VirtualMachine;

use super::rows::Rows;
use super::{Served, runtime_objects};

/// What a case gives: nothing, or why it failed.
pub type Told = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Fails the case with a text.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+).into());
        }
    };
}
pub(super) use ensure;

/// A client over TLS, and what it has asked for.
#[derive(Clone)]
pub struct Bench {
    pub client: kube::Client,
    asked: Arc<news::Sender<BTreeMap<String, u32>>>,
}

impl Bench {
    /// With the kubeconfig as a user has it. Inside a runtime.
    pub async fn of(served: &Served) -> Self {
        let kubeconfig = kube::config::Kubeconfig::read_from(&served.kubeconfig).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
        let asked = Arc::new(news::Sender::new(BTreeMap::new()));
        let counted = Arc::clone(&asked);
        let layer = tower::util::MapRequestLayer::new(move |request: http::Request<kube::client::Body>| {
            let watch = request.uri().query().unwrap_or_default().contains("watch=true");
            let verb = if watch { "WATCH" } else { request.method().as_str() };
            let resource = request.uri().path().rsplit('/').next().unwrap_or_default();
            counted.send_modify(|asked| *asked.entry(format!("{verb} {resource}")).or_default() += 1);
            request
        });
        let builder = kube::client::ClientBuilder::try_from(config.await.unwrap()).unwrap();
        Self { client: builder.with_layer(&layer).build(), asked }
    }

    pub fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub fn machines(&self) -> Api<VirtualMachine> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn asked(&self, what: &str) -> u32 {
        self.asked.borrow().get(what).copied().unwrap_or_default()
    }

    /// Waits until something has been asked for this many times.
    async fn until_asked(&self, what: &str, times: u32) {
        let enough = |asked: &BTreeMap<String, u32>| asked.get(what).is_some_and(|n| *n >= times);
        self.asked.subscribe().wait_for(enough).await.expect("the bench keeps the sender");
    }
}

/// A ConfigMap with one value and one label.
pub fn map(name: &str, label: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("case".to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// A machine that stays off, as the API takes it.
pub fn machine(name: &str) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"virtualMachineClassName": "host", "runPolicy": "AlwaysOff", "cpu": {"cores": 1, "coreFraction": "10%"},
            "memory": {"size": "256Mi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "none"}]},
    }))
    .expect("a machine")
}

/// A case: its text, and what it does.
pub type Case = (&'static str, fn(Bench) -> Pin<Box<dyn Future<Output = Told> + Send>>);

/// `case!(name)`: the function as a table holds it.
macro_rules! case {
    ($what:literal, $run:path) => {
        ($what, |bench| Box::pin($run(bench)))
    };
}
pub(super) use case;

const CASES: &[Case] = &[
    case!("RS-01 discovery, one group after another and aggregated, finds the same kinds", discoveries),
    case!("RS-02 oneshot: a pinned kind, a group", oneshots),
    case!("RS-03 watcher by list and watch, pages of two", watcher_by_list),
    case!("RS-04 watcher by streaming list", watcher_by_stream),
    case!("RS-05 metadata_watcher", watcher_of_metadata),
    case!("RS-06 reflector's store is the API's state after 100 writes by 4 writers", reflected),
    case!("RS-07 watches that end are resumed without listing again", resumed),
    case!("RS-08 Controller with owned objects: a reconcile per change, one list per kind", controlled),
    case!("RS-09 finalizer helper: apply, clean up, gone", finalized),
    case!("RS-10 Recorder: events.k8s.io event and its series, seen as v1 too", recorded),
    case!("RS-11 await_condition: definition established, object deleted, machine stopped", awaited),
];

#[test]
fn kube_rs_over_tls() {
    let served = Served::start();
    let cases: Vec<Case> = CASES.iter().chain(runtime_objects::CASES).copied().collect();
    table("kube-rs", &served, &cases);
}

/// Runs cases one after another in one world, each with a bench of its own.
pub fn table(title: &str, served: &Served, cases: &[Case]) {
    let mut rows = Rows::new(title);
    for (what, run) in cases {
        let outcome = served.world.block_on(async {
            let bench = Bench::of(served).await;
            tokio::time::timeout(Duration::from_secs(60), run(bench)).await
        });
        let outcome = outcome.unwrap_or_else(|_| Err("not done after a minute".into()));
        rows.add(what, outcome.map_err(|e| format!("{e}\n{}", served.world.log_tail())));
    }
    rows.judge(cases.len());
}

async fn discoveries(bench: Bench) -> Told {
    let machine = GroupVersionKind::gvk("virtualization.deckhouse.io", "v1alpha2", "VirtualMachine");
    let mut seen = Vec::new();
    let plain = Discovery::new(bench.client.clone()).run().await?;
    let aggregated = Discovery::new(bench.client.clone()).run_aggregated().await?;
    for found in [plain, aggregated] {
        let (resource, can) = found.resolve_gvk(&machine).ok_or("no VirtualMachine")?;
        ensure!(resource.plural == "virtualmachines" && can.scope == Scope::Namespaced, "{resource:?} {can:?}");
        ensure!(can.supports_operation("watch"), "{can:?}");
        ensure!(can.subresources.iter().any(|(r, _)| r.plural.ends_with("status")), "{:?}", can.subresources);
        let mut kinds: Vec<String> = found
            .groups()
            .flat_map(|g| g.recommended_resources())
            // The aggregated form also names the place of subresources, which is no kind.
            .filter(|(r, _)| !r.kind.is_empty())
            .map(|(r, _)| format!("{}/{}", r.api_version, r.kind))
            .collect();
        kinds.sort();
        seen.push(kinds);
    }
    ensure!(seen[0] == seen[1] && seen[0].len() > 12, "{seen:?}");
    Ok(())
}

async fn oneshots(bench: Bench) -> Told {
    let gvk = GroupVersionKind::gvk("virtualization.deckhouse.io", "v1alpha2", "VirtualDisk");
    let (resource, can) = discovery::pinned_kind(&bench.client, &gvk).await?;
    ensure!(resource.plural == "virtualdisks" && can.scope == Scope::Namespaced, "{resource:?}");
    let group = discovery::group(&bench.client, "virtualization.deckhouse.io").await?;
    ensure!(group.recommended_kind("VirtualMachineOperation").is_some(), "{:?}", group.preferred_version());
    let core = discovery::pinned_group(&bench.client, &GroupVersion::gv("", "v1")).await?;
    ensure!(core.recommended_kind("Secret").is_some(), "no Secret in core");
    Ok(())
}

async fn watcher_by_list(bench: Bench) -> Told {
    follow(&bench, "list", Config::default().page_size(2)).await?;
    // Five objects in pages of two.
    ensure!(bench.asked("GET configmaps") == 3, "{} lists", bench.asked("GET configmaps"));
    Ok(())
}

async fn watcher_by_stream(bench: Bench) -> Told {
    follow(&bench, "stream", Config::default().streaming_lists()).await?;
    ensure!(bench.asked("GET configmaps") == 0, "{} lists", bench.asked("GET configmaps"));
    Ok(())
}

/// Five objects, then one created, changed and deleted, as a watcher tells them.
async fn follow(bench: &Bench, label: &str, config: Config) -> Told {
    let maps = bench.maps();
    let name = |n: u32| format!("{label}-{n}");
    for n in 0..5 {
        maps.create(&PostParams::default(), &map(&name(n), label, "old")).await?;
    }
    let mut events = pin!(watch(maps.clone(), config.labels(&format!("case={label}"))));
    let mut told = Vec::new();
    while !told.iter().any(|t| t == "done") {
        told.push(word(events.try_next().await?.ok_or("the watcher ended")?));
    }
    let mut wanted = vec!["init".to_owned()];
    wanted.extend((0..5).map(|n| format!("have {} old", name(n))));
    wanted.push("done".to_owned());
    ensure!(told == wanted, "{told:?}");
    maps.create(&PostParams::default(), &map(&name(7), label, "new")).await?;
    let patch = Patch::Merge(json!({"data": {"value": "newer"}}));
    maps.patch(&name(7), &PatchParams::default(), &patch).await?;
    maps.delete(&name(7), &DeleteParams::default()).await?;
    maps.delete(&name(0), &DeleteParams::default()).await?;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(word(events.try_next().await?.ok_or("the watcher ended")?));
    }
    let wanted = [
        format!("apply {} new", name(7)),
        format!("apply {} newer", name(7)),
        format!("delete {} newer", name(7)),
        format!("delete {} old", name(0)),
    ];
    ensure!(told == wanted, "{told:?}");
    Ok(())
}

fn word(event: Event<ConfigMap>) -> String {
    let of = |verb: &str, object: ConfigMap| {
        let value = object.data.as_ref().and_then(|d| d.get("value")).cloned().unwrap_or_default();
        format!("{verb} {} {value}", object.name_any())
    };
    match event {
        Event::Init => "init".to_owned(),
        Event::InitDone => "done".to_owned(),
        Event::InitApply(object) => of("have", object),
        Event::Apply(object) => of("apply", object),
        Event::Delete(object) => of("delete", object),
    }
}

#[expect(deprecated, reason = "the old name of it is what is in use")]
async fn watcher_of_metadata(bench: Bench) -> Told {
    let maps = bench.maps();
    maps.create(&PostParams::default(), &map("meta-1", "meta", "x")).await?;
    let partial = Api::<PartialObjectMeta<ConfigMap>>::namespaced(bench.client.clone(), "default");
    for config in [Config::default(), Config::default().streaming_lists()] {
        let config = config.labels("case=meta");
        let old = kube::runtime::metadata_watcher(maps.clone(), config.clone()).applied_objects().boxed();
        let new = watch(partial.clone(), config).applied_objects().boxed();
        for mut objects in [old, new] {
            let object = objects.try_next().await?.ok_or("no object")?;
            ensure!(object.name_any() == "meta-1" && object.uid().is_some(), "{object:?}");
            ensure!(object.types.as_ref().is_some_and(|t| t.kind == "PartialObjectMetadata"), "{:?}", object.types);
        }
    }
    Ok(())
}

async fn reflected(bench: Bench) -> Told {
    let maps = bench.maps();
    let (store, writer) = reflector::store::<ConfigMap>();
    let stream = watch(maps.clone(), Config::default().labels("case=reflected"));
    let told = Arc::new(tokio::sync::Notify::new());
    let heard = Arc::clone(&told);
    let reading = tokio::spawn(async move {
        stream.default_backoff().reflect(writer).for_each(|_| async { heard.notify_one() }).await;
    });
    store.wait_until_ready().await?;
    let writers = (0..4).map(|writer| {
        let maps = maps.clone();
        async move {
            for n in 0..25 {
                let name = format!("reflected-{}", (writer * 7 + n * 3) % 10);
                let patch = Patch::Apply(map(&name, "reflected", &format!("{writer}-{n}")));
                match n % 5 {
                    4 => maps.delete(&name, &DeleteParams::default()).await.map(|_| ()).or_else(gone_already)?,
                    _ => maps.patch(&name, &PatchParams::apply("writer").force(), &patch).await.map(|_| ())?,
                }
            }
            Ok::<_, kube::Error>(())
        }
    });
    futures::future::try_join_all(writers).await?;
    let versions = |objects: Vec<(String, Option<String>)>| objects.into_iter().collect::<BTreeMap<_, _>>();
    let list = maps.list(&ListParams::default().labels("case=reflected")).await?;
    let wanted = versions(list.iter().map(|o| (o.name_any(), o.resource_version())).collect());
    ensure!(!wanted.is_empty(), "every object is gone");
    loop {
        let have = versions(store.state().iter().map(|o| (o.name_any(), o.resource_version())).collect());
        if have == wanted {
            break;
        }
        told.notified().await;
    }
    reading.abort();
    // One object was there to list at the most: the reader began before the writers.
    ensure!(bench.asked("WATCH configmaps") == 1, "{} watches", bench.asked("WATCH configmaps"));
    Ok(())
}

fn gone_already(error: kube::Error) -> Result<(), kube::Error> {
    match &error {
        kube::Error::Api(status) if status.is_not_found() => Ok(()),
        _ => Err(error),
    }
}

async fn resumed(bench: Bench) -> Told {
    let maps = bench.maps();
    let mut events = pin!(watch(maps.clone(), Config::default().labels("case=resumed").timeout(1)).default_backoff());
    while !matches!(events.try_next().await?, Some(Event::InitDone)) {}
    // Polled on, so that watches end by their own time limit and are opened anew.
    tokio::select! {
        event = events.try_next() => return Err(format!("nothing has happened, but: {event:?}").into()),
        () = bench.until_asked("WATCH configmaps", 3) => {}
    }
    maps.create(&PostParams::default(), &map("resumed-1", "resumed", "x")).await?;
    let event = events.try_next().await?.ok_or("the watcher ended")?;
    ensure!(matches!(&event, Event::Apply(o) if o.name_any() == "resumed-1"), "{event:?}");
    ensure!(bench.asked("GET configmaps") == 1, "{} lists", bench.asked("GET configmaps"));
    Ok(())
}

/// What a reconcile of [`controlled`] needs, and what it tells.
struct Controlled {
    secrets: Api<Secret>,
    /// Generation of the owner's content as it was seen, in order.
    seen: news::Sender<Vec<String>>,
}

async fn controlled(bench: Bench) -> Told {
    let (maps, secrets) = (bench.maps(), Api::<Secret>::namespaced(bench.client.clone(), "default"));
    let context = Arc::new(Controlled { secrets: secrets.clone(), seen: news::Sender::new(Vec::new()) });
    let mut seen = context.seen.subscribe();
    let config = Config::default().labels("case=controlled");
    // Watches that last a second: a controller's day in a few of them.
    let controller = Controller::new(maps.clone(), config.clone().timeout(1))
        .owns(secrets.clone(), config.timeout(1))
        .run(reconcile, |_, error, _| panic_free(error), Arc::clone(&context));
    let running = tokio::spawn(controller.for_each(|_| async {}));
    let expect = |count: usize| {
        let mut seen = seen.clone();
        async move { seen.wait_for(|s| s.len() >= count).await.map(|s| s.clone()) }
    };
    maps.create(&PostParams::default(), &map("controlled", "controlled", "one")).await?;
    // Once for the owner, once for the Secret that the first reconcile made.
    expect(2).await?;
    let patch = Patch::Merge(json!({"data": {"value": "two"}}));
    maps.patch("controlled", &PatchParams::default(), &patch).await?;
    // Again owner and Secret.
    expect(4).await?;
    // Somebody takes the owned object away: it is made again, which is two changes.
    secrets.delete("controlled", &DeleteParams::default()).await?;
    expect(6).await?;
    let watches = bench.asked("WATCH configmaps").max(bench.asked("WATCH secrets"));
    bench.until_asked("WATCH configmaps", watches + 3).await;
    bench.until_asked("WATCH secrets", watches + 3).await;
    let told = seen.borrow_and_update().clone();
    ensure!(told == ["one", "one", "two", "two", "two", "two"], "{told:?}");
    for what in ["GET configmaps", "GET secrets"] {
        ensure!(bench.asked(what) == 1, "{what}: {} times", bench.asked(what));
    }
    running.abort();
    // The owner takes the owned with it.
    let secret = secrets.get("controlled").await?;
    maps.delete("controlled", &DeleteParams::foreground()).await?;
    await_condition(secrets, "controlled", conditions::is_deleted(&secret.uid().unwrap_or_default())).await?;
    Ok(())
}

fn panic_free(error: &kube::Error) -> Action {
    eprintln!("reconcile: {error}");
    Action::requeue(Duration::from_millis(200))
}

async fn reconcile(owner: Arc<ConfigMap>, context: Arc<Controlled>) -> Result<Action, kube::Error> {
    let value = owner.data.as_ref().and_then(|d| d.get("value")).cloned().unwrap_or_default();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": owner.name_any(), "labels": owner.labels(), "ownerReferences": [owner.controller_owner_ref(&())]},
        "stringData": {"copy": value},
    });
    let patch = Patch::Apply(secret);
    context.secrets.patch(&owner.name_any(), &PatchParams::apply("controlled").force(), &patch).await?;
    context.seen.send_modify(|seen| seen.push(value));
    Ok(Action::await_change())
}

async fn finalized(bench: Bench) -> Told {
    const NAME: &str = "case.example.com/cleanup";
    let maps = bench.maps();
    let made = maps.create(&PostParams::default(), &map("finalized", "finalized", "x")).await?;
    let steps = Mutex::new(Vec::new());
    let step = async |object: ConfigMap| {
        finalizer(&maps, NAME, Arc::new(object), |event| {
            let word = match event {
                finalizer::Event::Apply(_) => "apply",
                finalizer::Event::Cleanup(_) => "cleanup",
            };
            steps.lock().expect("no panic").push(word);
            async { Ok::<_, kube::Error>(Action::await_change()) }
        })
        .await
        .map_err(|e| e.to_string())
    };
    step(made).await?;
    let object = maps.get("finalized").await?;
    ensure!(object.finalizers() == [NAME] && steps.lock().expect("no panic").is_empty(), "{:?}", object.metadata);
    step(object).await?;
    let uid = maps.delete("finalized", &DeleteParams::default()).await?.left().and_then(|o| o.uid()).ok_or("gone")?;
    let object = maps.get("finalized").await?;
    ensure!(object.metadata.deletion_timestamp.is_some(), "{:?}", object.metadata);
    step(object).await?;
    ensure!(*steps.lock().expect("no panic") == ["apply", "cleanup"], "{steps:?}");
    await_condition(maps.clone(), "finalized", conditions::is_deleted(&uid)).await?;
    Ok(())
}

async fn recorded(bench: Bench) -> Told {
    let about = bench.machines().create(&PostParams::default(), &machine("recorded")).await?;
    let reporter = Reporter { controller: "case".into(), instance: Some("case-1".into()) };
    let recorder = Recorder::new(bench.client.clone(), reporter);
    let note = Note {
        type_: EventType::Warning,
        reason: "Looked".into(),
        note: Some("looked at it".into()),
        action: "Look".into(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&note, &about.object_ref(&())).await?;
    }
    let new = Api::<EventsEvent>::namespaced(bench.client.clone(), "default");
    let found = new.list(&ListParams::default().fields("reason=Looked")).await?;
    ensure!(found.items.len() == 1, "{:?}", found.items);
    let event = &found.items[0];
    ensure!(event.series.as_ref().is_some_and(|s| s.count == 3), "{:?}", event.series);
    ensure!(event.note.as_deref() == Some("looked at it") && event.regarding.is_some(), "{event:?}");
    let old = Api::<CoreEvent>::namespaced(bench.client.clone(), "default");
    let uid = about.uid().unwrap_or_default();
    let fields = format!(
        "involvedObject.name=recorded,involvedObject.kind=VirtualMachine,involvedObject.uid={uid},reason=Looked"
    );
    let found = old.list(&ListParams::default().fields(&fields)).await?;
    ensure!(found.items.len() == 1, "{:?}", found.items);
    let event = &found.items[0];
    ensure!(event.message.as_deref() == Some("looked at it") && event.type_.as_deref() == Some("Warning"), "{event:?}");
    Ok(())
}

async fn awaited(bench: Bench) -> Told {
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    const NAME: &str = "virtualmachines.virtualization.deckhouse.io";
    let found = await_condition(definitions.clone(), NAME, conditions::is_crd_established()).await?;
    ensure!(found.is_some_and(|d| d.spec.names.kind == "VirtualMachine"), "another definition");
    let mut streaming = pin!(watch(definitions, Config::default().streaming_lists()));
    while !matches!(streaming.try_next().await?, Some(Event::InitDone)) {}

    let disk = json!({"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualDisk",
        "metadata": {"name": "awaited"}, "spec": {"persistentVolumeClaim": {"size": "10Mi"}}});
    let disks = Api::<vmdeck::types::VirtualDisk>::namespaced(bench.client.clone(), "default");
    disks.patch("awaited", &PatchParams::apply("case"), &Patch::Apply(disk)).await?;
    let mut wanted = machine("awaited");
    wanted.spec.block_device_refs[0].name = "awaited".into();
    let machines = bench.machines();
    let made = machines.create(&PostParams::default(), &wanted).await?;
    let stopped = |o: Option<&VirtualMachine>| serde_json::to_value(o).is_ok_and(|o| o["status"]["phase"] == "Stopped");
    await_condition(machines.clone(), "awaited", stopped).await?;
    let uid = made.uid().unwrap_or_default();
    let waiting = await_condition(machines.clone(), "awaited", conditions::is_deleted(&uid));
    let params = DeleteParams::default();
    let deleting = machines.delete("awaited", &params);
    let (waited, deleted) = tokio::join!(waiting, deleting);
    deleted?;
    waited?;
    ensure!(machines.get_opt("awaited").await?.is_none(), "still there");
    Ok(())
}
