//! The viewer: state, update, view.

pub mod action;
mod filter;
mod input;
pub mod keymap;
mod table;
mod text;
pub mod theme;
