//! The one integration binary.

mod source;
mod tidy;
