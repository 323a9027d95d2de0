//! What was acknowledged is there: after `kill -9` at any moment, and after the disk was full.
//!
//! The program is its own child: it writes numbers, and says each one on stdout once it is kept.
//! It has no test harness, since a harness would write to stdout, too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{AuditNumber, Digest, Epoch, FleetId};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::store::{Error, Keep, Read as _, Sqlite, Store as _, restore};
use ringwall_controller::time::Time;

const ROUNDS: u64 = 20;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["write", path] => block_on(write_for_ever(Path::new(path))),
        ["fill", path] => block_on(fill(Path::new(path))),
        ["restore", path] => block_on(restore_it(Path::new(path))),
        _ => {
            kill();
            println!("kill -9, {ROUNDS} rounds: nothing acknowledged was lost");
            restoring();
            println!("kill -9 while a backup is put in, {ROUNDS} rounds: the one store or the other, each whole");
            full();
            println!("a full disk: nothing acknowledged was lost");
            println!("test result: ok. 3 passed; 0 failed");
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(work)
}

fn commit(text: String) -> Vec<Write> {
    let content = Content { files: [("policy.yaml".to_owned(), text)].into(), values: Default::default() };
    let new = NewRevision { content, author: "ann".to_owned(), message: String::new(), source: Source::Cli };
    vec![Write::Change(Audited { who: Actor::Controller, at: Time::from_millisecond(0), change: Change::Commit(new) })]
}

async fn write_one(store: &Sqlite, text: String) -> Result<u64, Error> {
    match store.write(commit(text)).await?.as_slice() {
        [Written::Revision(number)] => Ok(number.0),
        other => panic!("{other:?}"),
    }
}

async fn write_for_ever(path: &Path) {
    let store = Sqlite::open(path, Keep::default()).await.expect("a store");
    loop {
        let number = write_one(&store, "x".repeat(2000)).await.expect("a revision");
        let mut out = std::io::stdout().lock();
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("a reader");
    }
}

fn child(mode: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([mode, path.to_str().expect("a path in UTF-8")]).stdout(Stdio::piped());
    command
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringwall-crash-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder goes");
    }
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"))
}

/// The moment is a number of acknowledged writes plus a part of the next one, other each time.
fn kill() {
    let folder = Folder::new("kill");
    let path = folder.0.join("store");
    let mut last = 0;
    for round in 1..=ROUNDS {
        let mut child = child("write", &path).spawn().expect("a child");
        let mut said = lines(&mut child);
        let mut turn = |said: &mut dyn Iterator<Item = String>| {
            let line = said.next()?;
            let number: u64 = line.parse().expect("a number");
            assert!(number > last, "{number} after {last}");
            last = number;
            Some(())
        };
        for _ in 0..round * 7 % 23 + 1 {
            turn(&mut said).expect("the child writes");
        }
        let part = std::time::Instant::now();
        while part.elapsed().as_micros() < u128::from(round * 997 % 4001) {
            std::hint::spin_loop();
        }
        child.kill().expect("killed");
        while turn(&mut said).is_some() {}
        child.wait().expect("the child is gone");
        let kept = block_on(async {
            let store = Sqlite::open(&path, Keep::default()).await.expect("a store");
            let mut rows = store.read().await.expect("rows");
            let revisions: Vec<_> = rows.revisions(None, u32::MAX).await.expect("revisions");
            let entries = rows.audit(AuditNumber(0), u32::MAX).await.expect("entries");
            assert_eq!(entries.len(), revisions.len(), "each with its entry");
            assert!(revisions.windows(2).all(|pair| pair[0].number.0 == pair[1].number.0 + 1), "each number once");
            for revision in &revisions {
                assert!(rows.content(revision.content).await.expect("content").is_some());
            }
            revisions.len() as u64
        });
        assert!(kept >= last, "{last} were acknowledged, {kept} are there");
        assert!(kept <= last + 1, "{kept} are there, though only {last} were acknowledged, and one more may be");
        last = kept;
    }
}

async fn restore_it(path: &Path) {
    println!("begun");
    restore(&path.with_file_name("backup"), path, Actor::Controller, Time::from_millisecond(0)).await.expect("a restore");
    println!("done");
}

async fn newest(store: &Sqlite) -> (Epoch, u64) {
    let mut rows = store.read().await.expect("rows");
    let revisions = rows.revisions(None, u32::MAX).await.expect("revisions").len() as u64;
    (rows.fleet().await.expect("rows").expect("a fleet").epoch, revisions)
}

