//! Whole labs: traffic in both families, isolation, and that nothing is left.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use ringwall_lab::{Container, Host, Lab, Topology};
use ringwall_packet::Protocol;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets<const N: usize>(texts: [&str; N]) -> [IpNet; N] {
    texts.map(|text| text.parse().unwrap())
}

fn star() -> Topology {
    let nodes = [
        ("core-1", vec![ip("192.0.2.1"), ip("2001:db8:1::1")]),
        ("core-2", vec![ip("192.0.2.2"), ip("2001:db8:1::2")]),
        ("user-1", vec![ip("198.51.100.1"), ip("2001:db8:2::1")]),
    ];
    Topology::star("fw", [ip("203.0.113.254"), ip("2001:db8:ffff::254")], nodes)
}

/// Sends a word from one host to an address of another over TCP; what the other saw and from where.
fn tcp_word(lab: &Lab, from: &str, to: &str, address: SocketAddr) -> (String, SocketAddr) {
    let listener = lab.host(to).unwrap().run(|| TcpListener::bind(address).unwrap()).unwrap();
    let client = lab.host(from).unwrap().run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).unwrap();
    client.unwrap_or_else(|error| panic!("{from} -> {address}: {error}")).write_all(b"word").unwrap();
    let (mut stream, peer) = listener.accept().unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).unwrap();
    (word, peer)
}

#[test]
fn hosts_reach_each_other_over_the_router_in_both_families() {
    let lab = Lab::start(&star()).unwrap();
    for (to, address) in
        [("core-2", "192.0.2.2"), ("core-2", "2001:db8:1::2"), ("user-1", "198.51.100.1"), ("user-1", "2001:db8:2::1")]
    {
        let (word, peer) = tcp_word(&lab, "core-1", to, SocketAddr::new(ip(address), 443));
        assert_eq!(word, "word");
        assert_eq!(peer.ip(), if peer.is_ipv4() { ip("192.0.2.1") } else { ip("2001:db8:1::1") });
    }
}

#[test]
fn a_star_s_traffic_passes_the_router() {
    let lab = Lab::start(&star()).unwrap();
    let table =
        "table inet t { chain forward { type filter hook forward priority 0; tcp dport 443 reject with tcp reset; }; }";
    lab.host("fw").unwrap().output("nft", &["-f", "-"], table).unwrap();
    for address in ["192.0.2.2", "2001:db8:1::2"] {
        let address = SocketAddr::new(ip(address), 443);
        let refused =
            lab.host("core-1").unwrap().run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).unwrap();
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_network_of_three_is_a_switch() {
    let host = |n: u8| {
        let addresses = [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")].map(|a| a.parse().unwrap());
        Host::new(format!("h{n}")).interface("lan0", "lan", addresses)
    };
    let lab = Lab::start(&Topology::new().host(host(1)).host(host(2)).host(host(3))).unwrap();
    for (to, address) in [("h2", "192.0.2.2"), ("h3", "192.0.2.3"), ("h3", "2001:db8::3")] {
        tcp_word(&lab, "h1", to, SocketAddr::new(ip(address), 80));
    }
}

#[test]
fn labs_run_side_by_side_with_the_same_addresses() {
    let (one, two) = (Lab::start(&star()).unwrap(), Lab::start(&star()).unwrap());
    let address = "192.0.2.2:5000";
    let bind = |lab: &Lab| lab.host("core-2").unwrap().run(|| UdpSocket::bind(address).unwrap()).unwrap();
    let (in_one, in_two) = (bind(&one), bind(&two));
    for (lab, word) in [(&one, b"one"), (&two, b"two")] {
        lab.host("user-1")
            .unwrap()
            .run(|| UdpSocket::bind("198.51.100.1:0").unwrap().send_to(word, address).unwrap())
            .unwrap();
    }
    for (socket, word) in [(in_one, b"one"), (in_two, b"two")] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], word);
    }
}

#[test]
fn commands_run_on_their_host() {
    let lab = Lab::start(&star()).unwrap();
    let host = lab.host("core-1").unwrap();
    assert_eq!(host.output("hostname", &[], "").unwrap().trim(), "core-1");
    assert_eq!(host.output("cat", &[], "through a pipe").unwrap(), "through a pipe");
    assert_eq!(host.output("ls", &["/sys/class/net"], "").unwrap(), "eth0\nlo\n");
    assert_eq!(host.command("sh").args(["-c", "exit 7"]).status().unwrap().code(), Some(7));
    assert_eq!(host.command("no-such-program").status().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let here = std::env::current_dir().unwrap();
    assert_eq!(host.output("pwd", &["-P"], "").unwrap().trim(), here.to_str().unwrap());
    assert_eq!(host.command("pwd").current_dir("/etc").output().unwrap().stdout, b"/etc\n");

    host.sysctl("net.ipv4.ip_default_ttl", "42").unwrap();
    assert_eq!(host.output("cat", &["/proc/sys/net/ipv4/ip_default_ttl"], "").unwrap(), "42\n");
    let other = lab.host("core-2").unwrap();
    assert_ne!(other.output("cat", &["/proc/sys/net/ipv4/ip_default_ttl"], "").unwrap(), "42\n");
    assert!(host.sysctl("net.ipv4.no_such_thing", "1").is_err());

    for place in ["/run", "/var/lib/ringwall"] {
        let file = format!("{place}/of-this-lab");
        host.output("tee", &[&file], "kept").unwrap();
        assert_eq!(host.output("cat", &[&file], "").unwrap(), "kept");
        assert!(other.output("cat", &[&file], "").is_err());
        assert!(!std::path::Path::new(&file).exists());
    }
    assert!(lab.host("no-such-host").is_err());
}

#[test]
fn a_child_that_is_killed_or_signalled_is_the_program() {
    use std::os::unix::process::ExitStatusExt;
    let lab = Lab::start(&star()).unwrap();
    let host = lab.host("core-1").unwrap();

    // It answers a signal in its own way.
    let mut child = host.command("sh");
    child.args(["-c", "trap 'exit 9' TERM; echo ready; while :; do read -r line || exit 8; done"]);
    let mut child = child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    let _held_open = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(9));

    // Killed, it lets go of what it held: the pipe ends.
    let mut child =
        host.command("cat").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.kill().unwrap();
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));

    // It dies of a signal of its own.
    assert_eq!(host.command("sh").args(["-c", "kill -KILL $$"]).status().unwrap().signal(), Some(9));
}

