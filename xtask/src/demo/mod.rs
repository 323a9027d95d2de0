//! `cargo xtask demo`: from two vendors' guides to nodes that enforce them, probed from both ends; then a fleet.
//!
//! In: `examples/`. Out: the story on stdout, and as its last line how many flows are as declared.
//! Never: anything that outlives this program, a network of the machine's own, or a figure that was
//! not probed.

mod fleet;
mod guides;
mod matrix;
mod session;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringwall_ruleset::nftables::LOG_GROUP;
use serde_json::Value;

use crate::Result;
use guides::{ADMIN, IOT, Platform, VAULT};
use matrix::Tally;
use session::Session;
use stage::{POLICY, Stage, VALUES};

pub fn run() -> Result<()> {
    // In a user namespace the kernel takes no transaction larger than net.core.wmem_max, 208 KiB.
    if !nix::unistd::geteuid().is_root() {
        return Err("the demo needs root: rulesets of this size can't be loaded without".into());
    }
    let ringwall = build()?;
    let begun = Instant::now();
    let mut tally = Tally::default();

    let stage = set_up(&VAULT, &ringwall)?;
    import(&stage)?;
    mend(&stage)?;
    apply(&stage)?;
    tally.add(verify(&stage)?);
    lock_out(&stage)?;
    explain(&stage)?;
    drop(stage);

    let stage = set_up(&IOT, &ringwall)?;
    import(&stage)?;
    mend(&stage)?;
    apply(&stage)?;
    tally.add(verify(&stage)?);
    drop(stage);

    fleet::run(&ringwall)?;

    println!("\nAll of it is gone again; it took {} s.", begun.elapsed().as_secs());
    println!("demo: {} flows as declared, {} not", tally.as_declared, tally.not);
    if tally.not == 0 && tally.as_declared > 0 { Ok(()) } else { Err("not every flow is as declared".into()) }
}

/// The programs that the story is about, in the same profile as this one; the path of `ringwall`.
fn build() -> Result<PathBuf> {
    println!("Building `ringwall`, its controller and its agent.");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "ringwall-cli", "--package", "ringwall-controller", "--package", "ringwall-agent"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if !command.status()?.success() {
        return Err("`ringwall` could not be built".into());
    }
    Ok(std::env::current_exe()?.with_file_name("ringwall"))
}

fn title(text: &str) {
    println!("\n{text}");
}

fn typed(host: &str, line: &str) {
    println!("  {host}$ {line}");
}

/// What a command said, moved to the right.
fn said(text: &str) {
    text.lines().filter(|line| !line.is_empty()).for_each(|line| println!("    {line}"));
}

fn example(platform: &Platform, file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(platform.name).join(file);
    fs::read_to_string(&path).map_err(|error| format!("can't read {}: {error}", path.display()).into())
}

fn set_up(platform: &'static Platform, ringwall: &Path) -> Result<Stage> {
    println!("\n== {} ==", platform.title);
    let begun = Instant::now();
    let stage = Stage::start(platform, ringwall)?;
    let machines = platform.nodes.len() + platform.others.len();
    title(&format!(
        "{machines} machines and a router are network namespaces of this one, set up in {} ms; {} of them are nodes.",
        begun.elapsed().as_millis(),
        platform.nodes.len()
    ));
    for file in ["guide.md", VALUES] {
        stage.put(ADMIN, file, &example(platform, file)?)?;
    }
    stage.put(ADMIN, "policy/nodes.yaml", &example(platform, "nodes.yaml")?)?;
    Ok(stage)
}

fn import(stage: &Stage) -> Result<()> {
    title("The vendor's guide has tables of ports. They become a policy that enforces nothing yet:");
    typed(ADMIN, "ringwall import guide.md --to policy/guide.yaml");
    let imported = stage.ringwall(ADMIN, &["import", "guide.md", "--to", "policy/guide.yaml"])?;
    said(imported.err.lines().rfind(|line| line.starts_with("import:")).unwrap_or(&imported.err));
    title("The guide has mistakes, and the linter finds them:");
    typed(ADMIN, "ringwall check guide.md");
    let found: Value = serde_json::from_str(&stage.ringwall(ADMIN, &["check", "guide.md", "-o", "json"])?.out)?;
    for finding in found["diagnostics"].as_array().into_iter().flatten() {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let place = format!("guide.md:{}", finding["place"]["line"]);
        said(&format!("{place:<13} {:<8} {} {}", word(&finding["severity"]), word(&finding["code"]), word(&finding["message"])));
    }
    Ok(())
}

/// The person with the editor.
fn mend(stage: &Stage) -> Result<()> {
    title("We mend the policy with an editor, and add our machines as a second file, policy/nodes.yaml:");
    let mut text = stage.get(ADMIN, "policy/guide.yaml")?;
    for edit in stage.platform.edits {
        match text.matches(edit.old).count() {
            0 => return Err(format!("the imported policy has no `{}`", edit.old).into()),
            2.. if !edit.everywhere => return Err(format!("the imported policy has several `{}`", edit.old).into()),
            _ => text = text.replace(edit.old, edit.new),
        }
        let last = |text: &str| text.trim_end().lines().last().unwrap_or_default().trim().to_owned();
        // Where only the ends change, they are what to show.
        let shown = if last(edit.old) == last(edit.new) { |text: &str| text.lines().next().unwrap_or_default().to_owned() } else { last };
        println!("    {}", edit.why);
        println!("      - {}", shown(edit.old));
        if !edit.new.is_empty() {
            println!("      + {}", shown(edit.new));
        }
    }
    stage.put(ADMIN, "policy/guide.yaml", &text)?;
    typed(ADMIN, "ringwall check policy --values values.yaml");
    let checked = stage.done(ADMIN, &["check", POLICY, "--values", VALUES])?;
    said(checked.err.lines().last().unwrap_or_default());
    Ok(())
}

