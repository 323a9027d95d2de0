//! Backup and restore: whole copies of the file.
//!
//! In: a store, running or not; a backup. Out: a copy of one moment; a store that agents take as
//! newer than the one it replaces. Never: a store that is neither the old one nor the new one.

use std::fs;
use std::io;
use std::path::Path;

use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::rows::Transaction;
use super::super::{Error, Read as _, Result, apply};
use super::{beside, lock, options, pool, schema};
use crate::audit::Actor;
use crate::fleet::Fleet;
use crate::id::FleetId;
use crate::time::Time;

/// Writes the store as it is at one moment to a new file, readable by its owner alone. The store may
/// be in use, by this process or another; readers and writers go on.
pub async fn backup(store: &Path, to: &Path) -> Result<()> {
    let failed = |source| Error::File { path: to.to_owned(), source };
    if to.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let part = beside(to, ".part");
    let name = part.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?.to_owned();
    remove(&part)?;
    // SQLite takes an empty file for the copy, and its mode stays.
    private(&part).map_err(failed)?;
    let mut connection = options(store).connect().await?;
    let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await;
    connection.close().await?;
    if let Err(error) = copied {
        remove(&part)?;
        return Err(error.into());
    }
    // A link fails where a rename would replace what somebody else made meanwhile.
    synced(&part).and_then(|()| fs::hard_link(&part, to)).and_then(|()| fs::remove_file(&part)).map_err(failed)?;
    folder_synced(to).map_err(failed)
}

/// Puts a backup in the place of a store that no controller uses. What was there is kept beside it,
/// with the ending `.before-restore`. The epoch rises, tokens end, and agents and API tokens that the
/// replaced store knew as revoked stay revoked.
///
/// The CA is not part of a backup of the store: its fingerprint is, and is compared at start.
pub async fn restore(from: &Path, store: &Path, who: Actor, at: Time) -> Result<Fleet> {
    let _lock = lock(store)?;
    let part = beside(store, ".part");
    let failed = |source| Error::File { path: part.clone(), source };
    for leftover in [&part, &beside(&part, "-journal"), &beside(&part, "-wal"), &beside(&part, "-shm")] {
        remove(leftover)?;
    }
    copied(from, &part).map_err(failed)?;
    keep(store)?;
    let (former, past) = former(store).await;
    let fleet = raised(&part, former, &past, who, at).await?;
    // Its log must not lie beside the new file, since SQLite would play it back into that.
    for log in ["-wal", "-shm"] {
        remove(&beside(store, log))?;
    }
    synced(&part).and_then(|()| fs::rename(&part, store)).and_then(|()| folder_synced(store)).map_err(failed)?;
    Ok(fleet)
}

/// Copies the store and its log before anything reads them: reading plays the log back into the
/// file, and throws a log away that it can't read.
fn keep(store: &Path) -> Result<()> {
    let kept = beside(store, ".before-restore");
    for ending in ["", "-wal", "-shm"] {
        remove(&beside(&kept, ending))?;
    }
    for ending in ["", "-wal"] {
        let (from, to) = (beside(store, ending), beside(&kept, ending));
        if from.exists() {
            copied(&from, &to).map_err(|source| Error::File { path: to.clone(), source })?;
        }
    }
    folder_synced(store).map_err(|source| Error::File { path: kept.clone(), source })
}

/// What is in the store that is replaced, as far as it can be read: one that is damaged, or was made
/// by a newer version, is what backups are for.
async fn former(store: &Path) -> (Option<FleetId>, apply::Past) {
    let read = async {
        schema::inspect(store).await?;
        let pool = pool(1).connect_with(options(store)).await?;
        let mut rows = Transaction(pool.begin().await?);
        let fleet = rows.fleet().await?.map(|fleet| fleet.id);
        let past = apply::past(&mut rows).await?;
        drop(rows);
        pool.close().await;
        Ok::<_, Error>((fleet, past))
    };
    if store.exists() { read.await.unwrap_or_default() } else { Default::default() }
}

async fn raised(part: &Path, former: Option<FleetId>, past: &apply::Past, who: Actor, at: Time) -> Result<Fleet> {
    schema::inspect(part).await?;
    let whole = options(part).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Full);
    let pool = pool(1).connect_with(whole).await?;
    let check: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&pool).await?;
    if check != "ok" {
        return Err(Error::Damaged(check));
    }
    schema::migrate(&mut *pool.acquire().await?).await?;
    let mut rows = Transaction(pool.begin_with("BEGIN IMMEDIATE").await?);
    if let (Some(former), Some(backup)) = (former, rows.fleet().await?)
        && former != backup.id
    {
        return Err(Error::OtherFleet { backup: backup.id, store: former });
    }
    let fleet = apply::restored(&mut rows, who, at, past).await?;
    rows.0.commit().await?;
    pool.close().await;
    Ok(fleet)
}

fn copied(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = private(to)?;
    io::copy(&mut fs::File::open(from)?, &mut file)?;
    file.sync_all()
}

fn private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

fn synced(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn folder_synced(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    synced(folder)
}
