//! Probes between hosts of a lab, with tables that hold the sets that a compiled ruleset has.

use std::io::PipeReader;
use std::net::IpAddr;
use std::sync::mpsc;

use ringwall_lab::{Lab, Topology};
use ringwall_node::probe::{
    Conclusion, DestinationLine, DestinationReport, Disposition, Expectation, Finding, Packet, Place, Plan, Probe,
    Settings, SourceReport, evidence, judge, probe, respond,
};

const SOURCE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const DESTINATION: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];

fn addresses(of: [&str; 2]) -> Vec<IpAddr> {
    of.iter().map(|address| address.parse().expect("an address")).collect()
}

fn lab() -> Lab {
    let gateways = ["192.0.2.254", "2001:db8::fe"].map(|address| address.parse::<IpAddr>().expect("an address"));
    let nodes = [("a", addresses(SOURCE)), ("b", addresses(DESTINATION))];
    Lab::start(&Topology::star("router", gateways, nodes)).expect("root, and the tools of the lab")
}

/// A table with the probes' sets, and these rules for what is new.
fn table(output: &str, input: &str) -> String {
    let keys = |family| format!("type {family} . {family} . inet_proto . inet_service . inet_service; flags timeout");
    let (v4, v6) = (keys("ipv4_addr"), keys("ipv6_addr"));
    format!(
        "table inet ringwall {{
          set probe_pass4 {{ {v4}; }}
          set probe_pass6 {{ {v6}; }}
          set probe_watch4 {{ {v4}; }}
          set probe_watch6 {{ {v6}; }}
          chain output {{
            type filter hook output priority filter; policy accept;
            oifname lo accept
            meta l4proto ipv6-icmp icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
            ct state established,related accept
            ip saddr . ip daddr . meta l4proto . th sport . th dport @probe_pass4 accept
            ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport @probe_pass6 accept
            goto g1_out
          }}
          chain input {{
            type filter hook input priority filter; policy accept;
            iifname lo accept
            meta l4proto ipv6-icmp icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
            ip saddr . ip daddr . meta l4proto . th sport . th dport @probe_watch4 meta nftrace set 1
            ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport @probe_watch6 meta nftrace set 1
            ct state established,related accept
            goto g1_in
          }}
          chain g1_r_web {{ accept; }}
          chain g1_default {{ drop; }}
          chain g1_out {{ {output}
            goto g1_default; }}
          chain g1_in {{ {input}
            goto g1_default; }}
        }}"
    )
}

fn load(lab: &Lab, host: &str, rules: &str) {
    lab.host(host).expect("a host").output("nft", &["-f", "-"], rules).expect("nft takes the rules");
}

fn settings() -> Settings {
    Settings { timeout_ms: 500, ..Settings::default() }
}

/// Runs both ends and judges each probe against its expectation.
fn verify(lab: &Lab, flows: &[(Packet, Expectation)], family: usize) -> Vec<Finding> {
    let (source, destination) = (addresses(SOURCE)[family], addresses(DESTINATION)[family]);
    let probes = (0..).zip(flows).map(|(id, (packet, _))| Probe { id, source, destination, packet: *packet }).collect();
    let plan = Plan { settings: settings(), probes };
    let (sent, seen) = run(lab, &plan);
    let judged = plan.probes.iter().zip(flows).map(|(probe, (_, expectation))| {
        judge(probe, expectation, &evidence(probe, &[&sent], &[Ok(&seen)]))
    });
    judged.collect()
}

