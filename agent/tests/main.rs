//! The tests of this crate as one program: each one more would hold all libraries again.

mod damage;
mod doctor;
mod fleet;
mod identity;
mod lists;
mod membership;
mod names;
mod probes;
mod rig;
mod session;
mod simulation;
