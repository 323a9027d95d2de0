//! DNS names in the agent: a real resolver's answers, their TTL, the kernel's sets, the disk, a reboot without a resolver.
//! They need root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and nft; without them they fail.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ringwall_node::apply::kept_answers;
use ringwall_packet::{AddressSet, IntervalSet, Protocol, UpperCube};
use ringwall_protocol::{Assignment, ToAgent, encode_ruleset};
use ringwall_ruleset::{Effect, Entry};

use crate::session::namespace::{load, netfilter, ringwall};
use crate::session::{Folder, assignment, controller, ruleset, run, start, told, until};

const NAME: &str = "ntp.example.net";

/// What the name server says now: addresses and their TTL; `None`: nothing at all.
type Zone = Arc<Mutex<Option<(Vec<Ipv4Addr>, u32)>>>;

/// A small name server (RFC 1035) on loopback that is the resolver of this thread's namespaces.
fn name_server(folder: &Folder, zone: Zone) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>).expect("mounts of our own");
    let file = folder.0.join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").expect("a file");
    mount(Some(&file), "/etc/resolv.conf", None::<&Path>, MsFlags::MS_BIND, None::<&Path>).expect("a resolver of our own");
    let socket = UdpSocket::bind("127.0.0.1:53").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let alive = Arc::downgrade(&zone);
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Some(zone) = alive.upgrade() {
            let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
            let Some((addresses, ttl)) = zone.lock().unwrap().clone() else { continue };
            let question = &bytes[12..length];
            let end = question.iter().position(|byte| *byte == 0).expect("a name's end") + 5;
            let is_v4 = question[end - 3] == 1;
            let answers: Vec<Ipv4Addr> = addresses.into_iter().filter(|_| is_v4).collect();
            let mut answer = bytes[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::try_from(answers.len()).expect("few"), 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            for address in answers {
                answer.extend([0xc0, 12, 0, 1, 0, 1]);
                answer.extend(ttl.to_be_bytes());
                answer.extend([0, 4]);
                answer.extend(address.octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

fn named(number: u64) -> Assignment {
    let entry = Entry {
        id: "9c56506a".into(),
        effect: Effect::Accept { session_timeout: None },
        source: AddressSet::full(),
        destination: AddressSet::full(),
        names: [NAME.to_owned()].into(),
        upper: UpperCube::ports(Protocol::UDP, IntervalSet::single(123)).into_iter().collect(),
        interface: None,
        expires: None,
        audit: false,
        log: false,
    };
    let mut ruleset = ruleset();
    ruleset.output.push(entry);
    let (ruleset, digest) = encode_ruleset(&ruleset);
    Assignment { ruleset, digest, ..assignment(number) }
}

/// The addresses in the set of the first generation, and for how long each is there.
fn in_kernel() -> Vec<(Ipv4Addr, Option<Duration>)> {
    let elements = netfilter().elements(&ringwall(), &format!("g1_names4_{NAME}")).unwrap_or_default();
    let of = |key: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(key).expect("an address"));
    let mut all: Vec<_> = elements.iter().map(|element| (of(&element.key), element.timeout)).collect();
    all.sort();
    all
}

#[test]
fn names_hold_for_their_ttl_and_an_hour_and_are_there_after_a_reboot() {
    run(async || {
        let (folder, zone) = (Folder::new("names"), Zone::default());
        // Loopback is no answer, whoever says so.
        *zone.lock().unwrap() = Some((vec![[198, 51, 100, 7].into(), [127, 0, 0, 1].into(), [224, 0, 0, 1].into()], 300));
        name_server(&folder, zone.clone());
        let told = told(vec![ToAgent::Assignment(named(1)).into()]);
        let (server, way) = controller(told.clone()).await;
        let mut shell = start(&folder);
        shell.use_controller(way);
        let held = Some(Duration::from_secs(300 + 3600));
        let first = (Ipv4Addr::new(198, 51, 100, 7), held);
        until(&mut shell, |shell| in_kernel() == [first] && shell.reconciler().confirmed().is_some()).await;
        let kept = kept_answers(&folder.0).expect("a file");
        assert_eq!(kept[NAME].seconds, Some(3900));

        // The machine restarts, with neither resolver nor controller.
        drop((shell, server));
        *zone.lock().unwrap() = None;
        load("delete table inet ringwall\ndelete table inet ringwall_blocks\n");
        let mut shell = start(&folder);
        until(&mut shell, |_| in_kernel() == [first]).await;

        // Another answer: what was there stays for its time, beside it.
        drop(shell);
        *zone.lock().unwrap() = Some((vec![[198, 51, 100, 8].into()], 60));
        let mut shell = start(&folder);
        let second = (Ipv4Addr::new(198, 51, 100, 8), Some(Duration::from_secs(3660)));
        until(&mut shell, |_| in_kernel() == [first, second]).await;
        until(&mut shell, |_| kept_answers(&folder.0).is_ok_and(|kept| kept[NAME].seconds == Some(3660))).await;
    });
}
