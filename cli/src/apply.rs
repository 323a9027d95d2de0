//! `ringwall apply`, `confirm`, `rollback`, `remove` and `restore`: one node, this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ringwall_node::apply::{
    self, Answer, ApplyError, Cut, Enforced, History, Record, State, StateError, clear, cut, enforced, forbidden,
    digest, foreign_chains, records, take_over,
};
use ringwall_node::kernel::{Netfilter, Nft, NftError, Tuple};
use ringwall_packet::{AddressSet, Flow, PortProtocol, Upper};
use ringwall_policy::{OnTighten, Policy};
use ringwall_policy_file::{Input, Values};
use ringwall_ruleset::nftables::{self, Confirm, Generation, Loading, MARK_MASK};
use ringwall_ruleset::{Decider, Forward, Ruleset};

use crate::compile::{compiled, words};
use crate::plan::Reviewed;
use crate::policy::{Loaded, PolicyArgs, load, now};
use crate::ruleset::others::Others;
use crate::terminal::{Exit, Terminal};
use crate::Failure;

/// Where generations are kept.
#[derive(clap::Args, Clone, Debug)]
pub struct StateArgs {
    #[arg(long, value_name = "FOLDER", env = "RINGWALL_STATE_DIR", default_value = "/var/lib/ringwall")]
    pub state_dir: PathBuf,
}

impl StateArgs {
    pub fn open(&self) -> Result<State, Failure> {
        State::open(&self.state_dir).map_err(|error| failure(&error.into()))
    }

    /// For commands that change nothing.
    pub fn look(&self) -> Result<History, Failure> {
        History::read(&self.state_dir).map_err(|error| failure(&error.into()))
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
The new ruleset is on trial: unless `ringwall confirm` comes within the window, the kernel puts the
old one back by itself, whatever became of this program or of your connection.

Examples:
  ringwall apply policy.yaml
  ringwall apply policy.yaml --confirm 5m --node vault-1
  ringwall apply policy.yaml --set PARTNER_IPS=203.0.113.7
  ringwall apply plan.json                what `ringwall plan --out plan.json` showed, and nothing else")]
pub struct ApplyArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Which node of the policy this machine is; found by its addresses otherwise.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How long to wait for `ringwall confirm`.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    confirm: Duration,
    /// Enforce for good at once, without a way back.
    #[arg(long, conflicts_with = "confirm")]
    no_confirm: bool,
    /// How long to watch live connections before the first enforcement; 60s where there are any.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    learn: Option<Duration>,
    /// An address that must be able to log in here (on port 22, or the port after a colon).
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = way_in)]
    management: Vec<SocketAddr>,
    /// Nobody needs to log in over the network.
    #[arg(long)]
    no_management: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(clap::Args)]
#[command(after_help = "\
Over SSH this works only from a connection that the ruleset on trial has accepted: log in anew, and
confirm from there. That the new login works is what is being confirmed.

Examples:
  ringwall confirm")]
pub struct ConfirmArgs {
    #[command(flatten)]
    state: StateArgs,
}

#[derive(clap::Args)]
#[command(after_help = "\
Without a trial, the generation that was confirmed before the present one is applied again, as a new
generation and on trial.

Examples:
  ringwall rollback
  ringwall rollback --to g41")]