/// The replaced store has what was acknowledged last in its log alone, as a crash left it.
fn restoring() {
    const BACKED_UP: u64 = 3;
    let folder = Folder::new("restore");
    let path = folder.0.join("store");
    let (mut epoch, mut last) = block_on(async {
        let store = Sqlite::open(&path, Keep::default()).await.expect("a store");
        let fleet = Fleet { id: FleetId::new([1; 16]), epoch: Epoch(1), ca: Digest::of(b"ca"), created: Time::from_millisecond(0) };
        let found = Audited { who: Actor::Controller, at: fleet.created, change: Change::Found(fleet) };
        store.write(vec![Write::Change(found)]).await.expect("a fleet");
        for _ in 0..BACKED_UP {
            write_one(&store, String::new()).await.expect("a revision");
        }
        store.backup(&folder.0.join("backup")).await.expect("a backup");
        newest(&store).await
    });
    let (mut replaced, mut untouched) = (0, 0);
    let mut round = 0;
    // Until both ends were seen, however fast this machine is.
    while round < ROUNDS || replaced == 0 || untouched == 0 {
        assert!(round < 50 * ROUNDS, "{replaced} replaced, {untouched} untouched");
        round += 1;
        let mut writer = child("write", &path).spawn().expect("a child");
        let mut said = lines(&mut writer);
        for _ in 0..3 {
            last = said.next().expect("the child writes").parse().expect("a number");
        }
        writer.kill().expect("killed");
        last = said.last().map_or(last, |line| line.parse().expect("a number"));
        writer.wait().expect("the child is gone");

        let mut restorer = child("restore", &path).spawn().expect("a child");
        let mut said = lines(&mut restorer);
        assert_eq!(said.next().as_deref(), Some("begun"));
        let part = std::time::Instant::now();
        while part.elapsed().as_micros() < u128::from(round * 7919 % (80_000 * (1 + round / ROUNDS))) {
            std::hint::spin_loop();
        }
        restorer.kill().expect("killed");
        let is_done = said.next().is_some();
        restorer.wait().expect("the child is gone");
        let (new_epoch, kept) = block_on(async { newest(&Sqlite::open(&path, Keep::default()).await.expect("a store")).await });
        if new_epoch > epoch {
            assert_eq!(kept, BACKED_UP);
            replaced += 1;
        } else {
            assert!(!is_done && (last..=last + 1).contains(&kept), "{last} were acknowledged, {kept} are there");
            untouched += 1;
        }
        // The epoch comes from the backup and the store that was there: it rises each time.
        assert!(new_epoch == epoch || new_epoch == epoch.next());
        epoch = new_epoch;
    }
}

/// On a file system of 1 MiB, in a mount namespace of the child's own.
fn full() {
    let folder = Folder::new("full");
    let mut command = child("fill", &folder.0);
    let target = folder.0.clone();
    let private = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        Ok(())
    };
    // Between fork and exec, in the child alone; system calls only.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(private);
    }
    let mut child = command.spawn().expect("a child with a mount of its own (needs root)");
    let said: Vec<_> = lines(&mut child).collect();
    assert!(child.wait().expect("the child ends").success(), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("all is there"), "{said:?}");
}

async fn fill(folder: &Path) {
    let path = folder.join("store");
    let store = Sqlite::open(&path, Keep::default()).await.expect("a store");
    let mut last = 0;
    let error = loop {
        match write_one(&store, format!("{last}").repeat(2000)).await {
            Ok(number) => last = number,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert!(last > 10, "only {last} fitted");
    // It is still full, still says so, and still reads.
    for _ in 0..3 {
        let again = write_one(&store, format!("{last}").repeat(2000)).await;
        assert!(matches!(again, Err(Error::Full(_))), "{again:?}");
        assert_eq!(store.read().await.expect("rows").revisions(None, u32::MAX).await.expect("revisions").len() as u64, last);
    }
    let backup = store.backup(&folder.join("backup")).await;
    assert!(matches!(backup, Err(Error::Full(_) | Error::File { .. })), "{backup:?}");
    // Room again, and it goes on.
    mount(Some("tmpfs"), folder, None::<&str>, MsFlags::MS_REMOUNT, Some("size=8m")).expect("a larger file system");
    assert_eq!(write_one(&store, "more".to_owned()).await.expect("a revision"), last + 1);
    store.close().await;
    // A file system that the kernel made read-only, after an error of the disk say.
    let remount = |flags| mount(Some("tmpfs"), folder, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).expect("a remount");
    remount(MsFlags::MS_RDONLY);
    let error = Sqlite::open(&path, Keep::default()).await.err().expect("read-only");
    assert!(matches!(&error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem), "{error:?}");
    remount(MsFlags::empty());
    let store = Sqlite::open(&path, Keep::default()).await.expect("a store");
    assert_eq!(store.read().await.expect("rows").revisions(None, u32::MAX).await.expect("revisions").len() as u64, last + 1);
    println!("all is there");
}
