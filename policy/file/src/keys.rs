//! The keys of a policy file: one table for the reader, for near names and for the schema.

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Text,
    Flag,
    OneOf(&'static [&'static str]),
    /// One word or a list of them.
    Words,
    /// One address item or a list of them.
    Addresses,
    /// One service or a list of them.
    Services,
    /// One port or range, or a list of them.
    Ports,
    /// `A -> B` or `A <-> B`.
    Line,
    Duration,
    Date,
    /// Name to text.
    Texts,
    /// Name to flag.
    Flags,
    /// Name to services.
    ServiceMap,
    /// One mapping.
    One(&'static Table),
    /// Name to mapping.
    Map(&'static Table),
    /// A list of mappings.
    List(&'static Table),
}

#[derive(Debug)]
pub struct Table {
    /// With its article, as in "a group".
    pub what: &'static str,
    pub keys: &'static [Key],
    pub required: &'static [&'static str],
    /// One of these, and only one.
    pub one_of: &'static [&'static str],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// Shown by editors.
    pub about: &'static str,
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, about }
}

pub const STAGES: &[&str] = &["audit", "enforce"];
pub const FLOOR: &[&str] = &["dhcp", "neighbour-discovery", "multicast-listener", "management"];

const DESCRIPTION: Key = key("description", Shape::Text, "For readers; it has no effect.");

pub static DOCUMENT: Table = Table {
    what: "a policy",
    required: &[],
    one_of: &[],
    keys: &[
        key("internal", Shape::Addresses, "Our own prefixes. `internet` is every other global address."),
        key("min_tls", Shape::OneOf(&["1.2", "1.3"]), "The lowest TLS version that services may speak."),
        key("management", Shape::One(&MANAGEMENT), "Who manages the nodes; part of the floor, which no rule can close."),
        key("protected", Shape::Addresses, "Addresses and groups that can never be blocked. It opens nothing."),
        key("floor", Shape::One(&FLOOR_TABLE), "Takes items out of the floor."),
        key("on_tighten", Shape::OneOf(&["cut", "drain"]), "What becomes of live connections that a change forbids."),
        key("on_drift", Shape::OneOf(&["heal", "report"]), "What becomes of foreign changes to the node's rules."),
        key("stage", Shape::OneOf(STAGES), "`audit` watches on every node and drops nothing."),
        key("nodes", Shape::Map(&NODE), "The machines that enforce."),
        key("floating", Shape::Map(&FLOATING), "Addresses that move between nodes."),
        key("groups", Shape::Map(&GROUP), "Named sets of addresses."),
        key("services", Shape::ServiceMap, "The policy's own names for protocols and ports."),
        key("options", Shape::Flags, "Switches that sections and rules may depend on."),
        key("sections", Shape::List(&SECTION), "Rules under the headings of the guide."),
        key("rules", Shape::List(&RULE), "Rules without a heading."),
        key("expect", Shape::List(&EXPECTATION), "Tests of this policy over all flows of each line."),
    ],
};

pub static MANAGEMENT: Table = Table {
    what: "`management`",
    required: &["from", "services"],
    one_of: &[],
    keys: &[
        key("from", Shape::Words, "The groups that manage."),
        key("services", Shape::Services, "The services that they use."),
        DESCRIPTION,
    ],
};

pub static FLOOR_TABLE: Table = Table {
    what: "`floor`",
    required: &["without"],
    one_of: &[],
    keys: &[key("without", Shape::Words, "Items that nodes can live without."), DESCRIPTION],
};

pub static NODE: Table = Table {
    what: "a node",
    required: &["addresses"],
    one_of: &[],
    keys: &[
        key("addresses", Shape::Addresses, "Its own addresses."),
        key("labels", Shape::Texts, "What groups select it by."),
        key("site", Shape::Text, "Where it stands, as a name."),
        key("location", Shape::Text, "Where it stands, for readers."),
        key("routes", Shape::Addresses, "Prefixes that it routes for."),
        key("interfaces", Shape::Texts, "The policy's names for its interfaces, and the kernel's."),
        key("unmanaged", Shape::Words, "Bridges whose forwarded traffic is not a matter of policy."),
        key("stage", Shape::OneOf(STAGES), "`audit` watches on this node and drops nothing."),
        DESCRIPTION,
    ],
};

pub static FLOATING: Table = Table {
    what: "a floating address",
    required: &["addresses", "on"],
    one_of: &[],
    keys: &[
        key("addresses", Shape::Addresses, "The addresses that move together."),
        key("on", Shape::Words, "The nodes, or groups of nodes, that they may be on."),
        DESCRIPTION,
    ],
};

pub static GROUP: Table = Table {
    what: "a group",
    required: &[],
    one_of: &[],
    keys: &[
        key("addresses", Shape::Addresses, "Addresses, prefixes, ranges and `$VALUE`s."),
        key("names", Shape::Words, "DNS names; only where the group is a destination of allows."),
        key("nodes", Shape::Words, "Nodes, and floating addresses, by name."),
        key("labels", Shape::Texts, "All nodes that have all of these labels."),
        key("groups", Shape::Words, "Other groups, whole."),
        key("except", Shape::Addresses, "Addresses and groups that are taken out again."),
        key("may_be_empty", Shape::Flag, "An allow with this group may match nothing."),
        key("includes_rules_of", Shape::Words, "Groups whose rules hold for this one too."),
        key("stage", Shape::OneOf(STAGES), "`audit` watches on the nodes of this group and drops nothing."),
        DESCRIPTION,
    ],
};

pub static SECTION: Table = Table {
    what: "a section",
    required: &["rules"],
    one_of: &[],
    keys: &[
        key("name", Shape::Text, "The heading."),
        key("when", Shape::Words, "Options that must be on, or off with a `!` before them."),
        key("rules", Shape::List(&RULE), "Its rules."),
        DESCRIPTION,
    ],
};

const ALLOW: Key = key("allow", Shape::Line, "`A -> B`, or `A <-> B` for both directions.");
const DENY: Key = key("deny", Shape::Line, "`A -> B`, or `A <-> B` for both directions. It beats every allow.");
const WHEN: Key = key("when", Shape::Words, "Options that must be on, or off with a `!` before them.");

pub static RULE: Table = Table {
    what: "a rule",
    required: &[],
    one_of: &["allow", "deny"],
    keys: &[
        ALLOW,
        DENY,
        key("services", Shape::Services, "What is allowed or denied. A deny without it means everything."),
        key("source_ports", Shape::Ports, "Only from these source ports."),
        key("via", Shape::Text, "Only through this interface, by the policy's name for it."),
        key("session_timeout", Shape::Duration, "How long a TCP session may be idle."),
        key("expires", Shape::Date, "The last day, in UTC, on which the rule holds."),
        key("stage", Shape::OneOf(STAGES), "`audit` only counts and logs what the rule would do."),
        key("log", Shape::Flag, "Log the first packet of each flow."),
        key("reject", Shape::Flag, "Tell the sender, in both directions."),
        key("note", Shape::Text, "For readers, such as where the rule comes from."),
        key("owner", Shape::Text, "Who answers for the rule."),
        key("id", Shape::Text, "The rule's name in counters and logs, else made from its meaning."),
        WHEN,
    ],
};

pub static EXPECTATION: Table = Table {
    what: "an expectation",
    required: &[],
    one_of: &["allow", "deny"],
    keys: &[
        ALLOW,
        DENY,
        key("services", Shape::Services, "Without it, everything."),
        key("note", Shape::Text, "For readers."),
        WHEN,
    ],
};
