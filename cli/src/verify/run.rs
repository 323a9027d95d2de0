//! Both ends of every probe, each on its machine.
//!
//! In: cases, machines, and a way to run a program on them. Out: what each machine said, or why it
//! said nothing. Never: a wait without end for a machine that hangs.

use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ringwall_analysis::probes::{Case, Machine, Reports, by_machine};
use ringwall_node::probe::{
    DESTINATION_SCHEMA, DestinationLine, DestinationReport, Line, Plan, SOURCE_SCHEMA, Settings, SourceLine, SourceReport, Try,
};
use serde::de::DeserializeOwned;

use super::end::{End, Runner};

/// When all machines have been silent for so long, beyond what a probe takes, those under way have failed.
const PATIENCE: Duration = Duration::from_secs(60);

enum Said {
    Source(usize, SourceLine),
    SourceEnded(usize, Result<(), String>),
    Destination(usize, DestinationLine),
    DestinationEnded(usize, Result<(), String>),
}

/// Responders on every destination first; when they are ready, up to `jobs` sources at a time.
/// `progress` is called once for each probe that was tried as it is.
pub fn run(
    cases: &[Case],
    machines: &[Machine],
    runner: &dyn Runner,
    settings: Settings,
    jobs: usize,
    progress: impl FnMut(),
) -> Reports {
    let by_source = by_machine(cases, |case| &case.sources);
    let by_destination = by_machine(cases, |case| &case.destinations);
    let (say, hear) = channel();
    let mut listening = Listening {
        hear,
        patience: PATIENCE + Duration::from_millis(settings.timeout_ms).saturating_mul(2 * (settings.retries + 1)),
        reports: Reports::default(),
        progress,
        sources_ended: 0,
        destinations_ended: 0,
    };
    for index in by_destination.keys() {
        listening.reports.destinations.insert(*index, Ok(DestinationReport::default()));
    }
    let running = Running::default();
    let queue = Mutex::new(by_source.iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    std::thread::scope(|scope| {
        for (index, probes) in &by_destination {
            let (say, running) = (say.clone(), &running);
            scope.spawn(move || {
                let plan = Plan { settings, probes: probes.clone() };
                let tell = |line| say.send(Said::Destination(*index, line)).is_ok();
                let is_last = |line: &DestinationLine| *line == DestinationLine::Done;
                let ended = talk(runner, &machines[*index], "respond", DESTINATION_SCHEMA, &plan, running, tell, is_last);
                // The listener is gone only when nobody waits any more.
                let _ = say.send(Said::DestinationEnded(*index, ended));
            });
        }
        if !listening.until(|reports, _, _| ready(reports)) {
            running.kill_all();
            listening.until(|reports, _, _| ready(reports));
        }
        for _ in 0..jobs.clamp(1, by_source.len().max(1)) {
            let (say, running, next) = (say.clone(), &running, &next);
            scope.spawn(move || {
                while let Some((index, probes)) = next() {
                    let plan = Plan { settings, probes: probes.clone() };
                    let tell = |line| say.send(Said::Source(*index, line)).is_ok();
                    let is_last = |line: &SourceLine| *line == SourceLine::Done;
                    let ended = talk(runner, &machines[*index], "probe", SOURCE_SCHEMA, &plan, running, tell, is_last);
                    let _ = say.send(Said::SourceEnded(*index, ended));
                }
            });
        }
        if !listening.until(|_, sources, _| sources == by_source.len()) {
            running.kill_all();
        }
        running.stop_responders();
        if !listening.until(|_, _, destinations| destinations == by_destination.len()) {
            running.kill_all();
        }
        // Every thread ends now: what they wait for has been stopped or killed.
    });
    drop(say);
    listening.until(|_, _, _| false);
    listening.reports
}

fn ready(reports: &Reports) -> bool {
    reports.destinations.values().all(|report| report.as_ref().map_or(true, |report| report.watching().is_some()))
}

/// What must be stopped.
#[derive(Default)]
struct Running {
    inputs: Mutex<Vec<Box<dyn Write + Send>>>,
    kills: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Running {
    fn stop_responders(&self) {
        if let Ok(mut inputs) = self.inputs.lock() {
            inputs.clear();
        }
    }

    fn kill_all(&self) {
        self.stop_responders();
        if let Ok(kills) = self.kills.lock() {
            kills.iter().for_each(|kill| kill());
        }
    }
}

/// Gives one end its plan and passes on what it says; the error is why its last line never came.
#[expect(clippy::too_many_arguments, reason = "both ends differ in all of these")]
fn talk<T: DeserializeOwned>(
    runner: &dyn Runner,
    machine: &Machine,
    verb: &str,
    schema: &str,
    plan: &Plan,
    running: &Running,
    tell: impl Fn(T) -> bool,
    is_last: impl Fn(&T) -> bool,
) -> Result<(), String> {
    let failed = |reason: &str| format!("`ringwall {verb}` on {}: {reason}", machine.name);
    let End { mut input, output, kill, finish } = runner.start(machine, verb).map_err(|reason| failed(&reason))?;
    if let Ok(mut kills) = running.kills.lock() {
        kills.push(kill);
    }
    // A program that has died already is found out below, with its own words.
    let _ = plan.write(&mut input);
    if let Ok(mut inputs) = running.inputs.lock() {
        inputs.push(input);
    }
    for line in output.lines() {
        let Ok(line) = line else { break };
        let line: Line<T> = match serde_json::from_str(&line) {
            Ok(line) => line,
            Err(_) => return Err(failed("it wrote something else than observations")),
        };
        if line.schema != schema {
            return Err(failed(&format!("it writes `{}`, not `{schema}`: install the same version", line.schema)));
        }
        let last = is_last(&line.line);
        if !tell(line.line) || last {
            finish();
            return Ok(());
        }
    }
    Err(failed(&finish()))
}

struct Listening<P> {
    hear: Receiver<Said>,
    patience: Duration,
    reports: Reports,
    progress: P,
    sources_ended: usize,
    destinations_ended: usize,
}

impl<P: FnMut()> Listening<P> {
    /// Takes what is said until `enough`; `false` when nothing is said for too long, or by nobody.
    fn until(&mut self, enough: impl Fn(&Reports, usize, usize) -> bool) -> bool {
        while !enough(&self.reports, self.sources_ended, self.destinations_ended) {
            match self.hear.recv_timeout(self.patience) {
                Ok(said) => self.take(said),
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, said: Said) {
        match said {
            Said::Source(index, line) => {
                if matches!(line, SourceLine::Tried { which: Try::Plain, .. }) {
                    (self.progress)();
                }
                let silent = || (SourceReport::default(), Err("it said nothing".to_owned()));
                self.reports.sources.entry(index).or_insert_with(silent).0.take(line);
            }
            Said::SourceEnded(index, ended) => {
                self.sources_ended += 1;
                let (report, _) = self.reports.sources.remove(&index).unwrap_or((SourceReport::default(), Ok(())));
                self.reports.sources.insert(index, (report, ended));
            }
            Said::Destination(index, line) => {
                if let Some(Ok(report)) = self.reports.destinations.get_mut(&index) {
                    report.take(line);
                }
            }
            Said::DestinationEnded(index, ended) => {
                self.destinations_ended += 1;
                if let Err(reason) = ended {
                    self.reports.destinations.insert(index, Err(reason));
                }
            }
        }
    }
}

