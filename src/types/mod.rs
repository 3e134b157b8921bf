//! The API's kinds as Rust types, and rules that are pure functions over them. No I/O, no clock.