pub struct RollbackArgs {
    /// The generation to go back to, such as g41.
    #[arg(long, value_name = "GENERATION", value_parser = generation)]
    to: Option<Generation>,
    /// How long to wait for `ringwall confirm`.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    confirm: Duration,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall remove --yes")]
pub struct RemoveArgs {
    /// Do it: from then on nothing of ours filters here.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall restore        as ringwall-restore.service does at boot")]
pub struct RestoreArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// `90s`, `15m`, `4h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().filter(char::is_ascii_alphabetic);
    let digits = unit.map_or(text, |unit| &text[..text.len() - unit.len_utf8()]);
    let number: u64 = digits.parse().map_err(|_| "write a time as 90s, 15m, 4h or 7d".to_owned())?;
    let seconds = match unit {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86400,
        None if number == 0 => 0,
        _ => return Err("write a time as 90s, 15m, 4h or 7d".into()),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn generation(text: &str) -> Result<Generation, String> {
    let found = Generation::of_name(text).filter(|found| found.to_string() == text);
    found.ok_or_else(|| "write a generation as `ringwall status` does, such as g41".into())
}

fn way_in(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 22));
    address.or_else(|_| text.parse()).map_err(|_| "write an address, or an address and a port: 192.0.2.200:22, [2001:db8::1]:22".into())
}

/// The programs and files that every change of the kernel goes through.
struct Node {
    nft: Nft,
    netfilter: Netfilter,
    state: State,
}

impl Node {
    fn open(state: &StateArgs) -> Result<Self, Failure> {
        // Where ringwall-agent keeps who it is. It would take what is done here for somebody else's doing, and heal it.
        if state.state_dir.join("identity/certificate.pem").exists() {
            let failure = Failure::new(Exit::Failure, "this machine is a node of a fleet: its controller says what it enforces");
            return Err(failure.help("change the policy there (`ringwall revision commit`, `ringwall rollout start`), or take the node out of the fleet: stop ringwall-agent, and `ringwall-agent forget`"));
        }
        let nft = Nft::find(std::env::var_os("PATH").as_deref()).map_err(|error| failure(&error.into()))?;
        let netfilter = Netfilter::open().map_err(|error| failure(&error.into()))?;
        Ok(Self { nft, netfilter, state: state.open()? })
    }
}

/// Reads what is enforced, for commands that change nothing.
pub fn read_enforced(netfilter: &mut Netfilter) -> Result<Enforced, Failure> {
    enforced(netfilter).map_err(|error| failure(&error.into()))
}

/// The world's failures are exit code 3 where something of the machine is missing.
pub fn failure(error: &ApplyError) -> Failure {
    if matches!(error, ApplyError::Read(error) if error.failure().errno() == Some(nix::errno::Errno::EPERM)) {
        return Failure::of(Exit::Environment, &NftError::Permission);
    }
    let exit = match error {
        ApplyError::Nft(NftError::Refused { .. }) | ApplyError::Unproved(_) => Exit::Failure,
        ApplyError::Nft(_) | ApplyError::Read(_) => Exit::Environment,
        ApplyError::State(_) => Exit::Environment,
        ApplyError::OnTrial(_) | ApplyError::NoTrial(_) | ApplyError::Fallen(_) | ApplyError::Boot(_) | ApplyError::Lost => Exit::Failure,
    };
    let failure = Failure::of(exit, error);
    match error {
        ApplyError::Fallen(_) | ApplyError::NoTrial(_) => failure.help("`ringwall status` shows what is enforced"),
        ApplyError::Nft(NftError::Refused { .. }) | ApplyError::Unproved(_) => failure.help("nothing was changed; this is a mistake of ours, please report it"),
        ApplyError::State(StateError::Damaged { path, .. } | StateError::Schema { path, .. }) => {
            failure.help(format!("move {} away, and apply the policy again", path.display()))
        }
        _ => failure,
    }
}

pub fn apply(args: &ApplyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    if let Some(plan) = Reviewed::read(&args.policy.policy)? {
        return apply_plan(args, &plan, terminal);
    }
    let (loaded, policy) = args.policy.resolved(terminal)?;
    let name = match &args.node {
        Some(name) => name.clone(),
        None => this_node(&policy)?,
    };
    apply_to(args, &loaded, &policy, name, None, terminal)
}

/// Applies what a plan showed, where and as it was made.
fn apply_plan(args: &ApplyArgs, plan: &Reviewed, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.node.is_some() || !args.policy.bindings.set.is_empty() || args.policy.bindings.values.is_some() {
        return Err(Failure::new(Exit::Usage, "a plan says itself which node it is for, and which values it binds: leave out --node, --set and --values"));
    }
    let mut loaded = plan.loaded();
    let Some(policy) = loaded.policy.take() else {
        terminal.diagnostics(&loaded.diagnostics, &loaded.sources);
        return Err(Failure::new(Exit::Failure, "this version of ringwall can't read the plan's policy").help("make the plan anew"));
    };
    terminal.say(&format!("applying the plan {}", plan.digest()));
    apply_to(args, &loaded, &policy, plan.source.node.clone(), Some(plan), terminal)
}

fn apply_to(
    args: &ApplyArgs,
    loaded: &Loaded,
    policy: &Policy,
    name: String,
    plan: Option<&Reviewed>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    terminal.diagnostics(&loaded.diagnostics, &loaded.sources);
    is_this_machine(policy, &name, args.no_management, terminal)?;
    // What `check` calls an error is applied if the operator wants it, but not in silence.
    let doubts: Vec<_> = crate::lint::of_policy(policy).into_iter().filter(|doubt| doubt.is_error()).collect();
    terminal.diagnostics(&doubts, &loaded.sources);
    let confirm = if args.no_confirm { Confirm::Never } else { Confirm::Within(window(args.confirm)?) };
    let mut node = Node::open(&args.state)?;
    if let Some(plan) = plan {
        // Under the lock, so that what is checked is what is changed.
        let (ruleset, _) = compiled(policy, &name)?;
        plan.check(policy, &ruleset, &mut node.netfilter, &node.state)?;
    }
    let ways = ways_in(args, policy, &name)?;
    let record = Record {
        schema: Record::SCHEMA.into(),
        node: name,
        files: loaded.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect(),
        values: loaded.bound.clone(),
        answers: BTreeMap::new(),
        applied: now(),
        ..Record::default()
    };
    enforce(&mut node, loaded, policy, record, &ways, confirm, args.learn, terminal)
}

/// The kernel counts the window in seconds.
fn window(confirm: Duration) -> Result<u32, Failure> {
    u32::try_from(confirm.as_secs())
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| Failure::new(Exit::Usage, "the time to confirm is between 1s and 1d"))
}

