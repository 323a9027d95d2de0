//! The reconciler with a real kernel and a real state folder: only controller and network are made up.
//! They need root (CAP_NET_ADMIN) and nft; without them they fail.

use crate::namespace;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use namespace::{in_namespace, load, netfilter, nft};
use ringwall_node::apply::{Hands, History, Load};
use ringwall_node::kernel::{Netfilter, Nft};
use ringwall_node::reconciler::{
    Action, Answer, Assignment, DriftOutcome, Event, Happening, Kernel, Moment, OnDrift, OnTighten, Place, Process, Reconciler,
    Say, Stage,
};
use ringwall_packet::{AddressSet, UpperSet};
use ringwall_ruleset::nftables::Generation;
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Ruleset};

fn ruleset(_: &[u8]) -> Result<Ruleset, String> {
    let entry = Entry {
        id: "9c56506a".into(),
        effect: Effect::Accept { session_timeout: None },
        source: AddressSet::full(),
        destination: AddressSet::full(),
        names: [].into(),
        upper: UpperSet::any(),
        interface: None,
        expires: None,
        audit: false,
        log: false,
    };
    Ok(Ruleset {
        node: "vault-1".into(),
        audit: false,
        local: AddressSet::full(),
        protected: AddressSet::default(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: vec![entry],
        output: vec![],
        forward: Forward::Containers { unmanaged: [].into(), uplinks: [].into() },
    })
}

fn assignment(number: u64, window: u32) -> Assignment {
    Assignment {
        place: Place { epoch: 1, number },
        revision: "r1".into(),
        digest: [1; 32],
        ruleset: [1, 2, 255].into(),
        window,
        on_drift: OnDrift::Heal,
        on_tighten: OnTighten::Cut,
        names: [].into(),
    }
}

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringwall-hands-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Agent<'a> {
    folder: &'a Folder,
    nft: Nft,
    netfilter: Netfilter,
    reconciler: Reconciler,
    began: Instant,
    answer: Answer,
    said: Vec<Say>,
}

impl<'a> Agent<'a> {
    fn start(folder: &'a Folder, answer: Answer) -> Self {
        let reconciler = Reconciler::default();
        let mut agent =
            Self { folder, nft: nft(), netfilter: netfilter(), reconciler, began: Instant::now(), answer, said: Vec::new() };
        let disk = History::read(&folder.0).expect("a state folder").disk().expect("whole records");
        let kernel = agent.hands().kernel().expect("the kernel");
        agent.take(Event::Started { disk, kernel });
        agent
    }

    fn hands(&mut self) -> Hands<'_> {
        let Self { nft, netfilter, folder, .. } = self;
        Hands { nft, netfilter, folder: &folder.0, read: ruleset, now: 1_800_000_000 }
    }

    /// Takes in an event and all that come of it.
    fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = u64::try_from(self.began.elapsed().as_millis()).expect("a short test");
            for action in self.reconciler.step(Moment { now, random: 0 }, event) {
                events.extend(self.carry_out(action));
            }
        }
    }

    /// Waits for what the reconciler waits for, and so on until it said something.
    fn until_said(&mut self) {
        while self.said.is_empty() {
            // The kernel's timers are real, and so is the time until they are looked at.
            let due = self.reconciler.wake_at().expect("it waits for something");
            let until = Duration::from_millis(due).saturating_sub(self.began.elapsed());
            thread::park_timeout(until);
            self.take(Event::Tick);
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        let answer = self.answer.clone();
        let answers = BTreeMap::new();
        Some(match action {
            Action::Enrol | Action::Renew => Event::Enrolled { valid: 86_400_000 },
            Action::Connect => Event::Connected,
            Action::Persist(assignment) => self.hands().persist(&assignment),
            Action::Load(assignment) => self.hands().load(&assignment, Load { ways_in: &[], answers, proof: &|_| Ok(()) }),
            Action::ConnectFreshAndConfirm { attempt, .. } => Event::Answered { attempt, answer },
            Action::ConfirmInKernel(generation) => self.hands().confirm(generation),
            Action::Rollback(generation) => self.hands().rollback(generation),
            Action::ReadKernel => Event::KernelRead(self.hands().kernel().expect("the kernel")),
            Action::Heal(generation) => self.hands().heal(generation, &ruleset(&[]).unwrap()),
            Action::Remove => self.hands().remove(),
            Action::Say(say) => {
                self.said.push(say);
                return None;
            }
            Action::Disconnect | Action::ForgetIdentity | Action::Resolve(_) | Action::Refresh { .. } => return None,
        })
    }

    fn enforces(&mut self, generation: u32) {
        let kernel = self.hands().kernel().expect("the kernel");
        assert_eq!(kernel, Kernel { current: Some(Generation(generation)), trial: None, is_intact: true });
    }

    fn changed(&mut self) {
        self.take(Event::ForeignChange(Some(Process { name: "nft".into(), id: 4711 })));
    }
}

