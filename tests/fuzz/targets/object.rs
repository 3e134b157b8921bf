//! Bodies of creates, as JSON, YAML and protobuf.

#![no_main]

#[path = "../../it/fuzz/cases.rs"]
#[allow(dead_code, reason = "each target uses one of the cases")]
mod cases;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cases::object(data));
