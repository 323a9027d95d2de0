//! `ringwall init`: a policy folder from a preset.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::Failure;
use crate::terminal::{Exit, Terminal, print};

/// Presets are the example policies: name, one line about it, text.
const PRESETS: &[(&str, &str, &str)] = &[
    ("vault", "a privileged-access vault: appliance cluster, users, devices, servers", include_str!("../../examples/vault/policy.yaml")),
    ("iot", "an IoT platform: load balancer, core nodes, agents", include_str!("../../examples/iot/policy.yaml")),
    ("integration", "an integration platform: agents on customers' networks", include_str!("../../examples/integration/policy.yaml")),
    ("voip", "a VoIP switch: SIP and RTP open to the world", include_str!("../../examples/voip/policy.yaml")),
];

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ringwall init                     list the presets
  ringwall init vault policy/       start a folder from one")]
pub struct Args {
    /// Which preset; all are listed without one.
    preset: Option<String>,
    /// Where to put it; made if it is not there. Files that are there are left alone.
    #[arg(default_value = "policy")]
    folder: PathBuf,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let Some(name) = &args.preset else {
        for (name, about, _) in PRESETS {
            print(&format!("{name:<12} {about}\n"));
        }
        return Ok(Exit::Success);
    };
    let Some((_, _, text)) = PRESETS.iter().find(|(preset, ..)| preset == name) else {
        return Err(Failure::new(Exit::Failure, format!("there is no preset `{name}`")).help("`ringwall init` lists them"));
    };
    let path = args.folder.join("policy.yaml");
    let failed = |error: std::io::Error| Failure::new(Exit::Failure, format!("can't write {}: {error}", path.display()));
    fs::create_dir_all(&args.folder).map_err(failed)?;
    fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    terminal.say(&format!("wrote {}", path.display()));
    terminal.say(&format!("next: bind its $VALUES, then `ringwall check {}`", args.folder.display()));
    Ok(Exit::Success)
}