fn healed() -> Say {
    let process = Some(Process { name: "nft".into(), id: 4711 });
    Say::Happened { age: 0, happening: Happening::Drift { process, outcome: DriftOutcome::Healed } }
}

#[test]
fn an_assignment_is_enforced_and_stays() {
    in_namespace(|| {
        let folder = Folder::new("stays");
        let mut agent = Agent::start(&folder, Answer::Yes);
        agent.take(Event::Received(assignment(1, 60)));
        let stages = [Stage::Received, Stage::Trial, Stage::Confirmed];
        let place = Place { epoch: 1, number: 1 };
        let generation = |stage| u32::from(stage != Stage::Received);
        assert_eq!(agent.said, stages.map(|stage| Say::Ack { place, stage, generation: generation(stage) }));
        agent.enforces(1);

        agent.said.clear();
        load("delete table inet ringwall\n");
        agent.changed();
        agent.until_said();
        agent.enforces(1);
        assert_eq!(agent.said, [healed()]);

        agent.said.clear();
        load("insert rule inet ringwall input accept\n");
        agent.changed();
        agent.until_said();
        agent.enforces(1);
        assert_eq!(agent.said, [healed()]);

        // What it took over, it takes over once, also after a restart.
        let mut agent = Agent::start(&folder, Answer::Yes);
        agent.enforces(1);
        assert_eq!(agent.reconciler.taken(), Some(place));
        agent.said.clear();
        agent.take(Event::Received(Assignment { digest: [2; 32], ..assignment(1, 60) }));
        assert!(matches!(agent.said[..], [Say::Refused { .. }]), "{:?}", agent.said);
        agent.enforces(1);
        // And after a reboot, where nothing was loaded.
        load("delete table inet ringwall\n");
        let mut agent = Agent::start(&folder, Answer::Unreachable);
        agent.enforces(1);
    });
}

#[test]
fn a_trial_that_is_not_confirmed_falls_and_is_not_tried_again() {
    in_namespace(|| {
        let folder = Folder::new("falls");
        Agent::start(&folder, Answer::Yes).take(Event::Received(assignment(1, 60)));
        let mut agent = Agent::start(&folder, Answer::Unreachable);
        agent.take(Event::Received(assignment(2, 1)));
        agent.said.clear();
        agent.until_said();
        assert!(matches!(agent.said[..], [Say::Ack { stage: Stage::Fell, generation: 2, .. }]), "{:?}", agent.said);
        agent.enforces(1);
        let mut agent = Agent::start(&folder, Answer::Yes);
        assert!(agent.said.iter().any(|say| matches!(say, Say::Ack { stage: Stage::Fell, .. })), "{:?}", agent.said);
        agent.enforces(1);
    });
}

#[test]
fn an_agent_that_was_killed_finds_its_trial() {
    in_namespace(|| {
        let folder = Folder::new("killed");
        Agent::start(&folder, Answer::Yes).take(Event::Received(assignment(1, 60)));
        Agent::start(&folder, Answer::Unreachable).take(Event::Received(assignment(2, 60)));
        let on_trial = netfilter().chains().expect("chains").iter().any(|chain| chain.name == "g2_in");
        assert!(on_trial);
        let mut agent = Agent::start(&folder, Answer::Yes);
        agent.enforces(2);
        let disk = History::read(&folder.0).unwrap().disk().unwrap();
        assert_eq!(disk.confirmed.and_then(|confirmed| confirmed.place), Some(Place { epoch: 1, number: 2 }));
        assert_eq!(disk.taken, Some(assignment(2, 60)), "as it came");
        // Told to end one, it ends it at once.
        agent.answer = Answer::No;
        agent.take(Event::Received(assignment(3, 60)));
        agent.enforces(2);
    });
}

#[test]
fn records_of_policy_files_are_read_as_before() {
    let folder = Folder::new("old");
    fs::create_dir_all(folder.0.join("g7")).unwrap();
    let state = r#"{"schema":"ringwall.state/1","last":7,"confirmed":7,"history":[],"fallen":[]}"#;
    fs::write(folder.0.join("state.json"), state).unwrap();
    let record = r#"{"schema":"ringwall.record/1","node":"vault-1","files":[["policy.yaml","x"]],"values":{},
        "answers":{"ntp.example.net":{"addresses":["192.0.2.1"],"asked":1}},"applied":1}"#;
    fs::write(folder.0.join("g7/record.json"), record).unwrap();
    let disk = History::read(&folder.0).unwrap().disk().unwrap();
    let confirmed = disk.confirmed.expect("g7");
    assert_eq!((confirmed.generation, confirmed.place), (Generation(7), None));
    assert_eq!(*confirmed.names, ["ntp.example.net".to_owned()]);
    assert_eq!((disk.taken, disk.begun), (None, vec![]));
}
