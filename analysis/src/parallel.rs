//! The same question about many things, on all cores.
//!
//! In: how many, and the question. Out: the answers in order, the same however many cores there are.
//! Never: anything that the questions share and change.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer questions than this are not worth a thread.
const WORTH: usize = 64;

pub(crate) fn each<T: Send>(count: usize, question: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores == 1 || count < WORTH {
        return (0..count).map(question).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return answers;
            }
            answers.push((at, question(at)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a question does not panic")).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, answer)| answer).collect()
}
