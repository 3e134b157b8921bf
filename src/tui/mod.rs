//! The viewer: state, update, view.

pub mod theme;
