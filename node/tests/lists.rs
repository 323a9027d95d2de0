//! Lists: the planner against a plain model, and all of it against the real kernel in network namespaces.
//! The latter need root (CAP_NET_ADMIN) and nft; without them they fail.

#[path = "lists/enforced.rs"]
mod enforced;
#[path = "kernel/namespace.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod namespace;
#[path = "lists/plan.rs"]
mod plan;
