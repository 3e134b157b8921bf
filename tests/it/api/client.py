"""The Python client library against a vmdeck daemon, one line per case: `ok<TAB>case` or `FAIL<TAB>case<TAB>why`.

usage: client.py KUBECONFIG VMDECK      (VMDECK: the program, for a restart of the daemon)
"""
import concurrent.futures
import datetime
import json
import queue
import subprocess
import sys
import threading
import traceback

import urllib3
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, ResourceNotFoundError
from kubernetes.informer import SharedInformer

GROUP, VERSION = "virtualization.deckhouse.io", "v1alpha2"
MERGE = "application/merge-patch+json"
NS = "default"
CASES = []


def case(text):
    def add(run):
        CASES.append((text, run))
        return run

    return add


def machine(name, **labels):
    return {
        "apiVersion": GROUP + "/" + VERSION,
        "kind": "VirtualMachine",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "virtualMachineClassName": "host",
            "runPolicy": "AlwaysOff",
            "cpu": {"cores": 1, "coreFraction": "10%"},
            "memory": {"size": "256Mi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "none"}],
        },
    }


def map_(name, value="x", **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"value": value}}


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code, "%s, not %s: %s" % (error.status, code, error.body)
        return error
    raise AssertionError("not refused with %d" % code)


def eventually(call, seconds=30):
    """Until `call` gives something true; for what has no watch of its own."""
    end = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
    while datetime.datetime.now() < end:
        found = call()
        if found:
            return found
        threading.Event().wait(0.1)
    raise AssertionError("not within %d s" % seconds)


def gone(call, *arguments):
    try:
        call(*arguments)
    except ApiException as error:
        return error.status == 404
    return False


@case("PY-01 DynamicClient finds kinds by name, group and short name")
def _(t):
    found = t.dynamic.resources.get(kind="VirtualMachine")
    assert (found.group, found.name, found.namespaced) == (GROUP, "virtualmachines", True), found
    assert t.dynamic.resources.get(api_version="v1", kind="ConfigMap").name == "configmaps"
    assert "VirtualMachineOperation" in [r.kind for r in t.dynamic.resources.search(short_names=["vmop"])]
    try:
        t.dynamic.resources.get(api_version="v1", kind="Nonsense")
        raise AssertionError("found nonsense")
    except ResourceNotFoundError:
        pass


@case("PY-02 DynamicClient: create, get, list, list in pages, list by selectors")
def _(t):
    for n in range(5):
        made = t.machines.create(body=machine("list-%d" % n, case="list"), namespace=NS)
        assert made.metadata.uid and made.spec.runPolicy == "AlwaysOff", made
    assert t.machines.get(name="list-3", namespace=NS).spec.cpu.cores == 1
    names, token = [], None
    while True:
        page = t.machines.get(namespace=NS, label_selector="case=list", limit=2, _continue=token)
        assert len(page.items) <= 2
        names += [o.metadata.name for o in page.items]
        token = page.metadata["continue"]
        if not token:
            break
    assert names == ["list-%d" % n for n in range(5)], names
    found = t.machines.get(namespace=NS, field_selector="metadata.name=list-2")
    assert [o.metadata.name for o in found.items] == ["list-2"]
    try:
        t.machines.get(name="nobody", namespace=NS)
        raise AssertionError("found nobody")
    except NotFoundError:
        pass


@case("PY-03 DynamicClient: merge patch, JSON patch; its default, a strategic one, is refused for custom kinds")
def _(t):
    t.machines.create(body=machine("patch"), namespace=NS)
    body = {"metadata": {"annotations": {"note": "x"}}, "spec": {"cpu": {"cores": 2}}}
    after = t.machines.patch(name="patch", namespace=NS, body=body, content_type=MERGE)
    assert after.spec.cpu.cores == 2 and after.metadata.annotations.note == "x", after
    body = [{"op": "replace", "path": "/spec/cpu/cores", "value": 3}]
    after = t.machines.patch(name="patch", namespace=NS, body=body, content_type="application/json-patch+json")
    assert after.spec.cpu.cores == 3, after
    error = refused(415, t.machines.patch, name="patch", namespace=NS, body={"spec": {}})
    assert "application/merge-patch+json" in str(error.body), error.body


