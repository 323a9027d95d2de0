//! Files of the state folder that can't be used: cut short, of another shape, or written by a newer version.
//!
//! In: the folder. Out: what is wrong with which file; on demand, the file under another name. Never: a file thrown away, or
//! a guess at what it said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answers::kept_answers;
use super::state::{History, State, StateError, generations, record};

/// `NAME.damaged`; an older one of that name gives way.
const ASIDE: &str = "damaged";

/// A file as JSON of this schema; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(path: PathBuf, schema: &str) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path, source }),
        Ok(bytes) => bytes,
    };
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    // Whatever else another version wrote, it wrote that.
    if let Ok(Head { schema: found }) = serde_json::from_slice(&bytes)
        && found != schema
    {
        let found = found.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(StateError::Schema { path, found, known: schema.to_owned() });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Damaged { path, source })
}

/// Each file that can't be used, of those that are needed from now on.
pub fn damaged(folder: &Path) -> Vec<StateError> {
    let mut found = Vec::new();
    let history = History::read(folder).map_err(|error| found.push(error)).ok();
    found.extend(History::taken_in(folder).err());
    found.extend(kept_answers(folder).err());
    match history.as_ref().and_then(History::confirmed) {
        Some(confirmed) => {
            found.extend(record(folder, confirmed).err());
            found.extend(history.and_then(|history| history.boot(confirmed).err()));
        }
        // Any of them may be what was confirmed. One without a record was never loaded.
        None => found.extend(generations(folder).into_iter().filter_map(|generation| match record(folder, generation) {
            Err(error @ (StateError::Damaged { .. } | StateError::Schema { .. })) => Some(error),
            _ => None,
        })),
    }
    found
}

/// Gives damaged files other names, so that what they said is not lost and the rest goes on: which generation was
/// confirmed then is what the kernel has, and the next assignment is the controller's newest. The error: something is
/// damaged, and could not be renamed.
pub fn set_aside(folder: &Path) -> Result<Vec<StateError>, StateError> {
    // Nobody writes them meanwhile; State::open itself would not read them.
    let _lock = State::lock(folder)?;
    let mut found = Vec::new();
    for error in damaged(folder) {
        let path = match &error {
            StateError::Damaged { path, .. } | StateError::Schema { path, .. } => path.clone(),
            // What is not there can't be renamed.
            _ => {
                found.push(error);
                continue;
            }
        };
        let aside = path.with_extension(format!("json.{ASIDE}"));
        fs::rename(&path, &aside).map_err(|source| StateError::Write { path: aside, source })?;
        found.push(error);
    }
    Ok(found)
}
