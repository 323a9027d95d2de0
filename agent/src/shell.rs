//! The loop: events in, the reconciler, actions out.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as threads};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use ringwall_node::apply::{ApplyError, Hands, History, StateError, Unproved, enforce_floor, set_aside};
use ringwall_node::kernel::{Monitor, Netfilter, Nft};
use ringwall_node::reconciler::{Action, Disk, Event, Kernel, Millis, Moment, Reconciler};
use ringwall_packet::Flow;
use ringwall_protocol::{Facts, Hello, LISTS, PROBES, ToController, VERSIONS};
use ringwall_ruleset::Ruleset;
use ringwall_ruleset::nftables::{Generation, Loading, prove_all};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;

use crate::connection::Controller;
use crate::lists::{Lists, Told};
use crate::names::Names;
use crate::{edge, hands, session};

/// Events that wait for the reconciler, which takes them in microseconds.
const EVENTS: usize = 1024;

/// Says whether texts do what the ruleset says.
pub type ProofOf = fn(&Ruleset, &[Loading<'_>]) -> Result<(), Unproved>;

/// The texts read back, as anybody's would be: the controller has proved the ruleset, and nobody has seen these texts.
pub fn proof(ruleset: &Ruleset, loadings: &[Loading<'_>]) -> Result<(), Unproved> {
    Ok(prove_all(ruleset, loadings)?)
}

/// What does not change while the agent runs.
pub struct Settings {
    /// The state folder.
    pub folder: PathBuf,
    pub nft: Nft,
    /// What is enforced when nothing else can be.
    pub floor: Ruleset,
    /// Flows that no ruleset may close.
    pub ways_in: Vec<Flow>,
    /// [`proof`], where nothing else is asked for.
    pub proof: ProofOf,
    /// The kernel's boot id.
    pub boot: [u8; 16],
    pub facts: Facts,
}

/// The agent at work.
pub struct Shell {
    reconciler: Reconciler,
    events: Receiver<Event>,
    sender: Sender<Event>,
    hands: threads::Sender<Action>,
    resolver: threads::Sender<String>,
    lists: Lists,
    /// Takes `Enrol`, `Renew` and `ForgetIdentity`, and answers by an event.
    identity: Sender<Action>,
    controller: Option<Controller>,
    session: Option<Session>,
    settings: Arc<Settings>,
}

/// A stream that is being opened, or is open. With it goes all that it did not tell yet.
struct Session {
    outgoing: Sender<ToController>,
    /// It ends with the session.
    events: Receiver<Event>,
    task: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shell {
    /// Reads what is there, and begins four threads in this thread's network namespace.
    ///
    /// Who holds the identity gets actions, and answers by events to [`Shell::sender`].
    pub fn start(settings: Settings, identity: Sender<Action>) -> Result<Self, ApplyError> {
        let settings = Arc::new(settings);
        let mut netfilter = Netfilter::open()?;
        let (history, troubles) = history(&settings.folder);
        let mut found = Hands { nft: &settings.nft, netfilter: &mut netfilter, folder: &settings.folder, read: edge::ruleset, now: 0 };
        let kernel = found.kernel()?;
        let disk = found_on_disk(history.as_ref(), &kernel, &settings)?;
        let (sender, events) = channel(EVENTS);
        let (hands, actions) = threads::channel();
        let lists = Lists::start(Netfilter::open()?, settings.facts.addresses.iter().copied().collect(), &settings.facts.kernel);
        if let Some(ruleset) = disk.taken.as_ref().and_then(|taken| edge::ruleset(&taken.ruleset).ok()) {
            lists.try_tell(Told::Ruleset(ruleset.protected.union(&ruleset.local)));
        }
        let (for_hands, for_lists, answers) = (settings.clone(), lists.clone(), sender.clone());
        let names = Arc::new(Names::new(&settings));
        let for_names = names.clone();
        std::thread::spawn(move || hands::run(&for_hands, &for_lists, &for_names, netfilter, &actions, &answers));
        let ((resolver, asked), answers) = (threads::channel(), sender.clone());
        std::thread::spawn(move || names.run(&asked, &answers));
        let (monitor, changes) = (Monitor::open()?, sender.clone());
        std::thread::spawn(move || hands::watch(monitor, &changes));
        let mut shell =
            Self { reconciler: Reconciler::default(), events, sender, hands, resolver, lists, identity, controller: None, session: None, settings };
        shell.take(Event::Started { disk, kernel });
        for detail in troubles {
            tracing::error!(detail, "the state folder is not as it was left");
            shell.take(Event::Trouble { kind: "state", detail });
        }
        Ok(shell)
    }

    /// For events that come from elsewhere: an identity.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// How the controller is reached from now on.
    pub fn use_controller(&mut self, controller: Controller) {
        let (lists, addresses) = (self.lists.clone(), controller.addresses.clone());
        self.controller = Some(controller);
        tokio::spawn(async move {
            let mut found = Vec::new();
            for (host, port) in &addresses {
                found.extend(tokio::net::lookup_host((host.as_str(), *port)).await.into_iter().flatten().map(|address| address.ip()));
            }
            lists.tell(Told::Controllers(found)).await;
        });
    }

    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// Waits for the next event and takes it in. To be dropped while it waits costs nothing.
    pub async fn turn(&mut self) {
        let due = self.reconciler.wake_at().map(|at| Duration::from_millis(at.saturating_sub(now())));
        let Self { events, session, .. } = self;
        let of_session = async {
            match session {
                Some(session) => session.events.recv().await.unwrap_or(Event::Disconnected),
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = events.recv() => event.expect("the shell holds a sender itself"),
            event = of_session => event,
            () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => Event::Tick,
        };
        self.take(event);
    }

    fn take(&mut self, event: Event) {
        if event == Event::Disconnected {
            self.session = None;
        }
        match &event {
            Event::Connected => tracing::info!("connected"),
            Event::Loaded { place, generation } => tracing::info!(epoch = place.epoch, number = place.number, %generation, "on trial"),
            Event::NotLoaded { place, detail, .. } => tracing::warn!(epoch = place.epoch, number = place.number, detail, "refused"),
            Event::Settled(generation) => tracing::info!(%generation, "confirmed"),
            Event::RolledBack(generation) => tracing::warn!(%generation, "went back"),
            Event::ForeignChange(process) => tracing::warn!(process = process.as_ref().map(|process| process.name.as_str()), "somebody else changes nftables"),
            Event::Revoked { detail } => tracing::error!(detail, "revoked: what is enforced stays, and nothing new is taken"),
            _ => {}
        }
        // The tables that lists go into may be there now.
        if matches!(event, Event::Loaded { .. } | Event::Settled(_) | Event::RolledBack(_) | Event::KernelRead(_)) {
            self.lists.try_tell(Told::Look);
        }
        for action in self.reconciler.step(Moment { now: now(), random: random() }, event) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Enrol | Action::Renew | Action::ForgetIdentity => {
                // The reconciler gives one of these at a time.
                let _ = self.identity.try_send(action);
            }
            Action::Connect => self.connect(),
            Action::Disconnect => {
                self.session = None;
                self.later(Event::Disconnected);
            }
            Action::Say(say) => {
                // A controller that does not take what it is told is as good as gone.
                if self.session.as_ref().is_some_and(|session| session.outgoing.try_send(edge::said(say)).is_err()) {
                    self.session = None;
                    self.later(Event::Disconnected);
                }
            }
            Action::ConnectFreshAndConfirm { attempt, place, digest } => {
                let (controller, sender) = (self.controller.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let answer = match controller {
                        Some(controller) => session::confirm(controller, place, digest).await,
                        None => ringwall_node::reconciler::Answer::Unreachable,
                    };
                    let _ = sender.send(Event::Answered { attempt, answer }).await;
                });
            }
            Action::Resolve(name) => {
                let _ = self.resolver.send(name);
            }
            work => {
                // The thread ends with the shell alone.
                let _ = self.hands.send(work);
            }
        }
    }

    /// After the events that wait already.
    fn later(&self, event: Event) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _ = sender.send(event).await;
        });
    }

    fn connect(&mut self) {
        let Some(controller) = self.controller.clone() else { return self.later(Event::Disconnected) };
        let (outgoing, messages) = channel(session::QUEUE);
        let (sender, events) = channel(session::QUEUE);
        let (hello, lists, told) = (self.hello(), self.lists.clone(), outgoing.downgrade());
        let task = tokio::spawn(async move {
            lists.tell(Told::Session(told)).await;
            let ended = session::run(controller, hello, messages, sender, lists).await;
            tracing::info!(reason = because(&ended), "no session with the controller");
        });
        self.session = Some(Session { outgoing, events, task: task.abort_handle() });
    }

    fn hello(&self) -> Hello {
        let confirmed = self.reconciler.confirmed();
        Hello {
            versions: VERSIONS,
            features: vec![LISTS.into(), PROBES.into()],
            agent: env!("CARGO_PKG_VERSION").into(),
            boot: self.settings.boot,
            taken: self.reconciler.taken().map(edge::wire_place),
            confirmed: confirmed.and_then(|confirmed| confirmed.place).map(edge::wire_place),
            generation: confirmed.map_or(0, |confirmed| confirmed.generation.0),
            lists: self.lists.revisions(),
            facts: self.settings.facts.clone(),
        }
    }
}

