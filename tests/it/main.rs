//! The one integration binary: rules of the project, then stories on real QEMU.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "all of this crate is tests: a panic is how they fail")]

mod api;
mod cli;
mod connect;
mod debian;
mod fuzz;
mod guide;
mod qemu;
mod readme;
mod reasons;
mod source;
#[allow(unused_imports, reason = "some of it is for the benchmark")]
mod support;
mod tidy;
mod transfer;

mod reconcile;
