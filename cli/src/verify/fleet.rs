//! A fleet's paths, as its controller has them.
//!
//! In: a controller. Out: its paths, looked at anew unless what is known is enough. Never: a wait without end for nodes
//! that don't answer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ringwall_api::{PAGE_MAX, Paths};

use super::progress_bar;
use super::report::Report;
use crate::Failure;
use crate::fleet::Client;
use crate::terminal::{Exit, Terminal};

/// Between two looks at how far the controller came.
const LOOK: Duration = Duration::from_millis(500);
/// When nothing has been probed for so long, what is left is not probed soon: a rollout goes first.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn paths(client: &Client, is_known_enough: bool, terminal: &Terminal) -> Result<Report, Failure> {
    if !is_known_enough {
        client.command("paths/look", None::<&()>)?;
        let left = wait(client)?;
        if left > 0 {
            terminal.warn(&format!("{left} paths were not looked at again: a rollout goes first"));
        }
    }
    let (mut paths, mut not_probed, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page: Paths = client.get(&format!("paths?limit={PAGE_MAX}{after}"))?;
        if page.revision.is_none() {
            let failure = Failure::new(Exit::Environment, "nothing was rolled out to this fleet yet: no path is declared");
            return Err(failure.help("`ringwall rollout start REVISION` rolls a revision out"));
        }
        paths.extend(page.paths);
        not_probed.extend(page.not_probed);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(Report::of_fleet(paths, not_probed)),
        }
    }
}

/// How many paths wait still.
fn wait(client: &Client) -> Result<u64, Failure> {
    let (mut bar, mut least, mut since) = (None, u64::MAX, Instant::now());
    loop {
        let Paths { counts, revision, .. } = client.get("paths?limit=1")?;
        let all = counts.as_declared + counts.not_as_declared + counts.unknown;
        let bar = bar.get_or_insert_with(|| progress_bar(usize::try_from(all).unwrap_or(usize::MAX)));
        bar.set_position(all.saturating_sub(counts.waiting));
        if counts.waiting < least {
            (least, since) = (counts.waiting, Instant::now());
        }
        if counts.waiting == 0 || revision.is_none() || since.elapsed() > PATIENCE {
            bar.finish_and_clear();
            return Ok(counts.waiting);
        }
        sleep(LOOK);
    }
}
