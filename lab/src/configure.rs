//! The texts that make a lab out of a topology.
//!
//! In: a topology. Out: a shell script that makes namespaces and cables, and one for each host that
//! configures it from inside. Never: a process.
//!
//! Each script says [`CONFIGURED`], reads a line (or the end of its input), and then waits until the
//! kernel has all its interfaces ready, which takes both ends of each cable.

use std::fmt::Write as _;

use ipnet::IpNet;
use ringwall_packet::Family;

use crate::frame::Mac;
use crate::topology::{Bridge, Container, Host, Topology};

/// Shell for the lab's first process, in fresh namespaces. Prints its pid as the world outside sees
/// it, then lives until its standard input ends.
pub(crate) const FIRST_PROCESS: &str = r#"
set -e
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs lab /run
mount -t sysfs sysfs /sys
# `/var/lib/ringwall` needs a place to be mounted on; the machine's own folder gets none.
if ! [ -d /var/lib/ringwall ]; then
    for entry in /var/lib/*; do
        copy="/run/stage/${entry##*/}"
        if [ -d "$entry" ] && ! [ -L "$entry" ]; then
            mkdir -p "$copy"
            mount --rbind "$entry" "$copy"
        fi
    done
    mkdir -p /run/stage/ringwall
    mount --rbind /run/stage /var/lib
fi
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for hook in /proc/sys/net/bridge/bridge-nf-call-*; do
    if [ -e "$hook" ]; then echo 0 >"$hook"; fi
done
# The children of programs that ended become ours: nobody waits for them.
trap '' CHLD
echo "$pid"
exec cat >/dev/null
"#;

/// Above what namespaces number by themselves.
const FIRST_INDEX: u32 = 1000;

/// Locally administered (IEEE 802, second bit of the first octet), unique in the lab.
pub(crate) fn mac(host: usize, interface: usize) -> Mac {
    let [h0, h1] = u16::try_from(host).unwrap_or(u16::MAX).to_be_bytes();
    let [i0, i1] = u16::try_from(interface).unwrap_or(u16::MAX).to_be_bytes();
    Mac([2, 0, h0, h1, i0, i1])
}

pub(crate) const CONFIGURED: &str = "configured";

