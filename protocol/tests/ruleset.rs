//! A ruleset on the wire: the same there and back, and nothing that is not understood is taken.

use crate::random;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use ringwall_packet::{AddressSet, UpperSet};
use ringwall_protocol::{Invalid, decode_ruleset, encode_ruleset, wire};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Ruleset};

proptest! {
    #[test]
    fn a_ruleset_comes_back(ruleset in random::ruleset()) {
        let (bytes, digest) = encode_ruleset(&ruleset);
        let found = decode_ruleset(&bytes);
        prop_assert_eq!(found.as_ref(), Ok(&ruleset));
        // Equal values, equal bytes, whatever they were made from.
        prop_assert_eq!(encode_ruleset(&found.unwrap()), (bytes, digest));
    }

    /// What is taken is exactly what was sent: there is no second way to write a ruleset.
    #[test]
    fn changed_bytes_are_refused_or_mean_themselves(
        ruleset in random::ruleset(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        let mut bytes = encode_ruleset(&ruleset).0.to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let bytes = Bytes::from(bytes);
        if let Ok(found) = decode_ruleset(&bytes) {
            prop_assert_eq!(encode_ruleset(&found).0, bytes);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_mean_themselves(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        if let Ok(found) = decode_ruleset(&bytes) {
            prop_assert_eq!(encode_ruleset(&found).0, bytes);
        }
    }
}

fn entry() -> Entry {
    Entry {
        id: "9c56506a".into(),
        effect: Effect::Accept { session_timeout: None },
        source: AddressSet::full(),
        destination: AddressSet::default(),
        names: ["ntp.example.net".to_owned()].into(),
        upper: UpperSet::any(),
        interface: Some("eth0".into()),
        expires: None,
        audit: false,
        log: false,
    }
}

fn ruleset() -> Ruleset {
    Ruleset {
        node: "vault-1".into(),
        audit: false,
        local: AddressSet::default(),
        protected: AddressSet::default(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: vec![entry()],
        output: vec![],
        forward: Forward::Containers { unmanaged: [].into(), uplinks: [].into() },
    }
}

/// What is said of the bytes of `ruleset()` with something done to them as a message.
fn refused(change: impl FnOnce(&mut wire::Ruleset)) -> &'static str {
    let mut message = wire::Ruleset::decode(encode_ruleset(&ruleset()).0).unwrap();
    change(&mut message);
    let Err(Invalid { field, .. }) = decode_ruleset(&message.encode_to_vec().into()) else { panic!("it was taken") };
    field
}

#[test]
fn what_is_not_understood_is_refused_by_its_field() {
    use wire::entry::Effect as Wire;
    assert_eq!(refused(|ruleset| ruleset.schema = 2), "Ruleset.schema");
    assert_eq!(refused(|ruleset| ruleset.input[0].effect = None), "Entry.effect");
    assert_eq!(refused(|ruleset| ruleset.input[0].enforcement = 0), "Entry.enforcement");
    assert_eq!(refused(|ruleset| ruleset.input[0].enforcement = 3), "Entry.enforcement");
    assert_eq!(refused(|ruleset| ruleset.enforcement = 0), "Ruleset.enforcement");
    assert_eq!(refused(|ruleset| ruleset.forward = None), "Ruleset.forward");
    assert_eq!(refused(|ruleset| ruleset.floor = None), "Ruleset.floor");
    assert_eq!(refused(|ruleset| ruleset.local = 7), "Ruleset.local");
    assert_eq!(refused(|ruleset| ruleset.addresses.push(wire::AddressSet::default())), "Ruleset.addresses");
    assert_eq!(refused(|ruleset| ruleset.uppers[0].cubes[0].protocols = Bytes::new()), "UpperCube");
    assert_eq!(refused(|ruleset| ruleset.uppers[0].cubes[0].destination_ports = vec![0, 80, 0, 80].into()), "UpperCube");
    assert_eq!(refused(|ruleset| ruleset.addresses[1].v4 = vec![0; 7].into()), "AddressSet.v4");
    let touching = vec![192, 0, 2, 0, 192, 0, 2, 1, 192, 0, 2, 2, 192, 0, 2, 3];
    assert_eq!(refused(|ruleset| ruleset.addresses[1].v4 = touching.into()), "AddressSet.v4");
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    assert_eq!(refused(|ruleset| ruleset.input[0].names = names(["b.example", "a.example"])), "Entry.names");
    assert_eq!(refused(|ruleset| ruleset.input[0].names = names(["a.example", "a.example"])), "Entry.names");
    // Nothing of it gets into the text that nft reads.
    assert_eq!(refused(|ruleset| ruleset.input[0].names = vec!["*.example".into()]), "Entry.names");
    assert_eq!(refused(|ruleset| ruleset.input[0].id = "a\" accept; #".into()), "Entry.id");
    assert_eq!(refused(|ruleset| ruleset.input[0].interface = Some("eth0\" accept".into())), "Entry.interface");
    assert_eq!(refused(|ruleset| ruleset.node = "a\nb".into()), "Ruleset.node");
    // The way that it is written is part of it, too.
    let session_timeout = Some(60);
    assert_eq!(refused(|ruleset| {
        ruleset.input.push(ruleset.input[0].clone());
        ruleset.input[1].effect = Some(Wire::Accept(wire::Accept { session_timeout }));
        ruleset.input[1].source = 5;
    }), "Entry.source");
}

/// A controller of some later version says something about an entry that this one knows nothing of.
#[test]
fn unknown_fields_and_effects_are_refused() {
    let bytes = encode_ruleset(&ruleset()).0;
    let whole = |mut more: Vec<u8>| {
        let mut bytes = bytes.to_vec();
        bytes.append(&mut more);
        decode_ruleset(&bytes.into())
    };
    assert!(whole(vec![]).is_ok());
    // Field 20 of the ruleset, a number; then a whole entry with field 13, and one with another effect (field 14).
    for unknown in [vec![0xa0, 0x01, 1], vec![0x52, 2, 0x68, 1], vec![0x52, 2, 0x72, 0]] {
        assert_eq!(whole(unknown).unwrap_err().field, "Ruleset");
    }
}

#[test]
fn few_bytes_do_not_become_many_boxes() {
    let port = |port: u16| ringwall_packet::UpperCube::ports(ringwall_packet::Protocol::TCP, ringwall_packet::IntervalSet::single(port));
    let upper: UpperSet = (0..2_000).map(|number| port(number * 2).unwrap()).collect();
    let input = vec![Entry { upper, ..entry() }; 1_001];
    let bytes = encode_ruleset(&Ruleset { input, ..ruleset() }).0;
    assert!(bytes.len() < 200_000);
    assert_eq!(decode_ruleset(&bytes).unwrap_err().field, "Ruleset.uppers");
}

#[test]
fn ten_thousand_rules_are_small() {
    let input = (0..10_000u32).map(|number| Entry {
        id: format!("{number:08x}"),
        source: AddressSet::from(std::net::IpAddr::from((0xc000_0200 + number).to_be_bytes())),
        names: [].into(),
        interface: None,
        ..entry()
    });
    let bytes = encode_ruleset(&Ruleset { input: input.collect(), ..ruleset() }).0;
    assert!(bytes.len() < 500_000, "{} bytes", bytes.len());
}
