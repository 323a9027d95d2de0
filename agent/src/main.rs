//! `ringwall-agent`: enforces on this node what the fleet's controller says.
//!
//! In: a token, once; then flags, RINGWALL_* variables, the state folder. Out: the reconciler's work, until it is told to
//! end. Never: an open port; rules taken out because it ends.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ringwall_agent::identity::{Enrolment, Identity, IdentityError, Progress};
use ringwall_agent::{Settings, Shell, proof};
use ringwall_node::kernel::Nft;
use ringwall_node::reconciler::{Action, Event};
use ringwall_packet::AddressSet;
use ringwall_protocol::{Facts, Invitation};
use ringwall_ruleset::{Floor, Forward, Ruleset};
use tokio::sync::mpsc::{Receiver, Sender, channel};

#[derive(Debug, Parser)]
#[command(name = "ringwall-agent", version, about = "Enforces on this node what the fleet's controller says", after_help = EXAMPLES)]
struct Arguments {
    /// What is kept: the identity, and what was enforced.
    #[arg(long, value_name = "DIR", env = "RINGWALL_STATE_DIR", default_value = "/var/lib/ringwall", global = true)]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this node a member of a fleet.
    Enrol {
        /// What `ringwall token create` printed; `-` reads it from stdin.
        token: String,
        /// The name that the node would like; a token may bind another.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
    },
    /// Connects to the controller and enforces, until it is told to end. What it enforces stays.
    Run,
    /// Gives the membership up; the rules stay.
    Forget,
}

const EXAMPLES: &str = "\
Examples:
  ringwall-agent enrol rwt1_…      with a token from `ringwall token create`
  ringwall-agent run               what the unit ringwall-agent.service does
  ringwall status                  what is enforced here";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(is_terminal).with_max_level(tracing::Level::INFO).init();
    // One thread for what waits; those for the kernel and the disk are the shell's own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), 3),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Enrol { token, node } => enrol(&arguments.state_dir, &token, node).await,
            Command::Run => run(arguments.state_dir).await,
            Command::Forget => Ok(Identity::forget(&arguments.state_dir)?),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(IdentityError::Refused(_) | IdentityError::Already)) => failed(&error, 1),
        Err(error) => failed(&error, 3),
    }
}

fn failed(error: &Box<dyn std::error::Error + Send + Sync>, code: u8) -> ExitCode {
    let mut text = format!("ringwall-agent: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    eprintln!("{text}");
    ExitCode::from(code)
}

async fn enrol(state: &Path, token: &str, node: Option<String>) -> Result<()> {
    let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token.to_owned() };
    let invitation: Invitation = token.trim().parse()?;
    let node = match node {
        Some(node) => node,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let enrolment = Enrolment::new(state, invitation)?;
    let mut is_told = false;
    loop {
        match enrolment.ask(&node, facts()).await? {
            Progress::Done(_) => {
                println!("this node is enrolled; `ringwall-agent run` connects it");
                return Ok(());
            }
            Progress::Pending { retry } => {
                if !is_told {
                    eprintln!("an operator must approve it: `ringwall node approve {node}`; waiting");
                    is_told = true;
                }
                tokio::time::sleep(Duration::from_secs(retry.clamp(1, 300).into())).await;
            }
        }
    }
}

async fn run(state: PathBuf) -> Result<()> {
    let identity = Identity::open(&state)?;
    let (asked, asks) = channel::<Action>(4);
    let facts = facts();
    let settings = Settings {
        folder: state.clone(),
        nft: Nft::find(std::env::var_os("PATH").as_deref())?,
        floor: floor(&facts),
        ways_in: Vec::new(),
        proof,
        boot: boot()?,
        facts,
    };
    let mut shell = Shell::start(settings, asked)?;
    shell.use_controller(identity.controller()?);
    let (controllers, mut controller) = channel(1);
    let holder = tokio::spawn(hold(state, identity, asks, shell.sender(), controllers));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            () = shell.turn() => {}
            Some(next) = controller.recv() => shell.use_controller(next),
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
        }
    }
    holder.abort();
    Ok(())
}

/// Who holds the identity: does what the reconciler asks of it.
async fn hold(state: PathBuf, mut identity: Identity, mut asks: Receiver<Action>, events: Sender<Event>, controllers: Sender<ringwall_agent::Controller>) {
    let enrolled = |identity: &Identity| Event::Enrolled { valid: u64::try_from(identity.valid().as_millis()).unwrap_or(u64::MAX) };
    if events.send(enrolled(&identity)).await.is_err() {
        return;
    }
    while let Some(ask) = asks.recv().await {
        let event = match ask {
            Action::Renew => match identity.renew().await {
                Ok(next) => {
                    identity = next;
                    match identity.controller() {
                        Ok(controller) => drop(controllers.send(controller).await),
                        Err(error) => tracing::error!(%error, "the new certificate can't be used"),
                    }
                    enrolled(&identity)
                }
                Err(IdentityError::Refused(status)) => {
                    tracing::error!(reason = status.message(), "the controller does not renew this node's certificate");
                    Event::Revoked { detail: status.message().to_owned() }
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate was not renewed");
                    Event::NotRenewed
                }
            },
            Action::ForgetIdentity => {
                if let Err(error) = Identity::forget(&state) {
                    tracing::error!(%error, "the identity could not be given up");
                }
                continue;
            }
            // There was an identity at the start; without one there is nothing to ask with.
            _ => Event::Pending { retry: 3_600_000 },
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn facts() -> Facts {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"').to_owned();
    let nft = std::process::Command::new("nft").arg("--version").output();
    let nft = nft.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    Facts { addresses: addresses().into_iter().collect(), kernel, nft, system }
}

/// What the node's interfaces have, beside loopback and link-local addresses.
fn addresses() -> BTreeSet<IpAddr> {
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

/// What is enforced when nothing that was confirmed can be: no more than a machine needs to live.
fn floor(facts: &Facts) -> Ruleset {
    Ruleset {
        node: "floor".into(),
        audit: false,
        local: facts.addresses.iter().map(|address| ipnet::IpNet::from(*address)).collect::<AddressSet>(),
        protected: AddressSet::default(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: Vec::new(),
        output: Vec::new(),
        forward: Forward::Containers { unmanaged: BTreeSet::new(), uplinks: BTreeSet::new() },
    }
}

/// proc_sys_kernel(5): another one after each boot.
fn boot() -> Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16)?;
    Ok(number.to_be_bytes())
}
