//! The only unsafe code of this program: what happens in a child between fork and exec, and waiting on a
//! process descriptor.

#![allow(unsafe_code, reason = "the one fenced place; every block says why it is sound")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio::io::unix::AsyncFd;

use super::layout::Isolation;

/// Arranges that the child gets its own session, loses every privilege and keeps `fds` open: no terminal's
/// signal reaches it, and it can gain nothing by executing another program.
pub(super) fn harden(command: &mut Command, isolation: &Isolation, fds: Vec<RawFd>) {
    let root = rustix::process::geteuid().is_root();
    let user = match isolation {
        Isolation::Unprivileged { id, groups } => {
            Some((Uid::from_raw(*id), Gid::from_raw(*id), groups.iter().map(|g| Gid::from_raw(*g)).collect::<Vec<_>>()))
        }
        Isolation::SameUser | Isolation::RootWithoutCapabilities { .. } => None,
    };
    let kept = match isolation {
        Isolation::RootWithoutCapabilities { override_modes: true, .. } => CapabilitySet::DAC_OVERRIDE,
        _ => CapabilitySet::empty(),
    };
    let in_child = move || -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        // A core file would hold the guest's memory.
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        if root {
            for bit in 0..63 {
                let capability = CapabilitySet::from_bits_retain(1 << bit);
                // Past the last capability the kernel says EINVAL.
                if capability != kept && rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
                    break;
                }
            }
        }
        if let Some((uid, gid, groups)) = &user {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        if root {
            // A program that is executed as root gets what is left in the bounding set.
            let none = CapabilitySet::empty();
            rustix::thread::set_capabilities(
                None,
                CapabilitySets { effective: none, permitted: none, inheritable: none },
            )?;
        }
        for fd in &fds {
            // SAFETY: the caller keeps these descriptors open until the spawn has returned.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls (rustix's Linux backend enters the kernel directly, without
    // libc's locks) and allocates nothing, so it may run between fork and exec of a threaded program.
    unsafe { command.pre_exec(in_child) };
}

/// A descriptor that becomes readable when its process has ended.
pub(super) struct ExitWatch(AsyncFd<OwnedFd>);

impl ExitWatch {
    /// Watches a pidfd. Must run inside the async runtime.
    pub(super) fn new(pidfd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is valid, always returns the same descriptor, and moves into the `AsyncFd`.
        let watch = unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) };
        watch.map(Self).map_err(io::Error::from)
    }

    /// Returns when the process has ended. Cancel safe.
    pub(super) async fn ended(&self) {
        // An error means that the runtime goes down: nothing is left to wait for, but the process lives on.
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The pidfd.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
