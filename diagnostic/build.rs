//! Turns `explain/RW*.md` into a table, so that a code is its file and nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("explain");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of explanations")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    let mut table = String::from("[\n");
    for file in files {
        let code = file.file_stem().and_then(|stem| stem.to_str()).expect("a file named by its code");
        writeln!(table, "({code:?}, include_str!({:?})),", file.display().to_string()).expect("a string");
    }
    table.push(']');
    let output = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("explanations.rs");
    fs::write(output, table).expect("a writable build folder");
}
