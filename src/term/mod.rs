//! Terminal emulation without I/O.
