//! What a lab consists of.
//!
//! In: names, addresses and routes. Out: a checked description. Never: a namespace.
//!
//! A network is a name that interfaces share: it is a cable between two, a switch between more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ringwall_packet::{Family, Protocol, is_documentation};

#[derive(Clone, Debug, Default)]
pub struct Topology {
    pub(crate) hosts: Vec<Host>,
    pub(crate) containers: Vec<Container>,
}

/// A machine: its own net, mount and UTS namespaces, with private `/run` and `/var/lib/ringwall`.
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) name: String,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) bridges: Vec<Bridge>,
    pub(crate) routes: Vec<Route>,
    pub(crate) router: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub name: String,
    pub network: String,
    pub addresses: Vec<IpNet>,
}

#[derive(Clone, Debug)]
pub(crate) struct Bridge {
    pub name: String,
    pub addresses: Vec<IpNet>,
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub interface: String,
}

/// A container on a host's bridge, as Docker makes it: masqueraded on its way out, reached from
/// outside only through the ports that the host publishes. Its interface is `eth0`.
#[derive(Clone, Debug)]
pub struct Container {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) bridge: String,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) published: Vec<Published>,
}

/// A port of the host that leads to a port of the container.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
}

impl Topology {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.hosts.push(host);
        self
    }

    #[must_use]
    pub fn container(mut self, container: Container) -> Self {
        self.containers.push(container);
        self
    }

    /// A platform from an inventory: each node has a cable to the router and nothing else, so all
    /// traffic between nodes, even of one prefix, is forwarded by it. Nodes have their addresses on
    /// `eth0`; the router's interface is named after the node (`portN` for a name that is longer
    /// than an interface's may be). `gateways` are the router's own addresses, one of each family.
    pub fn star<N: Into<String>>(
        router: &str,
        gateways: impl IntoIterator<Item = IpAddr>,
        nodes: impl IntoIterator<Item = (N, Vec<IpAddr>)>,
    ) -> Self {
        let gateways: Vec<IpAddr> = gateways.into_iter().collect();
        let mut topology = Self::new();
        let mut centre = Host::new(router).forwarding();
        for (index, (name, addresses)) in nodes.into_iter().enumerate() {
            let name = name.into();
            let port = if is_interface_name(&name) && name != "lo" { name.clone() } else { format!("port{index}") };
            centre = centre.interface(&port, &name, gateways.iter().copied().map(IpNet::from));
            let mut node = Host::new(&name).interface("eth0", &name, addresses.iter().copied().map(IpNet::from));
            for family in Family::ALL.into_iter().filter(|family| addresses.iter().any(|a| Family::of(*a) == *family)) {
                if let Some(gateway) = gateways.iter().find(|gateway| Family::of(**gateway) == family) {
                    node = node.gateway(*gateway, "eth0");
                }
            }
            for address in addresses {
                centre = centre.route(IpNet::from(address), None, &port);
            }
            topology = topology.host(node);
        }
        topology.host(centre)
    }

    /// Every mistake at once.
    pub(crate) fn check(&self) -> Result<(), TopologyError> {
        let mut mistakes = Vec::new();
        let mut names = BTreeSet::new();
        for name in self.names() {
            if !is_host_name(name) {
                mistakes.push(format!("`{name}` cannot be a host's name"));
            }
            if !names.insert(name) {
                mistakes.push(format!("the name `{name}` is used twice"));
            }
        }
        for host in &self.hosts {
            let mut interfaces = BTreeSet::from(["lo"]);
            for interface in host.interface_names() {
                if !is_interface_name(interface) {
                    mistakes.push(format!("`{interface}` of `{}` cannot be an interface's name", host.name));
                }
                if !interfaces.insert(interface) {
                    mistakes.push(format!("`{}` has two interfaces `{interface}`", host.name));
                }
            }
            for route in &host.routes {
                if !interfaces.contains(route.interface.as_str()) {
                    mistakes.push(format!(
                        "a route of `{}` leaves through `{}`, which it lacks",
                        host.name, route.interface
                    ));
                }
            }
        }
        for container in &self.containers {
            let host = self.hosts.iter().find(|host| host.name == container.host);
            if !host.is_some_and(|host| host.bridges.iter().any(|bridge| bridge.name == container.bridge)) {
                mistakes.push(format!(
                    "container `{}` wants bridge `{}` of `{}`, which is not there",
                    container.name, container.bridge, container.host
                ));
            }
            for published in &container.published {
                if !matches!(published.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
                    mistakes.push(format!("container `{}` publishes a port of {}", container.name, published.protocol));
                }
            }
        }
        for address in self.addresses() {
            if !is_documentation(address.addr()) {
                mistakes.push(format!("{} is not a documentation address (RFC 5737, RFC 3849)", address.addr()));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(TopologyError(mistakes)) }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let hosts = self.hosts.iter().map(|host| host.name.as_str());
        hosts.chain(self.containers.iter().map(|container| container.name.as_str()))
    }

    /// The ends of each network: the index of a host and that of its interface.
    pub(crate) fn networks(&self) -> BTreeMap<&str, Vec<(usize, usize)>> {
        let mut networks = BTreeMap::<&str, Vec<(usize, usize)>>::new();
        for (h, host) in self.hosts.iter().enumerate() {
            for (i, interface) in host.interfaces.iter().enumerate() {
                networks.entry(&interface.network).or_default().push((h, i));
            }
        }
        networks
    }

    fn addresses(&self) -> impl Iterator<Item = &IpNet> {
        let interfaces = self.hosts.iter().flat_map(|host| &host.interfaces).flat_map(|interface| &interface.addresses);
        let bridges = self.hosts.iter().flat_map(|host| &host.bridges).flat_map(|bridge| &bridge.addresses);
        interfaces.chain(bridges).chain(self.containers.iter().flat_map(|container| &container.addresses))
    }
}