#[expect(clippy::too_many_arguments, reason = "each is a different thing that a load is made from")]
fn enforce(
    node: &mut Node,
    loaded: &Loaded,
    policy: &Policy,
    mut record: Record,
    ways: &[Flow],
    confirm: Confirm,
    learn: Option<Duration>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let (ruleset, warnings) = compiled(policy, &record.node)?;
    terminal.diagnostics(&warnings, &loaded.sources);
    let cleared = clear(&ruleset, ways, now()).map_err(|lockout| {
        let rule = match &lockout.decider {
            Decider::Entry(id) => match policy.rules.iter().find(|rule| rule.id.as_str() == id) {
                Some(rule) => format!("{} ({}) drops it", words(rule), rule.origin.place),
                None => format!("`{id}` drops it"),
            },
            Decider::Default => "no rule allows it".to_owned(),
        };
        let mut failure = Failure::new(Exit::Failure, lockout.to_string());
        failure.causes.push(rule);
        failure.help("nothing was changed; name the way in with `management:` in the policy, or allow it")
    })?;
    record.answers = answers(&ruleset, policy, terminal);
    let foreign = foreign_chains(&mut node.netfilter).map_err(|error| failure(&error))?;
    for chain in &foreign {
        terminal.say(&format!(
            "note: table {} also filters: chain {} at {} priority {}, policy {}",
            chain.table, chain.name, chain.base.hook, chain.base.priority, chain.base.policy
        ));
    }
    for text in Others::look(&foreign, policy, &record.node).iter().flat_map(Others::texts) {
        terminal.warn(&text);
    }
    for bridge in bridged_uplinks(&ruleset)? {
        terminal.warn(&format!(
            "{bridge} is a bridge with an address of this node: what others send through it would count as containers' traffic"
        ));
        terminal.say(&format!("  help: name it under the node in the policy, as in `interfaces: {{ uplink: {bridge} }}`"));
    }
    normalise(node, terminal)?;
    bring_back(node, terminal)?;
    learn_first(node, &ruleset, learn, terminal)?;
    // The very text that is loaded, onto what is there.
    let prove = |loading: &Loading<'_>| ringwall_compile::prove(policy, &record.node, loading).map_err(Into::into);
    let proof = |loadings: &[Loading<'_>]| loadings.iter().try_for_each(prove);
    let applied = apply::apply(&node.nft, &mut node.netfilter, &mut node.state, &cleared, confirm, &record, &proof)
        .map_err(|error| failure(&error))?;
    let generation = applied.generation;
    record.digest = digest(&mut node.netfilter, generation);
    node.state.amend(generation, &record).map_err(|error| failure(&error.into()))?;
    match confirm {
        Confirm::Never => {
            settle_connections(node, generation, &ruleset, policy, &record, terminal)?;
            terminal.say(&format!("{generation} is enforced on {}", ruleset.node));
        }
        Confirm::Within(seconds) => {
            let then = match applied.before {
                Some(before) => format!("{before} is back"),
                None => "nothing is enforced".into(),
            };
            terminal.say(&format!("{generation} is on trial on {} for {seconds} s; then {then}", ruleset.node));
            if policy.on_tighten == OnTighten::Cut {
                announce_cuts(node, &ruleset, &record, terminal)?;
            }
            terminal.say("next: log in anew, see that all is well, and run `ringwall confirm` there");
        }
    }
    if ruleset.audit {
        terminal.say("stage: audit: nothing is dropped; what would be is counted and logged");
    }
    Ok(Exit::Success)
}

/// Says what of our table the new generation takes out because it is not ours.
fn normalise(node: &mut Node, terminal: &Terminal) -> Result<(), Failure> {
    let found = read_enforced(&mut node.netfilter)?;
    for stranger in &found.strangers {
        terminal.say(&format!("note: {stranger} of our table is not ours and will be taken out"));
    }
    if let Some(generation) = found.deciding()
        && let Ok(record) = node.state.record(generation)
        && has_drifted(&mut node.netfilter, generation, &record)
    {
        terminal.say(&format!("note: the rules of {generation} were changed by somebody; they will be taken out with it"));
    }
    Ok(())
}

/// What was confirmed is what a trial falls back to: where somebody took it out of the kernel, it is
/// loaded again first.
fn bring_back(node: &mut Node, terminal: &Terminal) -> Result<(), Failure> {
    let found = read_enforced(&mut node.netfilter)?;
    let Some(confirmed) = node.state.confirmed().filter(|_| found.deciding().is_none()) else { return Ok(()) };
    terminal.warn(&format!("{confirmed} was confirmed but did not decide in the kernel; it is loaded again first"));
    // What can't be loaded any more is no reason to refuse what comes after it: the floor is there.
    if let Err(error) = apply::restore(&node.nft, &mut node.netfilter, &node.state, &apply::floor(node.state.folder())) {
        terminal.warn(&format!("{error}; the floor alone is enforced meanwhile"));
    }
    Ok(())
}

/// The connections that confirming will end.
fn announce_cuts(node: &mut Node, ruleset: &Ruleset, record: &Record, terminal: &Terminal) -> Result<(), Failure> {
    const SHOWN: usize = 10;
    let cuts = would_cut(&mut node.netfilter, ruleset, &record.answers)?;
    for cut in cuts.iter().take(SHOWN) {
        terminal.warn(&format!("confirming cuts {}", cut.flow));
    }
    if let Some(more) = cuts.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        terminal.warn(&format!("confirming cuts {more} more connections"));
    }
    Ok(())
}

