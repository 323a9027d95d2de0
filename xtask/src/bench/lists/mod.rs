//! Lists of a million entries into the kernel, one more address into them, and one more while they are loaded;
//! beside the bare netlink messages, `nft -f` and `ipset restore`.
//!
//! In: nothing. Out: time, memory and ratio of each side. Never: a set of this machine's own: each side runs in a process
//! and a network namespace of its own.

mod bare;
mod sides;

use std::collections::BTreeMap;
use std::process::Command;

use super::Result;

/// Entries of a list.
const ENTRIES: u32 = 1_000_000;
/// Single addresses, one after the other.
const SINGLES: u32 = 5_000;
/// Each side so often, in turn. The least counts: what is more is what else the machine had to do.
const ROUNDS: usize = 3;

const SIDES: [(&str, &str); 7] = [
    ("ours", "lists"),
    ("during", "lists, with addresses blocked meanwhile"),
    ("bare_400", "bare messages, 400 elements at once"),
    ("bare_2000", "bare messages, 2,000 elements at once"),
    ("bare_10000", "bare messages, 10,000 elements at once"),
    ("nft", "nft"),
    ("ipset", "ipset"),
];

/// What a side has measured: a name, and seconds, megabytes or a number.
type Figures = BTreeMap<String, f64>;

/// Without a side: all of them, each in a process of its own. With one: that side's figures.
pub fn run(side: &[&str]) -> Result<()> {
    match side {
        [] => all(),
        [side, kind] => {
            for (name, figure) in sides::run(side, kind)? {
                println!("{name} {figure}");
            }
            Ok(())
        }
        _ => Err("`cargo xtask bench lists` takes no arguments".into()),
    }
}

fn all() -> Result<()> {
    for (kind, title) in [("addresses", "single addresses"), ("prefixes", "prefixes")] {
        let mut figures: BTreeMap<(&str, String), Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for (side, _) in SIDES {
                quiet()?;
                for (name, figure) in measure(side, kind)? {
                    figures.entry((side, name)).or_default().push(figure);
                }
            }
        }
        let of = |side: &'static str, name: &str| figures.get(&(side, name.to_owned())).map_or(f64::NAN, |all| least(all));
        // The same messages, which is what ours are compared with; larger ones show what that costs.
        let bare = |name| of("bare_400", name);
        println!("{ENTRIES} {title}, each with a timeout: {:.0} elements; the least of {ROUNDS} rounds", of("bare_400", "elements"));
        for (side, about) in SIDES {
            let (load, cpu, kernel) = (of(side, "load"), of(side, "cpu"), of(side, "kernel"));
            let resident = figures.get(&(side, "resident".into())).map_or_else(String::new, |all| format!("  {:>5.0} MB resident", least(all)));
            let (ratio, of_cpu) = (load / bare("load"), cpu / bare("cpu"));
            println!("  {about:<40} {load:>7.2} s  {ratio:>6.2} x bare  CPU {cpu:>6.2} s  {of_cpu:>6.2} x bare  {kernel:>4.0} MB in the kernel{resident}");
        }
        for (side, about) in SIDES {
            let [p50, p99, max] = ["one_p50", "one_p99", "one_max"].map(|name| of(side, name) * 1e3);
            println!("  one more address: {about:<40} p50 {p50:>9.3} ms  p99 {p99:>9.3} ms  max {max:>9.3} ms");
        }
        let [p50, p99] = ["out_p50", "out_p99"].map(|name| of("ours", name) * 1e3);
        println!("  one address is taken out: p50 {p50:.3} ms  p99 {p99:.3} ms");
        println!("  the same list again, with new times {:.2} s; with the same {:.2} s", of("ours", "refresh"), of("ours", "same"));
        let (ratio, of_cpu) = (of("ours", "load") / bare("load"), of("ours", "cpu") / bare("cpu"));
        println!("  {title}: {ratio:.2} x bare, CPU {of_cpu:.2} x bare (budget 1.3), {:.0} MB resident (budget 64)", of("ours", "resident"));
        println!("  one more address: p99 {:.3} ms, during the load p99 {:.3} ms (budget 1)", of("ours", "one_p99") * 1e3, of("during", "one_p99") * 1e3);
    }
    Ok(())
}

fn least(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Waits until the kernel has freed what the last side left to it: it does so on its own time, which would be the
/// next side's.
fn quiet() -> Result<()> {
    let mut last = sides::kernel_memory()?;
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = sides::kernel_memory()?;
        if now > last - 0.5 {
            return Ok(());
        }
        last = now;
    }
    Err("the kernel's memory does not settle".into())
}

fn measure(side: &str, kind: &str) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?).args(["bench", "lists", side, kind]).output()?;
    if !output.status.success() {
        return Err(format!("{side}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (name, figure) = line.split_once(' ').ok_or_else(|| format!("no figure: {line}"))?;
            Ok((name.to_owned(), figure.parse()?))
        })
        .collect()
}