@case("PY-04 DynamicClient: server_side_apply, its conflict, force")
def _(t):
    def apply(manager, cores, **named):
        body = machine("applied")
        body["spec"]["cpu"]["cores"] = cores
        return t.machines.server_side_apply(
            name="applied", namespace=NS, body=body, field_manager=manager, **named
        )

    apply("one", 1)
    first = t.maps.server_side_apply(name="applied", namespace=NS, body=map_("applied"), field_manager="one")
    again = t.maps.server_side_apply(name="applied", namespace=NS, body=map_("applied"), field_manager="one")
    assert first.metadata.resourceVersion == again.metadata.resourceVersion
    try:
        apply("two", 2)
        raise AssertionError("no conflict")
    except ConflictError as error:
        assert "FieldManagerConflict" in str(error.body), error.body
    assert apply("two", 2, force_conflicts=True).spec.cpu.cores == 2


@case("PY-05 DynamicClient: watch tells what happens, in order")
def _(t):
    version = t.maps.get(namespace=NS).metadata.resourceVersion

    def write():
        t.maps.create(body=map_("watched"), namespace=NS)
        t.maps.patch(name="watched", namespace=NS, body={"data": {"value": "y"}}, content_type=MERGE)
        t.maps.delete(name="watched", namespace=NS)

    writer = threading.Thread(target=write)
    writer.start()
    told = []
    for event in t.maps.watch(
        namespace=NS, resource_version=version, field_selector="metadata.name=watched", timeout=30
    ):
        told.append((event["type"], event["object"].data["value"]))
        if event["type"] == "DELETED":
            break
    writer.join()
    assert told == [("ADDED", "x"), ("MODIFIED", "y"), ("DELETED", "y")], told


@case("PY-06 DynamicClient: replace, and with a stale version")
def _(t):
    old = t.maps.create(body=map_("replaced"), namespace=NS).to_dict()
    new = dict(old, data={"value": "y"})
    assert t.maps.replace(body=new, namespace=NS).data.value == "y"
    try:
        t.maps.replace(body=old, namespace=NS)
        raise AssertionError("no conflict")
    except ConflictError as error:
        assert "the object has been modified" in str(error.body), error.body


@case("PY-07 DynamicClient: the status is a resource of its own")
def _(t):
    classes = t.dynamic.resources.get(api_version=GROUP + "/" + VERSION, kind="VirtualMachineClass")
    classes.create(body={"apiVersion": GROUP + "/" + VERSION, "kind": "VirtualMachineClass",
                         "metadata": {"name": "status"}, "spec": {"cpu": {"type": "Host"}}})
    body = {"metadata": {"labels": {"not": "this"}}, "status": {"maxAllocatableResources": {"cpu": "77"}}}
    after = classes.status.patch(name="status", body=body, content_type=MERGE)
    assert after.status.maxAllocatableResources.cpu == "77" and not after.metadata.labels, after
    after = classes.patch(name="status", body={"status": {"maxAllocatableResources": {"cpu": "78"}}}, content_type=MERGE)
    assert after.status.maxAllocatableResources.cpu != "78", after


