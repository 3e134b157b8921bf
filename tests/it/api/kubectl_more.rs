//! kubectl beyond the checklist: pruning, kustomizations, namespaces, nodes, secrets of all sorts, the migration to
//! server-side apply, watches with their events, `proxy`, and what is refused here in a way that can be read.

use super::desk::{Case, case};

/// Files beside the commands.
pub const FILES: &[(&str, &str)] = &[
    (
        "two.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: pr1, labels: {set: pr}}
data: {a: b}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: pr2, labels: {set: pr}}
spec: {persistentVolumeClaim: {size: 10Mi}}
",
    ),
    ("one.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pr1, labels: {set: pr}}\ndata: {a: b}\n"),
    (
        "kust/kustomization.yaml",
        "resources: [vm.yaml]\nnamePrefix: k-\ncommonLabels: {app: x}\nconfigMapGenerator: [{name: gen, literals: [a=b]}]\n",
    ),
    ("kust/vm.yaml", MACHINE),
    ("vm.yaml", MACHINE),
    ("samples/1.yaml", include_str!("../../../assets/samples/1-image.yaml")),
    ("samples/2.yaml", include_str!("../../../assets/samples/2-linux-vm.yaml")),
    ("samples/3.yaml", include_str!("../../../assets/samples/3-web.yaml")),
    ("samples/4.yaml", include_str!("../../../assets/samples/4-archive.yaml")),
    (
        "event.yaml",
        "apiVersion: v1
kind: Event
metadata: {name: pr1.1}
involvedObject: {apiVersion: virtualization.deckhouse.io/v1alpha2, kind: VirtualMachine, namespace: default, name: vm}
reason: Looked
message: looked at it
type: Warning
count: 1
firstTimestamp: 2026-01-02T03:04:05Z
lastTimestamp: 2026-01-02T03:04:05Z
source: {component: case}
",
    ),
];

const MACHINE: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: vm
spec:
  virtualMachineClassName: host
  runPolicy: AlwaysOff
  cpu: {cores: 1, coreFraction: 10%}
  memory: {size: 256Mi}
  blockDeviceRefs:
  - {kind: VirtualDisk, name: none}
";

