//! Applying 10,000 rules, against the bare `nft -f` of the same text.

use super::{Result, median, policy, ruleset, shared_sources, time};
use ringwall_lab::{Host, Lab, Topology};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

const RULES: usize = 10_000;
const ROUNDS: usize = 5;

pub fn run() -> Result<()> {
    let status = std::process::Command::new("cargo").args(["build", "--release", "--quiet", "--package", "ringwall-cli"]).status()?;
    if !status.success() {
        return Err("the program could not be built".into());
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let program = target.join("release/ringwall");
    let program = program.to_str().ok_or("a path that is no text")?;
    let folder = std::env::temp_dir().join(format!("ringwall-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("policy.yaml");
    let text = shared_sources(RULES, 100);
    std::fs::write(&file, &text)?;
    let file = file.to_str().ok_or("a path that is no text")?;
    let same = transaction(&ruleset(&policy(&text)?, "node")?, Generation(1), &Installed::default(), Confirm::Never);

    let lab = Lab::start(&Topology::new().host(Host::new("node").interface("eth0", "cable", ["192.0.2.1/24".parse()?])))?;
    let node = lab.host("node")?;
    let (mut whole, mut bare, mut checked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let arguments = ["apply", file, "--node", "node", "--no-confirm", "--no-management", "--learn", "0"];
        whole.push(time(|| Ok(node.output(program, &arguments, "").map(drop)?))?.as_secs_f64());
        node.output(program, &["remove", "--yes"], "")?;
        bare.push(time(|| Ok(node.output("nft", &["-f", "-"], &same).map(drop)?))?.as_secs_f64());
        node.output("nft", &["flush", "ruleset"], "")?;
        checked.push(time(|| Ok(node.output("nft", &["-c", "-f", "-"], &same).map(drop)?))?.as_secs_f64());
    }
    std::fs::remove_dir_all(&folder)?;
    println!("{RULES} rules; median of {ROUNDS} rounds");
    println!("  ringwall apply (read, compile, check, load, read back)  {:>7.0} ms", median(whole.clone()) * 1e3);
    println!("  nft -f of the same text                                 {:>7.0} ms", median(bare.clone()) * 1e3);
    println!("  nft -c -f of the same text                              {:>7.0} ms", median(checked.clone()) * 1e3);
    println!("  ratio to nft -f {:.2}; to check and load {:.2}", median(whole.clone()) / median(bare.clone()),
        median(whole) / (median(bare) + median(checked)));
    Ok(())
}
