//! kube-rs on single objects: entries, apply, status, conflicts, preconditions, metadata, pages, dry runs, reviews.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::entry::Entry;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
    ResourceExt,
};
use serde_json::{Value, json};

use super::runtime::{Bench, Case, Told, case, ensure, machine, map};

/// The rows.
pub const CASES: &[Case] = &[
    case!("RS-20 entry: insert and commit, modify and commit, conflict of a stale one", entries),
    case!("RS-21 Patch::Apply creates, conflicts, forces, removes what is left out", applied),
    case!("RS-22 patch_status and replace_status change the status only", statuses),
    case!("RS-23 replace with a stale version conflicts", replaced),
    case!("RS-24 delete with preconditions: another uid, a stale version, the right ones", preconditions),
    case!("RS-25 merge, JSON and strategic patches; the last is refused for custom kinds", patches),
    case!("RS-26 metadata only: get, list, patch", metadata),
    case!("RS-27 list in pages of two, all of one version; delete_collection by a selector", pages),
    case!("RS-28 dry run and field validation", dry_runs),
    case!("RS-29 errors are typed: not found, invalid with causes, already exists", errors),
    case!("RS-30 access review", review),
];

/// The code of a refusal, or why it is none.
fn code<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> Result<u16, String> {
    match answer {
        Err(kube::Error::Api(status)) => Ok(status.code),
        other => Err(format!("not a Status: {other:?}")),
    }
}

fn value(object: &k8s_openapi::api::core::v1::ConfigMap) -> &str {
    object.data.as_ref().and_then(|d| d.get("value")).map_or("", String::as_str)
}

async fn entries(bench: Bench) -> Told {
    let maps = bench.maps();
    let mut entry = maps.entry("entry").await?.or_insert(|| map("entry", "entry", "one"));
    entry.commit(&PostParams::default()).await?;
    ensure!(entry.get().resource_version().is_some(), "{:?}", entry.get());
    let Entry::Occupied(stale) = maps.entry("entry").await? else { return Err("vacant".into()) };
    let Entry::Occupied(entry) = maps.entry("entry").await? else { return Err("vacant".into()) };
    let change = |word: &'static str| {
        move |o: &mut k8s_openapi::api::core::v1::ConfigMap| {
            o.data = Some([("value".to_owned(), word.to_owned())].into());
        }
    };
    entry.and_modify(change("two")).commit(&PostParams::default()).await?;
    let refused = stale.and_modify(change("three")).commit(&PostParams::default()).await;
    ensure!(format!("{refused:?}").contains("409"), "{refused:?}");
    ensure!(value(&maps.get("entry").await?) == "two", "the stale one won");
    Ok(())
}

async fn applied(bench: Bench) -> Told {
    let maps = bench.maps();
    let apply = |manager: &str, data: Value, force: bool| {
        let (maps, manager) = (maps.clone(), manager.to_owned());
        async move {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data});
            let params = PatchParams::apply(&manager);
            let params = if force { params.force() } else { params };
            maps.patch("applied", &params, &Patch::Apply(body)).await
        }
    };
    let first = apply("one", json!({"value": "a", "more": "x"}), false).await?;
    let again = apply("one", json!({"value": "a", "more": "x"}), false).await?;
    ensure!(first.resource_version() == again.resource_version(), "an equal apply was a change");
    let refused = apply("two", json!({"value": "b"}), false).await;
    let Err(kube::Error::Api(status)) = refused else { return Err(format!("no conflict: {refused:?}").into()) };
    ensure!(status.is_conflict(), "{status:?}");
    let causes = format!("{:?}", status.details);
    ensure!(causes.contains("FieldManagerConflict") && causes.contains(".data.value"), "{causes}");
    let forced = apply("two", json!({"value": "b"}), true).await?;
    ensure!(value(&forced) == "b", "{forced:?}");
    let left = apply("one", json!({}), false).await?;
    ensure!(left.data == Some([("value".to_owned(), "b".to_owned())].into()), "{:?}", left.data);
    let managers: Vec<_> = left.managed_fields().iter().filter_map(|f| f.manager.clone()).collect();
    ensure!(managers.contains(&"two".to_owned()), "{managers:?}");
    Ok(())
}

