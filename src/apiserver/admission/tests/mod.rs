//! Rules as tables: over a made-up world, and through the router.

mod across;
pub(in crate::apiserver) mod over_http;
