//! A fresh network namespace for one test.

use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, unshare};
use ringwall_node::kernel::{Netfilter, Nft, TableId};

/// Runs `test` on a thread of its own in a new network namespace whose loopback is up. Whatever it
/// leaves behind goes with the namespace.
pub fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            loopback_up();
            test()
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// RTM_NEWLINK for interface 1 with IFF_UP set (linux/rtnetlink.h).
fn loopback_up() {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 0x5;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, padding, type
    message.extend(1i32.to_ne_bytes()); // loopback's index in every namespace
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // the flags that change
    let socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
    socket.send_to(&message, &SocketAddr::new(0, 0), 0).expect("loopback up");
    let (answer, _) = socket.recv_from_full().expect("an answer");
    assert_eq!(answer[16..20], [0; 4], "the kernel refused to set loopback up");
}

pub fn nft() -> Nft {
    Nft::find(std::env::var_os("PATH").as_deref()).expect("nft is installed")
}

pub fn load(text: &str) {
    nft().load(text).unwrap_or_else(|error| panic!("{error}: {text}"));
}

pub fn netfilter() -> Netfilter {
    Netfilter::open().expect("a netlink socket")
}

pub fn ringwall() -> TableId {
    TableId::inet("ringwall")
}

/// What nft itself lists, as JSON: the objects of one kind.
pub fn listed(what: &[&str], kind: &str) -> Vec<serde_json::Value> {
    let output = Command::new(nft().program()).arg("-j").arg("list").args(what).output().expect("nft runs");
    assert!(output.status.success(), "nft list {what:?}: {}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let objects = json["nftables"].as_array().expect("a list");
    objects.iter().filter_map(|object| object.get(kind).cloned()).collect()
}

/// Sends `count` UDP datagrams of one byte over loopback.
pub fn send_udp(port: u16, count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..count {
        let _ = socket.send_to(&[0], ("127.0.0.1", port));
    }
}

/// A TCP connection over loopback: the client's and the server's end.
pub fn connect() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
    let (server, _) = listener.accept().expect("its other end");
    (client, server)
}
