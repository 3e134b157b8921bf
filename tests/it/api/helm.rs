//! Those who apply for others: Helm with its releases in Secrets, and the calls of Flux's kustomize-controller.

use std::pin::pin;

use futures::TryStreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams, ResourceExt, WatchEvent};
use kube::api::{ApiResource, WatchParams};
use serde_json::{Value, json};

use super::desk::{Case, Desk, case};
use super::rows::Rows;
use super::runtime::{self, Bench, Told, ensure};
use super::{Served, programs};

const CHART: &[(&str, &str)] = &[
    ("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n"),
    ("chart/values.yaml", "cores: 1\n"),
    (
        "chart/templates/all.yaml",
        "apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-user-data}
type: provisioning.virtualization.deckhouse.io/cloud-init
stringData: {userData: \"#cloud-config\\nssh_pwauth: True\\n\"}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: {{ .Release.Name }}-root}
spec: {persistentVolumeClaim: {size: 10Mi}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata: {name: {{ .Release.Name }}}
spec:
  virtualMachineClassName: host
  runPolicy: AlwaysOff
  provisioning: {type: UserDataRef, userDataRef: {kind: Secret, name: {{ .Release.Name }}-user-data}}
  cpu: {cores: {{ .Values.cores }}, coreFraction: 10%}
  memory: {size: 256Mi}
  blockDeviceRefs: [{kind: VirtualDisk, name: {{ .Release.Name }}-root}]
",
    ),
    ("big/Chart.yaml", "apiVersion: v2\nname: big\nversion: 0.1.0\n"),
    ("big/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"),
];

/// A release's life, and a large one.
const CASES: &[Case] = &[
    case("HELM-01", "helm install web ./chart", &["STATUS: deployed", "REVISION: 1"]),
    case("HELM-02", "helm list", &[r"^web\s+default\s+1\s.*deployed\s+web-0.1.0"]),
    case("HELM-03", "helm upgrade web ./chart --set cores=2 --wait --timeout 60s", &["STATUS: deployed", "REVISION: 2"]),
    case("HELM-04", "vmdeck get vm web -o 'jsonpath={.spec.cpu.cores}'", &["^2$"]),
    case("HELM-05", "helm upgrade web ./chart --set cores=3 --dry-run=server", &["cores: 3"]),
    case("HELM-06", "helm history web", &[r"^1\s.*superseded", r"^2\s.*deployed", "!^3"]),
    case("HELM-07", "helm rollback web 1 && vmdeck get vm web -o 'jsonpath={.spec.cpu.cores}'", &["Rollback was a success", "1$"]),
    case("HELM-08", "helm status web", &["STATUS: deployed", "REVISION: 3"]),
    // A change by hand is a conflict for Helm, as it applies on the server.
    case(
        "HELM-09",
        "vmdeck patch vm web --type merge -p '{\"spec\":{\"cpu\":{\"cores\":4}}}' && helm upgrade web ./chart --set cores=5",
        &["conflict"],
    )
    .exits(1),
    case(
        "HELM-10",
        "helm upgrade web ./chart --set cores=5 --force-conflicts && vmdeck get vm web -o 'jsonpath={.spec.cpu.cores}'",
        &["STATUS: deployed", "5$"],
    ),
    case("HELM-11", "helm uninstall web --wait --timeout 60s; vmdeck get vm,vd", &["uninstalled", "!virtual"]),
    // Its file cannot be compressed: the release's Secret is almost as large as a Secret may be.
    case("HELM-12", "helm install big ./big", &["STATUS: deployed", "REVISION: 1"]),
    case(
        "HELM-13",
        "vmdeck get secret sh.helm.release.v1.big.v1 -o json |
         jq -r '.type, (.data.release | @base64d | length > 1000000)'; helm get manifest big",
        &["^helm.sh/release.v1\ntrue$", "kind: ConfigMap"],
    ),
];

#[test]
fn helm() {
    let Some(helm) = programs::installed("helm") else { return };
    let desk = Desk::new(&[("helm", &helm)], CHART);
    let mut noise = Vec::new();
    while noise.len() < 760 << 10 {
        noise.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    desk.put("big/files/noise", &noise);
    let mut rows = Rows::new("Helm");
    for case in CASES {
        rows.add(&case.title(), desk.run(case));
    }
    rows.judge(CASES.len());
}

const APPLIED: &[runtime::Case] = &[
    runtime::case!("FLUX-01 apply as kustomize-controller: dry run, forced, again without change or event", flux),
    runtime::case!("FLUX-02 what another manager set is taken over, what is left out goes", taken_over),
    runtime::case!("FLUX-03 a Secret of 1 MiB is stored and listed; one byte more is refused", large_secret),
];

#[test]
fn those_who_apply_for_others() {
    let served = Served::start();
    runtime::table("appliers", &served, APPLIED);
}

fn manifest(cores: i64) -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "flux", "namespace": "default", "labels": {
            "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
        "spec": {"virtualMachineClassName": "host", "runPolicy": "AlwaysOff",
            "cpu": {"cores": cores, "coreFraction": "10%"}, "memory": {"size": "256Mi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "none"}]},
    })
}

/// Objects without a type of their own, as an applier handles them.
fn machines(bench: &Bench) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<vmdeck::types::VirtualMachine>(&());
    Api::namespaced_with(bench.client.clone(), "default", &resource)
}

async fn flux(bench: Bench) -> Told {
    let machines = machines(&bench);
    let forced = PatchParams::apply("kustomize-controller").force();
    let dry = forced.clone().dry_run();
    // New: the dry run shows what would come, and nothing comes.
    let shown = machines.patch("flux", &dry, &Patch::Apply(manifest(1))).await?;
    ensure!(shown.data["spec"]["cpu"]["cores"] == 1, "{:?}", shown.data);
    ensure!(machines.get_opt("flux").await?.is_none(), "a dry run was stored");
    let first = machines.patch("flux", &forced, &Patch::Apply(manifest(1))).await?;
    // Its controller writes the status once; then all is quiet.
    let quiet = {
        let waiting = kube::runtime::wait::await_condition(machines.clone(), "flux", |o: Option<&DynamicObject>| {
            o.is_some_and(|o| o.data["status"]["phase"].is_string() && o.data["status"]["conditions"].is_array())
        });
        waiting.await?.ok_or("gone")?
    };
    ensure!(quiet.uid() == first.uid(), "another machine");
    let from = machines.list(&ListParams::default()).await?.metadata.resource_version.ok_or("no version")?;
    let spec = |o: &DynamicObject| (o.metadata.generation, o.metadata.managed_fields.as_ref().map(Vec::len));
    let before = machines.get("flux").await?;
    for params in [&dry, &forced, &dry, &forced] {
        let again = machines.patch("flux", params, &Patch::Apply(manifest(1))).await?;
        ensure!(spec(&again) == spec(&before), "{:?} after {:?}", again.metadata, before.metadata);
    }
    // A mark behind them: whatever comes before it on the watch is what they did.
    machines
        .patch("flux", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"mark": "1"}}})))
        .await?;
    let mut events = pin!(machines.watch(&WatchParams::default().timeout(60), &from).await?);
    while let Some(event) = events.try_next().await? {
        let WatchEvent::Modified(object) = event else { return Err(format!("{event:?}").into()) };
        if object.labels().contains_key("mark") {
            break;
        }
        // Only the machine's own controller may have been at it: nobody else's entry is younger than before.
        let times = |o: &DynamicObject| {
            let fields = o.metadata.managed_fields.clone().unwrap_or_default();
            fields.into_iter().filter(|f| f.subresource.is_none()).map(|f| (f.manager, f.time)).collect::<Vec<_>>()
        };
        ensure!(times(&object) == times(&before), "an apply without change was an event: {:?}", object.metadata);
    }
    Ok(())
}

