//! The one integration binary: rules of the project, then stories on real QEMU.

mod cli;
mod qemu;
mod readme;
mod source;
#[allow(unused_imports, reason = "some of it is for the benchmark")]
mod support;
mod tidy;

mod reconcile;
