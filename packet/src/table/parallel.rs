//! The same work on many items, on all cores.
//!
//! In: how many, and what is done with a range of them. Out: the results in the items' order, the same
//! on every machine. Never: a thread for a few items.

use std::ops::Range;
use std::sync::{LazyLock, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` for all items, `chunk` at a time; each range adds its results to a list of its own.
pub(super) fn chunks<T: Send>(items: usize, chunk: usize, work: impl Fn(Range<usize>, &mut Vec<T>) + Sync) -> Vec<T> {
    let chunks = items.div_ceil(chunk);
    let range = |at: usize| at * chunk..((at + 1) * chunk).min(items);
    // Asking how many there are reads files.
    static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    let threads = if chunks <= 1 { 1 } else { CORES.min(chunks) };
    if threads <= 1 {
        let mut all = Vec::new();
        (0..chunks).for_each(|at| work(range(at), &mut all));
        return all;
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= chunks {
                break;
            }
            let mut own = Vec::new();
            work(range(at), &mut own);
            results.lock().expect("no thread panics with it").push((at, own));
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
    let mut results = results.into_inner().expect("no thread panics with it");
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().flat_map(|(_, own)| own).collect()
}
