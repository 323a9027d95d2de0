//! `cargo xtask protocol`: the Rust code of `protocol/proto`, committed so that a build needs no generator.
//!
//! In: the `.proto` files. Out: `protocol/src/generated/v1.rs`. Never: a program from outside: the files are
//! compiled by protox, there is no `protoc`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

const FILES: [&str; 3] = ["enrolment", "fleet", "ruleset"];
const GENERATED: &str = "protocol/src/generated/v1.rs";
const HEAD: &str = "\
//! The messages and services of package `ringwall.v1`: made by `cargo xtask protocol` from `protocol/proto`, never by hand.

";

pub fn run() -> Result<()> {
    let path = root().join(GENERATED);
    fs::create_dir_all(path.parent().expect("a folder"))?;
    Ok(fs::write(path, generate()?)?)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder").to_path_buf()
}

/// The text of the generated file.
fn generate() -> Result<String> {
    let folder = root().join("protocol/proto");
    let files = FILES.map(|name| format!("ringwall/v1/{name}.proto"));
    let descriptors = protox::compile(files, [folder])?;
    let out = std::env::temp_dir().join(format!("ringwall-protocol-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let made = tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Codec")
        .bytes(".ringwall.v1")
        .out_dir(&out)
        .compile_fds(descriptors)
        .and_then(|()| fs::read_to_string(out.join("ringwall.v1.rs")));
    fs::remove_dir_all(&out)?;
    Ok(HEAD.to_owned() + &made?)
}

#[cfg(test)]
mod tests {
    use super::{GENERATED, generate, root};

    #[test]
    fn generated_code_is_what_the_generator_makes() {
        let committed = std::fs::read_to_string(root().join(GENERATED)).expect("the generated file");
        assert!(committed == generate().expect("the protocol compiles"), "run `cargo xtask protocol`");
    }
}