@case("PY-08 CoreV1Api: ConfigMap, Secret, Namespace, Node, Event")
def _(t):
    core = t.core
    made = core.create_namespaced_config_map(NS, client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="core"), data={"a": "b"}, binary_data={"c": "AAECAw=="}))
    assert made.binary_data == {"c": "AAECAw=="}, made
    # The library's default patch of built-in kinds is a strategic one.
    after = core.patch_namespaced_config_map("core", NS, {"data": {"d": "e"}})
    assert after.data == {"a": "b", "d": "e"}, after
    made = core.create_namespaced_secret(NS, client.V1Secret(
        metadata=client.V1ObjectMeta(generate_name="core-"), string_data={"password": "cloud"}))
    assert made.metadata.name.startswith("core-") and made.type == "Opaque" and not made.string_data, made
    assert core.read_namespaced_secret(made.metadata.name, NS).data == {"password": "Y2xvdWQ="}
    space = core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py-space")))
    assert space.status.phase == "Active" and space.spec.finalizers == ["kubernetes"], space
    core.create_namespaced_config_map("py-space", map_("inside"))
    assert [o.metadata.namespace for o in core.list_config_map_for_all_namespaces(
        field_selector="metadata.name=inside").items] == ["py-space"]
    core.delete_namespace("py-space")
    eventually(lambda: gone(core.read_namespace, "py-space"))
    node = core.list_node().items[0]
    assert "True" in [c.status for c in node.status.conditions if c.type == "Ready"], node.status.conditions
    now = datetime.datetime.now(datetime.timezone.utc)
    core.create_namespaced_event(NS, client.CoreV1Event(
        metadata=client.V1ObjectMeta(name="core.1"), reason="Looked", message="looked at it", type="Normal",
        first_timestamp=now, last_timestamp=now, count=1, source=client.V1EventSource(component="case"),
        event_time=now, action="Look", reporting_component="case", reporting_instance="case-1",
        involved_object=client.V1ObjectReference(kind="ConfigMap", name="core", namespace=NS, api_version="v1")))
    found = core.list_namespaced_event(NS, field_selector="involvedObject.name=core,reason=Looked").items
    assert [e.message for e in found] == ["looked at it"], found
    found = client.EventsV1Api(t.api).read_namespaced_event("core.1", NS)
    assert found.note == "looked at it" and found.regarding.name == "core", found


@case("PY-09 CustomObjectsApi: create, get, list, patch, status, replace, delete, delete all")
def _(t):
    at = (GROUP, VERSION, NS, "virtualmachines")
    t.custom.create_namespaced_custom_object(*at, machine("custom", case="custom"))
    got = t.custom.get_namespaced_custom_object(*at, "custom")
    assert got["spec"]["cpu"]["cores"] == 1, got
    after = t.custom.patch_namespaced_custom_object(*at, "custom", {"spec": {"cpu": {"cores": 2}}}, _content_type=MERGE)
    assert after["spec"]["cpu"]["cores"] == 2, after
    after["spec"]["cpu"]["cores"] = 4

    # The machine's own controller may write meanwhile.
    def replace():
        fresh = t.custom.get_namespaced_custom_object(*at, "custom")
        fresh["spec"]["cpu"]["cores"] = 4
        try:
            return t.custom.replace_namespaced_custom_object(*at, "custom", fresh)
        except ApiException as error:
            assert error.status == 409, error
            return None

    assert eventually(replace)["spec"]["cpu"]["cores"] == 4
    assert "status" in t.custom.get_namespaced_custom_object_status(*at, "custom")
    found = t.custom.list_namespaced_custom_object(*at, label_selector="case=custom")
    assert [o["metadata"]["name"] for o in found["items"]] == ["custom"], found
    assert found["kind"] == "VirtualMachineList", found["kind"]
    assert len(t.custom.list_cluster_custom_object(GROUP, VERSION, "virtualmachineclasses")["items"]) >= 1
    bad = machine("bad")
    bad["spec"]["cpu"]["cores"] = -1
    error = refused(422, t.custom.create_namespaced_custom_object, *at, bad)
    assert "spec.cpu.cores" in error.body, error.body
    t.custom.create_namespaced_custom_object(*at, machine("custom-2", case="custom"))
    t.custom.delete_namespaced_custom_object(*at, "custom")
    eventually(lambda: gone(t.custom.get_namespaced_custom_object, *at, "custom"))
    t.custom.delete_collection_namespaced_custom_object(*at, label_selector="case=custom")
    eventually(lambda: not t.custom.list_namespaced_custom_object(*at, label_selector="case=custom")["items"])


