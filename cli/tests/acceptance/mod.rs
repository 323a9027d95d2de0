//! What Ringwall promises, checked for real: its own program on the hosts of a lab, nft in their
//! network namespaces, sockets between them.

mod rig;

mod apply;
mod commands;
mod plan;
mod requirements;
