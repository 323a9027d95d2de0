//! RX: what every platform needs.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ringwall_lab::frame::{self, Details};
use ringwall_packet::{Flow, Upper};

use super::{example, example_path, rows};
use crate::acceptance::apply::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, SOON, file, folder, ip, ping, ringwall, until};

/// An error in the middle of the text, when it is loaded: the old rules hold, whole.
#[test]
fn rx_01_a_node_changes_in_one_step_or_not_at_all() {
    let rig = small();
    rig.enforce(&["node"], &policy(&(open_to_users("old", 80) + &open_to_users("too", 443))), &[]);
    let before = rig.rules("node");
    let folder = folder();
    let nft = folder.join("nft");
    let middle = "awk '{ text[NR] = $0 } END { for (n = 1; n <= NR; n++) { print text[n]; if (n == NR - 20) print \"add rule inet ringwall nowhere accept\" } }'";
    let script = format!("#!/bin/sh\ncase \"$1\" in --file) {middle} | /usr/sbin/nft --file -;; *) exec /usr/sbin/nft \"$@\";; esac\n");
    fs::write(&nft, script).unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    let mut command = rig.command("node", &["apply", &path, "--no-management", "--no-confirm"]);
    Ran::of(command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()))).failed(1, &["nft refused the text"]);
    assert_eq!(rig.rules("node"), before);
    rig.open(&["user -> node: tcp/80 tcp/443"]);
    rig.shut(&["user -> node: tcp/81"]);
    assert_eq!(rig.status("node")["generation"], "g1");
    assert_eq!(rig.status("node")["drift"], false);
}

/// A change that cuts everybody off, the operator among them, is undone by the kernel.
#[test]
fn rx_02_nobody_is_locked_out() {
    let rig = small();
    let admins = "  - allow: admins -> node\n    services: [ssh]\n    id: way-in\n";
    rig.enforce(&["node"], &policy(admins), &[]);
    let mut login = rig.session("admin", "node", 22);
    let cut_off = rig.write("new.yaml", &policy(&open_to_users("web", 80)));
    rig.ringwall("node", &["apply", &cut_off, "--management", "198.51.100.9"]).failed(1, &["would cut the management path"]);
    // Told that nobody needs to log in, it goes on trial.
    rig.ringwall("node", &["apply", &cut_off, "--no-management", "--confirm", "1s"]).done();
    rig.shut(&["admin -> node: tcp/22"]);
    assert!(until(SOON, || rig.status("node")["trial"].is_null()));
    rig.open(&["admin -> node: tcp/22"]);
    login.lives();
    let status = rig.ringwall("node", &["status"]).done();
    assert!(status.out.contains("g2 was on trial and has fallen"), "{}", status.out);
}

