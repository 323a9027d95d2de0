//! What this machine is.
//!
//! In: the kernel's word, /etc/os-release, `nft --version`. Out: facts. Never: a change.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ringwall_protocol::Facts;

/// What a controller is told of this machine.
pub fn facts() -> Facts {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"').to_owned();
    let nft = std::process::Command::new("nft").arg("--version").output();
    let nft = nft.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    Facts { addresses: addresses().into_iter().collect(), kernel, nft, system }
}

/// What the node's interfaces have, beside loopback and link-local addresses.
pub fn addresses() -> BTreeSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let of = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    let own = interfaces.filter_map(|interface| interface.address.and_then(of)).map(|address| address.to_canonical());
    own.filter(|address| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }).take(ringwall_protocol::ADDRESSES_MAX).collect()
}

/// proc_sys_kernel(5): another one after each boot.
pub fn boot() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(number.to_be_bytes())
}