async fn taken_over(bench: Bench) -> Told {
    let machines = machines(&bench);
    let forced = PatchParams::apply("kustomize-controller").force();
    let mut wanted = manifest(1);
    wanted["metadata"]["annotations"] = json!({"note": "x"});
    machines.patch("flux", &forced, &Patch::Apply(&wanted)).await?;
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    machines.patch("flux", &by_hand, &Patch::Merge(json!({"spec": {"cpu": {"cores": 3}}}))).await?;
    let shown = machines.patch("flux", &forced.clone().dry_run(), &Patch::Apply(manifest(1))).await?;
    ensure!(shown.data["spec"]["cpu"]["cores"] == 1, "the dry run shows no drift: {:?}", shown.data["spec"]);
    ensure!(machines.get("flux").await?.data["spec"]["cpu"]["cores"] == 3, "a dry run was stored");
    let after = machines.patch("flux", &forced, &Patch::Apply(manifest(1))).await?;
    ensure!(after.data["spec"]["cpu"]["cores"] == 1, "{:?}", after.data);
    ensure!(!after.annotations().contains_key("note"), "what is left out stays: {:?}", after.annotations());
    Ok(())
}

async fn large_secret(bench: Bench) -> Told {
    const LARGEST: usize = 1 << 20;
    let secrets = Api::<Secret>::namespaced(bench.client.clone(), "default");
    let secret = |name: &str, size: usize| Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("owner".to_owned(), "helm".to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("helm.sh/release.v1".to_owned()),
        data: Some([("release".to_owned(), ByteString(vec![b'x'; size]))].into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &secret("sh.helm.release.v1.big.v1", LARGEST)).await?;
    let found = secrets.list(&ListParams::default().labels("owner=helm").fields("type=helm.sh/release.v1")).await?;
    let size = found.items.first().and_then(|s| s.data.as_ref()).and_then(|d| d.get("release")).map(|b| b.0.len());
    ensure!(size == Some(LARGEST), "{size:?}");
    match secrets.create(&PostParams::default(), &secret("sh.helm.release.v1.big.v2", LARGEST + 1)).await {
        Err(kube::Error::Api(status)) if status.is_invalid() => Ok(()),
        other => Err(format!("not refused as invalid: {:?}", other.map(|s| s.metadata)).into()),
    }
}
