//! The viewer: state, update, view.

pub mod action;
pub mod console;
pub mod editor;
mod filter;
mod input;
pub mod keymap;
pub mod review;
mod table;
mod text;
pub mod theme;
