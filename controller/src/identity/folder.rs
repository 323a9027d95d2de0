//! The CA on disk: one file, key and certificate together, so that neither is ever without the other.
//!
//! In: the state folder, the store's fleet. Out: the CA. Never: a key that others can read, a new CA
//! in the place of one that is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Authority, Error};
use crate::fleet::Fleet;
use crate::id::FleetId;
use crate::time::Time;

/// In the state folder.
pub const FILE: &str = "ca.pem";

/// Far more than a key and a certificate need.
const MOST_BYTES: u64 = 64 * 1024;

/// The CA that the store's fleet belongs to; or, before there is a fleet, the one that is there or a
/// new one. The folder must exist, and be its owner's alone.
pub fn open(folder: &Path, fleet: Option<&Fleet>, new: FleetId, now: Time) -> Result<Authority, Error> {
    let path = folder.join(FILE);
    let failed = |source| Error::File { path: path.clone(), source };
    let authority = match File::open(&path) {
        Ok(file) => load(&path, file)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) if fleet.is_some() => return Err(Error::Lost(path)),
        Err(_) => {
            let authority = Authority::new(new, now)?;
            save(folder, &authority).map_err(failed)?;
            authority
        }
    };
    match fleet {
        Some(fleet) if fleet.ca != authority.fingerprint() => {
            Err(Error::OtherAuthority { found: authority.fingerprint(), expected: fleet.ca, path })
        }
        _ => Ok(authority),
    }
}

fn load(path: &Path, file: File) -> Result<Authority, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::Open { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    let no_authority = |reason: String| Error::NoAuthority { path: path.to_owned(), reason };
    let parts = pem::parse_many(&text).map_err(|error| no_authority(error.to_string()))?;
    let part = |label| {
        let part = parts.iter().find(|part| part.tag() == label).map(|part| part.contents().to_vec());
        part.ok_or_else(|| no_authority(format!("it has no part `{label}`")))
    };
    Authority::from_parts(&part(KEY)?, part(CERTIFICATE)?).map_err(no_authority)
}

/// Whole or not at all, and never over a file that is there.
fn save(folder: &Path, authority: &Authority) -> io::Result<()> {
    let part = folder.join(format!("{FILE}.part"));
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let parts = [pem::Pem::new(KEY, authority.key()), pem::Pem::new(CERTIFICATE, authority.certificate())];
    file.write_all(pem::encode_many(&parts).as_bytes())?;
    file.sync_all()?;
    fs::hard_link(&part, folder.join(FILE))?;
    fs::remove_file(&part)?;
    File::open(folder)?.sync_all()
}

/// Labels of RFC 7468, 5 and 10.
const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";
