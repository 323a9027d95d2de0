//! The nft program: load, check, and what it says when it can't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ringwall_node::kernel::{Nft, NftError};

use crate::namespace::{in_namespace, load, netfilter, nft, ringwall};

#[test]
fn a_checked_text_changes_nothing_and_a_loaded_one_is_there() {
    in_namespace(|| {
        let text = "table inet ringwall { chain input { type filter hook input priority 0; policy drop; }; }\n";
        nft().check(text).expect("a good text");
        assert_eq!(netfilter().tables().expect("tables"), []);
        nft().load(text).expect("a good text");
        assert_eq!(netfilter().tables().expect("tables")[0].id, ringwall());
    });
}

#[test]
fn a_refused_text_changes_nothing_and_names_its_line() {
    in_namespace(|| {
        let text = "add table inet ringwall\nadd chain inet ringwall a\nadd rule inet ringwall a goto nowhere\n";
        for result in [nft().check(text), nft().load(text)] {
            let error = result.expect_err("there is no such chain");
            let NftError::Refused { complaints, stderr } = &error else { panic!("{error:?}") };
            assert_eq!((complaints[0].line, complaints[0].excerpt.as_str()), (3, "nowhere"), "{stderr}");
            assert!(!error.is_expired_element());
        }
        assert_eq!(netfilter().tables().expect("tables"), []);
    });
}

#[test]
fn a_syntax_error_names_its_line() {
    in_namespace(|| {
        let error = nft().check("table inet ringwall {\n  chain a {\n    acept\n  }\n}\n").expect_err("a slip");
        let NftError::Refused { complaints, .. } = &error else { panic!("{error:?}") };
        assert_eq!(complaints[0].line, 3, "{error:?}");
    });
}

#[test]
fn an_expired_element_is_told_from_other_failures() {
    in_namespace(|| {
        load("table inet ringwall { set armed { typeof meta nfproto; flags timeout; }; chain a { }; }\n");
        let confirm = "delete element inet ringwall armed { ipv4, ipv6 }\nadd chain inet ringwall b\n";
        let error = nft().load(confirm).expect_err("never armed");
        assert!(error.is_expired_element(), "{error:?}");
        load("add element inet ringwall armed { ipv4 timeout 1h, ipv6 timeout 1h }\n");
        nft().load(confirm).expect("armed");
        let error = nft().load("delete chain inet ringwall nowhere\n").expect_err("no such chain");
        assert!(!error.is_expired_element(), "{error:?}");
    });
}

#[test]
fn what_the_kernel_lacks_is_named() {
    // A family that no kernel has a masquerade for: it answers as it does for any missing expression.
    in_namespace(|| {
        let text = "table arp x { chain a { type filter hook input priority 0; }; }\nadd rule arp x a queue\n";
        match nft().check(text) {
            Err(NftError::MissingFeature { feature, .. }) => assert_eq!(feature, "queue"),
            // A kernel with the queue expression.
            Ok(()) => {}
            Err(other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn without_permission_it_says_so() {
    in_namespace(|| {
        let real = nft().program().display().to_string();
        let nobody = programs("nobody", &format!("exec setpriv --reuid=65534 --clear-groups {real} \"$@\""));
        let nft = Nft::find_in(std::slice::from_ref(&nobody)).expect("anyone may ask for the version");
        let error = nft.load("add table inet ringwall\n").expect_err("nobody may not change the firewall");
        fs::remove_dir_all(&nobody).expect("removed");
        assert!(matches!(error, NftError::Permission), "{error:?}");
        assert_eq!(error.to_string(), "no permission to change nftables: run as root (with CAP_NET_ADMIN)");
        assert_eq!(netfilter().tables().expect("tables"), []);
    });
}

#[test]
fn a_large_text_goes_through() {
    in_namespace(|| {
        let mut text = String::from("table inet ringwall {\n chain a {\n");
        for number in 0..20_000 {
            text += &format!("  tcp dport {} counter drop comment \"{number:08x}\"\n", number % 65535 + 1);
        }
        text += " }\n}\n";
        nft().load(&text).expect("a large text");
        assert_eq!(netfilter().rules(&ringwall(), "a").expect("rules").len(), 20_000);
        // Errors without end must not block it either.
        let error = nft().check(&"nonsense nonsense\n".repeat(50_000)).expect_err("nonsense");
        assert!(matches!(error, NftError::Refused { .. }));
    });
}

/// A directory whose program `nft` is this script, readable for everyone.
fn programs(name: &str, script: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("ringwall-nft-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let program = directory.join("nft");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    directory
}

fn found(directory: &Path) -> Result<Nft, NftError> {
    let found = Nft::find_in(&[directory.to_owned()]);
    fs::remove_dir_all(directory).expect("removed");
    found
}

#[test]
fn a_missing_or_old_program_is_told_apart() {
    let empty = programs("empty", "");
    fs::remove_file(empty.join("nft")).expect("removed");
    let missing = found(&empty).expect_err("an empty directory");
    assert_eq!(missing.to_string(), "the program `nft` is not installed: install the package nftables");
    let old = found(&programs("old", "echo 'nftables v0.9.8 (E.D.S.)'")).expect_err("too old");
    assert_eq!(old.to_string(), "nft 0.9.8 is too old: install nftables 1.0.1 or newer");
    assert!(matches!(found(&programs("mute", "echo what")), Err(NftError::UnknownVersion)));
    let first = found(&programs("first", "echo 'nftables v1.0.1 (Fearless Fosdick #3)'")).expect("just new enough");
    assert_eq!(first.version(), (1, 0, 1));
}
