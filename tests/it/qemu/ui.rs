//! The UI on real machines, in a pseudo-terminal.