@case("PY-10 reviews, version, definitions, leases, dry run")
def _(t):
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(
        namespace=NS, verb="create", group=GROUP, resource="virtualmachines"))
    review = client.AuthorizationV1Api(t.api).create_self_subject_access_review(
        client.V1SelfSubjectAccessReview(spec=spec))
    assert review.status.allowed is True, review
    rules = client.AuthorizationV1Api(t.api).create_self_subject_rules_review(
        client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(namespace=NS)))
    assert rules.status.resource_rules, rules
    who = client.AuthenticationV1Api(t.api).create_self_subject_review(client.V1SelfSubjectReview())
    assert "system:masters" in who.status.user_info.groups, who
    assert client.VersionApi(t.api).get_code().git_version.startswith("v1."), "no version"
    definitions = client.ApiextensionsV1Api(t.api).list_custom_resource_definition()
    assert "virtualmachines." + GROUP in [d.metadata.name for d in definitions.items]
    leases = client.CoordinationV1Api(t.api)
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 123456, datetime.timezone.utc)
    lease = leases.create_namespaced_lease(NS, client.V1Lease(
        metadata=client.V1ObjectMeta(name="py"), spec=client.V1LeaseSpec(holder_identity="a", renew_time=when)))
    assert lease.spec.renew_time == when, lease.spec.renew_time
    lease.spec.holder_identity = "b"
    leases.replace_namespaced_lease("py", NS, lease)
    refused(409, leases.replace_namespaced_lease, "py", NS, lease)
    t.core.create_namespaced_config_map(NS, map_("dry"), dry_run="All")
    refused(404, t.core.read_namespaced_config_map, "dry", NS)
    utils.create_from_dict(t.api, map_("from-dict"))
    assert t.core.read_namespaced_config_map("from-dict", NS).data == {"value": "x"}


@case("PY-11 delete with propagation: foreground, orphan, background; preconditions")
def _(t):
    core = t.core

    def family(name):
        owner = core.create_namespaced_config_map(NS, map_(name))
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.metadata.uid,
                     "blockOwnerDeletion": True}
        core.create_namespaced_secret(NS, {"metadata": {"name": name, "ownerReferences": [reference]}})
        return owner

    for policy in ("Foreground", "Background"):
        family("family")
        core.delete_namespaced_config_map("family", NS, propagation_policy=policy)
        eventually(lambda: gone(core.read_namespaced_config_map, "family", NS))
        eventually(lambda: gone(core.read_namespaced_secret, "family", NS))
    owner = family("family")
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="00000000-0000-4000-8000-000000000000"))
    refused(409, core.delete_namespaced_config_map, "family", NS, body=options)
    options = client.V1DeleteOptions(
        propagation_policy="Orphan", preconditions=client.V1Preconditions(uid=owner.metadata.uid))
    core.delete_namespaced_config_map("family", NS, body=options)
    eventually(lambda: gone(core.read_namespaced_config_map, "family", NS))
    assert not core.read_namespaced_secret("family", NS).metadata.owner_references


def resuming(t, watcher, version, wanted):
    """Events of the ConfigMaps whose name begins with "over-", until `wanted` of them, over every loss of connection.
    Gives the names and how often the stream was opened."""
    names, opened = [], 0
    while len(names) < wanted:
        opened += 1
        assert opened < 200, "the daemon does not come back"
        try:
            for event in watcher.stream(t.core.list_namespaced_config_map, NS, resource_version=version):
                version = event["object"].metadata.resource_version
                if event["type"] == "ADDED" and event["object"].metadata.name.startswith("over-"):
                    names.append(event["object"].metadata.name)
                    if len(names) == wanted:
                        watcher.stop()
                        break
        except (urllib3.exceptions.HTTPError, OSError):
            threading.Event().wait(0.1)
    return names, opened


@case("PY-12 Watch().stream goes on after a restart of the daemon: nothing lost, nothing twice")
def _(t):
    version = t.core.list_namespaced_config_map(NS).metadata.resource_version
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        told = pool.submit(resuming, t, watch.Watch(), version, 6)
        for n in range(3):
            t.core.create_namespaced_config_map(NS, map_("over-%d" % n))
        subprocess.run([t.program, "host", "restart"], check=True, stdout=subprocess.DEVNULL)
        for n in range(3, 6):
            t.core.create_namespaced_config_map(NS, map_("over-%d" % n))
        names, _ = told.result(60)
    assert names == ["over-%d" % n for n in range(6)], names