/// The state folder, and what is wrong with it. What is damaged has another name then, and the rest goes on without.
fn history(folder: &Path) -> (Option<History>, Vec<String>) {
    let told = |error: &StateError| match error {
        StateError::Damaged { path, .. } | StateError::Schema { path, .. } => {
            let path = path.display();
            format!("{}: kept as {path}.damaged; what the kernel has stays, and the controller is asked for the rest", because(error))
        }
        _ => because(error),
    };
    let mut troubles = match set_aside(folder) {
        Ok(found) => found.iter().map(told).collect(),
        Err(error) => vec![because(&error)],
    };
    let history = History::read(folder).map_err(|error| troubles.push(because(&error))).ok();
    (history, troubles)
}

/// What is known of earlier times. Where nobody knows what was confirmed and the kernel has nothing of ours, it does not stand
/// open for that.
fn found_on_disk(history: Option<&History>, kernel: &Kernel, settings: &Settings) -> Result<Disk, ApplyError> {
    let Some(history) = history else { return Ok(Disk::default()) };
    let is_in_kernel = |generation: Generation| history.record(generation).is_ok();
    let is_there = kernel.current.into_iter().chain(kernel.trial.map(|(trial, _)| trial)).any(is_in_kernel);
    let mut disk = if history.is_lost() && !is_there { history.disk_of_lost() } else { history.disk()? };
    if history.is_lost() && kernel.current.is_none() && kernel.trial.is_none() {
        enforce_floor(&settings.nft, &settings.floor, Generation(0))?;
    }
    // Bits that fell over on the disk are no ruleset that anybody proved.
    disk.taken = disk.taken.filter(|taken| Sha256::digest(&taken.ruleset)[..] == taken.digest);
    Ok(disk)
}

/// An error with what caused it.
pub fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A clock that also runs while the machine sleeps.
pub(crate) fn now() -> Millis {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// From the keys that the standard library draws for its maps.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}
