//! Every `d8 k` command of the module's user guide, as a reader would type them one after another. The machine runs
//! for real; its disks are blank, so that it gets no further than its firmware: nothing here looks inside.

use super::desk::{Case, case};

/// The commands as the guide has them, read as kubectl's. What follows `apply` is a manifest each time.
pub const COMMANDS: &str = r#"kubectl apply -f - <<"EOF"
kubectl get vm linux-vm
kubectl apply -f - <<EOF
kubectl get virtualmachineoperation
kubectl get vmop
kubectl edit vm linux-vm
kubectl patch vm linux-vm --type merge -p '{"spec":{"cpu":{"cores":2}}}'
kubectl get vm linux-vm -o jsonpath="{.status.restartAwaitingChanges}" | jq .
kubectl get vm linux-vm -o wide
kubectl get vmbda attach-blank-disk
kubectl delete vmbda attach-blank-disk
kubectl get vm
kubectl get vm -w
kubectl get vmipl
kubectl get vmip
kubectl get vm linux-vm -o jsonpath="{.status.virtualMachineIPAddressName}"
--type=merge --patch '{"metadata":{"ownerReferences":null}}'"#;

/// Files beside the commands.
pub const FILES: &[(&str, &str)] = &[(
    "disks.yaml",
    "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: linux-vm-root}
spec: {persistentVolumeClaim: {size: 10Mi}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: blank-disk}
spec: {persistentVolumeClaim: {size: 10Mi}}
",
)];

