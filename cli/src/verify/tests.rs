//! Tests of the whole: small policies, and machines that are hosts of a lab.

use std::io::{BufReader, PipeWriter, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ringwall_analysis::probes::{Case, Denied, Machine, Matrix, Options, Vantage, addresses, machines, matrix};
use ringwall_lab::{Lab, Topology};
use ringwall_node::probe::{
    self, Conclusion, DESTINATION_SCHEMA, Packet, Plan, SOURCE_SCHEMA, Settings,
};
use ringwall_packet::{AddressSet, Family};
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

use super::end::{End, Runner};
use super::report::{Report, Summary};
use super::{run, write_line};

/// 2026-01-01, in seconds since the epoch.
const NOW: u64 = 1_767_225_600;

fn policy(text: &str) -> Policy {
    let input = Input { name: "policy.yaml".into(), text: text.into() };
    let parsed = ringwall_policy_file::parse(&[input], &Values::default(), NOW);
    parsed.policy.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics))
}

fn options(denied: Denied) -> Options {
    Options { denied, seed: 1, nonce: 0, now: NOW, tls: Vec::new(), most: usize::MAX }
}

fn vantages(texts: &[&str]) -> Vec<Vantage> {
    texts.iter().map(|text| text.parse().expect("a vantage")).collect()
}

fn made(text: &str, vantage: &[&str], denied: Denied) -> (Vec<Machine>, Matrix) {
    let policy = policy(text);
    let machines = machines(&policy, &vantages(vantage)).expect("vantages of their own");
    let matrix = matrix(&policy, &machines, &options(denied));
    (machines, matrix)
}

/// A flow on one line, without its source port.
fn line(machines: &[Machine], case: &Case) -> String {
    let what = match case.probe.packet {
        Packet::Tcp { port, tls, .. } => format!("tcp/{port}{}", if tls { " tls" } else { "" }),
        Packet::Udp { port, .. } => format!("udp/{port}"),
        Packet::Echo { .. } => "echo".into(),
        Packet::Other { number } => format!("proto/{number}"),
    };
    let names = |indices: &[usize]| indices.iter().map(|index| machines[*index].name.as_str()).collect::<Vec<_>>().join("|");
    let family = if case.probe.source.is_ipv4() { 4 } else { 6 };
    let expected = if case.expectation.open { "open" } else { "closed" };
    format!("{}->{} v{family} {what} {expected}", names(&case.sources), names(&case.destinations))
}

const CLUSTER: &str = r#"
internal: [192.0.2.0/24, 198.51.100.0/24, "2001:db8::/32"]
min_tls: "1.2"
nodes:
  prd: { addresses: [192.0.2.10, "2001:db8::10"], labels: { role: primary } }
  mbr: { addresses: [192.0.2.11, "2001:db8::11"], labels: { role: member } }
groups:
  primary: { labels: { role: primary } }
  members: { labels: { role: member } }
  users: { addresses: [198.51.100.0/24, "2001:db8:1::/64"] }
services:
  galera: [tcp/4567-4568, udp/4567]
rules:
  - allow: primary <-> members
    services: [galera]
  - allow: users -> primary
    services: [https, icmp/echo-request]
  - allow: users -> members
    services: [tcp/8000-8999]
    stage: audit
  - deny: members -> users
"#;

#[test]
fn every_declared_flow_is_there_once_per_pair_family_and_port() {
    let (machines, matrix) = made(CLUSTER, &["user=198.51.100.7,2001:db8:1::7"], Denied::Some(0));
    let mut lines: Vec<String> = matrix.cases.iter().map(|case| line(&machines, case)).collect();
    lines.sort();
    let mut expected = Vec::new();
    for family in ["v4", "v6"] {
        for (from, to) in [("prd", "mbr"), ("mbr", "prd")] {
            for port in ["tcp/4567", "tcp/4568", "udp/4567"] {
                expected.push(format!("{from}->{to} {family} {port} open"));
            }
        }
        expected.push(format!("user->prd {family} tcp/443 tls open"));
        expected.push(format!("user->prd {family} echo open"));
        for target in ["tcp/1", "tcp/32768", "tcp/65535", "udp/1", "udp/32768", "udp/65535", "echo", "proto/253"] {
            expected.push(format!("mbr->user {family} {target} closed"));
        }
    }
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(matrix.not_probed, []);
}

#[test]
fn what_no_rule_allows_is_the_union_of_the_ports_less_the_allowed_ones() {
    let (machines, matrix) = made(CLUSTER, &["user=198.51.100.7"], Denied::All);
    let undeclared: Vec<String> =
        matrix.cases.iter().filter(|case| !case.declared).map(|case| line(&machines, case)).collect();
    let has = |text: &str| undeclared.iter().any(|line| line == text);
    assert!(has("prd->mbr v4 tcp/443 closed") && has("prd->mbr v6 tcp/443 closed"));
    // An audited rule opens nothing, and its ports are among those to be tried.
    assert!(has("user->mbr v4 tcp/8000 closed"));
    assert!(has("user->mbr v4 udp/4567 closed"));
    assert!(!undeclared.iter().any(|line| line.ends_with("open")));
    assert!(!undeclared.iter().any(|line| line == "prd->mbr v4 tcp/4567 closed"));
    let mut unique = undeclared.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), undeclared.len());
}

