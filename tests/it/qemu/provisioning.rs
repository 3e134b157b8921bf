//! First-boot configuration, firmware, and the samples that the repository ships.

use crate::support::{BOOT, SOON, World, machine_manifest};

#[test]
fn the_samples_apply_and_do_what_they_say() {
    let world = World::with_image();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/samples");
    world.ok(&["apply", "-f", samples]);
    let again = world.ok(&["apply", "-f", samples]);
    assert!(!again.contains("created"), "a second apply changes nothing: {again}");

    world.until_phase("vm/linux-vm", "Running", BOOT);
    world.until_phase("vm/web", "Stopped", SOON);
    world.until_phase("vm/archive", "Stopped", SOON);
    assert_eq!(world.qemu_pids().len(), 1, "one of the three boots at once");

    // User data from a Secret: files, commands.
    world.ok(&["start", "web", "--wait"]);
    let mut console = world.console("web");
    console.login();
    assert_eq!(console.run("nproc"), "2");
    assert_eq!(console.run("wget -qO- http://127.0.0.1/"), "<h1>served by a virtual machine</h1>");
    assert_eq!(console.run("lsblk | grep -c ' 100M '"), "1");
    world.leaves_nothing();
}

#[test]
fn a_machine_boots_by_uefi() {
    let world = World::with_image();
    let manifest = machine_manifest("uefi", "AlwaysOn").replace("  cpu:\n", "  bootloader: EFI\n  cpu:\n");
    world.apply(&manifest);
    world.until_phase("vm/uefi", "Running", BOOT);
    let mut console = world.console("uefi");
    console.login();
    assert_eq!(console.run("ls -d /sys/firmware/efi"), "/sys/firmware/efi");
    world.leaves_nothing();
}

#[test]
fn a_missing_secret_closes_the_gate_and_its_arrival_opens_it() {
    let world = World::with_image();
    let manifest = machine_manifest("m", "AlwaysOn");
    let (before, rest) = manifest.split_once("  provisioning:\n").unwrap();
    let (_, after) = rest
        .split_once("\n\n")
        .map_or_else(|| rest.split_once("  cpu:\n").unwrap(), |(a, b)| (a, b.trim_start_matches("  cpu:\n")));
    let reference =
        "  provisioning:\n    type: UserDataRef\n    userDataRef:\n      kind: Secret\n      name: late\n  cpu:\n";
    world.apply(&format!("{before}{reference}{after}"));
    let pending = world.until("vm/m", "held back by its provisioning", SOON, |o| {
        o["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "ProvisioningReady" && c["status"] == "False"))
    });
    assert_eq!(pending["status"]["phase"], "Pending");
    assert!(world.qemu_pids().is_empty());
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: late\ntype: provisioning.virtualization.deckhouse.io/cloud-init\n\
         stringData:\n  userData: |\n    #cloud-config\n    hostname: from-the-secret\n",
    );
    world.until_phase("vm/m", "Running", BOOT);
    world.console("m").until("from-the-secret login: ", BOOT);
    world.leaves_nothing();
}
