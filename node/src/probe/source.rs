//! The source's end: sends every probe of a plan and reports how each try ended.
//!
//! In: a plan. Out: [`SourceLine`]s, each as soon as it is known. Never: more sockets than the plan
//! or the system allows, or a wait longer than the plan's.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::ClientConfig;

use super::marks::Marks;
use ringwall_probe::{Outcome, SourceLine};
use ringwall_probe::{Packet, Plan, Probe, Settings, Try};
use super::socket::{Sending, descriptors, local_addresses};
use super::tls::{self, Greeting};

/// A mark outlives the try that it is for by this much.
const MARK_MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("this machine's addresses could not be read")]
    Addresses(#[source] io::Error),
    #[error("sockets could not be waited for")]
    Wait(#[source] io::Error),
    #[error("an observation could not be written")]
    Report(#[source] io::Error),
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
}

/// Tries every probe as it is; then, past this machine's own output, those that were not answered
/// and have a second try.
pub fn probe(plan: &Plan, report: impl FnMut(SourceLine) -> io::Result<()>) -> Result<(), ProbeError> {
    let mut wave = Wave {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wait_error)?,
        settings: plan.settings,
        tls: tls::configuration().map_err(ProbeError::Tls)?,
        under_way: HashMap::new(),
        deadlines: VecDeque::new(),
        report,
        closed: Vec::new(),
        here: local_addresses().map_err(ProbeError::Addresses)?,
    };
    let at_once = plan.settings.parallel.clamp(1, descriptors());
    for probes in plan.probes.chunks(at_once) {
        wave.run(probes, Try::Plain)?;
    }
    let second = std::mem::take(&mut wave.closed);
    if !second.is_empty() {
        let mut marks = Marks::open();
        let life = wave.patience() + MARK_MARGIN;
        for probes in second.chunks(at_once) {
            let tuples: Vec<_> = probes.iter().filter_map(|probe| probe.tuple(Try::PastSource)).collect();
            match marks.let_past(&tuples, life) {
                Ok(()) => wave.run(probes, Try::PastSource)?,
                Err(reason) => {
                    for probe in probes {
                        wave.tried(probe, Try::PastSource, Outcome::Failed { reason: reason.clone() })?;
                    }
                }
            }
        }
    }
    (wave.report)(SourceLine::Done).map_err(ProbeError::Report)
}

/// Probes that are under way together.
struct Wave<R> {
    epoll: Epoll,
    settings: Settings,
    tls: Arc<ClientConfig>,
    under_way: HashMap<u64, UnderWay>,
    /// In the order in which they come, since every wait is equally long; some have been overtaken.
    deadlines: VecDeque<(Instant, u64)>,
    report: R,
    /// Those of the first try that were not answered and have a second.
    closed: Vec<Probe>,
    /// Binding alone does not tell: with net.ipv4.ip_nonlocal_bind any address can be bound.
    here: HashSet<IpAddr>,
}

struct UnderWay {
    probe: Probe,
    which: Try,
    sending: Sending,
    retries: u32,
    deadline: Instant,
    greeting: Option<Greeting>,
}

impl<R: FnMut(SourceLine) -> io::Result<()>> Wave<R> {
    /// How long a try takes when nothing comes back.
    fn patience(&self) -> Duration {
        self.timeout() * (self.settings.retries + 1)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms)
    }

    fn run(&mut self, probes: &[Probe], which: Try) -> Result<(), ProbeError> {
        for (key, probe) in (0..).zip(probes) {
            self.start(key, probe, which, self.settings.retries)?;
        }
        let mut events = vec![EpollEvent::empty(); 1024];
        while !self.under_way.is_empty() {
            let now = Instant::now();
            while let Some((deadline, key)) = self.deadlines.front().copied().filter(|(deadline, _)| *deadline <= now) {
                self.deadlines.pop_front();
                if self.under_way.get(&key).is_some_and(|under_way| under_way.deadline == deadline) {
                    self.expired(key)?;
                }
            }
            let Some((next, _)) = self.deadlines.front() else { continue };
            // Rounded up: to wake a moment before the deadline would be to spin until it comes.
            let milliseconds = next.saturating_duration_since(now).as_millis() + 1;
            let timeout = EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX);
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(wait_error(error)),
            };
            for event in &events[..count] {
                self.ready(event.data())?;
            }
        }
        self.deadlines.clear();
        Ok(())
    }

    fn start(&mut self, key: u64, probe: &Probe, which: Try, retries: u32) -> Result<(), ProbeError> {
        if !self.here.contains(&probe.source) {
            let reason = format!("the address {} is not on the source's machine", probe.source);
            return self.tried(probe, which, Outcome::Failed { reason });
        }
        let sending = match Sending::start(probe, which) {
            Ok(sending) => sending,
            Err(outcome) => return self.tried(probe, which, outcome),
        };
        let interest = match probe.packet {
            Packet::Tcp { .. } => EpollFlags::EPOLLOUT,
            _ => EpollFlags::EPOLLIN,
        };
        self.epoll.add(&sending, EpollEvent::new(interest | EpollFlags::EPOLLERR, key)).map_err(wait_error)?;
        let deadline = self.wait_for(key, self.timeout());
        self.under_way.insert(key, UnderWay { probe: *probe, which, sending, retries, deadline, greeting: None });
        Ok(())
    }

    fn wait_for(&mut self, key: u64, time: Duration) -> Instant {
        let deadline = Instant::now() + time;
        self.deadlines.push_back((deadline, key));
        deadline
    }

    fn ready(&mut self, key: u64) -> Result<(), ProbeError> {
        let Some(under_way) = self.under_way.get_mut(&key) else {
            return Ok(());
        };
        if let Some(greeting) = &mut under_way.greeting {
            return match greeting.advance(under_way.sending.stream()) {
                Some(tls) => self.finish(key, Outcome::Answered { tls: Some(tls) }),
                None => Ok(()),
            };
        }
        let Some(outcome) = under_way.sending.outcome() else {
            return Ok(());
        };
        let asks_tls = matches!(under_way.probe.packet, Packet::Tcp { tls: true, .. });
        if asks_tls && matches!(outcome, Outcome::Answered { .. }) && under_way.which == Try::Plain {
            let greeting = Greeting::new(self.tls.clone(), under_way.probe.destination).map_err(ProbeError::Tls)?;
            under_way.greeting = Some(greeting);
            // Edge-triggered: the handshake goes as far as it can each time, and then waits for news.
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.epoll.modify(&under_way.sending, &mut EpollEvent::new(interest, key)).map_err(wait_error)?;
            let deadline = self.wait_for(key, self.timeout());
            if let Some(under_way) = self.under_way.get_mut(&key) {
                under_way.deadline = deadline;
            }
            return Ok(());
        }
        self.finish(key, outcome)
    }

    fn expired(&mut self, key: u64) -> Result<(), ProbeError> {
        let Some(mut under_way) = self.under_way.remove(&key) else {
            return Ok(());
        };
        if under_way.greeting.is_some() {
            let tls = super::Tls::None("the server did not answer the TLS greeting".into());
            return self.tried(&under_way.probe, under_way.which, Outcome::Answered { tls: Some(tls) });
        }
        if under_way.retries == 0 {
            return self.tried(&under_way.probe, under_way.which, Outcome::Silent);
        }
        let UnderWay { probe, which, retries, .. } = under_way;
        if let Packet::Tcp { .. } = probe.packet {
            // The kernel sends a connect's next packet when it sees fit; a new connect sends it now.
            under_way.sending.abandon();
            return self.start(key, &probe, which, retries - 1);
        }
        match under_way.sending.send_again() {
            Ok(()) => {
                under_way.retries -= 1;
                under_way.deadline = self.wait_for(key, self.timeout());
                self.under_way.insert(key, under_way);
                Ok(())
            }
            Err(outcome) => self.tried(&probe, which, outcome),
        }
    }

    fn finish(&mut self, key: u64, outcome: Outcome) -> Result<(), ProbeError> {
        match self.under_way.remove(&key) {
            Some(under_way) => self.tried(&under_way.probe, under_way.which, outcome),
            None => Ok(()),
        }
    }

    fn tried(&mut self, probe: &Probe, which: Try, outcome: Outcome) -> Result<(), ProbeError> {
        let settled = matches!(outcome, Outcome::Answered { .. } | Outcome::Failed { .. });
        if which == Try::Plain && !settled && probe.tuple(Try::PastSource).is_some() {
            self.closed.push(*probe);
        }
        (self.report)(SourceLine::Tried { id: probe.id, which, outcome }).map_err(ProbeError::Report)
    }
}

fn wait_error(errno: Errno) -> ProbeError {
    ProbeError::Wait(errno.into())
}