#[test]
fn who_cannot_be_probed_from_is_said_and_not_counted() {
    let (_, matrix) = made(CLUSTER, &[], Denied::Some(0));
    let said: Vec<_> = matrix.not_probed.iter().map(|entry| (entry.roles.as_str(), entry.reason.as_str())).collect();
    let from = "no vantage: no machine of `users` can be probed from";
    let to = "no vantage: no machine of `users` can be probed to";
    assert_eq!(said, [
        ("members -> users", to),
        ("members -> users", to),
        ("users -> primary", from),
        ("users -> primary", from),
    ]);
}

#[test]
fn the_second_try_has_a_source_port_of_its_own() {
    let (_, matrix) = made(CLUSTER, &["user=198.51.100.7"], Denied::All);
    let probes: Vec<_> = matrix.cases.iter().map(|case| case.probe).collect();
    let tries = probes.iter().flat_map(|probe| [probe::Try::Plain, probe::Try::PastSource].map(|which| probe.tuple(which)));
    assert_eq!(probe::tuples(&probes).len(), tries.flatten().count());
    for case in &matrix.cases {
        let past = case.probe.tuple(probe::Try::PastSource).is_some();
        let has_ports = case.probe.tuple(probe::Try::Plain).is_some();
        assert_eq!(past, has_ports && case.expectation.source_enforces);
    }
}

#[test]
fn a_rule_with_source_ports_is_tried_from_one_of_them() {
    let text = CLUSTER.replace("services: [galera]", "services: [galera]\n    source_ports: [500]");
    let (_, matrix) = made(&text, &[], Denied::All);
    let of_port = |source_port: u16| {
        let is = move |case: &&Case| case.probe.tuple(probe::Try::Plain).is_some_and(|(from, to, _)| from.port() == source_port && to.port() == 4568);
        matrix.cases.iter().filter(is).map(|case| case.expectation.open).collect::<Vec<_>>()
    };
    assert_eq!(of_port(500), [true; 4]);
    let others = matrix.cases.iter().filter(|case| case.probe.tuple(probe::Try::Plain).is_some_and(|(from, to, _)| from.port() != 500 && to.port() == 4568));
    assert_eq!(others.filter(|case| !case.expectation.open).count(), 4);
}

/// Ends that are threads in the hosts of a lab.
struct InLab(Arc<Lab>);

impl Runner for InLab {
    fn start(&self, machine: &Machine, verb: &str) -> Result<End, String> {
        let lab = self.0.clone();
        let (name, responds) = (machine.name.clone(), verb == "respond");
        let (input, to_it) = std::io::pipe().map_err(|error| error.to_string())?;
        let (from_it, output) = std::io::pipe().map_err(|error| error.to_string())?;
        let work = move || -> Result<(), String> {
            let host = lab.host(&name).map_err(|error| error.to_string())?;
            let plan = Plan::read(BufReader::new(&input)).map_err(|error| error.to_string())?;
            let output: &PipeWriter = &output;
            let ended = host.run(|| match responds {
                true => probe::respond(&plan, &input, |line| write_line(output, DESTINATION_SCHEMA, line)).map_err(|error| error.to_string()),
                false => probe::probe(&plan, |line| write_line(output, SOURCE_SCHEMA, line)).map_err(|error| error.to_string()),
            });
            ended.map_err(|error| error.to_string())?
        };
        let thread = std::thread::spawn(work);
        Ok(End {
            input: Box::new(to_it) as Box<dyn Write + Send>,
            output: Box::new(BufReader::new(from_it)),
            kill: Box::new(|| {}),
            finish: Box::new(|| match thread.join() {
                Ok(Ok(())) => "it ended".into(),
                Ok(Err(error)) => error,
                Err(_) => "it panicked".into(),
            }),
        })
    }
}

fn lab() -> Arc<Lab> {
    let addresses = |texts: [&str; 2]| texts.map(|text| text.parse().expect("an address")).to_vec();
    let gateways = addresses(["192.0.2.254", "2001:db8::fe"]);
    let nodes = [
        ("prd", addresses(["192.0.2.10", "2001:db8::10"])),
        ("mbr", addresses(["192.0.2.11", "2001:db8::11"])),
        ("user", addresses(["198.51.100.7", "2001:db8:1::7"])),
    ];
    Arc::new(Lab::start(&Topology::star("router", gateways, nodes)).expect("root, and the tools of the lab"))
}

fn enforce(lab: &Lab, node: &str, policy: &Policy) {
    let (ruleset, _) = ringwall_compile::compile(policy, node).expect("it compiles");
    let text = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
    lab.host(node).expect("a host").output("nft", &["-f", "-"], &text).expect("nft takes it");
}