/// The rows.
pub const CASES: &[Case] = &[
    case("G-01", "kubectl apply -f disks.yaml", &["linux-vm-root created", "blank-disk created"]),
    case(
        "G-02",
        r#"kubectl apply -f - <<"EOF"
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: linux-vm
spec:
  # Virtual machine class name.
  virtualMachineClassName: host
  # Cloud-init script block for provisioning the VM.
  provisioning:
    type: UserData
    # Example cloud-init script to create the user "cloud" with the password "cloud" and install the qemu-guest-agent and nginx services.
    userData: |
      #cloud-config
      package_update: true
      packages:
        - nginx
        - qemu-guest-agent
      run_cmd:
        - systemctl daemon-reload
        - systemctl enable --now nginx.service
        - systemctl enable --now qemu-guest-agent.service
      ssh_pwauth: True
      users:
      - name: cloud
        passwd: '$6$rounds=4096$saltsalt$fPmUsbjAuA7mnQNTajQM6ClhesyG0.yyQhvahas02ejfMAq1ykBo1RquzS0R6GgdIDlvS.kbUwDablGZKZcTP/'
        shell: /bin/bash
        sudo: ALL=(ALL) NOPASSWD:ALL
        lock_passwd: False
      final_message: "The system is finally up, after $UPTIME seconds"
  # Not the guide's: nobody in a blank disk hears the power button.
  terminationGracePeriodSeconds: 1
  # VM resource settings.
  cpu:
    # Number of CPU cores.
    cores: 1
    # Request 10% of a physical core's CPU time.
    coreFraction: 10%
  memory:
    # Amount of RAM.
    size: 1Gi
  # List of disks and images used in the VM.
  blockDeviceRefs:
    # The order of disks and images in this block determines the boot priority.
    - kind: VirtualDisk
      name: linux-vm-root
EOF"#,
        &["^virtualmachine.virtualization.deckhouse.io/linux-vm created$"],
    ),
    case(
        "G-03",
        "vmdeck wait vm linux-vm --for jsonpath={.status.phase}=Running --timeout 60s && kubectl get vm linux-vm",
        &[r"^NAME\s+PHASE\s+NODE\s+IPADDRESS\s+AGE$", r"^linux-vm\s+Running\s+\S+\s+10\.66\.10\.\d+\s+\d+[sm]\S*$"],
    ),
    case(
        "G-04",
        r#"EDITOR='sed -i "s/^  name: linux-vm$/  name: linux-vm\n  labels: {tier: web}/"' kubectl edit vm linux-vm"#,
        &["^virtualmachine.virtualization.deckhouse.io/linux-vm edited$"],
    ),
    case(
        "G-05",
        r#"kubectl patch vm linux-vm --type merge -p '{"spec":{"cpu":{"cores":2}}}'"#,
        &["^virtualmachine.virtualization.deckhouse.io/linux-vm patched$"],
    ),
    case(
        "G-06",
        r#"vmdeck wait vm linux-vm --for condition=AwaitingRestartToApplyConfiguration >/dev/null
kubectl get vm linux-vm -o jsonpath="{.status.restartAwaitingChanges}" | jq . | tr -d ' \n'"#,
        &[r#"^\[\{"currentValue":1,"desiredValue":2,"operation":"replace","path":"cpu.cores"\}\]$"#],
    ),
    case(
        "G-07",
        "kubectl get vm linux-vm -o wide",
        &[
            r"^NAME\s+PHASE\s+CORES\s+COREFRACTION\s+MEMORY\s+NEED RESTART\s+AGENT\s+MIGRATABLE\s+NODE\s+IPADDRESS\s+AGE$",
            r"^linux-vm\s+Running\s+2\s+10%\s+1Gi\s+True\s+\S+\s+\S+\s+\S+\s+10\.66\.10\.\d+\s+\S+$",
        ],
    ),
    case(
        "G-08",
        r"kubectl apply -f - <<EOF
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineOperation
metadata:
  name: restart-linux-vm-$(date +%s)
spec:
  virtualMachineName: linux-vm
  # Type of operation being applied = Restart operation.
  type: Restart
EOF",
        &[r"^virtualmachineoperation.virtualization.deckhouse.io/restart-linux-vm-\d+ created$"],
    ),
    case(
        "G-09",
        r#"vmdeck wait $(kubectl get vmop -o name | sed s/[.][^/]*//) --for jsonpath={.status.phase}=Completed --timeout 60s
kubectl get virtualmachineoperation
# or
kubectl get vmop"#,
        &[r"(?s)^NAME\s+PHASE\s.*^restart-linux-vm-\d+\s+Completed\s.*^NAME\s.*^restart-linux-vm-\d+\s+Completed\s"],
    ),
    case(
        "G-10",
        "vmdeck wait vm linux-vm --for jsonpath={.status.phase}=Running --timeout 60s
kubectl get vm linux-vm -o jsonpath='<{.status.restartAwaitingChanges}>'; kubectl get vm linux-vm -o wide",
        &["^<>", r"^linux-vm\s+Running\s+2\s+10%\s+1Gi\s+False\s"],
    ),
    case(
        "G-11",
        "kubectl apply -f - <<EOF
apiVersion: v1
kind: Secret
metadata:
  name: cloud-init-example
data:
  userData: I2Nsb3VkLWNvbmZpZwo=
type: provisioning.virtualization.deckhouse.io/cloud-init
---
apiVersion: v1
kind: Secret
metadata:
  name: sysprep-example
data:
  unattend.xml: PHVuYXR0ZW5kLz4K
type: provisioning.virtualization.deckhouse.io/sysprep
EOF
kubectl get secret cloud-init-example sysprep-example",
        &["cloud-init-example created", r"/cloud-init\s+1\s", r"/sysprep\s+1\s"],
    ),
    case(
        "G-12",
        "kubectl apply -f - <<EOF
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineBlockDeviceAttachment
metadata:
  name: attach-blank-disk
spec:
  blockDeviceRef:
    kind: VirtualDisk
    name: blank-disk
  virtualMachineName: linux-vm
EOF",
        &["^virtualmachineblockdeviceattachment.virtualization.deckhouse.io/attach-blank-disk created$"],
    ),
    case(
        "G-13",
        "vmdeck wait vmbda attach-blank-disk --for jsonpath={.status.phase}=Attached --timeout 60s
kubectl get vmbda attach-blank-disk",
        &[r"^NAME\s+PHASE\s+VIRTUAL ?MACHINE NAME\s+AGE$", r"^attach-blank-disk\s+Attached\s+linux-vm\s+\d+[sm]\S*$"],
    ),
    case("G-14", "kubectl delete vmbda attach-blank-disk", &[r#"attach-blank-disk" deleted"#]),
    case("G-15", "kubectl get vm", &[r"^NAME\s+PHASE\s+NODE\s+IPADDRESS\s+AGE$", r"^linux-vm\s+Running\s"]),
    // The guide opens the watch right after; here before, so that nothing is missed. One computer has no other node:
    // the machine moves into a fresh QEMU.
    case(
        "G-16",
        "exec 3< <(kubectl get vm -w); watch=$!; read -r line <&3; echo \"$line\"; read -r line <&3; echo \"$line\"
kubectl apply -f - <<EOF
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineOperation
metadata:
  name: evict-linux-vm-$(date +%s)
spec:
  # name of the virtual machine
  virtualMachineName: linux-vm
  # operation for migration
  type: Evict
EOF
moving=
while read -r line <&3; do
    echo \"$line\"
    case $line in *Migrating*) moving=1 ;; *Running*) [ -z $moving ] || break ;; esac
done
kill $watch",
        &[
            r"/evict-linux-vm-\d+ created$",
            r"(?s)^NAME\s+PHASE\s+NODE\s+IPADDRESS\s+AGE\nlinux-vm\s+Running\s.*^linux-vm\s+Migrating\s.*^linux-vm\s+Running\s",
        ],
    ),
    case(
        "G-17",
        "vmdeck wait $(kubectl get vmop -o name | grep evict | sed s/[.][^/]*//) --for jsonpath={.status.phase}=Completed --timeout 60s
kubectl get vmop",
        &[r"^evict-linux-vm-\d+\s+Completed\s"],
    ),
    case(
        "G-18",
        "kubectl get vmipl",
        &[
            r"^NAME\s+VIRTUALMACHINEIPADDRESS\s+STATUS\s+AGE$",
            r#"^ip-10-66-10-\d+\s+\{"name":"linux-vm-\w+","namespace":"default"\}\s+Bound\s+\d+[sm]\S*$"#,
        ],
    ),
    case(
        "G-19",
        "kubectl get vmip",
        &[
            r"^NAME\s+ADDRESS\s+STATUS\s+VM\s+AGE$",
            r"^linux-vm-\w+\s+10\.66\.10\.\d+\s+Attached\s+linux-vm\s+\d+[sm]\S*$",
        ],
    ),
    case(
        "G-20",
        "kubectl apply -f - <<EOF
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddress
metadata:
  name: linux-vm-custom-ip
spec:
  staticIP: 10.66.20.77
  type: Static
EOF",
        &["linux-vm-custom-ip created"],
    ),
    case(
        "G-21",
        r#"kubectl get vm linux-vm -o jsonpath="{.status.virtualMachineIPAddressName}""#,
        &[r"^linux-vm-\w+$"],
    ),
    case(
        "G-22",
        r#"kubectl patch vmip $(kubectl get vm linux-vm -o jsonpath="{.status.virtualMachineIPAddressName}") --type=merge --patch '{"metadata":{"ownerReferences":null}}'"#,
        &[r"^virtualmachineipaddress.virtualization.deckhouse.io/linux-vm-\w+ patched$"],
    ),
    case(
        "G-23",
        "kubectl delete vm linux-vm --timeout=60s; kubectl get vm; kubectl get vmip",
        &[r#""linux-vm" deleted"#, "No resources found", r"^linux-vm-\w+\s+10\.66\.10\.\d+\s"],
    ),
    case(
        "G-24",
        "kubectl delete vmip linux-vm-custom-ip; kubectl apply -f - <<EOF
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddress
metadata:
  name: linux-vm-custom-ip
spec:
  staticIP: 10.66.20.77
  type: Static
EOF
vmdeck wait vmip linux-vm-custom-ip --for jsonpath={.status.phase}=Bound --timeout 30s; kubectl get vmip",
        &["linux-vm-custom-ip created", r"^linux-vm-custom-ip\s+10\.66\.20\.77\s+Bound\s"],
    ),
];