@case("PY-13 a version that is compacted away: 410 for watch and for the next page, both recover")
def _(t):
    core = t.core
    page = core.list_namespaced_config_map(NS, limit=2)
    old = page.metadata.resource_version
    # History is kept for the newest thousand changes at least.

    def write(worker):
        name = "busy-%d" % worker
        core.create_namespaced_config_map(NS, map_(name))
        for n in range(280):
            core.patch_namespaced_config_map(name, NS, {"data": {"value": str(n)}})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    def expired():
        try:
            for _ in watch.Watch().stream(core.list_namespaced_config_map, NS, resource_version=old):
                return None
        except ApiException as error:
            return error

    error = eventually(expired)
    assert error.status == 410 and "Expired" in str(error), error
    # What the library's documentation tells users to do.
    version = core.list_namespaced_config_map(NS).metadata.resource_version
    watcher = watch.Watch()
    core.create_namespaced_config_map(NS, map_("zz-after"))
    for event in watcher.stream(core.list_namespaced_config_map, NS, resource_version=version):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "zz-after"), event
        watcher.stop()
    error = refused(410, core.list_namespaced_config_map, NS, limit=2, _continue=page.metadata._continue)
    token = json.loads(error.body)["metadata"]["continue"]
    first = {o.metadata.name for o in page.items}
    rest = {o.metadata.name for o in core.list_namespaced_config_map(NS, _continue=token).items}
    assert not first & rest and "zz-after" in rest, (first, rest)


@case("PY-14 DynamicClient: a watch that begins with the state, marks its end, and goes on")
def _(t):
    for n in range(2):
        t.maps.create(body=map_("state-%d" % n, labels={"case": "state"}), namespace=NS)
    told = []
    for event in t.maps.watch(
        namespace=NS, label_selector="case=state", send_initial_events=True, resource_version_match="NotOlderThan",
        allow_watch_bookmarks=True, timeout=30,
    ):
        raw = event["raw_object"]
        if event["type"] == "BOOKMARK" and raw["metadata"].get("annotations", {}).get("k8s.io/initial-events-end") == "true":
            told.append("end of state")
            t.maps.delete(name="state-1", namespace=NS)
        else:
            told.append(event["type"] + " " + raw["metadata"]["name"])
        if told[-1].startswith("DELETED"):
            break
    assert told == ["ADDED state-0", "ADDED state-1", "end of state", "DELETED state-1"], told


@case("PY-15 SharedInformer: its cache follows")
def _(t):
    informer = SharedInformer(t.core.list_namespaced_config_map, namespace=NS, label_selector="case=informer")
    told = queue.Queue()
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, lambda o, kind=kind: told.put((kind, o.metadata.name)))
    t.core.create_namespaced_config_map(NS, map_("informed-0", labels={"case": "informer"}))
    informer.start()
    try:
        assert told.get(timeout=30) == ("ADDED", "informed-0")
        t.core.create_namespaced_config_map(NS, map_("informed-1", labels={"case": "informer"}))
        assert told.get(timeout=30) == ("ADDED", "informed-1")
        t.core.patch_namespaced_config_map("informed-1", NS, {"data": {"value": "y"}})
        assert told.get(timeout=30) == ("MODIFIED", "informed-1")
        t.core.delete_namespaced_config_map("informed-0", NS)
        assert told.get(timeout=30) == ("DELETED", "informed-0")
        assert [(o.metadata.name, o.data["value"]) for o in informer.cache.list()] == [("informed-1", "y")]
    finally:
        informer.stop()


class Bench:
    def __init__(self, kubeconfig, program):
        self.program = program
        self.api = config.new_client_from_config(kubeconfig)
        # Watch() makes a client of its own for decoding.
        client.Configuration.set_default(self.api.configuration)
        self.core = client.CoreV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)
        self.dynamic = dynamic.DynamicClient(self.api)
        self.machines = self.dynamic.resources.get(api_version=GROUP + "/" + VERSION, kind="VirtualMachine")
        self.maps = self.dynamic.resources.get(api_version="v1", kind="ConfigMap")


def main():
    bench = Bench(*sys.argv[1:3])
    for text, run in CASES:
        try:
            run(bench)
            print("ok", text, sep="\t", flush=True)
        except Exception as error:  # told in the row
            where = traceback.extract_tb(error.__traceback__)[1:2]
            line = where[0].lineno if where else 0
            why = ("line %d: %s: %s" % (line, type(error).__name__, error)).replace("\n", " ").replace("\t", " ")
            print("FAIL", text, why[:2000], sep="\t", flush=True)


main()
