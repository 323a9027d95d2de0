//! Packets of one connection, one after the other: handshakes, replies, errors about them, and what
//! only pretends to belong to it.

use ringwall_lab::frame::tcp;
use ringwall_packet::{Family, Flow, PortProtocol, State, Upper};
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::Generation;

use super::oracle::{Conntrack, Expected, Loaded};
use super::packets::{Extension, Handling, Packet, Packets};
use super::run::{Run, difference};
use super::testbed::Result;

/// Connections of a batch.
const CONNECTIONS: usize = 60;

/// What conntrack makes of a packet when its connection is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Belongs,
    Related,
    Invalid,
}

#[derive(Clone, Debug)]
struct Step {
    packet: Packet,
    is_reply: bool,
    known: Known,
    /// When its connection is not known.
    unknown: State,
}

/// What the kernel is to remember of a connection.
#[derive(Clone, Copy, Debug)]
struct Entry {
    begun_by_reply: bool,
    /// A packet has gone the other way.
    is_answered: bool,
    mark: Option<Generation>,
    /// Begun in the middle: conntrack does not know its windows, so nothing is outside of them.
    is_picked_up: bool,
    /// By a reset of ours.
    is_closed: bool,
}

#[derive(Clone, Debug)]
struct Sequence {
    steps: Vec<Step>,
    entry: Option<Entry>,
}

/// Sequences that are played side by side.
pub struct Sequences {
    sequences: Vec<Sequence>,
    next: usize,
    /// What the kernel remembers of them is not known any more.
    is_wrong: bool,
}

impl Sequences {
    pub fn new(run: &mut Run<'_, '_>, loaded: &Loaded) -> Self {
        let world = run.testbed.world.clone();
        let make = Packets {
            case: &loaded.case,
            world: &world,
            addresses: loaded.node.local(),
            routes: loaded.node.routes.clone(),
        };
        let mut sequences = Vec::new();
        for _ in 0..CONNECTIONS * 4 {
            let path = *run.random.pick(&Path::ALL);
            let Some(mut first) = make.first(run.random, path) else { continue };
            first.handling = Handling::Kept;
            first.payload.truncate(40);
            let steps = steps(&first, run);
            // Two connections between the same ends are told apart by ports only where there are any.
            if !steps.is_empty() && run.taken.insert(first.tuple()) {
                sequences.push(Sequence { steps, entry: None });
            }
            if sequences.len() == CONNECTIONS {
                break;
            }
        }
        Self { sequences, next: 0, is_wrong: false }
    }

    /// Plays up to `count` further steps of each.
    pub fn play(&mut self, run: &mut Run<'_, '_>, loaded: &Loaded, count: usize) -> Result<()> {
        if self.is_wrong {
            return Ok(());
        }
        let longest = self.sequences.iter().map(|sequence| sequence.steps.len()).max().unwrap_or_default();
        for at in self.next..longest.min(self.next.saturating_add(count)) {
            let mut packets = Vec::new();
            let mut expected: Vec<Expected> = Vec::new();
            let mut states = Vec::new();
            for sequence in &mut self.sequences {
                let Some(step) = sequence.steps.get(at).cloned() else { continue };
                let state = if run.blocks.hold(&step.packet) { step.unknown } else { sequence.state(&step) };
                let known = Conntrack {
                    state,
                    mark: sequence.entry.and_then(|entry| entry.mark),
                    is_reply: sequence.entry.is_some_and(|entry| entry.begun_by_reply != step.is_reply),
                };
                let expects = loaded.expect(&step.packet, known, &run.blocks, run.now);
                sequence.learn(&step, state, &expects, loaded.generation);
                run.tally.follow_ups += usize::from(at > 0);
                run.tally.flows += usize::from(at == 0);
                run.tally.accepted += usize::from(at == 0 && expects.is_accepted);
                run.tally.on_boundary += usize::from(at == 0 && step.packet.on_boundary);
                run.tally.of_ipv6 += usize::from(at == 0 && step.packet.flow.family() == Family::V6);
                run.tally.replies += usize::from(step.is_reply && state == State::Established);
                run.tally.icmp_errors += usize::from(step.known == Known::Related);
                packets.push(step.packet);
                expected.push(expects);
                states.push(state);
            }
            let observed = run.testbed.observe(&packets)?;
            if let Some(words) = difference(&packets, &expected, &observed) {
                let wrong = (0..packets.len())
                    .find(|index| {
                        let number = u16::try_from(index + 1).expect("a small batch");
                        observed.through.contains(&number) != expected[*index].is_accepted
                    })
                    .unwrap_or(0);
                let words = format!("step {at}, {:?}, of a sequence: {words}", states[wrong]);
                run.disagree(loaded, &packets[wrong], &words)?;
                self.is_wrong = true;
                return Ok(());
            }
        }
        self.next = self.next.saturating_add(count);
        Ok(())
    }
}

