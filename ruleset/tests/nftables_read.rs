//! What nftables' rules do, as `ruleset::nftables::read` reads them: ours, others', and any text at all.

mod kernel;
mod ours;
use crate::packets;
mod robust;
mod spec;
mod words;
