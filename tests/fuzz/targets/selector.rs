//! Label and field selectors, JSONPath, quantities.

#![no_main]

#[path = "../../it/fuzz/cases.rs"]
#[allow(dead_code, reason = "each target uses one of the cases")]
mod cases;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cases::selector(data));