fn run(lab: &Lab, plan: &Plan) -> (SourceReport, DestinationReport) {
    let (a, b) = (lab.host("a").expect("a host"), lab.host("b").expect("a host"));
    let (stop, keep): (PipeReader, _) = std::io::pipe().expect("a pipe");
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        let responder = scope.spawn(move || {
            let report = |line| say.send(line).map_err(std::io::Error::other);
            b.run(|| respond(plan, stop, report)).expect("a namespace").expect("a responder")
        });
        let mut seen = DestinationReport::default();
        while seen.watching().is_none() {
            seen.take(hear.recv().expect("ready"));
        }
        let mut sent = SourceReport::default();
        let probing = a.run(|| {
            probe(plan, |line| {
                sent.take(line);
                Ok(())
            })
        });
        probing.expect("a namespace").expect("probes");
        drop(keep);
        responder.join().expect("no panic");
        let rest: Vec<DestinationLine> = hear.iter().collect();
        assert_eq!(rest.last(), Some(&DestinationLine::Done));
        rest.into_iter().for_each(|line| seen.take(line));
        (sent, seen)
    })
}

fn tcp(source_port: u16, port: u16) -> Packet {
    Packet::Tcp { source_port, port, past_source_port: Some(source_port + 1), tls: false }
}

fn udp(source_port: u16, port: u16) -> Packet {
    Packet::Udp { source_port, port, past_source_port: Some(source_port + 1) }
}

const OPEN: Expectation = Expectation {
    open: true,
    source_enforces: true,
    destination_enforces: true,
    between_enforces: false,
    min_tls: None,
};
const CLOSED: Expectation = Expectation { open: false, ..OPEN };

fn assert_as_declared(findings: &[Finding]) {
    for (index, finding) in findings.iter().enumerate() {
        assert_eq!(finding.conclusion, Conclusion::AsDeclared, "flow {index}: {finding:?}");
    }
}

#[test]
fn declared_flows_are_open_and_others_closed_at_both_ends() {
    let lab = lab();
    load(&lab, "a", &table("tcp dport 443 goto g1_r_web; udp dport 4567 goto g1_r_web;", ""));
    load(&lab, "b", &table("", "tcp dport 443 goto g1_r_web; udp dport 4567 goto g1_r_web;"));
    for family in [0, 1] {
        let flows = [
            (tcp(61000, 443), OPEN),
            (udp(61000, 4567), OPEN),
            (tcp(61002, 444), CLOSED),
            (udp(61002, 4568), CLOSED),
            (tcp(61004, 4567), CLOSED),
        ];
        let findings = verify(&lab, &flows, family);
        assert_as_declared(&findings);
        let decided = |index: usize| findings[index].decided_by.as_ref().expect("a trace").chain.as_str();
        assert_eq!(decided(0), "g1_r_web");
        assert_eq!(decided(2), "g1_default");
    }
}

#[test]
fn an_open_destination_does_not_hide_behind_a_closed_source() {
    let lab = lab();
    load(&lab, "a", &table("", ""));
    load(&lab, "b", &table("", "tcp dport 22 goto g1_r_web; udp dport 53 goto g1_r_web;"));
    for family in [0, 1] {
        for finding in verify(&lab, &[(tcp(61000, 22), CLOSED), (udp(61000, 53), CLOSED)], family) {
            assert_eq!(finding.conclusion, Conclusion::NotAsDeclared, "{finding:?}");
            assert!(finding.reason.contains("only the source closes it"), "{finding:?}");
        }
    }
}

#[test]
fn an_open_source_does_not_hide_behind_a_closed_destination() {
    let lab = lab();
    load(&lab, "a", &table("accept", ""));
    load(&lab, "b", &table("", ""));
    for finding in verify(&lab, &[(tcp(61000, 22), CLOSED), (udp(61000, 53), CLOSED)], 0) {
        assert_eq!(finding.conclusion, Conclusion::NotAsDeclared, "{finding:?}");
        assert_eq!(finding.closed_at, Some(Place::Destination));
        assert!(finding.reason.contains("only the destination closes it"), "{finding:?}");
    }
}