/// The rows.
pub const CASES: &[Case] = &[
    case("M-01", "kubectl apply -f two.yaml", &["pr1 created", "pr2 created"]),
    case(
        "M-02",
        "list=$(kubectl apply --help | grep -o 'prune-[aw][a-z]*list' | head -1)
kubectl apply --prune -l set=pr --$list=core/v1/ConfigMap --$list=virtualization.deckhouse.io/v1alpha2/VirtualDisk -f one.yaml",
        &["pr1 unchanged", "virtualdisk.virtualization.deckhouse.io/pr2 pruned"],
    ),
    case(
        "M-03",
        "export KUBECTL_APPLYSET=true; kubectl apply --server-side -n default --prune --applyset=configmaps/set -f two.yaml --force-conflicts &&
kubectl apply --server-side -n default --prune --applyset=configmaps/set -f one.yaml",
        &["pr2 serverside-applied", "virtualdisk.virtualization.deckhouse.io/pr2 pruned"],
    )
    .since(27),
    case("M-04", "kubectl apply view-last-applied cm pr1", &["^kind: ConfigMap$", "^  a: b$"]),
    case(
        "M-05",
        "EDITOR='sed -i s/a:.b/a:\\ c/' kubectl apply edit-last-applied cm pr1; kubectl apply view-last-applied cm pr1",
        &["edited", "^  a: c$"],
    ),
    case(
        "M-06",
        "kubectl apply -k kust && kubectl get vm,cm -l app=x -o name && kubectl delete -k kust",
        &["virtualmachine.virtualization.deckhouse.io/k-vm created", "^configmap/k-gen-", r#""k-vm" deleted"#],
    ),
    case(
        "M-07",
        "kubectl create ns team && kubectl label ns team a=b && kubectl -n team create cm x --from-literal=a=b &&
kubectl get ns -l a=b && kubectl describe ns team && kubectl delete ns team --timeout=30s && kubectl get cm -A",
        &["namespace/team created", r"^team\s+Active", r"^Status:\s+Active", r#""team" deleted"#, r"!^team\s+x"],
    ),
    case("M-08", "kubectl delete ns default", &["Forbidden|forbidden"]).exits(1),
    case(
        "M-09",
        "kubectl label node --all disktype=ssd && kubectl get node -L disktype && kubectl label node --all disktype-",
        &["labeled", r"DISKTYPE\n.*\sReady\s.*ssd$"],
    ),
    case(
        "M-10",
        "node=$(kubectl get node -o name); kubectl cordon $node; kubectl get node; kubectl uncordon $node
kubectl taint node --all case=x:NoSchedule && kubectl taint node --all case-; kubectl get node -o wide",
        &["cordoned", "SchedulingDisabled", "uncordoned", "tainted", "untainted", "OS-IMAGE"],
    ),
    case("M-11", "kubectl describe node", &[r"^Roles:\s+virtualization", r"^Capacity:", r"Pods:\s+\(0 in total\)"]),
    case("M-12", "kubectl get pods; kubectl get svc -A", &["(?s)No resources found.*No resources found"]),
    case("M-13", "kubectl run x --image=y", &["MethodNotAllowed"]).exits(1),
    case("M-14", "kubectl get vm --as=nobody", &["Forbidden"]).exits(1),
    case("M-15", "kubectl top node", &["Metrics API not available"]).exits(1),
    case("M-16", "kubectl apply -f vm.yaml && kubectl get vm -o go-template='{{range .items}}<{{.metadata.name}}>{{end}}'", &["<vm>"]),
    case("M-17", "kubectl diff -f vm.yaml", &["!^[+-]"]),
    case("M-18", "kubectl apply --server-side -f vm.yaml", &["serverside-applied"]),
    case(
        "M-19",
        "kubectl get vm vm -o json --show-managed-fields | jq -r '.metadata.managedFields[].manager'; kubectl get vm vm -o yaml",
        &["^kubectl$", "!managedFields:"],
    )
    .since(21),
    case("M-20", "kubectl replace --force -f vm.yaml", &["deleted", "replaced"]),
    case(
        "M-21",
        "uid=$(kubectl get vm vm -o jsonpath='{.metadata.uid}'); sed \"s/name: vm}/name: vm, uid: $uid}/\" event.yaml | kubectl create -f -
kubectl get events --field-selector involvedObject.name=vm,type=Warning && kubectl describe vm vm",
        &["event/pr1.1 created", r"Looked\s+virtualmachine/vm\s+looked at it", r"(?s)^Events:.*Warning\s+Looked.*looked at it"],
    ),
    case("M-22", "kubectl events --for vm/vm --types=Warning", &[r"Looked\s+VirtualMachine/vm\s+looked at it"]).since(28),
    case("M-23", "kubectl get crd -o name", &["customresourcedefinition.apiextensions.k8s.io/virtualmachines.virtualization.deckhouse.io"]),
    case(
        "M-24",
        "kubectl wait --for=condition=Established crd/virtualmachines.virtualization.deckhouse.io --timeout=5s",
        &["condition met"],
    ),
    // Its log tells when it watches; only then the last finalizer goes.
    case(
        "M-25",
        "kubectl create cm waited --from-literal=a=b; kubectl patch cm waited -p '{\"metadata\":{\"finalizers\":[\"kc.example.com/x\"]}}'
kubectl delete cm waited --wait=false; exec 3< <(kubectl wait --for=delete cm/waited --timeout=30s -v=6 2>&1)
while read -r line <&3; do case $line in *watch=true*) break ;; esac; done
kubectl patch cm waited --type merge -p '{\"metadata\":{\"finalizers\":null}}'; cat <&3",
        &[r#""waited" deleted"#, "configmap/waited condition met"],
    ),
    case(
        "M-26",
        "exec 3< <(kubectl get cm -w --output-watch-events --field-selector metadata.name=seen); watch=$!
read -r head <&3 & kubectl create cm other --from-literal=a=b; kubectl create cm seen --from-literal=a=b
kubectl patch cm seen -p '{\"data\":{\"a\":\"c\"}}'; kubectl delete cm seen; wait $!; for i in 1 2 3; do read -r line <&3; echo \"$line\"; done; kill $watch",
        &[r"^ADDED\s+seen\s+1\s", r"^MODIFIED\s+seen\s+1\s", r"^DELETED\s+seen\s+1\s"],
    ),
    case(
        "M-27",
        "exec 3< <(kubectl proxy --port=0); proxy=$!; read -r said <&3; port=${said##*:}
exec 5<>/dev/tcp/127.0.0.1/$port; printf 'GET /api/v1/namespaces/default HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&5; cat <&5; kill $proxy",
        &["200 OK", r#""kubernetes.io/metadata.name":"default""#],
    ),
    case(
        "M-28",
        "head -c 700000 /dev/urandom > blob; kubectl create secret generic blob --from-file=blob &&
kubectl get secret blob -o jsonpath='{.data.blob}' | base64 -d | cmp - blob && echo same",
        &["secret/blob created", "^same$"],
    ),
    case(
        "M-29",
        "kubectl create secret docker-registry reg --docker-server=h --docker-username=u --docker-password=p && kubectl get secret reg",
        &[r"^reg\s+kubernetes.io/dockerconfigjson\s+1"],
    ),
    case("M-30", "kubectl create cm file --from-file=one.yaml --from-file=blob && kubectl describe cm file &&
kubectl get cm file -o jsonpath='{.binaryData.blob}' | base64 -d | cmp - blob && echo same", &["^one.yaml:", "^same$"]),
    case(
        "M-31",
        r#"kubectl patch cm file -p '{"data":{"$patch":"replace","x":"word"}}' && kubectl get cm file -o jsonpath='{.data}'"#,
        &["patched$", r#"^\{"x":"word"\}$|^map\[x:word\]$"#],
    ),
    case("M-32", "EDITOR='sed -i s/x:.word/x:\\ other/' kubectl edit cm file && kubectl get cm file -o jsonpath='{.data.x}'", &["edited", "^other$"]),
    case(
        "M-33",
        "kubectl label cm --all team=a && kubectl annotate -f one.yaml note=1 && kubectl annotate --overwrite -f one.yaml note=2 &&
kubectl label cm -l team=a team-; kubectl get cm pr1 -o jsonpath='{.metadata.annotations.note}'",
        &["configmap/pr1 labeled", "annotated", "2$"],
    ),
    case(
        "M-34",
        r#"uid=$(kubectl get cm file -o jsonpath='{.metadata.uid}')
kubectl patch secret reg -p "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"file\",\"uid\":\"$uid\"}]}}"
kubectl delete cm file --cascade=orphan --timeout=20s && kubectl get secret reg -o jsonpath='<{.metadata.ownerReferences}>'"#,
        &[r#""file" deleted"#, "<>$"],
    ),
    case("M-35", "kubectl auth can-i '*' '*' && kubectl auth can-i get vm --subresource=console", &["(?s)yes.*yes"]),
    case("M-36", "kubectl api-resources --namespaced=false --verbs=list -o name", &["^nodes$", "^virtualmachineclasses.virt", "!^configmaps$"]),
    case(
        "M-37",
        "sed 's/name: vm/name: bad/; s/cores: 1/coars: 1, cores: 1/' vm.yaml | kubectl create -f -",
        &["coars"],
    )
    .exits(1),
    case(
        "M-38",
        "sed 's/name: vm/name: bad/; s/cores: 1/coars: 1, cores: 1/' vm.yaml | kubectl create --validate=false -f - && kubectl get vm bad -o json",
        &["created", "!\"coars\""],
    ),
    case("M-39", "kubectl get --raw '/api/v1/namespaces/default/configmaps?limit=1' | jq '.items | length'", &["^1$"]),
    case("M-40", "kubectl get vm,vd,vi,cvi,vmop,vmbda,vmip,vmipl,vmclass,ns,no,secret,cm,ev,lease,crd,po,svc -A", &["virtualmachineclass"]),
    case("M-41", "kubectl explain vm.status.conditions && kubectl explain pod && kubectl explain crd", &["conditions", "standalone host has none"]),
    case("M-42", "kubectl create token default", &["unknown command|could not find"]).exits(1),
    // The project's own manifests hold before strict validation, the client's and the server's.
    case(
        "M-43",
        "kubectl apply --dry-run=server -f samples && kubectl apply -f samples -o name",
        &[r"^virtualmachine\S*/archive created \(server dry run\)", "^virtualmachine\\S*/web$", "!Warning"],
    ),
    case(
        "M-44",
        "vmdeck kubeconfig --role view --user eve > view; export KUBECONFIG=view; kubectl get vm && kubectl auth can-i list vd
kubectl auth can-i create vm; kubectl get secrets; kubectl create cm x --from-literal=a=b",
        &[
            r"^vm\s",
            "^yes$",
            "^no",
            r#"secrets is forbidden: User "eve" cannot list resource "secrets" in API group "" in the namespace "default""#,
            r#"configmaps is forbidden: User "eve" cannot create resource "configmaps""#,
        ],
    )
    .exits(1),
    case(
        "M-45",
        "export KUBECONFIG=token; vmdeck kubeconfig --role view --user eve --token > token; kubectl get vm -o name
vmdeck host token revoke eve; kubectl get vm -o name",
        &["^virtualmachine.virtualization.deckhouse.io/vm$", "revoked", "Unauthorized|logged in|provide credentials"],
    )
    .exits(1),
];
