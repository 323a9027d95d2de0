//! Loads, confirms, rolls back and removes a node's ruleset.
//!
//! In: a compiled ruleset that has been cleared, the kernel's present state, the state folder. Out:
//! one transaction each time, and a record of it. Never: a step that leaves neither the old nor the
//! new ruleset whole, a generation number twice, or another program's table.
//!
//! The kernel is the truth about what is enforced; the folder says where it came from and what to
//! load at boot. A program that is killed between the two is made good by the next command.

mod answers;
mod assigned;
mod cut;
mod damage;
mod hands;
mod installed;
mod lockout;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use ringwall_packet::{AddressSet, IntervalSet, Protocol, UpperCube};
use ringwall_ruleset::nftables::{self, Confirm, Generation, Installed, Loading, TABLE};
use ringwall_ruleset::{Effect, Entry, Ruleset};

use crate::kernel::{BaseChain, Netfilter, Nft, NftError, TableId};

pub use answers::{keep_answers, kept_answers};
pub use assigned::Assigned;
pub use cut::{Cut, cut, forbidden, take_over};
pub use damage::{damaged, set_aside};
pub use hands::{Hands, Load, ReadRuleset, digest, kernel};
pub use installed::{Enforced, Stranger, Trial, enforced};
pub use lockout::{Cleared, Lockout, clear};
use answers::name_elements;
pub use state::{Answer, History, Record, State, StateError, records};

/// Where an agent's controllers stand in the state folder, a line each.
const CONTROLLERS: &str = "identity/controllers";

