//! A policy in git: a real repository, the real git.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::change::Change;
use ringwall_controller::repository::{Head, Repository, watch};
use ringwall_controller::revision::{Revision, Source};
use ringwall_controller::server;
use ringwall_controller::store::{Memory, Read as _, Store as _};
use ringwall_controller::system::now;

use crate::store::parts::{KEEP, apply, enrol, fleet, token};

const POLICY: &str = "groups:\n  edge: { labels: { role: 'edge, \"north\"' } }\n  users: { addresses: $USERS }\nrules:\n  - { allow: users -> edge, services: [https] }\n";

struct Git(PathBuf);

impl Drop for Git {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Git {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("repository-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("policy")).expect("a folder");
        let git = Self(path);
        git.run(&["init", "--quiet", "--initial-branch", "main"]);
        git
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0).args(["-c", "user.name=Ann", "-c", "user.email=ann@example.net"]).args(arguments);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        for (name, text) in files {
            std::fs::write(self.0.join(name), text).expect("a file");
        }
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--message", message]);
        self.run(&["rev-parse", "HEAD"])
    }

    fn repository(&self) -> Repository {
        Repository { path: self.0.clone(), branch: "main".into(), folder: "policy".into(), values: Some("values.yaml".into()) }
    }
}

#[test]
fn a_commit_is_read_as_it_was_committed() {
    let git = Git::new("read");
    let error = git.repository().head().expect_err("it is empty").to_string();
    assert!(error.contains("it has no branch `main`"), "{error}");
    std::fs::create_dir(git.0.join("policy/inner")).expect("a folder");
    std::os::unix::fs::symlink("/etc/passwd", git.0.join("policy/link.yaml")).expect("a link");
    let files = [("policy/a.yaml", POLICY), ("policy/.b.yaml", "x"), ("policy/inner/c.txt", "x"), ("policy/README.md", "x"), ("values.yaml", "USERS: [198.51.100.0/24]\n")];
    let id = git.commit(&files, "a first policy\n\nand more of it");
    std::fs::write(git.0.join("policy/a.yaml"), "not committed").expect("a file");
    let head = git.repository().head().expect("a head");
    assert_eq!(head, Head { id: id.clone(), author: "Ann".into(), message: "a first policy".into() });
    let content = git.repository().content(&id).expect("a content");
    assert_eq!(content.files, [("a.yaml".to_owned(), POLICY.to_owned())].into());
    assert_eq!(content.values.keys().collect::<Vec<_>>(), ["USERS"]);
    let refused = |what: &str, repository: Repository| {
        let error = repository.content(&id).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    };
    refused("policie", Repository { folder: "policie".into(), ..git.repository() });
    refused("other.yaml", Repository { values: Some("other.yaml".into()), ..git.repository() });
    refused("at least one file", Repository { folder: "policy/inner".into(), ..git.repository() });
    let elsewhere = Repository { path: "/nowhere".into(), ..git.repository() };
    assert!(elsewhere.head().expect_err("it is not there").to_string().contains("/nowhere"));
    let large = git.commit(&[("policy/a.yaml", &"#".repeat(2 << 20))], "too much");
    assert!(git.repository().content(&large).expect_err("too large").to_string().contains("too large"));
}

#[test]
fn commits_become_revisions_and_what_is_wrong_is_told_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let git = Git::new("watched");
        let store = Arc::new(Memory::new(KEEP));
        for change in [Change::Found(fleet()), Change::CreateToken(token(1)), enrol(1, 1)] {
            apply(&*store, change).await;
        }
        let control = server::drive(store.clone(), now, Vec::new()).await.expect("the core");
        let every = Duration::from_millis(10);
        let watching = tokio::spawn(watch(git.repository(), store.clone(), control.clone(), now, true, every));
        let revisions = async || store.read().await.expect("a snapshot").revisions(None, 10).await.expect("rows");
        let events = async || {
            let events = store.read().await.expect("a snapshot").events(Default::default(), 100).await.expect("rows").events;
            events.into_iter().filter(|event| event.kind == "repository").map(|event| event.body["why"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
        };
        let until = async |what: &str, found: &dyn Fn(&[Revision], &[String]) -> bool| {
            let looking = async {
                while !found(&revisions().await, &events().await) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if tokio::time::timeout(Duration::from_secs(30), looking).await.is_err() {
                panic!("not in time: {what}: {:?} {:?}", revisions().await, events().await);
            }
        };
        until("an empty repository is told", &|_, events| events.len() == 1 && events[0].contains("no branch")).await;
        let first = git.commit(&[("policy/policy.yaml", POLICY), ("values.yaml", "USERS: [198.51.100.0/24]\n")], "first");
        until("the first is there", &|revisions, _| revisions.len() == 1).await;
        let newest = revisions().await.remove(0);
        assert_eq!((newest.source, newest.author.as_str(), newest.message.as_str()), (Source::Git(first), "Ann", "first"));
        let rollouts = async || store.read().await.expect("a snapshot").rollouts(None, 10).await.expect("rows");
        let begun = async {
            while rollouts().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), begun).await.expect("its rollout begins");
        assert_eq!(rollouts().await[0].revision, newest.number);

        // A commit beside the policy is none of it; one that is wrong is no revision, and the next that is right is.
        git.commit(&[("README.md", "about")], "about");
        git.commit(&[("policy/policy.yaml", &POLICY.replace("users ->", "user ->"))], "a mistake");
        until("the mistake is told", &|_, events| events.len() == 2 && events[1].contains("policy.yaml:5")).await;
        assert_eq!(revisions().await.len(), 1);
        git.commit(&[("policy/policy.yaml", &POLICY.replace("[https]", "[https, http]"))], "second");
        until("the second is there", &|revisions, _| revisions.len() == 2).await;
        assert_eq!(events().await.len(), 2, "each fault once: {:?}", events().await);

        // A controller that is started again knows what it has.
        watching.abort();
        let again = tokio::spawn(watch(git.repository(), store.clone(), control, now, false, every));
        git.commit(&[("policy/policy.yaml", POLICY)], "back");
        until("the third is there", &|revisions, _| revisions.len() == 3 && revisions[0].message == "back").await;
        again.abort();
    });
}