#[test]
fn a_declared_flow_that_is_closed_says_where() {
    let lab = lab();
    load(&lab, "a", &table("tcp dport 443 accept", ""));
    load(&lab, "b", &table("", "tcp dport 80 accept"));
    let findings = verify(&lab, &[(tcp(61000, 443), OPEN), (tcp(61002, 80), OPEN), (udp(61000, 53), OPEN)], 0);
    let said: Vec<_> = findings.iter().map(|finding| finding.reason.as_str()).collect();
    assert_eq!(said, [
        "the destination's input closes it",
        "the source's output closes it; the destination lets it in",
        "the source's output closes it, and so does the destination's input",
    ]);
    assert_eq!(findings[0].decided_by.as_ref().expect("a trace").chain, "g1_default");
}

#[test]
fn rejected_dropped_and_unreachable_are_three_answers() {
    let lab = lab();
    load(&lab, "b", &table(
        "",
        "tcp dport 1 reject with tcp reset; meta l4proto { tcp, udp } th dport 2 reject with icmpx admin-prohibited; \
         meta l4proto { tcp, udp } th dport 3 drop; accept",
    ));
    let expectation = Expectation { source_enforces: false, ..CLOSED };
    for family in [0, 1] {
        let flows = [
            (tcp(61000, 1), expectation),
            (tcp(61002, 2), expectation),
            (udp(61002, 2), expectation),
            (tcp(61004, 3), expectation),
            (udp(61004, 3), expectation),
        ];
        let findings = verify(&lab, &flows, family);
        assert_as_declared(&findings);
        let dispositions: Vec<_> = findings.iter().map(|finding| finding.disposition).collect();
        use Disposition::{Dropped, Rejected};
        assert_eq!(dispositions, [Rejected, Rejected, Rejected, Dropped, Dropped]);
    }
    // The router forgets the way there.
    let router = lab.host("router").expect("a host");
    router.output("ip", &["route", "replace", "unreachable", "198.51.100.1/32"], "").expect("a route");
    router.output("ip", &["route", "del", "198.51.100.1/32", "dev", "b"], "").ok();
    for finding in verify(&lab, &[(tcp(61010, 3), expectation), (udp(61010, 3), expectation)], 0) {
        assert_eq!((finding.disposition, finding.conclusion), (Disposition::Unreachable, Conclusion::Unknown), "{finding:?}");
    }
}

fn tls_packet(source_port: u16, port: u16) -> Packet {
    Packet::Tcp { source_port, port, past_source_port: None, tls: true }
}

/// A server for one connection, in host `b`: what it writes after the first bytes that it reads.
fn serve<'scope>(
    lab: &Lab,
    scope: &'scope std::thread::Scope<'scope, '_>,
    port: u16,
    talk: impl FnOnce(std::net::TcpStream) + Send + 'scope,
) {
    let address = (addresses(DESTINATION)[0], port);
    let listener = lab.host("b").expect("a host").run(|| std::net::TcpListener::bind(address)).expect("a namespace");
    let listener = listener.expect("a port");
    scope.spawn(move || talk(listener.accept().expect("a connection").0));
}