/// Live connections that the ruleset forbids.
pub fn would_cut(netfilter: &mut Netfilter, ruleset: &Ruleset, answers: &BTreeMap<String, Answer>) -> Result<Vec<Cut>, Failure> {
    if ruleset.audit {
        return Ok(Vec::new());
    }
    let resolved = |name: &str, address: IpAddr| answers.get(name).is_some_and(|answer| answer.addresses.contains(&address));
    let live = netfilter.connections().map_err(|error| failure(&error.into()))?;
    Ok(live.iter().filter_map(|live| forbidden(ruleset, live, now(), resolved)).collect())
}

/// Refuses to enforce another machine's part of the policy, and names addresses that the policy
/// does not know: nothing is open on those.
fn is_this_machine(policy: &Policy, name: &str, no_management: bool, terminal: &Terminal) -> Result<(), Failure> {
    let Some(node) = policy.nodes.get(name) else { return Ok(()) };
    let own = own_addresses()?;
    if node.local().is_disjoint(&own) && !no_management {
        return Err(Failure::new(Exit::Failure, format!("this machine has none of the addresses of `{name}`"))
            .help("`ringwall nodes POLICY` lists the nodes; --no-management applies it all the same"));
    }
    for (interface, address) in interface_addresses()? {
        let is_local = match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        if !is_local && !node.local().contains(address) {
            terminal.warn(&format!("the policy does not know this machine's address {address} ({interface}): no rule opens anything on it"));
        }
    }
    Ok(())
}

