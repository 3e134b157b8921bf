//! The API's kinds as Rust types, and rules that are pure functions over them. No I/O, no clock.
//!
//! Field names, enums and defaults follow `virtualization.deckhouse.io/v1alpha2`. Objects are written back as
//! patches of single fields, never as re-serialized structs: a struct here names the fields we act on, and what
//! it does not name stays in the object.

pub mod address;
pub mod attachment;
pub mod class;
pub mod class_version;
pub mod common;
pub mod condition;
mod definition;
pub mod diff;
pub mod disk;
pub mod field_error;
pub mod image;
pub mod jsonpath;
pub mod kinds;
pub mod mac;
pub mod machine;
pub mod machine_status;
pub mod operation;
pub mod per_kind;
pub mod printer;
pub mod quantity;
pub mod rules;
pub mod schema;
pub mod selector;
pub mod snapshot;
pub mod streams;
pub mod text;

pub use address::*;
pub use attachment::*;
pub use class::*;
pub use common::*;
pub use disk::*;
pub use image::*;
pub use mac::*;
pub use machine::*;
pub use machine_status::*;
pub use operation::*;
pub use snapshot::*;
