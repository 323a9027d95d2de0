//! Lists: the planner against a plain model, and all of it against the real kernel in network namespaces.
//! The latter need root (CAP_NET_ADMIN) and nft; without them they fail.

mod enforced;
mod plan;