/// A table that only tracks runs before the first enforcement, so that live connections are known.
fn learn_first(node: &mut Node, ruleset: &Ruleset, learn: Option<Duration>, terminal: &Terminal) -> Result<(), Failure> {
    let found = read_enforced(&mut node.netfilter)?;
    if found.has_table || ruleset.audit {
        return Ok(());
    }
    let live = live_connections();
    let time = learn.unwrap_or(if live > 0 { Duration::from_secs(60) } else { Duration::ZERO });
    if time.is_zero() {
        return Ok(());
    }
    node.nft.load(&nftables::learn()).map_err(|error| failure(&error.into()))?;
    let style = ProgressStyle::with_template("learning live connections {bar:30} {eta} left").expect("a constant");
    let bar = ProgressBar::new(time.as_millis().try_into().unwrap_or(u64::MAX)).with_style(style);
    if bar.is_hidden() {
        terminal.say(&format!("learning live connections for {} s ({live} now)", time.as_secs()));
    }
    let begun = std::time::Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        bar.set_position(begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    bar.finish_and_clear();
    Ok(())
}

/// Established TCP connections with other machines (proc(5): state 01 of /proc/net/tcp).
fn live_connections() -> usize {
    let of = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let remote_loopback = |address: &str| address.starts_with("0100007F:") || address.starts_with("00000000000000000000000001000000:");
        let is_live = |line: &&str| {
            let mut words = line.split_whitespace().skip(2);
            let remote = words.next().unwrap_or_default();
            words.next() == Some("01") && !remote_loopback(remote)
        };
        text.lines().filter(is_live).count()
    };
    of("/proc/net/tcp") + of("/proc/net/tcp6")
}

pub fn confirm(args: &ConfirmArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut node = Node::open(&args.state)?;
    let found = read_enforced(&mut node.netfilter)?;
    let generation = match (&found.trial, found.installed.current) {
        (Some(trial), _) => trial.generation,
        // What a program that was killed has confirmed in the kernel alone is made good.
        (None, Some(current)) if node.state.confirmed() != Some(current) => current,
        (None, current) => return Err(failure(&ApplyError::NoTrial(current))),
    };
    let record = node.state.record(generation).map_err(|error| failure(&error.into()))?;
    let policy = recorded(&record)?;
    let (ruleset, _) = compiled(&policy, &record.node)?;
    if found.trial.as_ref().is_some_and(apply::Trial::is_alive) {
        through_the_trial(&mut node.netfilter, generation)?;
    }
    apply::confirm(&node.nft, &mut node.netfilter, &mut node.state, &ruleset, generation).map_err(|error| failure(&error))?;
    settle_connections(&mut node, generation, &ruleset, &policy, &record, terminal)?;
    terminal.say(&format!("{generation} is confirmed, and loaded at boot"));
    Ok(Exit::Success)
}

/// Over SSH, the connection that confirms must itself be one that the trial accepted.
fn through_the_trial(netfilter: &mut Netfilter, generation: Generation) -> Result<(), Failure> {
    let Some((client, server)) = ssh_connection()? else { return Ok(()) };
    let tuple = Tuple::ports(PortProtocol::TCP, client, server);
    let found = netfilter.find_connection(&tuple).map_err(|error| failure(&error.into()))?;
    if found.is_some_and(|connection| connection.mark & MARK_MASK == generation.mark()) {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, format!("this SSH connection is older than {generation}, so it proves nothing about it"))
        .help("log in anew while the trial is on, and run `ringwall confirm` there"))
}

