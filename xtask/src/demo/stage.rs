//! A platform of the demo as a running lab, with `ringwall` on each machine.
//!
//! In: a platform's machines and files. Out: commands' output, as the person at the admin's machine
//! sees it. Never: a file outside the lab's own `/run` and `/var/lib/ringwall`.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringwall_lab::{HostRef, Lab, Topology};

use super::guides::{ADMIN, Platform};
use crate::Result;

/// The network between all machines; what passes through it is not filtered there.
const ROUTER: (&str, [&str; 2]) = ("router", ["192.0.2.254", "2001:db8:2::fe"]);
/// The directory that commands are typed in, on every machine its own.
const HOME: &str = "/run";
/// As files are called there.
pub const POLICY: &str = "policy";
pub const VALUES: &str = "values.yaml";

pub struct Stage {
    pub platform: &'static Platform,
    pub lab: Lab,
    ringwall: String,
}

/// A finished command.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Stage {
    pub fn start(platform: &'static Platform, ringwall: &Path) -> Result<Self> {
        let address = |text: &&str| text.parse::<IpAddr>().map_err(|error| format!("{text}: {error}"));
        let mut machines = Vec::new();
        for (name, addresses) in platform.nodes.iter().chain(platform.others) {
            machines.push((*name, addresses.iter().map(address).collect::<std::result::Result<Vec<_>, _>>()?));
        }
        let gateways = ROUTER.1.iter().map(address).collect::<std::result::Result<Vec<_>, _>>()?;
        let lab = Lab::start(&Topology::star(ROUTER.0, gateways, machines))?;
        let ringwall = ringwall.to_str().ok_or("the repository's path is not UTF-8")?.to_owned();
        Ok(Self { platform, lab, ringwall })
    }

    /// The path of `ringwall`, the same on every machine.
    pub fn program(&self) -> &str {
        &self.ringwall
    }

    pub fn host(&self, name: &str) -> Result<HostRef<'_>> {
        Ok(self.lab.host(name)?)
    }

    pub fn command(&self, host: &str, program: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.host(host)?.command(program);
        command.args(arguments).current_dir(HOME).stdin(Stdio::null());
        // What the person who runs the demo has set for their own machines.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("RINGWALL_") || variable == "SSH_CONNECTION" {
                command.env_remove(variable);
            }
        }
        Ok(command)
    }

    pub fn ringwall(&self, host: &str, arguments: &[&str]) -> Result<Said> {
        let ringwall = &self.ringwall;
        let output = self.command(host, ringwall, arguments)?.stderr(Stdio::piped()).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
    }

    /// One that must succeed.
    pub fn done(&self, host: &str, arguments: &[&str]) -> Result<Said> {
        let said = self.ringwall(host, arguments)?;
        if said.code == Some(0) {
            return Ok(said);
        }
        Err(format!("`ringwall {}` on {host} failed:\n{}{}", arguments.join(" "), said.out, said.err).into())
    }

    /// `ringwall verify` of all nodes, with its bar where there is a terminal; the JSON that it gives.
    pub fn verify(&self, more: &[&str]) -> Result<serde_json::Value> {
        // In the lab, process 1 is the one that holds all machines' networks.
        let run = format!("nsenter --net=/proc/1/root/run/netns/{{node}} {}", self.ringwall);
        let vantages = self.platform.others.iter().map(|(name, addresses)| format!("--vantage={name}={}", addresses.join(",")));
        let vantages: Vec<String> = vantages.collect();
        let mut command = self.command(ADMIN, &self.ringwall, &["verify", POLICY, "--values", VALUES, "-o", "json"])?;
        command.args(["--run", &run]).args(&vantages).args(more);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?.wait_with_output()?;
        let found = serde_json::from_slice(&output.stdout);
        Ok(found.map_err(|_| format!("`ringwall verify` said nothing, and ended with {}", output.status))?)
    }

    /// Keeps a file on one machine.
    pub fn put(&self, host: &str, name: &str, text: &str) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        self.host(host)?.output("sh", &["-c", script, "sh", &format!("{HOME}/{name}")], text)?;
        Ok(())
    }

    pub fn get(&self, host: &str, name: &str) -> Result<String> {
        Ok(self.host(host)?.output("cat", &[&format!("{HOME}/{name}")], "")?)
    }

    /// Something that accepts connections on a machine, as long as it is kept.
    pub fn listen(&self, host: &str, port: u16) -> Result<TcpListener> {
        let address = SocketAddr::new(self.address(host)?, port);
        Ok(self.host(host)?.run(|| TcpListener::bind(address))??)
    }

    /// Whether one machine gets a connection to another within the time.
    pub fn connects(&self, from: &str, to: &str, port: u16, within: Duration) -> Result<bool> {
        let address = SocketAddr::new(self.address(to)?, port);
        Ok(self.host(from)?.run(|| TcpStream::connect_timeout(&address, within).is_ok())?)
    }

    /// A machine's first address.
    pub fn address(&self, host: &str) -> Result<IpAddr> {
        let machines = self.platform.nodes.iter().chain(self.platform.others);
        let addresses = machines.filter(|(name, _)| *name == host).flat_map(|(_, addresses)| *addresses);
        Ok(addresses.into_iter().next().ok_or("no such machine")?.parse()?)
    }
}
