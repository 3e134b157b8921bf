//! A full Debian 12 guest with real cloud-init, guest agent and OpenSSH: the guide's own manifest, and what it promises
//! inside the guest. Minutes under emulation, so only `make test-full` runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::guide::steps::{ATTACH, DISKS, MACHINE};
use crate::guide::walk::Shows::{Disks, Like, Page, Text};
use crate::guide::walk::{Step, Walk, step, talk};
use crate::support::binary;

/// Path of the Debian image; built if it is not there.
fn image() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = std::env::var_os("VMDECK_TEST_GUEST_DIR").map_or_else(|| root.join("target/guest"), PathBuf::from);
    let output = Command::new(root.join("assets/guest/debian.sh")).arg(&out).output().expect("debian.sh runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the Debian guest cannot be built (try `make debian`):\n{errors}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// How long cloud-init may take to finish, in seconds.
const PATIENCE: u32 = 600;

/// What the first boot has to show.
const FIRST_BOOT: &[Step] = &[
    step("create-a", DISKS, Like(&["linux-vm-root created", "blank-disk created"])),
    step("create-1", MACHINE, Text("virtualmachine.virtualization.deckhouse.io/linux-vm created\n")),
    step("create-b", "settled linux-vm", Like(&[])),
    step(
        "agent",
        // The agent answers first, and then tells its system.
        "vmdeck wait vm linux-vm --for 'jsonpath={.status.guestOSInfo.id}=debian' --timeout 60s >&2\n\
         d8 k get vm linux-vm -o jsonpath='{.status.guestOSInfo.id} {.status.guestOSInfo.versionId} {.status.conditions[?(@.type==\"AgentReady\")].status}'",
        Text("debian 12 True"),
    ),
];

/// After cloud-init has finished.
const INSIDE: &[Step] = &[
    talk(
        "console",
        "d8 v console linux-vm",
        &[
            ("Successfully connected to linux-vm console. The escape sequence is ^]", "\r"),
            ("linux-vm login: ", "cloud\r"),
            ("Password: ", "cloud\r"),
            ("$ ", "clear; whoami; sudo id -u; echo $((6*7))\r"),
            ("\n42", "exit\r"),
            ("login: ", "\x1d"),
        ],
        &["^cloud", "^0"],
    ),
    step("nproc-1", r#"d8 v ssh cloud@linux-vm --local-ssh --command "nproc""#, Text("1\n")),
    step("sudo", r#"d8 v ssh cloud@linux-vm --local-ssh --command "sudo id -un; hostname""#, Text("root\nlinux-vm\n")),
    step(
        "address",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "ip -4 -o addr show eth0" | grep -o '10[.][0-9.]*' | head -1 > inside
d8 k get vm linux-vm -o jsonpath='{.status.ipAddress}' | diff - <(tr -d '\n' < inside) && echo same"#,
        Text("same\n"),
    ),
    // The manifest's mistakes and wishes do no harm: no network, no such package list, `run_cmd` instead of `runcmd`.
    step(
        "cloud-init",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "cloud-init status; systemctl is-active qemu-guest-agent ssh; sudo grep -c 'The system is finally up' /var/log/cloud-init-output.log""#,
        Like(&["(?m)^status: (done|error)", "(?s)^active\nactive\n1$"]),
    ),
    step("attach", ATTACH, Like(&["attach-blank-disk created"])),
    step(
        "attached",
        "vmdeck wait vmbda attach-blank-disk --for 'jsonpath={.status.phase}=Attached' --timeout 120s >&2
d8 k get vmbda attach-blank-disk",
        Page("NAME  PHASE  VIRTUAL MACHINE NAME  AGE\nattach-blank-disk  Attached  linux-vm  AGE"),
    ),
    // As in the guide, to the last column.
    step(
        "lsblk",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "lsblk""#,
        Disks(
            "NAME MAJ:MIN RM SIZE RO TYPE MOUNTPOINTS\n\
             sda 8:0 0 10G 0 disk\n\
             |-sda1 8:1 0 9.9G 0 part /\n\
             |-sda14 8:14 0 4M 0 part\n\
             `-sda15 8:15 0 106M 0 part /boot/efi\n\
             sdb 8:16 0 1M 1 disk\n\
             sdc 8:32 0 95.9M 0 disk",
        ),
    ),
    step(
        "detach",
        r#"d8 k delete vmbda attach-blank-disk >&2
d8 v ssh cloud@linux-vm --local-ssh --command "lsblk -dn -o NAME""#,
        Text("sda\nsdb\n"),
    ),
    step(
        "migrate",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "cat /proc/sys/kernel/random/boot_id" > boot-id
d8 v evict linux-vm --wait >&2
d8 v ssh cloud@linux-vm --local-ssh --command "cat /proc/sys/kernel/random/boot_id" | diff boot-id - && echo same"#,
        Text("same\n"),
    ),
    step(
        "change",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "sudo cat /var/lib/cloud/data/instance-id; sudo cat /etc/ssh/ssh_host_ed25519_key.pub" > identity
d8 k patch vm linux-vm --type merge -p '{"spec":{"cpu":{"cores":2}}}'
d8 v ssh cloud@linux-vm --local-ssh --command "nproc""#,
        Text("virtualmachine.virtualization.deckhouse.io/linux-vm patched\n1\n"),
    ),
    step(
        "wide",
        "vmdeck wait vm linux-vm --for condition=AwaitingRestartToApplyConfiguration >&2
d8 k get vm linux-vm -o wide",
        Page(
            "NAME  PHASE  CORES  COREFRACTION  MEMORY  NEED RESTART  AGENT  MIGRATABLE  NODE  IPADDRESS  AGE\n\
             linux-vm  Running  2  10%  1Gi  True  True  True  NODE  10.66.10.N  AGE",
        ),
    ),
    step(
        "restart",
        "d8 v restart linux-vm && settled linux-vm >&2",
        Page(
            r#"VirtualMachine "default/linux-vm" restarting. VirtualMachineOperation "default/linux-vm-HASH" in progress."#,
        ),
    ),
];

/// After the restart.
const SECOND_BOOT: &[Step] = &[
    // The agent is up before the ssh server.
    step(
        "ssh-again",
        r#"SECONDS=0; until d8 v ssh cloud@linux-vm --local-ssh --command "echo up" 2> last; do
[ $SECONDS -lt "$PATIENCE" ] || { cat last >&2; exit 1; }; done"#,
        Text("up\n"),
    ),
    step("nproc-2", r#"d8 v ssh cloud@linux-vm --local-ssh --command "nproc""#, Text("2\n")),
    // The same instance: its host key is the same, and modules that run once for each have not run again.
    step(
        "instance",
        r#"d8 v ssh cloud@linux-vm --local-ssh --command "sudo cat /var/lib/cloud/data/instance-id; sudo cat /etc/ssh/ssh_host_ed25519_key.pub" | diff identity - && echo same
d8 v ssh cloud@linux-vm --local-ssh --command "sudo grep -c 'config-users-groups.*ran successfully\|modules:.*users-groups' /var/log/cloud-init.log; ls -d /var/lib/cloud/instances/* | wc -l""#,
        Like(&["^same$", "^1$"]),
    ),
];

#[test]
#[ignore = "a full Debian guest takes minutes: `make test-full` runs it"]
fn the_guides_manifest_in_a_full_guest() {
    let begun = Instant::now();
    let mut walk = Walk::begin("Debian 12 with the guide's manifest", &binary(), &image(), PATIENCE);
    let mut times = vec![("image uploaded", begun.elapsed())];
    let begun = Instant::now();
    for step in FIRST_BOOT {
        walk.take(step);
    }
    times.push(("created, until the agent answers", begun.elapsed()));
    // What the guest prints last, after its users and packages.
    walk.desk
        .served
        .world
        .console("linux-vm")
        .until("The system is finally up, after", Duration::from_secs(PATIENCE.into()));
    times.push(("created, until cloud-init is through", begun.elapsed()));
    let begun = Instant::now();
    for step in INSIDE {
        walk.take(step);
    }
    times.push(("inside, with a migration and a restart", begun.elapsed()));
    for step in SECOND_BOOT {
        walk.take(step);
    }
    for (what, time) in times {
        println!("{what}: {:.1} s", time.as_secs_f64());
    }
    walk.desk.served.world.ok(&["stop", "linux-vm", "--wait"]);
    walk.desk.served.world.leaves_nothing();
    walk.end(FIRST_BOOT.len() + INSIDE.len() + SECOND_BOOT.len());
}
