//! What every store must do: the same tests over each of them, and all of them side by side.
//!
//! In: makers of stores. Out: one test for each promise and store. Never: a look into a store past
//! its trait, but for what only a file can do (`file`).

mod contract;
mod differential;
mod file;
pub mod parts;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ringwall_controller::store::{Keep, Memory, Sqlite};

/// A folder that is removed with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringwall-store-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder goes");
    }
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(test)
}

async fn open(path: &Path, keep: Keep) -> Sqlite {
    Sqlite::open(path, keep).await.expect("a store")
}

/// A test in `contract` for each store. Another store is another line here.
macro_rules! contract {
    ($($name:ident)*) => {
        mod memory {
            $(#[test] fn $name() {
                super::block_on(super::contract::$name(super::Memory::new(super::parts::KEEP)));
            })*
        }

        mod sqlite {
            $(#[test] fn $name() {
                let folder = super::Folder::new();
                super::block_on(async {
                    super::contract::$name(super::open(&folder.path("store"), super::parts::KEEP).await).await;
                });
            })*
        }
    };
}

contract! {
    a_fleet_is_founded_once
    a_token_is_used_as_often_as_it_says
    who_enrols_is_what_the_token_says
    who_asks_again_is_the_same
    a_refused_part_takes_all_others_with_it
    a_node_and_an_address_have_one_agent
    a_revoked_agent_stays_so
    only_known_keys_renew
    settings_have_rising_revisions
    revisions_are_kept_for_ever_and_contents_once
    assignments_have_rising_numbers_and_go_forward
    what_a_node_would_go_back_to_is_kept
    one_rollout_at_a_time
    events_are_numbered_paged_and_bounded
    every_change_is_in_the_audit_log
    access_is_kept
    what_is_seen_is_kept
    a_snapshot_is_of_one_moment
    writers_at_once_lose_nothing
}
