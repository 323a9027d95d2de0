//! The demo's last act: one controller, three agents, and what happens to them.
//!
//! In: the programs. Out: the story on stdout, or the first thing that is not as it must be. Never: a process that
//! outlives the lab.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringwall_lab::{Lab, Topology};

use super::{said, title, typed};
use crate::Result;

const CONTROLLER: &str = "controller";
const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
const USER: &str = "user";
/// How long something may take that takes a part of a second.
const SOON: Duration = Duration::from_secs(20);

const POLICY: &str = "\
internal: [192.0.2.0/24, 198.51.100.0/24]
groups:
  web:   { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [https] }
";

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Fleet<'a> {
    lab: Lab,
    /// The folder of the programs.
    programs: &'a Path,
}

pub fn run(ringwall: &Path) -> Result<()> {
    println!("\n== A fleet ==");
    let programs = ringwall.parent().ok_or("the programs are nowhere")?;
    let address = |name: &str| at(name).ip();
    let names = [CONTROLLER].into_iter().chain(NODES).chain([USER]);
    let machines: Vec<(&str, Vec<IpAddr>)> = names.map(|name| (name, vec![address(name)])).collect();
    let lab = Lab::start(&Topology::star("router", ["192.0.2.254".parse::<IpAddr>()?], machines))?;
    let fleet = Fleet { lab, programs };

    title("One machine is the controller. It makes its CA and its first key, and needs nothing else:");
    typed(CONTROLLER, "ringwall-controller --host 192.0.2.1 &");
    let controller = fleet.start(CONTROLLER, "ringwall-controller", &["--folder", "/run/controller", "--host", "192.0.2.1"])?;
    fleet.until("the controller answers", || Ok(fleet.ringwall(&["nodes"]).is_ok()))?;

    title("Three nodes are let in by a word. They connect to the controller; no port of theirs is open for it:");
    typed(CONTROLLER, "ringwall token create --labels role=web --uses 3 --prefix 192.0.2.0/24");
    let token = fleet.ringwall(&["token", "create", "--labels", "role=web", "--uses", "3", "--prefix", "192.0.2.0/24"])?;
    let word = token.lines().find(|line| line.starts_with("rwt1_")).ok_or("no word")?.to_owned();
    let mut agents = Vec::new();
    for node in NODES {
        typed(node, "ringwall-agent enrol rwt1_…; ringwall-agent run &");
        let mut command = fleet.command(node, "ringwall-agent")?;
        if !command.args(["enrol", &word, "--node", node]).stdout(Stdio::null()).status()?.success() {
            return Err(format!("{node} was not let in").into());
        }
        agents.push(fleet.start(node, "ringwall-agent", &["run"])?);
    }
    fleet.until("all are connected", || Ok(fleet.connected()? == NODES.len()))?;

    title("A policy for all of them is proved, and reaches one node first, then the others:");
    fleet.commit(POLICY)?;
    fleet.roll(1)?;
    fleet.expect(443, true)?;
    fleet.expect(8443, false)?;

    title("One agent is killed while the policy changes. It holds up nobody, and its rules stay:");
    typed("web-3", "pkill -KILL ringwall-agent");
    drop(agents.pop());
    fleet.until("it is missed", || Ok(fleet.connected()? < NODES.len()))?;
    fleet.commit(&POLICY.replace("[https]", "[https, tcp/8443]"))?;
    let changed = Instant::now();
    fleet.change(2)?;
    fleet.until("the others have it", || Ok(fleet.is_open("web-1", 8443)? && fleet.is_open("web-2", 8443)?))?;
    said(&format!("web-1 and web-2 have it after {} ms at most", changed.elapsed().as_millis()));
    if !fleet.is_open("web-3", 443)? || fleet.is_open("web-3", 8443)? {
        return Err("web-3 does not enforce what it had".into());
    }
    said("web-3 enforces what it had");
    typed("web-3", "ringwall-agent run &");
    agents.push(fleet.start("web-3", "ringwall-agent", &["run"])?);
    fleet.until("it has it, too", || fleet.is_open("web-3", 8443))?;
    said("web-3 is back, and has it, too");

    title("Somebody takes the rules of a node out. The agent hears of it from the kernel:");
    typed("web-1", "nft delete table inet ringwall");
    let flushed = Instant::now();
    fleet.lab.host("web-1")?.output("nft", &["delete", "table", "inet", "ringwall"], "")?;
    fleet.until("they are back", || Ok(!fleet.is_open("web-1", 9443)?))?;
    said(&format!("they are back after {} ms at most", flushed.elapsed().as_millis()));
    fleet.until("it is told", || Ok(fleet.ringwall(&["events"])?.contains("drift")))?;
    typed(CONTROLLER, "ringwall events");
    said(fleet.ringwall(&["events"])?.lines().find(|line| line.contains("drift")).unwrap_or_default());

    title("The controller is killed. The nodes go on:");
    drop(controller);
    fleet.expect(443, true)?;
    fleet.expect(9443, false)?;
    Ok(())
}

