//! # vmdeck: the map
//!
//! One binary, three roles: a viewer (`vmdeck`), a standalone node (`vmdeck host`) and one-shot verbs
//! (`vmdeck get`, `vmdeck apply`, ...). Viewer, server and worker meet only as Kubernetes requests, so
//! nothing works on one machine that would not work with a cluster.
//!
//! ```text
//!             types  (spoken by all)
//!               |
//!    +----------+-----------+--------------------------+
//!    |                      |                          |
//!  store -> apiserver ==HTTP==> controller -> host -> QEMU
//!                   ==HTTP==> client -> tui  (term)
//! ```
//!
//! Modules in reading order, each with what it must *not* do:
//!
//! * [`types`]: the API's kinds as Rust types, and rules that are pure functions over them (schema, change
//!   table, run policy, selectors, printer columns). No I/O, no clock.
//! * [`store`]: append-only log plus current table on SQLite. Knows keys and bytes, not kinds.
//! * [`apiserver`]: Kubernetes' HTTP semantics over the store. Knows no QEMU; streams and uploads are
//!   traits that [`run`] implements.
//! * [`host`]: this computer's QEMU, disks and images. Knows no Kubernetes.
//! * [`controller`]: reconcilers; they see a `kube::Client` and the [`host::Host`] trait, never the store.
//! * [`client`]: the viewer's side of any API, local or remote.
//! * [`term`]: terminal emulation without I/O.
//! * [`tui`]: state, update, view. `update` does no I/O.
//! * [`config`]: settings file and directories.
//! * [`cli`]: the command line as data.
//! * [`run`]: wires everything; the only module that may import all others.
//!
//! The import table is a test: `tests/it/tidy.rs`.

pub mod types;

pub mod store;

pub mod apiserver;

pub mod host;

pub mod controller;

pub mod config;

pub mod client;

pub mod term;

pub mod tui;

pub mod cli;

pub mod run;
