"""An operator of the kopf framework: marks machines, and tells on its output what it is told."""
import kopf

KIND = ("virtualization.deckhouse.io", "v1alpha2", "virtualmachines")


@kopf.on.startup()
def alone(settings, **_):
    settings.peering.standalone = True


@kopf.on.create(*KIND)
def created(name, patch, **_):
    patch.metadata.labels["seen-by"] = "kopf"
    print("created", name, flush=True)


@kopf.on.update(*KIND, field="spec.cpu.cores")
def updated(name, old, new, **_):
    print("updated", name, old, new, flush=True)


@kopf.on.delete(*KIND)
def deleted(name, **_):
    print("deleted", name, flush=True)
