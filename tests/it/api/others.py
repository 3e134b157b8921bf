"""More Python libraries against a vmdeck daemon, lines as in client.py; the last one reads its descriptions.

usage: others.py KUBECONFIG
"""
import asyncio
import json
import sys
import threading
import traceback

import kr8s
import lightkube
from kr8s.objects import ConfigMap, new_class
from kubernetes import config
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap as LightConfigMap, Node, Secret
from lightkube.types import PatchType
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator

GROUP, VERSION = "virtualization.deckhouse.io", "v1alpha2"
SPEC = {
    "virtualMachineClassName": "host",
    "runPolicy": "AlwaysOff",
    "cpu": {"cores": 1, "coreFraction": "10%"},
    "memory": {"size": "256Mi"},
    "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "none"}],
}
CASES = []


def case(text):
    def add(run):
        CASES.append((text, run))
        return run

    return add


@case("LK-01 lightkube: a custom kind: create, get, list, patch, apply with its conflict, delete")
def _(kubeconfig):
    client = lightkube.Client(lightkube.KubeConfig.from_file(kubeconfig).get(), field_manager="lightkube")
    machines = create_namespaced_resource(GROUP, VERSION, "VirtualMachine", "virtualmachines")
    made = client.create(machines({"metadata": {"name": "light", "labels": {"by": "light"}}, "spec": SPEC}), namespace="default")
    assert made.metadata.uid
    assert [o.metadata.name for o in client.list(machines, namespace="default", labels={"by": "light"}, chunk_size=1)] == ["light"]
    after = client.patch(machines, "light", {"spec": {"cpu": {"cores": 2}}}, namespace="default", patch_type=PatchType.MERGE)
    assert after.spec["cpu"]["cores"] == 2, after
    wanted = machines({"metadata": {"name": "light", "namespace": "default"},
                       "spec": {**SPEC, "cpu": {"cores": 3, "coreFraction": "10%"}}})
    try:
        client.apply(wanted, field_manager="other")
        raise AssertionError("no conflict")
    except lightkube.ApiError as error:
        assert error.status.code == 409, error
    assert client.apply(wanted, field_manager="other", force=True).spec["cpu"]["cores"] == 3
    client.delete(machines, "light", namespace="default")


@case("LK-02 lightkube: built-in kinds, pages, watch")
def _(kubeconfig):
    client = lightkube.Client(lightkube.KubeConfig.from_file(kubeconfig).get())
    for n in range(5):
        client.create(LightConfigMap(metadata=ObjectMeta(name="light-%d" % n, labels={"by": "light"}), data={"a": "b"}),
                      namespace="default")
    found = [o.metadata.name for o in client.list(LightConfigMap, namespace="default", labels={"by": "light"}, chunk_size=2)]
    assert found == ["light-%d" % n for n in range(5)], found
    client.create(Secret(metadata=ObjectMeta(name="light"), stringData={"a": "b"}), namespace="default")
    assert client.get(Secret, "light", namespace="default").data == {"a": "Yg=="}
    assert [n.status.nodeInfo.operatingSystem for n in client.list(Node)] == ["linux"]
    threading.Timer(0.2, lambda: client.patch(LightConfigMap, "light-0", {"data": {"a": "c"}}, namespace="default")).start()
    for event, object_ in client.watch(LightConfigMap, namespace="default", fields={"metadata.name": "light-0"}, server_timeout=30):
        if event == "MODIFIED":
            assert object_.data == {"a": "c"}, object_
            break
    for name in found:
        client.delete(LightConfigMap, name, namespace="default")
    assert not list(client.list(LightConfigMap, namespace="default", labels={"by": "light"}))


@case("KR-01 kr8s: kinds by discovery, create, refresh, label, patch, wait, delete")
def _(kubeconfig):
    api = kr8s.api(kubeconfig=kubeconfig)
    assert api.version()["major"] == "1"
    machines = new_class(kind="VirtualMachine", version=GROUP + "/" + VERSION, namespaced=True, plural="virtualmachines")
    machine = machines({"metadata": {"name": "kr8s", "namespace": "default"}, "spec": SPEC}, api=api)
    machine.create()
    assert machine.exists()
    machine.label({"by": "kr8s"})
    machine.patch({"spec": {"cpu": {"cores": 2}}})
    machine.refresh()
    assert machine.raw["spec"]["cpu"]["cores"] == 2, machine.raw
    found = list(api.get("virtualmachines." + GROUP, namespace="default", label_selector={"by": "kr8s"}))
    assert [o.name for o in found] == ["kr8s"], found
    map_ = ConfigMap({"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"a": "b"}}, api=api)
    map_.create()
    map_.patch({"data": {"a": "c"}})
    map_.refresh()
    assert map_.data["a"] == "c", map_.raw
    machine.delete()
    machine.wait("delete", timeout=30)
    map_.delete()
    assert not machine.exists()


@case("KR-02 kr8s: watch, asynchronously")
def _(kubeconfig):
    async def run():
        api = await kr8s.asyncio.api(kubeconfig=kubeconfig)
        from kr8s.asyncio.objects import ConfigMap as AsyncConfigMap

        map_ = await AsyncConfigMap({"metadata": {"name": "kr8s-w", "namespace": "default"}, "data": {"a": "b"}}, api=api)
        await map_.create()
        told = []

        async def follow():
            async for event, object_ in api.watch("configmaps", namespace="default", field_selector="metadata.name=kr8s-w"):
                told.append((event, object_.data["a"]))
                if event == "ADDED":
                    await map_.patch({"data": {"a": "c"}})
                elif event == "MODIFIED":
                    await map_.delete()
                else:
                    return

        await asyncio.wait_for(follow(), 30)
        assert told == [("ADDED", "b"), ("MODIFIED", "c"), ("DELETED", "c")], told

    asyncio.run(run())


@case("OAS-01 the OpenAPI documents are valid, version 3 and version 2")
def _(kubeconfig):
    api = config.new_client_from_config(kubeconfig)

    def get(path):
        answer = api.rest_client.request("GET", api.configuration.host + path, headers={"Accept": "application/json"})
        return json.loads(answer.read())

    paths = get("/openapi/v3")["paths"]
    assert "apis/" + GROUP + "/" + VERSION in paths, paths
    for name, entry in paths.items():
        document = get(entry["serverRelativeURL"])
        faults = [f.message for f in OpenAPIV30SpecValidator(document).iter_errors()]
        assert document["paths"] and not faults, (name, faults[:3])
    faults = [f.message for f in OpenAPIV2SpecValidator(get("/openapi/v2")).iter_errors()]
    assert not faults, faults[:3]


def main():
    for text, run in CASES:
        try:
            run(sys.argv[1])
            print("ok", text, sep="\t", flush=True)
        except Exception as error:  # told in the row
            where = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
            why = ("lines %s: %s: %s" % (where[1:], type(error).__name__, error)).replace("\n", " ").replace("\t", " ")
            print("FAIL", text, why[:2000], sep="\t", flush=True)


main()