/// A machine's address, with the port that the controller's API has.
fn at(name: &str) -> SocketAddr {
    let last = match name {
        CONTROLLER => 1,
        USER => return ([198, 51, 100, 9], 7444).into(),
        node => 10 + node.bytes().last().map_or(0, |digit| digit - b'0'),
    };
    ([192, 0, 2, last], 7444).into()
}

impl Fleet<'_> {
    fn command(&self, host: &str, program: &str) -> Result<Command> {
        let path = self.programs.join(program);
        let mut command = self.lab.host(host)?.command(path.to_str().ok_or("the repository's path is not UTF-8")?);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("RINGWALL_") {
                command.env_remove(variable);
            }
        }
        command.current_dir("/run").stdin(Stdio::null());
        Ok(command)
    }

    fn start(&self, host: &str, program: &str, arguments: &[&str]) -> Result<Running> {
        let mut command = self.command(host, program)?;
        Ok(Running(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    fn ringwall(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(CONTROLLER, "ringwall")?;
        command.env("RINGWALL_CONTROLLER", format!("https://{}", at(CONTROLLER)));
        command.env("RINGWALL_CA_FILE", "/run/controller/ca-certificate.pem").env("RINGWALL_KEY_FILE", "/run/controller/first-key");
        let output = command.args(arguments).output()?;
        if !output.status.success() {
            return Err(format!("`ringwall {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn connected(&self) -> Result<usize> {
        let nodes: serde_json::Value = serde_json::from_str(&self.ringwall(&["nodes", "-o", "json"])?)?;
        Ok(nodes["nodes"].as_array().into_iter().flatten().filter(|node| node["is_connected"] == true).count())
    }

    fn commit(&self, policy: &str) -> Result<()> {
        self.lab.host(CONTROLLER)?.output("sh", &["-c", "mkdir -p /run/policy && cat > /run/policy/policy.yaml"], policy)?;
        typed(CONTROLLER, "ringwall revision commit policy/");
        self.ringwall(&["revision", "commit", "policy/"])?;
        Ok(())
    }

    fn roll(&self, revision: u32) -> Result<()> {
        typed(CONTROLLER, &format!("ringwall rollout start {revision} --wait"));
        said(&self.ringwall(&["rollout", "start", &revision.to_string(), "--wait"])?);
        Ok(())
    }

    fn change(&self, revision: u32) -> Result<()> {
        typed(CONTROLLER, &format!("ringwall rollout start {revision}"));
        self.ringwall(&["rollout", "start", &revision.to_string()])?;
        Ok(())
    }

    /// Whether the user gets a connection to a node's port.
    fn is_open(&self, node: &str, port: u16) -> Result<bool> {
        let to = SocketAddr::new(at(node).ip(), port);
        let listener = self.lab.host(node)?.run(|| TcpListener::bind(to))??;
        let connected = self.lab.host(USER)?.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)).is_ok())?;
        drop(listener);
        Ok(connected)
    }

    fn expect(&self, port: u16, open: bool) -> Result<()> {
        for node in NODES {
            if self.is_open(node, port)? != open {
                return Err(format!("port {port} of {node} is {}", if open { "shut" } else { "open" }).into());
            }
        }
        said(&format!("{port}/tcp is {} to the user on all nodes", if open { "open" } else { "shut" }));
        Ok(())
    }

    fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so()? {
            if begun.elapsed() > 4 * SOON {
                return Err(format!("not in time: {what}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