impl Sequence {
    fn state(&mut self, step: &Step) -> State {
        let Some(entry) = &mut self.entry else { return step.unknown };
        match step.known {
            Known::Invalid if !entry.is_picked_up && !entry.is_closed => State::Invalid,
            // A reset before any answer ends what was picked up.
            Known::Invalid if !entry.is_answered => {
                self.entry = None;
                State::New
            }
            Known::Related => State::Related,
            Known::Invalid | Known::Belongs => {
                entry.is_answered |= step.is_reply != entry.begun_by_reply;
                if entry.is_answered { State::Established } else { State::New }
            }
        }
    }

    fn learn(&mut self, step: &Step, state: State, expected: &Expected, generation: Generation) {
        if let Some(entry) = &mut self.entry {
            entry.is_closed |= expected.is_reset;
        }
        if !expected.is_accepted || matches!(state, State::Invalid | State::Untracked) || step.known == Known::Invalid {
            return;
        }
        let fresh = Entry { begun_by_reply: step.is_reply, is_answered: false, mark: None, is_picked_up: step.packet.tcp_flags == tcp::ACK, is_closed: false };
        let entry = self.entry.get_or_insert(fresh);
        if expected.is_marked {
            entry.mark = Some(generation);
        }
    }
}

/// The steps that follow from a first packet. Empty where an answer could not reach the node.
fn steps(first: &Packet, run: &mut Run<'_, '_>) -> Vec<Step> {
    let world = run.testbed.world.clone();
    let back = match first.path {
        Path::Input => Path::Output,
        Path::Output => Path::Input,
        Path::Forward => Path::Forward,
    };
    let opposite = |flow: Flow| {
        let mut packet = Packet { payload: vec![0x5a; 8], handling: Handling::Kept, ..Packet::new(back, flow, &world) };
        if back == Path::Input {
            packet.came_by = first.leaves_by;
        }
        packet.icmp_rest = first.icmp_rest;
        packet
    };
    let error_flow = |from| {
        let (kind, code) = if first.flow.family() == Family::V4 { (3, 13) } else { (1, 1) };
        Flow::new(from, first.flow.source(), Upper::Icmp { kind, code }).expect("of one family")
    };
    // What is blocked has no answer, and no part in the connection's state.
    if run.blocks.blocked.contains(first.flow.destination()) {
        return Vec::new();
    }
    // Of what goes from an address to itself, requests and replies look the same.
    if first.leaves_by == "lo" || first.flow.source() == first.flow.destination() || !world.is_possible(back, &error_flow(first.flow.destination())) {
        return Vec::new();
    }
    let mut error = opposite(error_flow(first.flow.destination()));
    let quoted = first.bytes(1);
    error.icmp_rest = [0; 4];
    error.payload = quoted[..quoted.len().min(128)].to_vec();
    let error = Step { packet: error, is_reply: true, known: Known::Related, unknown: State::Invalid };
    let request = Step { packet: first.clone(), is_reply: false, known: Known::Belongs, unknown: first.first_state() };
    let reply = first.flow.reply().map(|flow| {
        let packet = opposite(flow);
        let unknown = packet.first_state();
        Step { packet, is_reply: true, known: Known::Belongs, unknown }
    });
    debug_assert_eq!(first.extension, Extension::None);
    let segment = |step: &Step, flags, sequence, acknowledgement, known, unknown| {
        let mut step = Step { known, unknown, ..step.clone() };
        step.packet.tcp_flags = flags;
        step.packet.tcp_sequence = sequence;
        step.packet.tcp_acknowledgement = acknowledgement;
        step.packet.payload.clear();
        step
    };
    match (first.flow.upper(), reply) {
        (Upper::Ports { protocol: PortProtocol::TCP, .. }, Some(reply)) => {
            let (us, them) = (1000, 5000);
            vec![
                segment(&request, tcp::SYN, us, 0, Known::Belongs, State::New),
                segment(&reply, tcp::SYN | tcp::ACK, them, us + 1, Known::Belongs, State::Invalid),
                segment(&request, tcp::ACK, us + 1, them + 1, Known::Belongs, State::New),
                // From before the window, which a stranger would guess.
                segment(&request, tcp::RST, 1, 0, Known::Invalid, State::Invalid),
                segment(&reply, tcp::ACK, them + 1, us + 1, Known::Belongs, State::New),
                error,
                segment(&request, tcp::ACK, us + 1, them + 1, Known::Belongs, State::New),
                segment(&reply, tcp::ACK, them + 1, us + 1, Known::Belongs, State::New),
            ]
        }
        (Upper::Ports { protocol: PortProtocol::UDP, .. } | Upper::Icmp { .. } | Upper::Other(_), Some(reply))
            if first.first_state() == State::New =>
        {
            vec![request.clone(), request.clone(), reply.clone(), request.clone(), error, request, reply]
        }
        (Upper::Icmp { .. }, None) if first.first_state() == State::New => vec![request.clone(), request, error],
        _ => Vec::new(),
    }
}