#[test]
fn a_server_limited_to_tls_1_1_fails_and_one_with_1_2_passes() {
    use std::io::{Read, Write};
    let lab = lab();
    let with_tls = |least| Expectation { min_tls: Some(least), ..OPEN };
    use ringwall_node::probe::TlsVersion::{V1_2, V1_3};
    let findings = std::thread::scope(|scope| {
        let alert = |mut stream: std::net::TcpStream| {
            let mut greeting = [0; 4096];
            let _ = stream.read(&mut greeting);
            // RFC 5246 §6.2.1, §7.2: an alert in TLS 1.1's version, fatal, protocol_version.
            let _ = stream.write_all(&[21, 3, 2, 0, 2, 2, 70]);
            let _ = stream.read(&mut greeting);
        };
        serve(&lab, scope, 1101, alert);
        let cleartext = |mut stream: std::net::TcpStream| {
            let _ = stream.write_all(b"220 hello\r\n");
            let _ = stream.read(&mut [0; 4096]);
        };
        serve(&lab, scope, 1100, cleartext);
        for port in [1102, 1103] {
            serve(&lab, scope, port, |stream| tls_server(stream, &rustls::version::TLS12));
        }
        serve(&lab, scope, 1104, |stream| tls_server(stream, &rustls::version::TLS13));
        let flows = [
            (tls_packet(61000, 1100), with_tls(V1_2)),
            (tls_packet(61001, 1101), with_tls(V1_2)),
            (tls_packet(61002, 1102), with_tls(V1_2)),
            (tls_packet(61003, 1103), with_tls(V1_3)),
            (tls_packet(61004, 1104), with_tls(V1_3)),
            // Nobody listens: there is no version to ask for.
            (tls_packet(61005, 1105), with_tls(V1_3)),
        ];
        verify(&lab, &flows, 0)
    });
    let said: Vec<_> = findings.iter().map(|finding| (finding.conclusion, finding.reason.as_str())).collect();
    use Conclusion::{AsDeclared, NotAsDeclared};
    assert_eq!(said, [
        (NotAsDeclared, "the policy asks for TLS 1.2: the server does not speak TLS"),
        (NotAsDeclared, "the server refused TLS 1.2 and 1.3, the policy asks for 1.2"),
        (AsDeclared, ""),
        (NotAsDeclared, "the server agreed to TLS 1.2, the policy asks for 1.3"),
        (AsDeclared, ""),
        (AsDeclared, ""),
    ]);
}