fn verified(lab: &Arc<Lab>, policy: &Policy, denied: Denied) -> (Summary, Vec<String>) {
    let machines = machines(policy, &vantages(&["user=198.51.100.7,2001:db8:1::7"])).expect("vantages of their own");
    let matrix = matrix(policy, &machines, &options(denied));
    found(lab, policy, &machines, &matrix)
}

/// What came of the whole matrix, with a line for each flow that is not as declared.
fn found(lab: &Arc<Lab>, policy: &Policy, machines: &[Machine], matrix: &Matrix) -> (Summary, Vec<String>) {
    let settings = Settings { timeout_ms: 500, ..Settings::default() };
    let reports = run::run(&matrix.cases, machines, &InLab(lab.clone()), settings, 4, || {});
    let flows: Vec<_> = matrix.cases.iter().map(|case| (case, reports.judge(case))).collect();
    let surprises = flows
        .iter()
        .filter(|(_, finding)| finding.conclusion != Conclusion::AsDeclared)
        .map(|(case, finding)| format!("{}: {}, {}", line(machines, case), finding.disposition, finding.reason))
        .collect();
    (Report::of(policy, &flows, &matrix.not_probed).summary(), surprises)
}

#[test]
fn an_enforced_policy_is_as_declared_and_each_breach_is_found() {
    let lab = lab();
    let declared = policy(CLUSTER);
    for node in ["prd", "mbr"] {
        enforce(&lab, node, &declared);
    }
    let (summary, surprises) = verified(&lab, &declared, Denied::All);
    assert_eq!(surprises, [] as [&str; 0], "{summary}");
    assert!(summary.all.as_declared > 100, "{summary}");

    // The member opens a port that the policy does not know, behind a source that still closes it.
    lab.host("mbr").expect("a host").output("nft", &["-f", "-"], "insert rule inet ringwall g1_in tcp dport 443 accept").expect("a rule");
    let (_, surprises) = verified(&lab, &declared, Denied::All);
    let hidden = "only the source closes it: past the source's output the destination lets it in";
    let mut found = surprises.clone();
    found.sort();
    assert_eq!(found, [
        format!("prd->mbr v4 tcp/443 closed: rejected, {hidden}"),
        format!("prd->mbr v6 tcp/443 closed: rejected, {hidden}"),
        "user->mbr v4 tcp/443 closed: open, nothing closes it".to_owned(),
        "user->mbr v6 tcp/443 closed: open, nothing closes it".to_owned(),
    ]);
}

/// A preset with its example values.
fn preset(name: &str) -> Policy {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let read = |file: &str| Input { name: file.into(), text: std::fs::read_to_string(folder.join(file)).expect("a file") };
    let mut values = Values::default();
    values.bind_file(&read("values.yaml"));
    let parsed = ringwall_policy_file::parse(&[read("policy.yaml")], &values, NOW);
    parsed.policy.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics))
}

/// One vantage for each group that has addresses of its own, and one for the internet.
fn outsiders(policy: &Policy) -> Vec<Vantage> {
    let mut vantages: Vec<Vantage> = vantages(&["the-internet=203.0.113.200,2001:db8:ffff::200"]);
    for group in policy.groups.values() {
        let taken: AddressSet = vantages.iter().flat_map(|vantage| vantage.addresses.iter().copied()).collect();
        let free = group.addresses.difference(&policy.node_addresses()).difference(&taken);
        // The second of a prefix: its first address is no host's (RFC 919 §7).
        let of = |family| addresses(&free, family, 2).last().copied();
        let addresses: Vec<_> = Family::ALL.into_iter().filter_map(of).collect();
        if !addresses.is_empty() {
            vantages.push(Vantage { name: group.name.clone(), addresses });
        }
    }
    vantages
}

#[test]
fn each_preset_passes_its_matrix() {
    for name in ["vault", "iot", "integration", "voip"] {
        let mut policy = preset(name);
        for node in policy.nodes.values_mut() {
            node.stage = ringwall_policy::Stage::Enforce;
        }
        let machines = machines(&policy, &outsiders(&policy)).expect("addresses of their own");
        let gateways = ["192.0.2.254", "2001:db8::fe"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let hosts = machines.iter().map(|machine| (machine.name.clone(), machine.addresses.clone()));
        let lab = Arc::new(Lab::start(&Topology::star("router", gateways, hosts)).expect("root, and the tools of the lab"));
        for node in policy.nodes.keys() {
            enforce(&lab, node.as_str(), &policy);
        }
        let matrix = matrix(&policy, &machines, &options(Denied::Some(4)));
        let begin = std::time::Instant::now();
        let (summary, surprises) = found(&lab, &policy, &machines, &matrix);
        println!("{name}: {} machines, {:.1} s: {summary}", machines.len(), begin.elapsed().as_secs_f64());
        assert_eq!(surprises, [] as [&str; 0], "{name}: {summary}");
        assert_eq!(matrix.not_probed, [], "{name}");
        assert!(summary.declared.as_declared > 20, "{name}: {summary}");
    }
}