/// Both ends of the SSH connection that this program runs in (ssh(1): SSH_CONNECTION). sudo takes the
/// variable away, so that programs further up are asked as well. A connection that ends on another
/// machine, or in another network namespace, is no way in here.
///
/// One that can't be understood is refused: it might be the one that would be cut. sshd writes
/// link-local addresses with the interface after a `%`.
fn ssh_connection() -> Result<Option<(SocketAddr, SocketAddr)>, Failure> {
    let Some(text) = std::env::var("SSH_CONNECTION").ok().or_else(inherited_ssh_connection) else { return Ok(None) };
    let words: Vec<_> = text.split_whitespace().collect();
    let end = |address: &str, port: &str| {
        let address = address.split('%').next()?.parse::<IpAddr>().ok()?.to_canonical();
        Some(SocketAddr::new(address, port.parse().ok()?))
    };
    let ends = match words[..] {
        [client, client_port, server, server_port] => end(client, client_port).zip(end(server, server_port)),
        _ => None,
    };
    let Some((client, server)) = ends else {
        return Err(Failure::new(Exit::Failure, format!("SSH_CONNECTION is `{text}`, which names no connection"))
            .help("log in by SSH, or say --no-management if nobody needs to log in over the network"));
    };
    Ok(own_addresses()?.contains(server.ip()).then_some((client, server)))
}

/// What the nearest program above this one has in its environment (proc(5)).
fn inherited_ssh_connection() -> Option<String> {
    let mut pid = std::process::id();
    while pid > 1 {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if let Some(found) = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION=")) {
            return String::from_utf8(found.to_vec()).ok();
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        pid = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    }
    None
}

/// What the kernel can't undo, once a generation stays.
fn settle_connections(
    node: &mut Node,
    generation: Generation,
    ruleset: &Ruleset,
    policy: &Policy,
    record: &Record,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if policy.on_tighten == OnTighten::Cut {
        cut_forbidden(node, ruleset, record, terminal)?;
    }
    take_over(&mut node.netfilter, generation, &node.state.fallen()).map_err(|error| failure(&error.into()))
}

fn cut_forbidden(node: &mut Node, ruleset: &Ruleset, record: &Record, terminal: &Terminal) -> Result<(), Failure> {
    let resolved = |name: &str, address: IpAddr| record.answers.get(name).is_some_and(|answer| answer.addresses.contains(&address));
    let cuts = cut(&mut node.netfilter, ruleset, now(), resolved).map_err(|error| failure(&error.into()))?;
    for cut in &cuts {
        let by = match &cut.decider {
            Decider::Entry(id) => format!("rule {id} denies it"),
            Decider::Default => "no rule allows it".into(),
        };
        terminal.say(&format!("cut {}: {by}", cut.flow));
    }
    Ok(())
}

/// The policy that a generation was made from.
pub fn recorded(record: &Record) -> Result<Policy, Failure> {
    if let Some(assigned) = &record.assignment {
        let what = format!("assignment {} of epoch {} came from the fleet's controller, and its policy is there", assigned.number, assigned.epoch);
        return Err(Failure::new(Exit::Failure, what));
    }
    let files = record.files.iter().map(|(name, text)| Input { name: name.clone(), text: text.clone() }).collect();
    let mut values = Values::default();
    for (name, text) in &record.values {
        values.bind(name, text, "the record");
    }
    // At the time when it was applied it had no mistakes; that a rule has expired since is none.
    load(files, &values, record.applied)
        .policy
        .ok_or_else(|| Failure::new(Exit::Failure, "the recorded policy can't be read by this version").help("apply it again from its files"))
}

pub fn rollback(args: &RollbackArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut node = Node::open(&args.state)?;
    let found = read_enforced(&mut node.netfilter)?;
    if args.to.is_none() && found.trial.is_some() {
        let (trial, now) =
            apply::rollback(&node.nft, &mut node.netfilter, &mut node.state).map_err(|error| failure(&error))?;
        let enforced = now.map_or("nothing is".into(), |now| format!("{now} is"));
        terminal.say(&format!("{trial} has ended; {enforced} enforced"));
        return Ok(Exit::Success);
    }
    let Some(to) = args.to.or_else(|| node.state.previous()) else {
        return Err(Failure::new(Exit::Failure, "there is no earlier generation to go back to"));
    };
    let mut record = node.state.record(to).map_err(|error| failure(&error.into()))?;
    let policy = recorded(&record)?;
    record.applied = now();
    let loaded = Loaded {
        files: Vec::new(),
        bound: BTreeMap::new(),
        sources: Default::default(),
        policy: None,
        diagnostics: Vec::new(),
    };
    let ways: Vec<Flow> = ssh_flow()?.into_iter().collect();
    let confirm = Confirm::Within(window(args.confirm)?);
    enforce(&mut node, &loaded, &policy, record, &ways, confirm, Some(Duration::ZERO), terminal)
}

