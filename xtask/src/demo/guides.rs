//! The two platforms of the demo: their machines, and how the linter's findings are mended.
//!
//! In: nothing. Out: what a person would type. Never: a program.

/// One platform: its files are those of `examples/NAME`.
pub struct Platform {
    pub name: &'static str,
    pub title: &'static str,
    /// Machines that enforce, then the others; each with its addresses.
    pub nodes: &'static [Machine],
    pub others: &'static [Machine],
    pub edits: &'static [Edit],
}

pub type Machine = (&'static str, &'static [&'static str]);

/// A change of the imported policy, as a person makes it with an editor.
pub struct Edit {
    /// The diagnostic that asked for it, or what else did.
    pub why: &'static str,
    /// Stands in the file once; all of its occurrences are replaced where `everywhere`.
    pub old: &'static str,
    pub new: &'static str,
    pub everywhere: bool,
}

const fn edit(why: &'static str, old: &'static str, new: &'static str) -> Edit {
    Edit { why, old, new, everywhere: false }
}

/// Where commands are typed: a machine of the group `admins`.
pub const ADMIN: &str = "admin";

pub const VAULT: Platform = Platform {
    name: "vault",
    title: "a privileged-access vault: three appliances, their users, devices and servers",
    nodes: &[
        ("vault-1", &["192.0.2.11", "2001:db8:2::11"]),
        ("vault-2", &["192.0.2.12", "2001:db8:2::12"]),
        ("vault-3", &["192.0.2.13", "2001:db8:2::13"]),
    ],
    others: &[
        (ADMIN, &["192.0.2.200", "2001:db8:2::200"]),
        ("workstation", &["198.51.100.10", "2001:db8:51::10"]),
        ("device", &["198.51.100.140", "2001:db8:52::10"]),
        ("ntp-server", &["192.0.2.21", "2001:db8:2::21"]),
        ("dns-server", &["192.0.2.22", "2001:db8:2::22"]),
        ("mail-server", &["192.0.2.23", "2001:db8:2::23"]),
        ("ldap-server", &["192.0.2.24", "2001:db8:2::24"]),
        ("radius-server", &["192.0.2.25", "2001:db8:2::25"]),
        ("tacacs-server", &["192.0.2.26", "2001:db8:2::26"]),
        ("log-server", &["192.0.2.27", "2001:db8:2::27"]),
        ("backup-server", &["192.0.2.28", "2001:db8:2::28"]),
    ],
    edits: &[
        edit("RW2001: SMTP is 25", "services: [tcp/420]", "services: [smtp]"),
        edit("RW2001, RW2020: SMB is 445, as in the other direction", "services: [tcp/5445]", "services: [smb]"),
        edit("RW2001: Oracle's database is 1521", "services: [tcp/7443]", "services: [oracle]"),
        edit("RW2003: syslog's protocols are swapped", "services: [tcp/514]", "services: [syslog]"),
        edit("RW2003: and here", "services: [udp/6514]", "services: [syslog-tls]"),
        edit("RW2030: large answers come over tcp", "services: [udp/53]", "services: [dns]"),
        edit("RW2030: 135 leads to a dynamic port", "services: [rpc]", "services: [rpc, rpc-dynamic]"),
        edit("RW2002: \"RM\" is remote management, which is not on 139", "services: [netbios-session]", "services: [winrm]"),
        edit(
            "RW2024: a secondary may become the primary",
            "sec: { addresses: $SEC_IPS }",
            "sec: { addresses: $SEC_IPS, includes_rules_of: [pri] }",
        ),
        Edit {
            why: "RW2022: the secondaries reach each other, too",
            old: "allow: pri <-> sec",
            new: "allow: pri, sec <-> pri, sec",
            everywhere: true,
        },
        edit("this is a cluster", "a-cluster: false", "a-cluster: true"),
        edit(
            "ping is for the vault's machines",
            "allow: any -> any\n        services: [icmp/echo-request]",
            "allow: any -> pri, sec\n        services: [icmp/echo-request]",
        ),
        edit("enough watched: enforce", "stage: audit\n\n", ""),
    ],
};

pub const IOT: Platform = Platform {
    name: "iot",
    title: "an IoT platform: load balancer, core nodes, stream engine, agents, and the internet",
    nodes: &[
        ("lb-1", &["192.0.2.10", "192.0.2.100", "2001:db8:2::10", "2001:db8:2::100"]),
        ("core-1", &["192.0.2.11", "2001:db8:2::11"]),
        ("core-2", &["192.0.2.12", "2001:db8:2::12"]),
        ("stream-1", &["192.0.2.13", "2001:db8:2::13"]),
        ("opcua-1", &["192.0.2.15", "2001:db8:2::15"]),
        ("rules-1", &["192.0.2.16", "2001:db8:2::16"]),
    ],
    others: &[
        (ADMIN, &["192.0.2.200", "2001:db8:2::200"]),
        ("internet-host", &["203.0.113.7", "2001:db8:f000::7"]),
    ],
    edits: &[
        edit(
            "RW2040: only admins log in",
            "allow: any -> any\n        services: [ssh]",
            "allow: admins -> all-hosts\n        services: [ssh]",
        ),
        edit(
            "RW2041: \"inside the platform\" ends at its network",
            "allow: internal -> any",
            "allow: internal -> internal",
        ),
        edit("RW2030: large answers come over tcp", "services: [udp/53]", "services: [dns]"),
        edit("the resolvers are in the internet", "dns-and-ntp-setup: false", "dns-and-ntp-setup: true"),
        edit(
            "ping is for the platform's machines",
            "allow: any -> any\n        services: [icmp/echo-request]",
            "allow: any -> all-hosts\n        services: [icmp/echo-request]",
        ),
        edit("enough watched: enforce", "stage: audit\n\n", ""),
    ],
};