/// For the lab's first namespace, where the switches are.
pub(crate) fn cables_script(topology: &Topology) -> String {
    let (mut text, mut ready) = (String::new(), Ready::default());
    for name in topology.names() {
        line(&mut text, format_args!("netns add {name}"));
    }
    // Indices that are unique in the lab: the kernel's link watch looks at once at a veth whose peer's
    // index is not its own, and within a second at the others (`linkwatch_urgent_event`).
    let mut indices = FIRST_INDEX..;
    let mut index = || indices.next().expect("no lab has 2^31 interfaces");
    let end = |(h, i): (usize, usize), index: u32| {
        let host = &topology.hosts[h];
        format!("name {} index {index} netns {} address {}", host.interfaces[i].name, host.name, mac(h, i))
    };
    for (n, ends) in topology.networks().values().enumerate() {
        if let [left, right] = ends[..] {
            line(&mut text, format_args!("link add {} type veth peer {}", end(left, index()), end(right, index())));
            continue;
        }
        line(&mut text, format_args!("link add name net{n} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        line(&mut text, format_args!("link set dev net{n} up"));
        for (port, &(h, i)) in ends.iter().enumerate() {
            let ours = index();
            line(
                &mut text,
                format_args!("link add name net{n}-{port} index {ours} type veth peer {}", end((h, i), index())),
            );
            line(&mut text, format_args!("link set dev net{n}-{port} master net{n} up"));
            ready.forwards(&format!("net{n}-{port}"));
        }
    }
    for (c, Container { name, host, .. }) in topology.containers.iter().enumerate() {
        let address = mac(topology.hosts.len() + c, 0);
        let (ours, theirs) = (index(), index());
        line(
            &mut text,
            format_args!(
                "link add name veth{c} index {ours} netns {host} type veth \
                 peer name eth0 index {theirs} netns {name} address {address}"
            ),
        );
    }
    let mut script = String::from("set -e\n");
    heredoc(&mut script, "ip -batch -", &text);
    finish(script, &ready)
}

/// The shell script that configures one host from inside.
pub(crate) fn host_script(topology: &Topology, host: &Host) -> String {
    let (mut ip, mut ready) = (String::new(), Ready::default());
    for Bridge { name, addresses } in &host.bridges {
        line(&mut ip, format_args!("link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        add_addresses(&mut ip, name, addresses);
        for (c, _) in containers(topology, host).filter(|(_, container)| container.bridge == *name) {
            line(&mut ip, format_args!("link set dev veth{c} master {name} up"));
            ready.forwards(&format!("veth{c}"));
        }
    }
    for interface in &host.interfaces {
        add_addresses(&mut ip, &interface.name, &interface.addresses);
        ready.is_up(&interface.name);
    }
    for route in &host.routes {
        let via = route.via.map(|via| format!("via {via} onlink")).unwrap_or_default();
        line(&mut ip, format_args!("route add {} {via} dev {}", route.to, route.interface));
    }
    let mut script = script(host.router, &ip);
    let tables: String = host.bridges.iter().map(|bridge| docker_like(topology, host, bridge)).collect();
    if !tables.is_empty() {
        heredoc(&mut script, "nft -f -", &tables);
    }
    finish(script, &ready)
}

pub(crate) fn container_script(topology: &Topology, container: &Container) -> String {
    let (mut ip, mut ready) = (String::new(), Ready::default());
    ready.is_up("eth0");
    add_addresses(&mut ip, "eth0", &container.addresses);
    let bridges = topology.hosts.iter().filter(|host| host.name == container.host).flat_map(|host| &host.bridges);
    for gateway in bridges.filter(|bridge| bridge.name == container.bridge).flat_map(|bridge| &bridge.addresses) {
        let default = if gateway.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        line(&mut ip, format_args!("route add {default} via {} dev eth0 onlink", gateway.addr()));
    }
    finish(script(false, &ip), &ready)
}

fn containers<'a>(topology: &'a Topology, host: &'a Host) -> impl Iterator<Item = (usize, &'a Container)> {
    topology.containers.iter().enumerate().filter(|(_, container)| container.host == host.name)
}

fn script(router: bool, ip: &str) -> String {
    let mut script = String::from("set -e\ncd /proc/sys/net\n");
    if router {
        script.push_str("echo 1 >ipv4/ip_forward\necho 1 >ipv6/conf/all/forwarding\n");
    }
    // Addresses are usable at once and answers are never rationed (icmp(7), ip-sysctl of the kernel
    // documentation): what a test sees depends on the rules alone.
    script.push_str(
        "for each in ipv6/conf/*; do echo 0 >$each/accept_dad; echo 0 >$each/accept_ra; echo 0 >$each/router_solicitations; done\n\
         for each in ipv4/conf/*; do echo 0 >$each/rp_filter; done\n\
         echo 0 >ipv4/icmp_ratelimit\n\
         echo 0 >ipv4/icmp_ratemask\n\
         echo 0 >ipv6/icmp/ratelimit\n",
    );
    heredoc(&mut script, "ip -batch -", &format!("link set dev lo up\n{ip}"));
    script
}

/// What the kernel's files about interfaces say once packets get through, as `FILE=VALUE`.
#[derive(Default)]
struct Ready(Vec<String>);

impl Ready {
    fn is_up(&mut self, interface: &str) {
        self.0.push(format!("{interface}/operstate=up"));
    }

    /// `BR_STATE_FORWARDING` of linux/if_bridge.h.
    fn forwards(&mut self, port: &str) {
        self.0.push(format!("{port}/brport/state=3"));
    }
}

/// In braces, so that the shell has read it all before it runs any: its input is also its signal.
fn finish(script: String, ready: &Ready) -> String {
    let conditions = ready.0.join(" ");
    format!(
        r#"{{
{script}
echo {CONFIGURED}
read -r go || :
ready() {{
    for condition in {conditions}; do
        read -r value <"/sys/class/net/${{condition%=*}}" || return 1
        [ "$value" = "${{condition#*=}}" ] || return 1
    done
}}
tries=0
until ready; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
        echo "interfaces are not ready after 5 seconds" >&2
        exit 1
    fi
    sleep 0.01
done
exit 0
}}
"#
    )
}

fn add_addresses(ip: &mut String, interface: &str, addresses: &[IpNet]) {
    for address in addresses {
        let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
        line(ip, format_args!("address add {address} dev {interface}{nodad}"));
    }
    line(ip, format_args!("link set dev {interface} up"));
}

/// What Docker sets up for one bridge, in tables of the names `ip docker-like` and `ip6 docker-like`:
/// published ports are translated, what leaves is masqueraded, and the rest is kept from the
/// containers. nft adds to a table that is there already, so bridges share them.
fn docker_like(topology: &Topology, host: &Host, bridge: &Bridge) -> String {
    let name = &bridge.name;
    let mut text = String::new();
    for network in &bridge.addresses {
        let family = Family::of(network.addr());
        let ip = if family == Family::V4 { "ip" } else { "ip6" };
        let mut translations = String::new();
        for (_, container) in containers(topology, host).filter(|(_, container)| container.bridge == *name) {
            let address = container.addresses.iter().map(IpNet::addr).find(|address| Family::of(*address) == family);
            for published in container.published.iter().filter(|_| address.is_some()) {
                let to = address.map(|address| std::net::SocketAddr::new(address, published.container_port));
                let to = to.map(|to| to.to_string()).unwrap_or_default();
                line(
                    &mut translations,
                    format_args!(
                        "fib daddr type local {} dport {} dnat to {to}",
                        published.protocol, published.host_port
                    ),
                );
            }
        }
        let network = network.trunc();
        line(
            &mut text,
            format_args!(
                "table {ip} docker-like {{
                    chain prerouting {{
                        type nat hook prerouting priority -100
                        {translations}
                    }}
                    chain output {{
                        type nat hook output priority -100
                        {translations}
                    }}
                    chain postrouting {{
                        type nat hook postrouting priority 100
                        {ip} saddr {network} oifname != \"{name}\" masquerade
                    }}
                    chain forward {{
                        type filter hook forward priority 0
                        ct state established,related accept
                        oifname \"{name}\" ct status dnat accept
                        iifname \"{name}\" accept
                        oifname \"{name}\" drop
                    }}
                }}"
            ),
        );
    }
    text
}

fn heredoc(script: &mut String, command: &str, input: &str) {
    line(script, format_args!("{command} <<'END-OF-INPUT'\n{input}\nEND-OF-INPUT"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}
