//! What client and server say to each other about byte streams beyond upstream's protocol (upstream.md section 17):
//! how one side of a forwarded connection ends before the other.
//!
//! A websocket has no half-closed state: who has said goodbye gets nothing more. Programs that send a request, close
//! their side and then read the answer would lose it. So a client that knows this asks for it with [`END_HEADER`] and a
//! server that knows it too answers with the same header; then a text message [`END`] means "no more bytes from me",
//! and the other direction goes on. Upstream's peers send no such header, and ignore text messages.

/// Header of the request and of the answer, with the value [`END`].
pub const END_HEADER: &str = "x-vmdeck-stream-end";

/// The text message, and the header's value.
pub const END: &str = "eof";