fn docker() -> Topology {
    Topology::new()
        .host(
            Host::new("edge")
                .interface("eth0", "lan", nets(["192.0.2.1/24", "2001:db8:1::1/64"]))
                .bridge("docker0", nets(["203.0.113.1/28", "2001:db8:d::1/64"])),
        )
        .host(Host::new("user").interface("eth0", "lan", nets(["192.0.2.9/24", "2001:db8:1::9/64"])))
        .container(Container::new("web", "edge", "docker0", nets(["203.0.113.2/28", "2001:db8:d::2/64"])).publish(
            Protocol::TCP,
            8080,
            80,
        ))
}

#[test]
fn a_container_is_reached_by_its_published_port_and_leaves_masqueraded() {
    let lab = Lab::start(&docker()).unwrap();
    let (web, user) = (lab.host("web").unwrap(), lab.host("user").unwrap());
    for (from, host, inside) in
        [("192.0.2.9", "192.0.2.1", "203.0.113.2"), ("2001:db8:1::9", "2001:db8:1::1", "2001:db8:d::2")]
    {
        let listener = web.run(|| TcpListener::bind(SocketAddr::new(ip(inside), 80)).unwrap()).unwrap();
        let published = SocketAddr::new(ip(host), 8080);
        let client = user.run(|| TcpStream::connect_timeout(&published, Duration::from_secs(5)).unwrap()).unwrap();
        let (served, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), ip(from));
        assert_eq!(served.local_addr().unwrap().ip(), ip(inside));
        assert_eq!(client.peer_addr().unwrap(), published);

        // Egress: the user sees the host.
        let (_, peer) = tcp_word(&lab, "web", "user", SocketAddr::new(ip(from), 7000));
        assert_eq!(peer.ip(), ip(host));
    }

    // What is not published is out of reach, even for who has a route.
    user.output("ip", &["route", "add", "203.0.113.0/28", "via", "192.0.2.1"], "").unwrap();
    let _listener = web.run(|| TcpListener::bind("203.0.113.2:81").unwrap()).unwrap();
    let direct =
        user.run(|| TcpStream::connect_timeout(&"203.0.113.2:81".parse().unwrap(), Duration::from_millis(300)));
    assert_eq!(direct.unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn mistakes_in_a_topology_are_named_together() {
    let topology = Topology::new()
        .host(Host::new("a b").interface("eth0", "lan", nets(["10.0.0.1/8"])))
        .host(Host::new("c").interface("much-too-long-a-name", "lan", []).interface("eth0", "x", []).interface(
            "eth0",
            "y",
            [],
        ))
        .host(Host::new("c").gateway(ip("192.0.2.1"), "eth9"))
        .container(Container::new("web", "c", "docker0", []).publish(Protocol::GRE, 1, 1));
    let error = std::error::Error::source(&Lab::start(&topology).unwrap_err()).unwrap().to_string();
    assert_eq!(
        error.split("; ").collect::<Vec<_>>(),
        [
            "`a b` cannot be a host's name",
            "the name `c` is used twice",
            "`much-too-long-a-name` of `c` cannot be an interface's name",
            "`c` has two interfaces `eth0`",
            "a route of `c` leaves through `eth9`, which it lacks",
            "container `web` wants bridge `docker0` of `c`, which is not there",
            "container `web` publishes a port of gre",
            "10.0.0.1 is not a documentation address (RFC 5737, RFC 3849)",
        ]
    );
}

#[test]
fn what_the_kernel_refuses_is_said_with_the_host() {
    let wrong = Host::new("wrong")
        .interface("eth0", "cable", [])
        .gateway(ip("192.0.2.1"), "eth0")
        .gateway(ip("192.0.2.2"), "eth0");
    let right = Host::new("right").interface("eth0", "cable", []);
    let error = Lab::start(&Topology::new().host(right).host(wrong)).unwrap_err().to_string();
    assert!(error.starts_with("cannot configure `wrong`: RTNETLINK answers: File exists"), "{error}");
}
