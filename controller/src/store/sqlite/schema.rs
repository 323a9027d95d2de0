//! The schema's versions, forward only.
//!
//! In: a database. Out: the same with the newest schema. Never: a version skipped or half done, a
//! database of another program or of a newer version touched.

use std::path::Path;

use sqlx::{Connection as _, ConnectOptions as _, SqliteConnection};

use super::super::{Error, Result};

/// By version, the first is 1. What was published is never edited: a change is a new file.
const STEPS: [&str; 1] = [include_str!("schema/0001.sql")];

/// `RWFL`, in the file's header at offset 68 (sqlite.org/fileformat2.html, "Application ID").
const APPLICATION: i64 = 0x5257_464c;

fn known() -> i64 {
    STEPS.len() as i64
}

/// Refuses what is not ours, before anything is written to it. An empty file is about to be ours.
pub async fn inspect(path: &Path) -> Result<()> {
    let mut connection = super::options(path).connect().await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await?;
    let (application, version) = marks(&mut connection).await?;
    connection.close().await?;
    if tables > 0 && application != APPLICATION {
        return Err(Error::Foreign(path.to_owned()));
    }
    if version > known() { Err(Error::Newer { found: version, known: known() }) } else { Ok(()) }
}

async fn marks(connection: &mut SqliteConnection) -> Result<(i64, i64)> {
    let application = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let version = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    Ok((application, version))
}

/// All missing steps in one transaction.
pub async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    run(connection, &STEPS).await
}

async fn run(connection: &mut SqliteConnection, steps: &[&'static str]) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (_, version) = marks(&mut transaction).await?;
    for (step, sql) in steps.iter().enumerate().skip(usize::try_from(version).unwrap_or(0)) {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        // Numbers of ours; pragmas take no bound values.
        let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}", step + 1);
        sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn memory() -> SqliteConnection {
        SqliteConnection::connect("sqlite::memory:").await.expect("a database")
    }

    fn block_on(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        block_on(async {
            let mut database = memory().await;
            migrate(&mut database).await.expect("the first steps");
            let steps = [STEPS[0], "CREATE TABLE more (a INTEGER); CREATE TABLE fleet (a INTEGER)"];
            run(&mut database, &steps).await.expect_err("a table that exists");
            assert_eq!(marks(&mut database).await.expect("marks"), (APPLICATION, 1));
            let more: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'more'")
                .fetch_one(&mut database)
                .await
                .expect("a count");
            assert_eq!(more, 0);
            run(&mut database, &[STEPS[0], "CREATE TABLE more (a INTEGER)"]).await.expect("the corrected step");
            assert_eq!(marks(&mut database).await.expect("marks"), (APPLICATION, 2));
        });
    }
}
