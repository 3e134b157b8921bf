//! The one integration binary: rules of the project, then stories on real QEMU.

mod qemu;
mod source;
mod support;
mod tidy;
