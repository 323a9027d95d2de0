//! Other programs' tables, as text.
//!
//! In: names of tables. Out: what `nft list table` prints of them, as long as that is neither slow nor
//! large. Never: our own tables, whose listing takes time that grows with the square of their elements;
//! a text cut short.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::TableId;
use super::nft::{Nft, NftError};

/// What a listing may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For all tables together.
    pub time: Duration,
    pub bytes: u64,
}

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error("listing table {table} takes longer than {} s", .limit.as_secs())]
    TooSlow { table: TableId, limit: Duration },
    #[error("the listing of table {table} has more than {limit} bytes")]
    TooLarge { table: TableId, limit: u64 },
    #[error("nft can't list table {table}: {said}")]
    Refused { table: TableId, said: String },
}

impl Nft {
    /// The tables one after the other, without counters' values.
    pub fn list(&self, tables: &[TableId], limits: Limits) -> Result<String, ListError> {
        let end = Instant::now() + limits.time;
        let mut text = String::new();
        for table in tables {
            let left = limits.bytes.saturating_sub(text.len() as u64);
            text.push_str(&self.list_one(table, end, Limits { bytes: left, ..limits })?);
        }
        Ok(text)
    }

    fn list_one(&self, table: &TableId, end: Instant, limits: Limits) -> Result<String, ListError> {
        let failed = |source| NftError::Run { program: self.program().to_owned(), source };
        let mut command = Command::new(self.program());
        command.args(["--stateless", "list", "table"]).args([table.family.to_string(), table.name.clone()]);
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, receiver) = mpsc::channel();
        let read = thread::scope(|scope| {
            let words = scope.spawn(move || {
                let mut said = Vec::new();
                // What it says is of no use beyond its first lines.
                stderr.map(|stderr| stderr.take(4096).read_to_end(&mut said));
                said
            });
            scope.spawn(move || {
                let mut bytes = Vec::new();
                let read = stdout.map_or(Ok(0), |stdout| stdout.take(limits.bytes + 1).read_to_end(&mut bytes));
                let _ = sender.send(read.map(|_| bytes));
            });
            let read = receiver.recv_timeout(end.saturating_duration_since(Instant::now()));
            // Whoever was slow, or is not done writing, need not go on.
            let is_done = matches!(&read, Ok(Ok(bytes)) if bytes.len() as u64 <= limits.bytes);
            if !is_done {
                let _ = child.kill();
            }
            let status = child.wait().map_err(failed)?;
            let said = words.join().unwrap_or_default();
            match read {
                Err(_) => Err(ListError::TooSlow { table: table.clone(), limit: limits.time }),
                Ok(Err(source)) => Err(failed(source).into()),
                Ok(Ok(bytes)) if bytes.len() as u64 > limits.bytes => Err(ListError::TooLarge { table: table.clone(), limit: limits.bytes }),
                Ok(Ok(_)) if !status.success() => {
                    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned();
                    Err(ListError::Refused { table: table.clone(), said })
                }
                Ok(Ok(bytes)) => Ok(bytes),
            }
        })?;
        Ok(String::from_utf8_lossy(&read).into_owned())
    }
}
