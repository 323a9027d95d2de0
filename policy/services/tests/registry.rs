//! What the registry answers, for the names and ports of which guides are full.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringwall_packet::Protocol;
use ringwall_services::{
    FactKind, Origin, Service, canonical, custom_names, exact_name, facts, known_uses_of, name_of, named, registered,
    registered_name_of, with_fact,
};

fn ports(services: &[Service]) -> String {
    let mut ports: Vec<_> = services
        .iter()
        .map(|service| match service.first_port == service.last_port {
            true => format!("{}/{}", service.protocol, service.first_port),
            false => format!("{}/{}-{}", service.protocol, service.first_port, service.last_port),
        })
        .collect();
    ports.sort();
    ports.join(" ")
}

#[test]
fn names_mean_what_people_mean() {
    for (name, expected) in [
        ("https", "tcp/443"),
        ("HTTP", "tcp/80"),
        ("dns", "tcp/53 udp/53"),
        ("RDP", "tcp/3389"),
        ("ms-wbt-server", "tcp/3389"),
        ("SMB", "tcp/445"),
        ("cifs", "tcp/445"),
        ("RPC", "tcp/135"),
        ("MS-SQL", "tcp/1433"),
        ("MsSQL", "tcp/1433"),
        ("POSTGRES", "tcp/5432"),
        ("MySQL", "tcp/3306"),
        ("ORACLE", "tcp/1521"),
        ("oracle tls", "tcp/2484"),
        ("SYSLOG", "udp/514"),
        ("Syslog_TLS", "tcp/6514"),
        ("TACACS", "tcp/49"),
        ("TACACS+", "tcp/49"),
        ("radius", "udp/1812"),
        ("MQTT/TLS", "tcp/8883"),
        ("OPC UA", "tcp/4840"),
        ("winrm", "tcp/5985 tcp/5986"),
        ("galera", "tcp/4567 udp/4567"),
        ("elasticsearch transport", "tcp/9300"),
        ("NodePort", "tcp/30000-32767 udp/30000-32767"),
        // Only IANA knows these.
        ("TRAM", "tcp/4567 udp/4567"),
        ("vrace", "tcp/9300 udp/9300"),
        ("smpte", "tcp/420 udp/420"),
        ("x11-nothing", ""),
        ("", ""),
        ("METASPLOIT", ""),
        ("ünïcode", ""),
    ] {
        assert_eq!(ports(&named(name)), expected, "{name}");
    }
}

#[test]
fn the_registry_has_iana_facts() {
    for (protocol, port, name) in [
        (Protocol::TCP, 420, "smpte"),
        (Protocol::TCP, 5445, "smbdirect"),
        (Protocol::TCP, 7443, "oracleas-https"),
        (Protocol::TCP, 4444, "krb524"),
        (Protocol::TCP, 4567, "tram"),
        (Protocol::TCP, 4568, "bmc-reporting"),
        (Protocol::TCP, 9300, "vrace"),
        (Protocol::TCP, 6670, "vocaltec-gold"),
        (Protocol::TCP, 514, "shell"),
        (Protocol::UDP, 514, "syslog"),
        (Protocol::TCP, 6514, "syslog-tls"),
        (Protocol::TCP, 135, "epmap"),
        (Protocol::TCP, 139, "netbios-ssn"),
        (Protocol::TCP, 80, "http"),
        (Protocol::TCP, 6050, "x11"),
        (Protocol::TCP, 465, "submissions"),
    ] {
        assert_eq!(registered_name_of(protocol, port), Some(name), "{protocol}/{port}");
    }
    assert_eq!(ports(&registered("nv-video")), "tcp/4444 udp/4444");
    assert!(registered("https").iter().all(|service| service.origin == Origin::Iana));
    assert!(registered("https").len() >= 3);
}

#[test]
fn ports_get_the_name_that_people_use() {
    for (protocol, port, name) in [
        (Protocol::TCP, 443, Some("https")),
        (Protocol::TCP, 3389, Some("rdp")),
        (Protocol::TCP, 445, Some("smb")),
        (Protocol::TCP, 9300, Some("elasticsearch-transport")),
        // Galera's by use, yet other programs listen there as well.
        (Protocol::TCP, 4567, Some("tram")),
        (Protocol::TCP, 31000, Some("node-port")),
        (Protocol::TCP, 6010, Some("x11")),
        (Protocol::UDP, 514, Some("syslog")),
        (Protocol::TCP, 59022, None),
        (Protocol::GRE, 443, None),
        (Protocol::TCP, 0, None),
        (Protocol::TCP, 65535, None),
    ] {
        assert_eq!(name_of(protocol, port), name, "{protocol}/{port}");
    }
    assert_eq!(known_uses_of(Protocol::TCP, 4567).collect::<Vec<_>>(), ["galera"]);
}

#[test]
fn one_service_has_one_canonical_name() {
    for (alias, name) in
        [("microsoft-ds", "smb"), ("epmap", "rpc"), ("domain", "dns"), ("Postgres", "postgresql"), ("wsman", "winrm")]
    {
        assert_eq!(canonical(alias), Some(name));
    }
    assert_eq!(canonical("vrace"), None);
}

#[test]
fn a_name_leads_back_to_its_port() {
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::DCCP] {
        for port in 0..=u16::MAX {
            let Some(name) = name_of(protocol, port) else {
                continue;
            };
            assert!(named(name).iter().any(|service| service.contains(protocol, port)), "{name}");
            if let Some(exact) = exact_name(&[(protocol, port, port)]) {
                assert_eq!(ports(&named(exact)), format!("{protocol}/{port}"));
            }
        }
    }
    assert_eq!(exact_name(&[(Protocol::UDP, 53, 53), (Protocol::TCP, 53, 53)]), Some("dns"));
    assert_eq!(exact_name(&[(Protocol::UDP, 53, 53)]), None);
    assert_eq!(exact_name(&[(Protocol::TCP, 2379, 2379)]), Some("etcd-client"));
    // IANA's `sftp`, which to people is SSH.
    assert_eq!(name_of(Protocol::TCP, 115), None);
    assert_eq!(exact_name(&[(Protocol::TCP, 22, 22)]), Some("ssh"));
    assert_eq!(exact_name(&[]), None);
}

#[test]
fn facts_are_about_services_that_exist() {
    let known: BTreeSet<_> = custom_names().collect();
    assert!(known.len() >= 100, "{} names", known.len());
    for (name, fact) in with_fact() {
        if !matches!(fact.kind, FactKind::AttackTool(_) | FactKind::Cluster(_)) {
            assert!(canonical(name).is_some(), "{name}");
        }
        if let FactKind::Cleartext { encrypted: Some(encrypted) } = fact.kind {
            assert!(known.contains(encrypted), "{encrypted}");
            assert!(!facts(encrypted).any(|fact| matches!(fact.kind, FactKind::Cleartext { .. })), "{encrypted}");
        }
        assert!(!fact.why.ends_with('.') && !fact.why.is_empty());
    }
    assert!(facts("domain").any(|fact| matches!(fact.kind, FactKind::Needs(_))));
}

proptest! {
    #[test]
    fn spelling_makes_no_difference(name in prop::sample::select(custom_names().collect::<Vec<_>>()), upper: bool, separator in "[ _-]?") {
        let spelled = name.replace('-', &separator);
        let spelled = if upper { spelled.to_uppercase() } else { spelled };
        prop_assert_eq!(named(&spelled), named(name));
    }

    #[test]
    fn any_text_is_answered(name in ".{0,40}") {
        named(&name);
    }
}