/// Serves TLS of one version until the other side is gone.
fn tls_server(mut stream: std::net::TcpStream, version: &'static rustls::SupportedProtocolVersion) {
    let made = rcgen::generate_simple_self_signed(vec!["b.example".into()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let mut connection = rustls::ServerConnection::new(config.into()).expect("a configuration");
    while connection.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
}

#[test]
fn a_real_listener_that_does_not_answer_is_seen_by_the_kernel() {
    let lab = lab();
    load(&lab, "a", &table("udp dport { 53, 54 } goto g1_r_web;", ""));
    load(&lab, "b", &table("", "udp dport 53 goto g1_r_web;"));
    let bound = lab.host("b").expect("a host").run(|| {
        [53, 54].map(|port| std::net::UdpSocket::bind(("0.0.0.0", port)).expect("a port"))
    });
    let bound = bound.expect("a namespace");
    let expected_open = verify(&lab, &[(udp(61000, 53), OPEN), (udp(61002, 54), OPEN)], 0);
    assert_as_declared(&expected_open[..1]);
    assert_eq!(expected_open[1].reason, "the destination's input closes it");
    drop(bound);
    // Without a ruleset at the destination nobody can tell.
    lab.host("b").expect("a host").output("nft", &["flush", "ruleset"], "").expect("nft");
    let _bound = lab.host("b").expect("a host").run(|| std::net::UdpSocket::bind(("0.0.0.0", 53)).expect("a port"));
    let finding = &verify(&lab, &[(udp(61010, 53), OPEN)], 0)[0];
    assert_eq!((finding.conclusion, finding.disposition), (Conclusion::Unknown, Disposition::Unknown));
    assert_eq!(finding.reason, "another program has the port and did not answer");
}

#[test]
fn echo_and_protocols_without_ports_are_probed() {
    let lab = lab();
    load(&lab, "b", &table("", "meta l4proto { icmp, icmpv6, 47, 112 } accept;"));
    let from_outside = Expectation { source_enforces: false, ..OPEN };
    for family in [0, 1] {
        let flows = [
            (Packet::Echo { identifier: 4711 }, from_outside),
            (Packet::Other { number: 47 }, from_outside),
            (Packet::Other { number: 112 }, from_outside),
            (Packet::Other { number: 253 }, Expectation { open: false, ..from_outside }),
        ];
        assert_as_declared(&verify(&lab, &flows, family));
    }
    load(&lab, "b", "flush ruleset");
    load(&lab, "b", &table("", ""));
    for family in [0, 1] {
        let finding = &verify(&lab, &[(Packet::Echo { identifier: 4712 }, Expectation { open: false, ..from_outside })], family)[0];
        assert_eq!((finding.conclusion, finding.disposition), (Conclusion::AsDeclared, Disposition::Dropped));
    }
}

#[test]
fn an_address_that_is_not_the_sources_is_unknown() {
    let lab = lab();
    let probe = Probe {
        id: 0,
        source: "192.0.2.99".parse().expect("an address"),
        destination: addresses(DESTINATION)[0],
        packet: tcp(61000, 80),
    };
    let plan = Plan { settings: settings(), probes: vec![probe] };
    let (sent, seen) = run(&lab, &plan);
    let finding = judge(&probe, &CLOSED, &evidence(&probe, &[&sent], &[Ok(&seen)]));
    assert_eq!(finding.conclusion, Conclusion::Unknown);
    assert_eq!(finding.reason, "the address 192.0.2.99 is not on the source's machine");
}

#[test]
fn five_thousand_denied_probes_at_once_are_all_judged() {
    let lab = lab();
    load(&lab, "a", &table("", ""));
    load(&lab, "b", &table("", ""));
    let flow = |index: u16| {
        let (source_port, port) = (10_000 + index % 2500 * 2, 1 + index);
        (if index < 2500 { tcp(source_port, port) } else { udp(source_port, port) }, CLOSED)
    };
    let flows: Vec<_> = (0..5000).map(flow).collect();
    let (source, destination) = (addresses(SOURCE)[0], addresses(DESTINATION)[0]);
    let probes = (0..).zip(&flows).map(|(id, (packet, _))| Probe { id, source, destination, packet: *packet }).collect();
    let plan = Plan { settings: Settings::default(), probes };
    let begin = std::time::Instant::now();
    let (sent, seen) = run(&lab, &plan);
    // Printed, not asserted: it depends on the machine.
    println!("5,000 denied probes, both tries: {:.1} s", begin.elapsed().as_secs_f64());
    for probe in &plan.probes {
        let finding = judge(probe, &CLOSED, &evidence(probe, &[&sent], &[Ok(&seen)]));
        assert_eq!(finding.conclusion, Conclusion::AsDeclared, "{probe:?} {finding:?}");
    }
}

#[test]
fn a_port_may_be_source_and_destination_on_one_machine() {
    let lab = lab();
    let (a, b) = (addresses(SOURCE)[0], addresses(DESTINATION)[0]);
    // Both ends of IKE use port 500 (RFC 7296 §2): each machine listens where it sends from.
    let packet = Packet::Udp { source_port: 500, port: 500, past_source_port: None };
    let there = Probe { id: 0, source: a, destination: b, packet };
    let back = Probe { id: 1, source: b, destination: a, packet };
    let (stop, keep) = std::io::pipe().expect("a pipe");
    let (say, hear) = mpsc::channel();
    let listening = Plan { settings: settings(), probes: vec![back] };
    std::thread::scope(|scope| {
        let (host, listening) = (lab.host("a").expect("a host"), &listening);
        let report = move |line| say.send(line).map_err(std::io::Error::other);
        let responder = scope.spawn(move || host.run(|| respond(listening, stop, report)));
        while !matches!(hear.recv().expect("ready"), DestinationLine::Ready { .. }) {}
        let (sent, seen) = run(&lab, &Plan { settings: settings(), probes: vec![there] });
        let finding = judge(&there, &OPEN, &evidence(&there, &[&sent], &[Ok(&seen)]));
        assert_eq!(finding.conclusion, Conclusion::AsDeclared, "{finding:?}");
        drop(keep);
        responder.join().expect("no panic").expect("a namespace").expect("a responder");
    });
}