async fn statuses(bench: Bench) -> Told {
    let resource = ApiResource::erase::<vmdeck::types::VirtualMachineClass>(&());
    let classes = Api::<DynamicObject>::all_with(bench.client.clone(), &resource);
    let class = DynamicObject::new("status", &resource).data(json!({"spec": {"cpu": {"type": "Host"}}}));
    let made = classes.create(&PostParams::default(), &class).await?;
    let body = json!({"metadata": {"labels": {"not": "this"}}, "status": {"maxAllocatableResources": {"cpu": "77"}}});
    let patched = classes.patch_status("status", &PatchParams::default(), &Patch::Merge(body)).await?;
    ensure!(patched.data["status"]["maxAllocatableResources"]["cpu"] == "77", "{:?}", patched.data);
    ensure!(patched.labels().is_empty(), "a label came through the status");
    // The class's own controller may write between reading and replacing.
    let replaced = loop {
        let mut whole = classes.get("status").await?;
        whole.labels_mut().insert("not".to_owned(), "this".to_owned());
        whole.data["spec"]["cpu"]["type"] = "HostPassthrough".into();
        whole.data["status"]["maxAllocatableResources"] = json!({"cpu": "78"});
        match classes.replace_status("status", &PostParams::default(), &whole).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            other => break other?,
        }
    };
    ensure!(replaced.data["status"]["maxAllocatableResources"]["cpu"] == "78", "{:?}", replaced.data);
    ensure!(replaced.data["spec"]["cpu"]["type"] == "Host" && replaced.labels().is_empty(), "{replaced:?}");
    ensure!(replaced.metadata.generation == made.metadata.generation, "the status has raised the generation");
    Ok(())
}

async fn replaced(bench: Bench) -> Told {
    let maps = bench.maps();
    let old = maps.create(&PostParams::default(), &map("replaced", "replaced", "one")).await?;
    let mut new = old.clone();
    new.data = Some([("value".to_owned(), "two".to_owned())].into());
    let done = maps.replace("replaced", &PostParams::default(), &new).await?;
    ensure!(value(&done) == "two" && done.resource_version() != old.resource_version(), "{done:?}");
    let refused = maps.replace("replaced", &PostParams::default(), &old).await;
    let Err(kube::Error::Api(status)) = refused else { return Err(format!("no conflict: {refused:?}").into()) };
    ensure!(status.is_conflict() && status.message.contains("the object has been modified"), "{status:?}");
    Ok(())
}

async fn preconditions(bench: Bench) -> Told {
    let maps = bench.maps();
    let old = maps.create(&PostParams::default(), &map("guarded", "guarded", "one")).await?;
    let patch = Patch::Merge(json!({"data": {"value": "two"}}));
    let new = maps.patch("guarded", &PatchParams::default(), &patch).await?;
    let delete = |uid: Option<String>, resource_version: Option<String>| {
        let params = DeleteParams::default().preconditions(Preconditions { uid, resource_version });
        let maps = maps.clone();
        async move { maps.delete("guarded", &params).await }
    };
    let other = Some("00000000-0000-4000-8000-000000000000".to_owned());
    ensure!(code(delete(other, None).await)? == 409, "another uid");
    ensure!(code(delete(None, old.resource_version()).await)? == 409, "a stale version");
    let answer = delete(new.uid(), new.resource_version()).await?;
    let status = answer.right().ok_or("an object, not a status")?;
    ensure!(status.is_success() && status.details.is_some_and(|d| Some(d.uid) == new.uid()), "no uid in the answer");
    Ok(())
}

