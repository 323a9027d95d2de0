//! NFLOG.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringwall_node::kernel::{Hook, LogReader, LogRecord};

use crate::namespace::{in_namespace, load, send_udp};

const LOG: &str = "table inet ringwall {
    chain input { type filter hook input priority 0
        udp dport 9 meta mark set 0x2a log group 5 prefix \"RW:0a0b0c0d \" snaplen 128 drop
    }
    chain output { type filter hook output priority 0
        tcp dport 9 log group 6 prefix \"out\" drop
    }
}
";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn next(reader: &mut LogReader) -> LogRecord {
    reader.next(soon()).expect("the log is read").expect("a packet was logged")
}

#[test]
fn a_hit_carries_prefix_place_and_flow() {
    in_namespace(|| {
        load(LOG);
        let mut reader = LogReader::bind(5, 1 << 20).expect("a free group");
        for (from, to) in [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9")] {
            let socket = UdpSocket::bind(from).expect("a socket");
            socket.send_to(b"hello", to).expect("sent");
            let record = next(&mut reader);
            assert_eq!(record.prefix, "RW:0a0b0c0d ");
            assert_eq!((record.hook, record.mark), (Some(Hook::Input), 0x2a));
            // Loopback's index in every namespace.
            assert_eq!((record.input, record.output), (Some(1), None));
            let source = socket.local_addr().expect("bound");
            assert_eq!(record.flow.map(|flow| flow.to_string()), Some(format!("udp {source} -> {to}")));
            assert!(record.header.ends_with(b"hello"));
        }
        assert_eq!(reader.next(Instant::now()).expect("the log is read"), None);
        assert_eq!(reader.losses(), Default::default());
    });
}

#[test]
fn groups_are_apart_and_taken_once() {
    in_namespace(|| {
        load(LOG);
        let mut five = LogReader::bind(5, 1 << 20).expect("a free group");
        let mut six = LogReader::bind(6, 1 << 20).expect("a free group");
        let error = LogReader::bind(5, 1 << 20).err().expect("the group is taken");
        assert_eq!(error.failure().errno(), Some(Errno::EPERM), "{error:?}");
        assert_eq!(error.to_string(), "cannot listen to log group 5");
        let connecting = std::net::TcpStream::connect_timeout(
            &"127.0.0.1:9".parse().expect("an address"),
            Duration::from_millis(10),
        );
        assert!(connecting.is_err());
        let record = next(&mut six);
        assert_eq!((record.prefix.as_str(), record.hook, record.output), ("out", Some(Hook::Output), Some(1)));
        assert_eq!(five.next(Instant::now()).expect("the log is read"), None);
        drop(five);
        LogReader::bind(5, 1 << 20).expect("free again");
    });
}

#[test]
fn what_does_not_fit_is_counted() {
    in_namespace(|| {
        load(LOG);
        let mut reader = LogReader::bind(5, 4096).expect("a free group");
        send_udp(9, 1000);
        let mut read = 0;
        while reader.next(Instant::now()).expect("the log is read").is_some() {
            read += 1;
        }
        // The packet after a loss shows how many are missing.
        send_udp(9, 1);
        next(&mut reader);
        let losses = reader.losses();
        assert!(read < 1000 && losses.overruns > 0, "{read} read, {losses:?}");
        assert_eq!(read + losses.packets, 1000, "{losses:?}");
        assert_eq!(losses.unreadable, 0);
    });
}
