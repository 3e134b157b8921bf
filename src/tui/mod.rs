//! The viewer: state, update, view.

pub mod action;
pub mod console;
mod filter;
mod input;
pub mod keymap;
mod table;
mod text;
pub mod theme;
