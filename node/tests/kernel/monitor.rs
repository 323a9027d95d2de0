//! Who changed nftables, as the kernel tells it.

use std::time::{Duration, Instant};

use ringwall_node::kernel::Monitor;

use crate::namespace::{in_namespace, load};

#[test]
fn a_change_is_told_with_its_process() {
    in_namespace(|| {
        let mut monitor = Monitor::open().expect("a group");
        assert_eq!(monitor.next(Instant::now()).expect("the kernel"), None, "nothing happened yet");
        load("add table inet ringwall\n");
        load("delete table inet ringwall\n");
        for _ in 0..2 {
            let soon = Instant::now() + Duration::from_secs(10);
            let change = monitor.next(soon).expect("the kernel").expect("a change");
            let (name, id) = change.process.expect("its process");
            assert_eq!(name, "nft");
            assert_ne!(id, std::process::id());
        }
        assert_eq!(monitor.next(Instant::now()).expect("the kernel"), None, "one for each commit");
    });
}
