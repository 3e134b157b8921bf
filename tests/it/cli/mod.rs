//! The command line, as a shell sees it: the real program, its output and its exit codes.

mod cluster;
mod console;
mod lifecycle;
mod objects;
