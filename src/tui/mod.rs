//! The viewer: state, update, view.

pub mod action;
mod command;
pub mod console;
pub mod editor;
mod filter;
mod input;
pub mod keymap;
mod message;
mod overlay;
mod paint;
mod palette;
mod screens;
mod state;
pub mod review;
mod table;
mod text;
pub mod theme;
mod update;
mod view;
