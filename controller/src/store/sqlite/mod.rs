//! The store in one file, by SQLite: what a single controller uses.
//!
//! In: a path. Out: a [`Store`] that writes ahead of its file (WAL) and waits for the disk on each
//! write (`synchronous=FULL`). Never: another program's database, a schema half changed, a schema
//! of a newer version.

mod copy;
mod rows;
mod schema;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::watch;

pub use copy::{backup, restore};

use self::rows::Transaction;
use super::{Error, Keep, Result, Store, apply, has_event};
use crate::change::{Write, Written};

/// How long a writer waits for another process, a backup's first moment say.
const BUSY: Duration = Duration::from_secs(5);

/// Readers at once; more wait their turn.
const READERS: u32 = 4;

pub struct Sqlite {
    path: PathBuf,
    /// One connection: writers wait for each other here, and not in SQLite's busy loop.
    writer: SqlitePool,
    readers: SqlitePool,
    keep: Keep,
    news: watch::Sender<()>,
    /// Held while the store is open; the kernel lets go of it, however the process ends.
    _lock: File,
}

impl Sqlite {
    /// Opens the file, or makes it (readable by its owner alone), and brings its schema up to date.
    pub async fn open(path: &Path, keep: Keep) -> Result<Self> {
        let lock = lock(path)?;
        let private = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        drop(private.map_err(|source| Error::File { path: path.to_owned(), source })?);
        schema::inspect(path).await?;
        let options = options(path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let writer = pool(1).connect_with(options.clone()).await?;
        schema::migrate(&mut *writer.acquire().await?).await?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await?;
        Ok(Self { path: path.to_owned(), writer, readers, keep, news: watch::Sender::new(()), _lock: lock })
    }

    /// As [`backup`], of this store.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        backup(&self.path, to).await
    }

    /// Waits for what is under way, and takes the log's content into the file.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Store for Sqlite {
    type Snapshot = Transaction;

    async fn read(&self) -> Result<Transaction> {
        Ok(Transaction(self.readers.begin().await?))
    }

    async fn write(&self, parts: Vec<Write>) -> Result<Vec<Written>> {
        // `IMMEDIATE`: a transaction that reads first and is then refused the right to write would
        // have to begin anew.
        let mut rows = Transaction(self.writer.begin_with("BEGIN IMMEDIATE").await?);
        let written = apply::write(&mut rows, parts, self.keep).await?;
        rows.0.commit().await?;
        if has_event(&written) {
            self.news.send_replace(());
        }
        Ok(written)
    }

    fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

/// When the disk is full, SQLite rolls a transaction back by itself. sqlx then still counts it as
/// open, and its connection could begin no other: such a connection is not used again.
fn pool(connections: u32) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(connections);
    pool.after_release(|connection, _| {
        Box::pin(async move {
            // After this, a rollback that a dropped transaction asked for is over.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY).disable_statement_logging()
}

/// The name beside the store's that begins with the store's name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn lock(path: &Path) -> Result<File> {
    let lock_path = beside(path, ".lock");
    let failed = |source| Error::File { path: lock_path.clone(), source };
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_store<F: Future<Output = ()>>(name: &str, test: impl FnOnce(PathBuf, Sqlite) -> F) {
        let folder = std::env::temp_dir().join(format!("ringwall-sqlite-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).expect("a new folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let path = folder.join("store");
            let store = Sqlite::open(&path, Keep::default()).await.expect("a store");
            test(path, store).await;
        });
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    /// What a lost power supply would show, and no test here can.
    #[test]
    fn each_write_waits_for_the_disk() {
        with_store("pragmas", |_, store| async move {
            for (pragma, expected) in [("PRAGMA synchronous", "2"), ("PRAGMA journal_mode", "wal"), ("PRAGMA foreign_keys", "1")] {
                for pool in [&store.writer, &store.readers] {
                    let row = sqlx::query(pragma).fetch_one(pool).await.expect("a row");
                    let value = sqlx::Row::try_get_unchecked::<String, _>(&row, 0).expect("a value");
                    assert_eq!(value, expected, "{pragma}");
                }
            }
            store.close().await;
        });
    }

    #[test]
    fn errors_are_named_by_what_can_be_done() {
        with_store("errors", |path, store| async move {
            let refused = sqlx::query("DELETE FROM events").execute(&store.readers).await.expect_err("readers only read");
            assert!(matches!(Error::from(refused), Error::ReadOnly(_)));
            let held = store.writer.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
            let other = pool(1).connect_with(options(&path).busy_timeout(Duration::ZERO)).await.expect("a connection");
            let refused = other.begin_with("BEGIN IMMEDIATE").await.expect_err("one writer at a time");
            assert!(matches!(Error::from(refused), Error::Busy(_)));
            drop(held);
            store.writer.begin_with("BEGIN IMMEDIATE").await.expect("a dropped transaction holds nothing");
            store.close().await;
        });
    }
}
