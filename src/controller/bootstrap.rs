//! What exists after the first start: the Node, the classes `host` and `generic`.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Context, Error, node};
use crate::types::{DEFAULT_CLASS_ANNOTATION, VirtualMachineClass};

/// Records that the first start has happened; classes deleted later stay deleted.
const MARK: &str = "vmdeck-first-start";
const MARK_NAMESPACE: &str = "kube-system";

/// Writes what is missing.
pub async fn run(ctx: &Context) -> Result<(), Error> {
    node::publish(ctx).await?;
    let marks: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), MARK_NAMESPACE);
    let mark =
        marks.get_opt(MARK).await.map_err(|e| Error::Read { what: "the first-start mark", source: Box::new(e) })?;
    if mark.is_some() {
        return Ok(());
    }
    for class in classes() {
        let class: VirtualMachineClass = parse(class)?;
        create(&Api::all(ctx.client.clone()), &class, "class").await?;
    }
    let mark: ConfigMap = parse(json!({
        "metadata": {"name": MARK, "namespace": MARK_NAMESPACE},
        "data": {"note": "The classes host and generic were made once; delete them if you do not want them."},
    }))?;
    create(&marks, &mark, "first-start mark").await
}

/// The first classes. `generic` runs everywhere and is the default; `host` gives the guest this computer's CPU.
fn classes() -> [Value; 2] {
    [
        json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2",
            "kind": "VirtualMachineClass",
            "metadata": {"name": "generic", "annotations": {DEFAULT_CLASS_ANNOTATION: "true"}},
            "spec": {"cpu": {"type": "Model", "model": "Nehalem"}},
        }),
        json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2",
            "kind": "VirtualMachineClass",
            "metadata": {"name": "host"},
            "spec": {"cpu": {"type": "Host"}},
        }),
    ]
}

fn parse<K: serde::de::DeserializeOwned>(value: Value) -> Result<K, Error> {
    serde_json::from_value(value).map_err(|source| Error::Encode { object: "a built-in object".into(), source })
}

async fn create<K>(api: &Api<K>, object: &K, what: &'static str) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(e) => Err(Error::write(what, object, e)),
    }
}

/// Merges a patch into a cluster-wide object and its status.
pub async fn merge<K>(api: &Api<K>, name: &str, patch: &Value, status: bool) -> Result<K, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let params = PatchParams::default();
    if status {
        api.patch_status(name, &params, &Patch::Merge(patch)).await
    } else {
        api.patch(name, &params, &Patch::Merge(patch)).await
    }
}
