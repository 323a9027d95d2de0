//! A policy's files on disk. The only place of this crate that touches the world.

use std::io;
use std::path::{Path, PathBuf};

use crate::Input;

/// What became of reading a policy file or folder.
#[derive(Debug)]
pub struct Folder {
    /// By name.
    pub inputs: Vec<Input>,
    /// What was left aside, and why, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("can't list the folder {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not UTF-8 text (byte {at})", path.display())]
    NotText { path: PathBuf, at: usize },
    #[error("the folder {} has no *.yaml file directly in it{}", path.display(), notes.iter().map(|note| format!("; {note}")).collect::<String>())]
    Empty { path: PathBuf, notes: Vec<String> },
}

/// A policy that is one file, or all `*.yaml` directly in a folder, by name. Hidden files and links
/// in a folder are left aside with a note.
pub fn read(path: &Path) -> Result<Folder, ReadError> {
    if !path.is_dir() {
        return Ok(Folder { inputs: vec![file(path)?], notes: Vec::new() });
    }
    let list = |source| ReadError::List { path: path.to_owned(), source };
    let mut folder = Folder { inputs: Vec::new(), notes: Vec::new() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(list)? {
        let entry = entry.map_err(list)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(list)?);
        let name = name.to_string_lossy();
        let yaml = name.ends_with(".yaml");
        let shown = entry.path().display().to_string();
        if yaml && name.starts_with('.') {
            folder.notes.push(format!("{shown} is hidden and was left aside"));
        } else if yaml && kind.is_symlink() {
            folder.notes.push(format!("{shown} is a link and was left aside"));
        } else if yaml && kind.is_dir() {
            folder.notes.push(format!("{shown} is a folder and was left aside"));
        } else if yaml && kind.is_file() {
            files.push(entry.path());
        } else if !yaml && !name.starts_with('.') && is_like_yaml(&name) {
            folder.notes.push(format!("{shown} was left aside: a policy's files end in .yaml"));
        }
    }
    folder.notes.sort();
    if files.is_empty() {
        return Err(ReadError::Empty { path: path.to_owned(), notes: folder.notes });
    }
    files.sort();
    folder.inputs = files.iter().map(|path| file(path)).collect::<Result<_, _>>()?;
    Ok(folder)
}

/// Whether somebody may think that it is one of the files: `c.YAML`, `c.yml`, `c.yaml.bak`, `c.yaml~`.
fn is_like_yaml(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(".yaml") || name.contains(".yml")
}

fn file(path: &Path) -> Result<Input, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Input { name, text }),
        Err(error) => Err(ReadError::NotText { path: path.to_owned(), at: error.utf8_error().valid_up_to() }),
    }
}
