//! The manual of the questions, `spec/questions/*.md`, is this test.
//!
//! A block with a name, such as `yaml NAME`, is a file that the page's commands find; in a `console`
//! block each line that begins with `$` is a command, and what follows is what it prints, messages
//! after data, and its exit code when that is not 0. `UPDATE_SPEC=1 cargo test` writes them anew.

use std::path::{Path, PathBuf};
use std::process::Command;

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/questions");
    let entries = std::fs::read_dir(folder).expect("the manual's folder");
    let mut pages: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.sort();
    assert!(pages.len() >= 3, "the manual has its pages");
    pages
}

/// The words of a command line; those in single quotes are one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn run(line: &str, folder: &Path) -> String {
    let words = words(line);
    assert_eq!(words[0], "ringwall", "{line}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
    command.args(&words[1..]).current_dir(folder).env("NO_COLOR", "1").env_remove("COLUMNS").env_remove("RINGWALL_POLICY");
    let output = command.output().expect("ringwall starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        text.push_str(&format!("[exit {}]\n", output.status.code().expect("it is not killed")));
    }
    text
}

/// The page as it should be, and how many commands it has.
fn expected(page: &Path, folder: &Path) -> (String, usize) {
    let text = std::fs::read_to_string(page).expect("a page");
    let (mut found, mut commands, mut file, mut in_console) = (String::new(), 0, None::<(PathBuf, String)>, false);
    for line in text.lines() {
        let fence = line.strip_prefix("```");
        if in_console && fence.is_none() {
            if let Some(command) = line.strip_prefix("$ ") {
                // Between two commands there is an empty line.
                if !found.ends_with("```console\n") {
                    found.push('\n');
                }
                found.push_str(&format!("{line}\n{}", run(command, folder)));
                commands += 1;
            }
            continue;
        }
        if let Some((_, text)) = file.as_mut().filter(|_| fence.is_none()) {
            text.push_str(&format!("{line}\n"));
        }
        if fence == Some("") {
            if let Some((path, text)) = file.take() {
                std::fs::write(path, text).expect("a writable folder");
            }
            in_console = false;
        } else if let Some(name) = fence.and_then(|info| Some(info.split_once(' ')?.1)) {
            file = Some((folder.join(name), String::new()));
        } else if fence == Some("console") {
            in_console = true;
        }
        found.push_str(&format!("{line}\n"));
    }
    (found, commands)
}

#[test]
fn the_manual_says_what_is() {
    let update = std::env::var_os("UPDATE_SPEC").is_some();
    let mut wrong = String::new();
    for page in pages() {
        let name = page.file_stem().expect("a name").to_string_lossy().into_owned();
        let folder = std::env::temp_dir().join(format!("ringwall-questions-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (found, commands) = expected(&page, &folder);
        std::fs::remove_dir_all(&folder).expect("our folder");
        assert!(commands >= 3, "{name} has commands");
        let written = std::fs::read_to_string(&page).expect("a page");
        if update {
            std::fs::write(&page, &found).expect("a writable page");
        } else if written != found {
            let lines = written.lines().zip(found.lines()).enumerate();
            let first = lines.into_iter().find(|(_, (a, b))| a != b);
            wrong.push_str(&format!("{}: {first:?}\n{found}\n", page.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