/// Why a command could not be carried out. Unless the variant says so, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error("can't read what the kernel enforces")]
    Read(#[from] crate::kernel::Error),
    #[error("can't use the state folder")]
    State(#[from] StateError),
    #[error("the text to be loaded is not proved; nothing was changed")]
    Unproved(#[source] Unproved),
    #[error("{0} is on trial: confirm it with `ringwall confirm`, or end it with `ringwall rollback`")]
    OnTrial(Generation),
    #[error("nothing is on trial{}", .0.map(|current| format!(": {current} is enforced")).unwrap_or_default())]
    NoTrial(Option<Generation>),
    #[error("{0} has fallen: it was not confirmed in time, and what was there before is enforced again")]
    Fallen(Generation),
    #[error("state.json is gone, so nobody knows which generation was confirmed")]
    Lost,
    #[error("what was kept for boot does not load {0}")]
    Boot(Generation),
}

/// Why a text must not be loaded.
pub type Unproved = Box<dyn std::error::Error + Send + Sync>;

/// Says whether texts do what they are for: asked of the one that is loaded together with the one that is kept for boot.
pub type Proof<'a> = &'a dyn Fn(&[Loading<'_>]) -> Result<(), Unproved>;

/// What a load left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub generation: Generation,
    /// What is enforced when the trial falls; `None` means that nothing is then.
    pub before: Option<Generation>,
    pub confirm: Confirm,
}

/// The text that [`apply`] loads for this generation, addresses of names included.
pub fn text(
    ruleset: &Ruleset,
    generation: Generation,
    installed: &Installed,
    confirm: Confirm,
    answers: &BTreeMap<String, Answer>,
) -> String {
    let mut text = nftables::transaction(ruleset, generation, installed, confirm);
    text.push_str(&name_elements(generation, answers));
    text
}

/// Loads a ruleset as the next generation: proved and checked first, then in one transaction.
///
/// On trial, what the kernel can't undo is left to [`confirm`]; otherwise it is up to the caller to
/// [`cut`] what is forbidden now.
pub fn apply(
    nft: &Nft,
    netfilter: &mut Netfilter,
    state: &mut State,
    cleared: &Cleared<'_>,
    confirm: Confirm,
    record: &Record,
    proof: Proof<'_>,
) -> Result<Applied, ApplyError> {
    let ruleset = cleared.ruleset();
    let mut enforced = enforced(netfilter)?;
    if let Some(trial) = &enforced.trial
        && trial.is_alive()
    {
        return Err(ApplyError::OnTrial(trial.generation));
    }
    // Loaded by a program that was killed before it could write it down.
    if let Some(current) = enforced.installed.current {
        state.settle(current)?;
    }
    let generation = state.next(enforced.newest());
    enforced.installed.fallen.extend(state.fallen());
    // A mark stands for a generation no longer than this.
    enforced.installed.fallen.retain(|fallen| generation.0 - fallen.0 < 100);
    let mut text = text(ruleset, generation, &enforced.installed, confirm, &record.answers);
    text.push_str(&enforced.without_strangers());
    let known = enforced.with_strangers();
    // From nothing, but else the same chains, so that their digest is the same after a reboot.
    let nothing = Installed { fallen: enforced.installed.fallen.clone(), ..Installed::default() };
    let boot = nftables::transaction(ruleset, generation, &nothing, Confirm::Never);
    let boot = boot + &name_elements(generation, &record.answers);
    let trial = Loading { text: &text, generation, installed: &known, confirm };
    proof(&[trial, Loading { text: &boot, generation, installed: &nothing, confirm: Confirm::Never }]).map_err(ApplyError::Unproved)?;
    nft.check(&text)?;
    // Numbers rise even when the program is killed right here.
    state.begin(generation, record, &boot)?;
    nft.load(&text)?;
    match confirm {
        Confirm::Within(_) => {}
        Confirm::Never => state.settle(generation)?,
    }
    Ok(Applied { generation, before: enforced.installed.current, confirm })
}

/// Makes the trial the enforced generation, and what is loaded at boot.
pub fn confirm(
    nft: &Nft,
    netfilter: &mut Netfilter,
    state: &mut State,
    ruleset: &Ruleset,
    generation: Generation,
) -> Result<(), ApplyError> {
    let enforced = enforced(netfilter)?;
    match &enforced.trial {
        Some(trial) if trial.generation == generation => {}
        _ if enforced.installed.current == Some(generation) => {
            // Confirmed in the kernel by a program that was killed before it could write it down.
            return Ok(state.settle(generation)?);
        }
        _ => return Err(ApplyError::NoTrial(enforced.installed.current)),
    }
    let text = nftables::confirm(ruleset, generation, &enforced.installed) + &enforced.without_strangers();
    nft.load(&text).map_err(|error| {
        if error.is_expired_element() { ApplyError::Fallen(generation) } else { ApplyError::Nft(error) }
    })?;
    Ok(state.settle(generation)?)
}

/// Ends the trial at once. What is enforced then; `None` when nothing is.
pub fn rollback(
    nft: &Nft,
    netfilter: &mut Netfilter,
    state: &mut State,
) -> Result<(Generation, Option<Generation>), ApplyError> {
    let enforced = enforced(netfilter)?;
    let Some(trial) = &enforced.trial else {
        return Err(ApplyError::NoTrial(enforced.installed.current));
    };
    nft.load(&nftables::rollback(trial.generation, &enforced.installed))?;
    state.fall(trial.generation)?;
    Ok((trial.generation, enforced.installed.current))
}

/// Takes out our tables, and what would bring them back at boot.
pub fn remove(nft: &Nft, state: &mut State) -> Result<(), ApplyError> {
    // The order matters: a machine that restarts in between comes up as it was.
    nft.load(&nftables::remove())?;
    Ok(state.forget()?)
}

/// Loads what [`confirm`] left for boot; if that fails, the floor alone. The error says why the
/// floor is what is enforced.
pub fn restore(
    nft: &Nft,
    netfilter: &mut Netfilter,
    history: &History,
    floor: &Ruleset,
) -> Result<Option<Generation>, ApplyError> {
    let Some(generation) = history.confirmed() else { return Ok(None) };
    let mut load = || {
        nft.load(&(anew() + &boot(history, generation)?))?;
        // A text that was cut short may load as well, and enforce nothing.
        let found = enforced(netfilter)?.installed.current;
        if found == Some(generation) { Ok(Some(generation)) } else { Err(ApplyError::Boot(generation)) }
    };
    load().or_else(|error| {
        enforce_floor(nft, floor, generation)?;
        Err(error)
    })
}

/// What is enforced when nothing that was confirmed can be: what a machine needs to live, and the way to the controllers
/// that stand in the state folder by address.
pub fn floor(folder: &Path) -> Ruleset {
    let controllers = std::fs::read_to_string(folder.join(CONTROLLERS)).unwrap_or_default();
    let controllers = controllers.lines().filter_map(|line| line.parse::<SocketAddr>().ok());
    let way_out = |to: SocketAddr| Entry {
        id: "controller".into(),
        effect: Effect::Accept { session_timeout: None },
        source: AddressSet::full(),
        destination: to.ip().into(),
        names: [].into(),
        upper: UpperCube::ports(Protocol::TCP, IntervalSet::single(to.port())).into_iter().collect(),
        interface: None,
        expires: None,
        audit: false,
        log: false,
    };
    // The same address twice says no more.
    Ruleset::bare_floor(controllers.collect::<BTreeSet<_>>().into_iter().map(way_out).collect())
}

/// Enforces the floor alone, whatever of our rules is there.
pub fn enforce_floor(nft: &Nft, floor: &Ruleset, generation: Generation) -> Result<(), ApplyError> {
    let text = nftables::transaction(floor, generation, &Installed::default(), Confirm::Never);
    Ok(nft.load(&(anew() + &text))?)
}

/// What is kept for boot, with what was answered to names since.
fn boot(history: &History, generation: Generation) -> Result<String, StateError> {
    let text = history.boot(generation)?;
    let newer = answers::newer(history.folder(), generation, &text);
    Ok(text + &newer)
}

/// Whatever of our rules is there gives way, in the same transaction.
fn anew() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// A base chain of somebody else that sees packets too: an accept of ours is not its accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignChain {
    pub table: TableId,
    pub name: String,
    pub base: BaseChain,
}

/// Filtering base chains of other tables than ours.
pub fn foreign_chains(netfilter: &mut Netfilter) -> Result<Vec<ForeignChain>, ApplyError> {
    let ours = |table: &TableId| table.name == TABLE || table.name.starts_with("ringwall_");
    let chains = netfilter.chains()?.into_iter().filter(|chain| !ours(&chain.table));
    Ok(chains
        .filter_map(|chain| {
            let base = chain.base.filter(|base| base.kind == "filter")?;
            Some(ForeignChain { table: chain.table, name: chain.name, base })
        })
        .collect())
}
