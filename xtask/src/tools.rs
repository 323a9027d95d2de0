//! The programs of the system that the demo and the tests use.
//!
//! In: nothing. Out: they are there. Never: a change to the machine beyond Debian's own packages,
//! and none without saying so.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

/// Each with Debian's package of it.
const TOOLS: [(&str, &str); 5] =
    [("nft", "nftables"), ("iptables-restore", "iptables"), ("ip", "iproute2"), ("unshare", "util-linux"), ("mount", "mount")];

/// Installs what is missing on Debian and its like when this is root; else says what to install.
pub fn ensure() -> Result<()> {
    let missing: Vec<_> = TOOLS.into_iter().filter(|(tool, _)| !is_there(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools = missing.iter().map(|(tool, _)| format!("`{tool}`")).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let advice = format!("{tools} not found: install the package {}", packages.join(", "));
    if !nix::unistd::geteuid().is_root() || !is_there("apt-get") {
        return Err(advice.into());
    }
    println!("{tools} not found: installing {} with apt-get", packages.join(", "));
    // A machine with old lists learns where the packages are now, and only then.
    let install = || apt_get(&[&["install", "--yes", "--no-install-recommends"], &packages[..]].concat());
    if !install() && !(apt_get(&["update"]) && install()) {
        return Err(format!("{advice} (apt-get could not)").into());
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(["-qq"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Users' search paths often lack the folders of the system's programs.
fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_path_buf());
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(tool).is_file())
}
