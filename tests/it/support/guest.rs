//! The guest image, built once for all tests (and cached by its inputs), and a machine that boots it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The user of [`USER_DATA`].
pub const USER: &str = "cloud";
/// Its password.
pub const PASSWORD: &str = "cloud";

/// User data as in the user guide's first example, parts that this guest does not know included.
pub const USER_DATA: &str = r"#cloud-config
package_update: true
packages:
  - nginx
  - qemu-guest-agent
run_cmd:
  - systemctl enable --now qemu-guest-agent.service
ssh_pwauth: True
users:
  - name: cloud
    passwd: '$6$rounds=4096$saltsalt$fPmUsbjAuA7mnQNTajQM6ClhesyG0.yyQhvahas02ejfMAq1ykBo1RquzS0R6GgdIDlvS.kbUwDablGZKZcTP/'
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: False
final_message: The system is finally up, after $UPTIME seconds
";

/// Path of the bootable image.
pub fn guest_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = std::env::var_os("VMDECK_TEST_GUEST_DIR").map_or_else(|| root.join("target/guest"), PathBuf::from);
        let output = Command::new(root.join("assets/guest/build.sh")).arg(&out).output().expect("build.sh runs");
        assert!(
            output.status.success(),
            "the guest cannot be built (try `make setup`):\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// A manifest shaped like the user guide's first example: root disk from the image `guest`, user data, and the given
/// run policy.
pub fn machine_manifest(name: &str, run_policy: &str) -> String {
    let user_data = USER_DATA.lines().map(|l| format!("      {l}\n")).collect::<String>();
    format!(
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata:
  name: {name}-root
spec:
  persistentVolumeClaim:
    size: 300Mi
  dataSource:
    type: ObjectRef
    objectRef:
      kind: VirtualImage
      name: guest
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: {name}
spec:
  virtualMachineClassName: host
  runPolicy: {run_policy}
  provisioning:
    type: UserData
    userData: |
{user_data}
  cpu:
    cores: 1
    coreFraction: 10%
  memory:
    size: 256Mi
  blockDeviceRefs:
  - kind: VirtualDisk
    name: {name}-root
"
    )
}

/// A machine that gets no further than its firmware: its disk is blank. Its manifest and its disk's; nobody hears the
/// power button, so that its grace is a second.
pub fn blank_machine(name: &str, run_policy: &str) -> String {
    format!(
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {{name: {name}-root}}
spec: {{persistentVolumeClaim: {{size: 10Mi}}}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata: {{name: {name}}}
spec:
  virtualMachineClassName: host
  runPolicy: {run_policy}
  terminationGracePeriodSeconds: 1
  cpu: {{cores: 1, coreFraction: 10%}}
  memory: {{size: 128Mi}}
  blockDeviceRefs: [{{kind: VirtualDisk, name: {name}-root}}]
"
    )
}
