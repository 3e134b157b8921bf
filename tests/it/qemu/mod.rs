//! Stories on real QEMU, through the real binary and its API: what a user does, and what the guest then says.
//! Every story has a world of its own and ends by deleting its machines and looking for leftovers.

mod daemon;
mod disks;
mod first_machine;
mod migration;
mod moving_network;
mod moving_screen;
mod power;
mod provisioning;
mod restoring;
mod restoring_machines;
mod snapshots;
mod ui;