/// Before anything is touched: what is opened and closed by groups and services, what the internet
/// reaches, and who is cut off; then exactly that.
#[test]
fn rx_07_a_plan_is_the_difference_that_apply_makes() {
    let rig = small();
    let both = open_to_users("web", 80) + &open_to_users("mail", 25);
    rig.enforce(&["node"], &policy(&both), &[]);
    let mut mail = rig.session("user", "node", 25);
    let world = "  - allow: internet -> node\n    services: [https]\n";
    let new = rig.write("new.yaml", &policy(&(open_to_users("web", 80) + world)));
    let plan = rig.write("plan.json", "");
    let document = rig.ringwall("node", &["plan", &new, "--out", &plan, "-o", "json"]).done().json();
    let texts = |list: &str| -> Vec<String> {
        let all = document["differences"][list].as_array().unwrap().iter();
        all.map(|one| one["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts("opened"), ["internet -> node  443/tcp (https)"]);
    assert_eq!(texts("closed"), ["users -> node  25/tcp (smtp)"]);
    assert_eq!(document["exposure"], serde_json::json!({ "before": 0, "after": 1 }));
    assert_eq!(document["cuts"].as_array().unwrap().len(), 1);
    mail.lives();
    rig.ringwall("node", &["apply", &plan, "--no-management", "--no-confirm", "--learn", "0"]).done();
    mail.is_dead();
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/25 tcp/443", "admin -> node: tcp/80"]);
    // Now the plan of the same policy is empty.
    let same = rig.ringwall("node", &["plan", &new, "--exit-code"]).done();
    assert_eq!(same.err, "plan: no difference\n");
}

/// From the dropped packet to the line of the policy: the log has the rule's id, and the id its place.
#[test]
fn rx_08_a_dropped_packet_names_its_rule() {
    let rig = small();
    let deny = "  - deny: users -> node\n    services: [telnet]\n    id: no-telnet\n    note: audit of May\n";
    rig.enforce(&["node"], &policy(&(open_to_users("web", 80) + deny)), &[]);
    let mut log = rig.host("node").packet_log(ringwall_ruleset::nftables::LOG_GROUP).unwrap();
    rig.shut(&["user -> node: tcp/23"]);
    let logged = |log: &mut ringwall_lab::PacketLog| {
        let packet = log.receive(SOON).unwrap().expect("a logged packet");
        let (flow, _) = frame::read(&packet.packet).unwrap();
        (packet.prefix, flow)
    };
    let (prefix, flow) = logged(&mut log);
    assert_eq!(prefix, "ringwall g1 in drop no-telnet");
    assert!(matches!(flow.upper(), Upper::Ports { destination: 23, .. }), "{flow}");
    let status = rig.status("node");
    let rule = status["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == "no-telnet").unwrap();
    assert_eq!(rule["meaning"], "deny users -> node: telnet");
    assert!(rule["place"].as_str().unwrap().ends_with("policy.yaml:11"), "{rule}");
    assert!(rule["packets"].as_u64().unwrap() >= 2);
    // What no rule allows says so.
    rig.shut(&["admin -> node: tcp/80"]);
    let defaults = std::iter::repeat_with(|| logged(&mut log)).find(|(prefix, _)| prefix.ends_with("default"));
    assert_eq!(defaults.unwrap().0, "ringwall g1 in drop default");
}

#[test]
fn rx_10_a_cell_that_can_not_be_read_is_reported_and_opens_nothing() {
    let table = "\
| Source | Destination | Protocol | Port |
|---|---|---|---|
| Web | Database | TCP | 5432 |
| Web | Log server | Syslog | User-configured |
| Web | Cache | TCP | `510`00`` |
| Web | Queue | TCP | 5672 |
";
    let guide = file("guide.md", table);
    let ran = ringwall(&["import", &guide]);
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    for said in ["User-configured", "guide.md:4", "guide.md:5", "510`00"] {
        assert!(ran.err.contains(said), "`{said}` is not in {}", ran.err);
    }
    // The other rows are there, these are comments.
    let rules: Vec<&str> = ran.out.lines().filter(|line| line.trim_start().starts_with("- allow: web")).collect();
    assert_eq!(rules.len(), 2, "{}", ran.out);
    for cell in ["User-configured", "510`00"] {
        let is_comment = |line: &&str| line.trim_start().starts_with('#') && line.contains(cell);
        assert!(ran.out.lines().any(|line| is_comment(&line)), "{cell}: {}", ran.out);
    }
    let csv = ringwall(&["import", &guide, "-o", "csv"]).out;
    assert_eq!(rows(&csv).len(), 2);
}

#[test]
fn rx_11_ipv6_is_judged_as_ipv4_is() {
    let rules = "\
\x20 - allow: users -> node
    services: [https, udp/53, icmp/echo-request]
  - allow: node -> admins
    services: [ssh]
  - deny: users -> node
    services: [tcp/8443]
";
    let rig = small();
    rig.enforce(&["node"], &policy(rules), &[]);
    let verdicts = |rig: &Rig| {
        rig.open(&["user -> node6: tcp/443 udp/53 icmp", "node -> admin6: tcp/22"]);
        rig.shut(&["user -> node6: tcp/8443 tcp/22 udp/443", "admin -> node6: tcp/443 udp/53 icmp", "node -> user6: tcp/22", "node -> admin6: tcp/443"]);
    };
    let mut rig = rig;
    for (name, addresses) in [("node", ["2001:db8:1::10"]), ("admin", ["2001:db8:2::9"]), ("user", ["2001:db8:2::20"])] {
        rig.place(&format!("{name}6"), name, &addresses);
    }
    verdicts(&rig);
    // The same lines hold in IPv4.
    for (name, addresses) in [("node", ["192.0.2.10"]), ("admin", ["198.51.100.9"]), ("user", ["198.51.100.20"])] {
        rig.place(&format!("{name}6"), name, &addresses);
    }
    verdicts(&rig);
}

/// protected > block lists > established > deny > allow > default drop.
#[test]
fn rx_12_precedence() {
    let rules = "\
\x20 - allow: users, admins -> node
    services: [tcp/80, tcp/81]
  - deny: users -> node
    services: [tcp/81]
    id: denied
";
    let rig = small();
    let protected = "protected: [198.51.100.9, \"2001:db8:2::9\"]\n";
    rig.enforce(&["node"], &format!("{protected}{}", policy(rules)), &[]);
    // Deny before allow, and allow before the default.
    rig.open(&["user -> node: tcp/80", "admin -> node: tcp/80 tcp/81"]);
    rig.shut(&["user -> node: tcp/81", "user admin -> node: tcp/82"]);
    let mut session = rig.session("user", "node", 80);
    rig.nft(
        "node",
        "add element inet ringwall_blocks block4 { 198.51.100.20, 198.51.100.9 }\n\
         add element inet ringwall_blocks block6 { 2001:db8:2::20, 2001:db8:2::9 }\n",
    );
    // A block list is asked before what is allowed, and before what is established.
    rig.shut(&["user -> node: tcp/80"]);
    session.is_dead();
    // Who is protected can't be blocked, and is let in by rules alone.
    rig.open(&["admin -> node: tcp/80 tcp/81"]);
    rig.shut(&["admin -> node: tcp/82"]);
    // An apply leaves the block lists as they are.
    rig.enforce(&["node"], &format!("{protected}{}", policy(rules)), &[]);
    rig.shut(&["user -> node: tcp/80"]);
    rig.open(&["admin -> node: tcp/80"]);
    rig.nft("node", "delete element inet ringwall_blocks block4 { 198.51.100.20 }\ndelete element inet ringwall_blocks block6 { 2001:db8:2::20 }\n");
    rig.open(&["user -> node: tcp/80"]);
}

#[test]
fn rx_13_icmp() {
    let echo = "  - allow: users -> node\n    services: [icmp/echo-request]\n";
    let out = "  - allow: node -> users\n    services: [udp/9000]\n";
    let rig = small();
    // An echo is a rule, on or off.
    rig.enforce(&["node"], &policy(&(echo.to_owned() + out)), &[]);
    rig.open(&["user -> node: icmp"]);
    rig.shut(&["admin -> node: icmp"]);
    rig.enforce(&["node"], &policy(out), &[]);
    rig.shut(&["user -> node: icmp"]);
    // What a path's MTU needs always passes, in answer to what the node has sent, and only then.
    let node = rig.host("node");
    for (from, to, router) in [("192.0.2.10", "198.51.100.20", "203.0.113.254"), ("2001:db8:1::10", "2001:db8:2::20", "2001:db8:ff::fe")] {
        let (from, to, router) = (ip(from), ip(to), ip(router));
        let route = || node.output("ip", &["route", "get", &to.to_string()], "").unwrap();
        let (kind, code) = if from.is_ipv4() { (3, 4) } else { (2, 0) };
        let too_big = |port| {
            let about = frame::packet(&Flow::new(from, to, Upper::udp(port, 9000)).unwrap(), &Details { payload: &[0; 1400], ..Details::default() });
            let flow = Flow::new(router, from, Upper::Icmp { kind, code }).unwrap();
            // RFC 1191 §4 has the MTU in the lower half of the word, RFC 4443 §3.2 in all of it.
            let details = Details { icmp_rest: [0, 0, 5, 30], payload: &about[..100.min(about.len())], ..Details::default() };
            rig.host("fw").raw_sender().unwrap().send(&frame::packet(&flow, &details)).unwrap();
        };
        // About nothing that was ever sent.
        too_big(40_001);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!route().contains("mtu 1310"), "{}", route());
        let socket = node.run(|| UdpSocket::bind((from, 40_000)).unwrap()).unwrap();
        socket.connect((to, 9000)).unwrap();
        socket.send(&[0; 1000]).unwrap();
        too_big(40_000);
        assert!(until(SOON, || route().contains("mtu 1310")), "{}", route());
    }
    // Neighbours find each other whatever the policy says.
    rig.enforce(&["node"], &policy("  - allow: users -> node\n    services: [http]\n"), &[]);
    node.output("ip", &["neigh", "flush", "all"], "").unwrap();
    rig.open(&["user -> node: tcp/80"]);
    assert!(ping(rig.host("user"), ip("198.51.100.20"), ip("198.51.100.9"), SOON).is_ok());
}

#[test]
fn rx_14_fifty_nodes_compile_small_and_equal() {
    let nodes: String = (0..50).map(|n| format!("  more-{n}: {{ addresses: [192.0.2.{}, \"2001:db8:2::1:{n}\"], labels: {{ role: member }} }}\n", n + 100)).collect();
    let text = example("vault/policy.yaml");
    let text = text.replace("\nnodes:\n", &format!("\nnodes:\n{nodes}"));
    let path = file("policy.yaml", &text);
    let values = example_path("vault/values.yaml");
    let compile = |path: &str, node: &str| ringwall(&["compile", path, "--node", node, "--values", &values]).done().out;
    assert_eq!(compile(&path, "more-7"), compile(&path, "more-7"));
    // One address more is some bytes more, not rules more.
    let few = file("policy.yaml", &example("vault/policy.yaml"));
    let rules = |text: &str| text.lines().filter(|line| line.contains("goto") || line.contains("accept")).count();
    let (few, many) = (compile(&few, "vault-2"), compile(&path, "more-7"));
    assert!(rules(&many) <= rules(&few) + 60, "{} and {}", rules(&few), rules(&many));
    assert!(many.len() < few.len() * 3, "{} and {}", few.len(), many.len());
    // `check` compiles them all; how fast, `cargo xtask bench compile` measures.
    ringwall(&["check", &path, "--values", &values]).done();
}

#[test]
fn rx_15_presets() {
    let list = ringwall(&["init"]).done().out;
    let names: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["vault", "iot", "integration", "voip"]);
    for name in names {
        let folder = folder().join(name);
        let folder = folder.to_str().unwrap();
        ringwall(&["init", name, folder]).done();
        // Without its values it says what is missing; with them its own `expect:` lines hold.
        ringwall(&["check", folder]).failed(1, &["$"]);
        ringwall(&["check", folder, "--values", &example_path(&format!("{name}/values.yaml"))]).done();
        let text = fs::read_to_string(format!("{folder}/policy.yaml")).unwrap();
        assert!(text.contains("\nexpect:\n"), "{name} proves nothing");
        // What is there is left alone.
        ringwall(&["init", name, folder]).failed(1, &["can't write"]);
    }
    // Three of them pass their matrix with the requirements of their kind; this is the fourth's.
    let rig = Rig::star(&[
        ("sip-1", &["192.0.2.10", "2001:db8:2::10"]),
        ("media-1", &["192.0.2.11", "2001:db8:2::11"]),
        ("panel-1", &["192.0.2.12", "2001:db8:2::12"]),
        ("admin", &["192.0.2.200", "2001:db8:2::200"]),
        ("caller", &["198.51.100.1", "2001:db8:f001::1"]),
    ]);
    let values = example_path("voip/values.yaml");
    rig.enforce_file(&["sip-1", "media-1", "panel-1"], &example_path("voip/policy.yaml"), &["--values", &values]);
    rig.open(&[
        "caller -> sip-1: udp/5060 tcp/5060 tcp/5061 icmp",
        "sip-1 -> caller: udp/5060 tcp/5061",
        "caller -> media-1: udp/10000 udp/20000 icmp",
        "caller -> panel-1: tcp/443",
        "sip-1 -> media-1: udp/2223 udp/51820",
        "admin -> sip-1 media-1 panel-1: tcp/22",
    ]);
    rig.shut(&[
        "caller -> sip-1: tcp/22 tcp/443 tcp/3306 udp/10000 udp/51820",
        "caller -> media-1: udp/9999 udp/20001 udp/2223 tcp/443",
        "caller -> panel-1: tcp/22 udp/5060 tcp/80",
        "panel-1 -> caller: tcp/443",
    ]);
    ringwall(&["init", "toaster"]).failed(1, &["no preset `toaster`"]);
}