async fn patches(bench: Bench) -> Told {
    let maps = bench.maps();
    maps.create(&PostParams::default(), &map("patched", "patched", "one")).await?;
    let params = PatchParams::default();
    let object = maps.patch("patched", &params, &Patch::Merge(json!({"data": {"a": "b", "value": null}}))).await?;
    ensure!(object.data == Some([("a".to_owned(), "b".to_owned())].into()), "{:?}", object.data);
    let operations =
        json!([{"op": "test", "path": "/data/a", "value": "b"}, {"op": "add", "path": "/data/c", "value": "d"}]);
    let operations: json_patch::Patch = serde_json::from_value(operations)?;
    let object = maps.patch("patched", &params, &Patch::Json::<()>(operations)).await?;
    ensure!(object.data.as_ref().is_some_and(|d| d["c"] == "d"), "{:?}", object.data);
    let finalizers = json!({"metadata": {"finalizers": ["case.example.com/a"]}});
    maps.patch("patched", &params, &Patch::Strategic(&finalizers)).await?;
    let more = json!({"metadata": {"finalizers": ["case.example.com/b"]}, "data": {"c": null}});
    let object = maps.patch("patched", &params, &Patch::Strategic(more)).await?;
    ensure!(object.finalizers().len() == 2 && object.data.as_ref().is_some_and(|d| d.len() == 1), "{object:?}");
    let machines = bench.machines();
    machines.create(&PostParams::default(), &machine("patched")).await?;
    let refused = machines.patch("patched", &params, &Patch::Strategic(json!({"spec": {}}))).await;
    ensure!(code(refused)? == 415, "a strategic patch of a custom kind");
    maps.patch("patched", &params, &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await?;
    Ok(())
}

async fn metadata(bench: Bench) -> Told {
    let machines = bench.machines();
    machines.create(&PostParams::default(), &machine("metadata")).await?;
    let got = machines.get_metadata("metadata").await?;
    ensure!(got.types.as_ref().is_some_and(|t| t.kind == "PartialObjectMetadata"), "{:?}", got.types);
    let body = json!({"metadata": {"annotations": {"note": "x"}}});
    let patched = machines.patch_metadata("metadata", &PatchParams::default(), &Patch::Merge(body)).await?;
    ensure!(patched.annotations().get("note").map(String::as_str) == Some("x"), "{:?}", patched.annotations());
    let list = machines.list_metadata(&ListParams::default().fields("metadata.name=metadata")).await?;
    ensure!(list.items.len() == 1 && list.metadata.resource_version.is_some(), "{list:?}");
    ensure!(machines.get_metadata_opt("nobody").await?.is_none(), "somebody");
    Ok(())
}

async fn pages(bench: Bench) -> Told {
    let maps = bench.maps();
    for n in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("page-{n}"), "page", "x")).await?;
    }
    let mut params = ListParams::default().labels("case=page").limit(2);
    let (mut names, mut versions) = (Vec::new(), Vec::new());
    loop {
        let page = maps.list(&params).await?;
        ensure!(page.items.len() <= 2, "{} on a page", page.items.len());
        names.extend(page.iter().map(|o| o.name_any()));
        versions.push(page.metadata.resource_version.clone());
        // What is written between pages is not on them.
        maps.patch("page-4", &PatchParams::default(), &Patch::Merge(json!({"data": {"n": names.len().to_string()}})))
            .await?;
        let Some(next) = page.metadata.continue_.filter(|c| !c.is_empty()) else { break };
        params = params.continue_token(&next);
    }
    ensure!(names == ["page-0", "page-1", "page-2", "page-3", "page-4"], "{names:?}");
    ensure!(versions.len() == 3 && versions.iter().all(|v| *v == versions[0]), "{versions:?}");
    let gone = maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("case=page")).await?;
    ensure!(gone.left().is_some_and(|list| list.items.len() == 5), "not the five that were there");
    Ok(())
}

async fn dry_runs(bench: Bench) -> Told {
    let maps = bench.maps();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let answer = maps.create(&dry, &map("dry", "dry", "x")).await?;
    ensure!(answer.uid().is_some(), "{answer:?}");
    ensure!(maps.get_opt("dry").await?.is_none(), "a dry run was stored");
    let machines = bench.machines();
    machines.create(&PostParams::default(), &machine("dry")).await?;
    let body = Patch::Merge(json!({"spec": {"surplus": 1}}));
    let strict = PatchParams { field_manager: Some("case".into()), ..PatchParams::default() }.validation_strict();
    ensure!(code(machines.patch("dry", &strict, &body).await)? == 400, "strict validation");
    let kept = machines.patch("dry", &PatchParams::default(), &body).await?;
    ensure!(!serde_json::to_string(&kept)?.contains("surplus"), "an unknown field was kept");
    Ok(())
}

async fn errors(bench: Bench) -> Told {
    let machines = bench.machines();
    ensure!(machines.get_opt("nobody").await?.is_none(), "somebody");
    let Err(kube::Error::Api(status)) = machines.get("nobody").await else { return Err("found".into()) };
    ensure!(status.is_not_found(), "{status:?}");
    let mut wrong = machine("wrong");
    wrong.spec.cpu.cores = -1;
    let Err(kube::Error::Api(status)) = machines.create(&PostParams::default(), &wrong).await else {
        return Err("a machine with -1 cores".into());
    };
    let causes = format!("{:?}", status.details);
    ensure!(status.is_invalid() && causes.contains("spec.cpu.cores"), "{status:?}");
    machines.create(&PostParams::default(), &machine("twice")).await?;
    let Err(kube::Error::Api(status)) = machines.create(&PostParams::default(), &machine("twice")).await else {
        return Err("created twice".into());
    };
    ensure!(status.is_already_exists(), "{status:?}");
    Ok(())
}

async fn review(bench: Bench) -> Told {
    let attributes = ResourceAttributes {
        group: Some("virtualization.deckhouse.io".into()),
        resource: Some("virtualmachines".into()),
        verb: Some("create".into()),
        namespace: Some("default".into()),
        ..ResourceAttributes::default()
    };
    let asked = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(bench.client.clone()).create(&PostParams::default(), &asked).await?;
    ensure!(answer.status.as_ref().is_some_and(|s| s.allowed), "{:?}", answer.status);
    Ok(())
}