impl Host {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), interfaces: Vec::new(), bridges: Vec::new(), routes: Vec::new(), router: false }
    }

    /// An interface on a network, with its addresses and their prefix lengths.
    #[must_use]
    pub fn interface(mut self, name: &str, network: &str, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        let addresses = addresses.into_iter().collect();
        self.interfaces.push(Interface { name: name.into(), network: network.into(), addresses });
        self
    }

    /// A bridge for containers. A host with one forwards, as Docker makes it.
    #[must_use]
    pub fn bridge(mut self, name: &str, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        self.bridges.push(Bridge { name: name.into(), addresses: addresses.into_iter().collect() });
        self.forwarding()
    }

    /// A route; the next hop is taken to be on the link, whatever the addresses there are.
    #[must_use]
    pub fn route(mut self, to: IpNet, via: Option<IpAddr>, interface: &str) -> Self {
        self.routes.push(Route { to, via, interface: interface.into() });
        self
    }

    /// The default route of the gateway's family.
    #[must_use]
    pub fn gateway(self, gateway: IpAddr, interface: &str) -> Self {
        let everything = IpNet::new_assert(if gateway.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        self.route(everything, Some(gateway), interface)
    }

    #[must_use]
    pub fn forwarding(mut self) -> Self {
        self.router = true;
        self
    }

    pub(crate) fn interface_names(&self) -> impl Iterator<Item = &str> {
        let interfaces = self.interfaces.iter().map(|interface| interface.name.as_str());
        interfaces.chain(self.bridges.iter().map(|bridge| bridge.name.as_str()))
    }
}

impl Container {
    pub fn new(name: &str, host: &str, bridge: &str, addresses: impl IntoIterator<Item = IpNet>) -> Self {
        let addresses = addresses.into_iter().collect();
        Self { name: name.into(), host: host.into(), bridge: bridge.into(), addresses, published: Vec::new() }
    }

    /// Publishes a TCP, UDP or SCTP port of the container on all addresses of the host.
    #[must_use]
    pub fn publish(mut self, protocol: Protocol, host_port: u16, container_port: u16) -> Self {
        self.published.push(Published { protocol, host_port, container_port });
        self
    }
}

/// What is wrong with a topology, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct TopologyError(pub Vec<String>);

/// RFC 1123, as far as it is also safe as a file's name.
fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.')
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// IFNAMSIZ in linux/if.h is 16 with the NUL; the characters are those that need no quoting in `ip`.
fn is_interface_name(name: &str) -> bool {
    is_host_name(name) && name.len() <= 15
}