pub fn remove(args: &RemoveArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    if !args.yes {
        return Err(Failure::new(Exit::Usage, "from then on nothing of ours filters here: add --yes"));
    }
    let mut node = Node::open(&args.state)?;
    apply::remove(&node.nft, &mut node.state).map_err(|error| failure(&error))?;
    terminal.say("our tables are gone; nothing of ours is loaded at boot");
    Ok(Exit::Success)
}

pub fn restore(args: &RestoreArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let nft = Nft::find(std::env::var_os("PATH").as_deref()).map_err(|error| failure(&error.into()))?;
    let mut netfilter = Netfilter::open().map_err(|error| failure(&error.into()))?;
    let found = read_enforced(&mut netfilter)?;
    let folder = &args.state.state_dir;
    // Held while rules are loaded. That the folder can't be written, as early at boot, is no reason
    // to come up without them.
    let lock = State::open(folder);
    if let Err(error @ StateError::Locked { .. }) = lock {
        return Err(failure(&error.into()));
    }
    let result = match History::read(folder) {
        Ok(history) if history.is_lost() && !found.has_table => {
            apply::enforce_floor(&nft, &floor(folder, None), Generation(0)).and(Err(ApplyError::Lost))
        }
        Ok(history) => apply::restore(&nft, &mut netfilter, &history, &floor(folder, history.confirmed())),
        // A machine that comes up must not stand open because a file is damaged or can't be read;
        // rules that are there are better than the floor.
        Err(error @ (StateError::Damaged { .. } | StateError::Schema { .. } | StateError::Read { .. })) if !found.has_table => {
            apply::enforce_floor(&nft, &floor(folder, None), Generation(0)).and(Err(error.into()))
        }
        Err(error) => return Err(failure(&error.into())),
    };
    match result {
        Ok(Some(generation)) => terminal.say(&format!("{generation} is enforced")),
        Ok(None) => terminal.say("nothing was confirmed here, so nothing is enforced"),
        Err(error) => {
            terminal.warn("the confirmed ruleset could not be loaded: the floor alone is enforced");
            return Err(Failure { help: vec!["apply the policy again".into()], ..failure(&error) });
        }
    }
    Ok(Exit::Success)
}

/// What a machine needs to live, and the management of the confirmed generation, or of the newest
/// that can still be read.
fn floor(folder: &Path, confirmed: Option<Generation>) -> Ruleset {
    let confirmed = confirmed.and_then(|generation| History::read(folder).ok()?.record(generation).ok());
    confirmed.into_iter().chain(records(folder)).find_map(|record| floor_of(&record)).unwrap_or_else(|| apply::floor(folder))
}

fn floor_of(record: &Record) -> Option<Ruleset> {
    let mut policy = recorded(record).ok()?;
    policy.rules.clear();
    ringwall_compile::compile(&policy, &record.node).ok().map(|(ruleset, _)| ruleset.into_inner())
}

/// The node of the policy that has one of this machine's addresses.
pub fn this_node(policy: &Policy) -> Result<String, Failure> {
    let addresses = own_addresses()?;
    let found: Vec<_> = policy.nodes.values().filter(|node| !node.addresses.is_disjoint(&addresses)).collect();
    match found[..] {
        [node] => Ok(node.name.to_string()),
        [] => Err(Failure::new(Exit::Failure, "no node of the policy has an address of this machine")
            .help("say which one it is with --node; `ringwall nodes POLICY` lists them")),
        _ => Err(Failure::new(Exit::Failure, "several nodes of the policy have an address of this machine")
            .help("say which one it is with --node")),
    }
}