fn apply(stage: &Stage) -> Result<()> {
    title("Each node enforces its part: first on trial, then confirmed.");
    for (index, (node, _)) in stage.platform.nodes.iter().enumerate() {
        for file in ["policy/guide.yaml", "policy/nodes.yaml", VALUES] {
            stage.put(node, file, &stage.get(ADMIN, file)?)?;
        }
        let applied = stage.done(node, &["apply", POLICY, "--values", VALUES])?;
        let confirmed = stage.done(node, &["confirm"])?;
        if index == 0 {
            typed(node, "ringwall apply policy --values values.yaml");
            let is_news = |line: &&str| line.contains("on trial") || line.starts_with("next:");
            applied.err.lines().filter(is_news).for_each(said);
            typed(node, "ringwall confirm");
            said(&confirmed.err);
        }
    }
    let names: Vec<&str> = stage.platform.nodes.iter().map(|(name, _)| *name).collect();
    said(&format!("and the same on {}", names[1..].join(", ")));
    Ok(())
}

fn verify(stage: &Stage) -> Result<Tally> {
    title("Every flow that the policy declares is probed from both ends, and some of what it does not declare:");
    typed(ADMIN, "ringwall verify policy --values values.yaml --run '...{node} ringwall' --vantage ...");
    let begun = Instant::now();
    let found = stage.verify(&[])?;
    said(&matrix::table(&found));
    let tally = Tally::of(&found)?;
    said(&format!(
        "in {} s: {} flows are as declared, {} not; of {} that no rule allows, {} are shut",
        begun.elapsed().as_secs(),
        tally.as_declared,
        tally.not,
        tally.undeclared,
        tally.shut
    ));
    Ok(tally)
}

/// A mistake that no tool can see, and the way back that needs no tool.
fn lock_out(stage: &Stage) -> Result<()> {
    /// The kernel counts the window in seconds, and the trial begins a little before we look.
    const WINDOW: Duration = Duration::from_secs(4);
    const SLACK: Duration = Duration::from_millis(500);
    const SHORT: Duration = Duration::from_millis(100);
    let node = "vault-2";
    title("Somebody mistypes the admins' address, and locks all of them out of vault-2:");
    let _ssh = stage.listen(node, 22)?;
    let open = |within| stage.connects(ADMIN, node, 22, within);
    if !open(Duration::from_secs(2))? {
        return Err("an admin can't log in before the change".into());
    }
    let arguments = ["apply", POLICY, "--values", VALUES, "--set", "ADMIN_IPS=192.0.2.20", "--confirm", "4s"];
    typed(node, &format!("ringwall {} && sleep 60 && ringwall confirm", arguments.join(" ")));
    let session = r#""$@" && echo applied && sleep 60 && "$1" confirm"#;
    let ringwall = stage.command(node, "sh", &[&["-c", session, "sh", stage.program()], &arguments[..]].concat())?;
    let mut session = Session::start(ringwall)?;
    session.wait_for("applied")?;
    let begun = Instant::now();
    if open(SHORT)? {
        return Err("the mistake changed nothing".into());
    }
    said("an admin's connection to vault-2, port 22: nothing comes back");
    session.kill()?;
    said("the session that would confirm is killed (SIGKILL): no program of ours is left running there");
    loop {
        if open(SHORT)? {
            break;
        }
        if begun.elapsed() > WINDOW + SLACK {
            return Err("the kernel has not put the old rules back".into());
        }
    }
    said(&format!(
        "after {:.1} s an admin gets in again: the kernel has put the old rules back by itself",
        begun.elapsed().as_secs_f64()
    ));
    typed(node, "ringwall status");
    let status = stage.done(node, &["status"])?;
    status.out.lines().take(2).for_each(said);
    Ok(())
}

/// Packets that nobody let through, back to the line that decided.
fn explain(stage: &Stage) -> Result<()> {
    title("Two packets are dropped. The kernel's log names what decided, and that leads to the policy:");
    let node = "vault-1";
    let mut log = stage.host(node)?.packet_log(LOG_GROUP)?;
    let status: Value = serde_json::from_str(&stage.done(node, &["status", "-o", "json"])?.out)?;
    for (from, port) in [("workstation", 3306), ("device", 443)] {
        stage.connects(from, node, port, Duration::from_millis(200))?;
        let logged = log.receive(Duration::from_secs(5))?.ok_or("the kernel logged nothing")?;
        said(&format!("tcp {} -> {} ({node}) port {port}", stage.address(from)?, stage.address(node)?));
        said(&format!("  the kernel's log says `{}`", logged.prefix));
        let (words, id) = logged.prefix.rsplit_once(' ').ok_or("the log's prefix has no id")?;
        let rules = status["rules"].as_array().ok_or("status names no rules")?;
        let rule = rules.iter().find(|rule| rule["id"] == id && words.contains(rule["path"].as_str().unwrap_or("?")));
        let rule = rule.ok_or_else(|| format!("status knows no rule `{id}`"))?;
        let text = |key: &str| rule[key].as_str().unwrap_or_default();
        said(&format!("  that is: {}", text("meaning")));
        if let Some((file, line)) = text("place").rsplit_once(':') {
            let source = stage.get(node, file)?;
            let line: usize = line.parse()?;
            let first = line.saturating_sub(1);
            source.lines().skip(first).take(2).enumerate().for_each(|(after, text)| println!("      {file}:{}: {text}", line + after));
        }
        // What is sent again is the same packet.
        while log.receive(Duration::from_millis(50))?.is_some() {}
    }
    Ok(())
}
