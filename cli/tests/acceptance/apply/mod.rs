//! Loading, confirming, falling back, removing: what happens to packets and connections meanwhile.

mod bad_input;
mod boot;
mod container;
mod edge;
mod killed;
mod plan;
mod session;
mod status;
mod trial;

use crate::acceptance::rig::Rig;

/// `node` is managed; `admin` and `user` are somebody.
pub fn small() -> Rig {
    Rig::star(&[
        ("node", &["192.0.2.10", "2001:db8:1::10"]),
        ("admin", &["198.51.100.9", "2001:db8:2::9"]),
        ("user", &["198.51.100.20", "2001:db8:2::20"]),
    ])
}

/// A policy for `node` with these rules.
pub fn policy(rules: &str) -> String {
    format!(
        "\
internal: [192.0.2.0/24, 198.51.100.0/24, \"2001:db8:1::/48\", \"2001:db8:2::/48\"]
nodes:
  node: {{ addresses: [192.0.2.10, \"2001:db8:1::10\"] }}
groups:
  admins: {{ addresses: [198.51.100.9, \"2001:db8:2::9\"] }}
  users: {{ addresses: [198.51.100.20, \"2001:db8:2::20\"] }}
rules:
{rules}"
    )
}

/// A rule that opens a TCP port of the node to users, under an id.
pub fn open_to_users(id: &str, port: u16) -> String {
    format!("  - allow: users -> node\n    services: [tcp/{port}]\n    id: {id}\n")
}
