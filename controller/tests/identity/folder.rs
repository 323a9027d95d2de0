//! The CA on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{Digest, Epoch, FleetId};
use ringwall_controller::identity::{self, Authority, Error};

use crate::identity::{fleet, now};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringwall-identity-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn open(&self, kept: Option<&Fleet>) -> Result<Authority, Error> {
        identity::open(&self.0, kept, fleet(), now())
    }

    fn file(&self) -> PathBuf {
        self.0.join(identity::FILE)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder goes");
    }
}

fn row(authority: &Authority) -> Fleet {
    Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() }
}

#[test]
fn it_is_made_once_and_for_its_owner_alone() {
    let folder = Folder::new("once");
    let made = folder.open(None).expect("a CA");
    assert_eq!(made.fleet(), fleet());
    assert_eq!(fs::metadata(folder.file()).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 1, "nothing else is left");
    // The same, whether the store knows it already or a crash came between.
    for kept in [None, Some(row(&made))] {
        let again = identity::open(&folder.0, kept.as_ref(), FleetId::new([9; 16]), now()).expect("the CA");
        assert_eq!((again.fingerprint(), again.fleet()), (made.fingerprint(), fleet()));
        // With its key: what it issues is the first one's.
        let own = again.own(&"main".parse().expect("a name"), &["192.0.2.9".to_owned()], now(), [1; 16]).expect("a certificate");
        assert!(matches!(made.check(&[&own.certificate.der], now()), Err(identity::Refusal::NotAgent(_))));
    }
    // What a crash left of an earlier attempt does not count.
    let other = Folder::new("part");
    fs::write(other.0.join("ca.pem.part"), "-----BEGIN").expect("a file");
    other.open(None).expect("a CA");
}

#[test]
fn it_is_never_replaced() {
    let folder = Folder::new("kept");
    let made = folder.open(None).expect("a CA");
    let kept = row(&made);
    let text = fs::read_to_string(folder.file()).expect("a file");

    let expected = Fleet { ca: Digest::of(b"another"), ..kept.clone() };
    assert!(matches!(folder.open(Some(&expected)), Err(Error::OtherAuthority { found, .. }) if found == made.fingerprint()));

    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o640)).expect("a mode");
    let error = folder.open(Some(&kept)).expect_err("others can read it");
    assert!(matches!(error, Error::Open { mode: 0o640, .. }), "{error}");
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o600)).expect("a mode");

    let other = Folder::new("other");
    other.open(None).expect("another CA");
    let theirs = fs::read_to_string(other.file()).expect("a file");
    let split = |text: &str| text.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let mixed = format!("{}{}", &text[..split(&text)], &theirs[split(&theirs)..]);
    for damaged in ["", &text[..text.len() / 2], &text[split(&text)..], &mixed, "\0\0\0"] {
        fs::write(folder.file(), damaged).expect("damage");
        let error = folder.open(None).expect_err("damaged");
        assert!(matches!(error, Error::NoAuthority { .. }), "{error}");
        assert_eq!(fs::read_to_string(folder.file()).expect("a file"), damaged, "it is left as it is");
    }
    fs::remove_file(folder.file()).expect("gone");
    assert!(matches!(folder.open(Some(&kept)), Err(Error::Lost(_))));
    assert!(!folder.file().exists());
}
