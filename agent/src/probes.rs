//! Probes that the controller orders: this machine as the source of some, and as the destination of others.
//!
//! In: plans, which end this machine is, the word that a destination may stop. Out: what was observed, line by line.
//! Never: more than some at a time; a listener that outlives its session or its plan; a packet from an address that is not
//! this machine's.

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringwall_node::probe::{self, DESTINATION_SCHEMA, Line, Plan, SOURCE_SCHEMA};
use ringwall_protocol::{OBSERVATIONS_MAX, Reason, Refusal, Refused, Role, ToController};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::edge::bounded;
use crate::shell::because;

/// Plans under way at a time.
const PLANS_MAX: usize = 8;
/// Flows of one plan: each place where one arrives may need a socket.
const PROBES_MAX: usize = 8_192;
/// Lines that wait for the network; beyond them the kernel's own queues fill.
const LINES: usize = 4_096;
/// A destination watches no longer than this, whatever its plan says.
const LIFE_MAX: Duration = Duration::from_secs(300);

/// What a thread of a plan says.
#[derive(Debug)]
pub enum Said {
    Line(u64, Vec<u8>),
    Over(u64, Result<(), String>),
}

/// The plans of one session; they end with it.
pub struct Probes {
    under_way: BTreeMap<u64, UnderWay>,
    sender: Sender<Said>,
}

struct UnderWay {
    /// The destination stops when this is closed.
    stop: Option<PipeWriter>,
    until: Instant,
}

impl Probes {
    pub fn new() -> (Self, Receiver<Said>) {
        let (sender, said) = channel(LINES);
        (Self { under_way: BTreeMap::new(), sender }, said)
    }

    /// Begins a thread for the plan, or says why not.
    pub fn begin(&mut self, id: u64, role: Role, plan: &Bytes) -> Result<(), Refusal> {
        let refused = |reason, detail: String| Refusal { what: Refused::Probes(id), reason, detail: bounded(detail) };
        if self.under_way.len() >= PLANS_MAX || self.under_way.contains_key(&id) {
            return Err(refused(Reason::Full, format!("{} plans of probes are under way", self.under_way.len())));
        }
        let mut plan = Plan::read(&plan[..]).map_err(|error| refused(Reason::Malformed, because(&error)))?;
        if plan.probes.len() > PROBES_MAX {
            return Err(refused(Reason::Full, format!("a plan has at most {PROBES_MAX} probes here")));
        }
        let life = Duration::from_millis(plan.settings.life_ms).min(LIFE_MAX);
        plan.settings.life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let sender = self.sender.clone();
        let stop = match role {
            Role::Source => {
                std::thread::spawn(move || {
                    let ended = probe::probe(&plan, |line| told(&sender, id, SOURCE_SCHEMA, line));
                    let _ = sender.blocking_send(Said::Over(id, ended.map_err(|error| because(&error))));
                });
                None
            }
            Role::Destination => {
                let (stopped, stop) = io::pipe().map_err(|error| refused(Reason::Kernel, error.to_string()))?;
                std::thread::spawn(move || {
                    let ended = probe::respond(&plan, &stopped, |line| told(&sender, id, DESTINATION_SCHEMA, line));
                    let _ = sender.blocking_send(Said::Over(id, ended.map_err(|error| because(&error))));
                });
                Some(stop)
            }
        };
        self.under_way.insert(id, UnderWay { stop, until: Instant::now() + life });
        Ok(())
    }

    /// All that could come to this destination has been sent.
    pub fn end(&mut self, id: u64) {
        if let Some(under_way) = self.under_way.get_mut(&id) {
            under_way.stop = None;
        }
    }

    /// Ends those that nobody ended in time.
    pub fn expire(&mut self) {
        let now = Instant::now();
        for under_way in self.under_way.values_mut().filter(|under_way| under_way.until <= now) {
            under_way.stop = None;
        }
    }

    /// What the controller is told, in as few messages as their length allows.
    pub fn messages(&mut self, said: &mut Vec<Said>) -> Vec<ToController> {
        let mut messages = Vec::new();
        let mut lines: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let message = |id, lines: Vec<u8>| ToController::Observations { id, observations: lines.into() };
        for said in said.drain(..) {
            match said {
                Said::Line(id, line) => {
                    let of_plan = lines.entry(id).or_default();
                    if of_plan.len() + line.len() > OBSERVATIONS_MAX {
                        messages.push(message(id, std::mem::take(of_plan)));
                    }
                    of_plan.extend(line);
                }
                Said::Over(id, ended) => {
                    self.under_way.remove(&id);
                    messages.extend(lines.remove(&id).map(|lines| message(id, lines)));
                    if let Err(detail) = ended {
                        messages.push(ToController::Refusal(Refusal { what: Refused::Probes(id), reason: Reason::Kernel, detail: bounded(detail) }));
                    }
                }
            }
        }
        messages.extend(lines.into_iter().map(|(id, lines)| message(id, lines)));
        messages
    }
}

fn told<T: Serialize>(sender: &Sender<Said>, id: u64, schema: &str, line: T) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Line { schema: schema.to_owned(), line })?;
    text.push(b'\n');
    // Nobody listens once the session is over.
    sender.blocking_send(Said::Line(id, text)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}
