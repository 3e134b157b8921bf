//! State, update, view.
