//! (in the making)

pub mod kernel;
pub mod probe;