/// Bridges that have an address of the node but are neither named as its interfaces nor unmanaged.
fn bridged_uplinks(ruleset: &Ruleset) -> Result<BTreeSet<String>, Failure> {
    let Forward::Containers { unmanaged, uplinks } = &ruleset.forward else { return Ok(BTreeSet::new()) };
    let known = |name: &String| unmanaged.contains(name) || uplinks.contains(name);
    // sysfs has a folder `bridge` for interfaces that are one (net/bridge/br_sysfs_br.c).
    let is_bridge = |name: &String| std::path::Path::new("/sys/class/net").join(name).join("bridge").is_dir();
    let found = interface_addresses()?.into_iter().filter(|(_, address)| ruleset.local.contains(*address));
    Ok(found.map(|(name, _)| name).filter(|name| !known(name) && is_bridge(name)).collect())
}

fn own_addresses() -> Result<AddressSet, Failure> {
    Ok(interface_addresses()?.into_iter().map(|(_, address)| address).collect())
}

/// The kernel's names of this machine's interfaces, with the addresses that each has.
fn interface_addresses() -> Result<Vec<(String, IpAddr)>, Failure> {
    let interfaces = nix::ifaddrs::getifaddrs()
        .map_err(|error| Failure::new(Exit::Environment, format!("can't read this machine's addresses: {error}")))?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        let found = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))?;
        Some((interface.interface_name, found))
    });
    Ok(addresses.collect())
}

/// The ways in that must stay open: this SSH connection's, and those that the operator names.
fn ways_in(args: &ApplyArgs, policy: &Policy, node: &str) -> Result<Vec<Flow>, Failure> {
    let mut ways: Vec<Flow> = match ssh_flow() {
        Ok(flow) => flow.into_iter().collect(),
        Err(_) if args.no_management => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let local = policy.nodes.get(node).map(|node| node.addresses.clone()).unwrap_or_default();
    for from in &args.management {
        let to = local.witnesses().find(|address| address.is_ipv4() == from.is_ipv4());
        let flow = to.and_then(|to| Flow::new(from.ip(), to, Upper::tcp(EPHEMERAL, from.port())));
        let Some(flow) = flow else {
            return Err(Failure::new(Exit::Failure, format!("the node has no address of the family of --management {from}")));
        };
        ways.push(flow);
    }
    let stays = policy.management.is_some() && !policy.floor.without_management;
    let audited = policy.nodes.get(node).is_some_and(|node| node.stage == ringwall_policy::Stage::Audit);
    if ways.is_empty() && !stays && !audited && !args.no_management {
        return Err(Failure::new(Exit::Failure, "no management path is known, so this might lock you out")
            .help("name one in the policy (`management: { from: GROUP, services: [ssh] }`) or with --management ADDRESS")
            .help("or say --no-management if nobody needs to log in over the network"));
    }
    Ok(ways)
}

/// The first port that Linux gives to clients (ip_local_port_range).
const EPHEMERAL: u16 = 32768;

fn ssh_flow() -> Result<Option<Flow>, Failure> {
    let ends = ssh_connection()?;
    Ok(ends.and_then(|(client, server)| {
        Flow::new(client.ip(), server.ip(), Upper::tcp(client.port(), server.port()))
    }))
}

/// Asks the host's resolver for every name that the ruleset uses. Answers inside our own networks
/// are refused: a name must not open those.
pub fn answers(ruleset: &Ruleset, policy: &Policy, terminal: &Terminal) -> BTreeMap<String, Answer> {
    let names: BTreeSet<String> = nftables::name_sets(ruleset).into_iter().map(|(name, _)| name).collect();
    let refused = policy.internal.clone().unwrap_or_default().union(&policy.node_addresses());
    let mut answers = BTreeMap::new();
    for name in names {
        let found = match (name.as_str(), 0u16).to_socket_addrs() {
            Ok(found) => found.map(|address| address.ip()).collect::<BTreeSet<IpAddr>>(),
            Err(error) => {
                terminal.warn(&format!("`{name}` could not be resolved, so rules to it open nothing: {error}"));
                continue;
            }
        };
        let (inside, addresses): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|address| refused.contains(*address));
        for address in inside {
            terminal.warn(&format!("the answer {address} for `{name}` is one of our own addresses and was left out"));
        }
        answers.insert(name, Answer { addresses, asked: now(), seconds: None });
    }
    answers
}

/// Whether a generation's chains are not as they were loaded.
pub fn has_drifted(netfilter: &mut Netfilter, generation: Generation, record: &Record) -> bool {
    record.digest.is_some() && digest(netfilter, generation) != record.digest
}
