//! The agent's proof: it holds for what is written, in every way of loading it, and notices what is not.

use crate::mutants;
use crate::rulesets;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, Loading, body, body_of_lists, prove, prove_all, transaction};
use ringwall_ruleset::{Effect, Entry, Forward, Ruleset};

use mutants::{filter_of, mutants, same};

/// What no other target has: names, audited entries and nodes, session timeouts, marks, addresses of the node.
fn ruleset(count: usize) -> impl Strategy<Value = Ruleset> {
    let more = (any::<[u8; 4]>(), vec(any::<u8>(), 64), rulesets::addresses(), rulesets::addresses());
    (rulesets::ruleset(count), more).prop_map(|(mut ruleset, ([audit, ..], dice, local, protected))| {
        ruleset.audit = audit < 32;
        (ruleset.local, ruleset.protected) = (local, protected);
        let mut dice = dice.into_iter().cycle();
        let mut change = |entries: &mut Vec<Entry>, has_names: bool| {
            for entry in entries {
                entry.audit = dice.next() < Some(32);
                if has_names && dice.next() < Some(48) {
                    entry.names = ["example.org", "example.net"].map(String::from).into();
                    entry.destination = ringwall_packet::AddressSet::full();
                }
                if let (Effect::Accept { session_timeout }, Some(0..64)) = (&mut entry.effect, dice.next()) {
                    *session_timeout = Some(600);
                }
            }
        };
        change(&mut ruleset.input, false);
        change(&mut ruleset.output, true);
        if let Forward::Routed(entries) = &mut ruleset.forward {
            change(entries, true);
        }
        ruleset
    })
}

/// Generation 6 decides, 7 and 9 have fallen.
fn older() -> Installed {
    Installed {
        current: Some(Generation(6)),
        fallen: [Generation(7), Generation(9)].into(),
        chains: ["g6_in", "g6_out", "g6_fwd", "g6_established", "g9_in"].map(String::from).to_vec(),
        counters: ["g6_in_default", "g9_in_default"].map(String::from).to_vec(),
        sets: ["g6_names4_example.org", "g9_armed"].map(String::from).to_vec(),
    }
}

/// Each way of loading a text: onto nothing and onto older generations, on trial and for good, marks that go round.
fn loadings() -> Vec<(Generation, Installed, Confirm)> {
    let after_nothing = [1, 254, 255].map(|number| (Generation(number), Installed::default()));
    let all = after_nothing.into_iter().chain([(Generation(10), older())]);
    all.flat_map(|(generation, installed)| [Confirm::Within(60), Confirm::Never].map(|confirm| (generation, installed.clone(), confirm))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_proved(ruleset in ruleset(8)) {
        for (generation, installed, confirm) in loadings() {
            let text = transaction(&ruleset, generation, &installed, confirm);
            let loading = Loading { text: &text, generation, installed: &installed, confirm };
            if let Err(error) = prove(&ruleset, &loading) {
                panic!("{generation} {confirm:?}: {error}\n{ruleset:?}\n{text}");
            }
        }
    }

    /// What does not fit into maps stands as one line per entry and box.
    #[test]
    fn lists_are_proved(ruleset in ruleset(8)) {
        let (generation, installed, confirm) = (Generation(10), older(), Confirm::Within(60));
        let text = transaction(&ruleset, generation, &installed, confirm);
        let text = text.replace(&body(&ruleset, generation), &body_of_lists(&ruleset, generation));
        if let Err(error) = prove(&ruleset, &Loading { text: &text, generation, installed: &installed, confirm }) {
            panic!("{error}\n{ruleset:?}\n{text}");
        }
    }

    /// The text of one ruleset is proved for another only if there is none that it would treat otherwise.
    #[test]
    fn another_s_text_is_refused(one in ruleset(6), other in ruleset(6)) {
        let (generation, installed, confirm) = (Generation(10), older(), Confirm::Within(60));
        let [own, text] = [&one, &other].map(|ruleset| transaction(ruleset, generation, &installed, confirm));
        let loading = Loading { text: &text, generation, installed: &installed, confirm };
        if prove(&one, &loading).is_ok() {
            let [own, text] = [&own, &text].map(|text| filter_of(text, &installed).expect("ours"));
            prop_assert!(same(&own, &text, sets_a_mark));
        }
    }
}

#[test]
fn every_mutant_is_refused_or_decides_the_same() {
    let mut runner = TestRunner::deterministic();
    let (mut count, mut refused, mut equal) = (0, 0, Vec::new());
    for round in 0..8 {
        let ruleset = ruleset(6).new_tree(&mut runner).expect("a ruleset").current();
        let (generation, installed) = (Generation(10), if round % 4 == 3 { Installed::default() } else { older() });
        let confirm = if round % 4 == 2 { Confirm::Never } else { Confirm::Within(60) };
        let text = transaction(&ruleset, generation, &installed, confirm);
        let prove = |text: &str| prove(&ruleset, &Loading { text, generation, installed: &installed, confirm });
        prove(&text).expect("it is ours");
        let original = filter_of(&text, &installed).expect("it is ours");
        let all = mutants(&text);
        // Each line's and token's turn comes; `RINGWALL_MUTANTS=1` takes them all, which takes minutes.
        let step = if std::env::var_os("RINGWALL_MUTANTS").is_some() { 1 } else { (all.len() / 80).max(1) };
        count += all.len();
        for (what, mutant) in all.into_iter().skip(round % step).step_by(step) {
            match prove(&mutant) {
                Err(_) => refused += 1,
                Ok(()) => {
                    let does = filter_of(&mutant, &installed).unwrap_or_else(|| panic!("{round}, {what}: proved, and can't be read"));
                    assert!(same(&original, &does, sets_a_mark), "{round}, {what}: proved, and does something else");
                    equal.push(format!("{round}, {what}"));
                }
            }
        }
    }
    println!("{} of {count} mutants: {refused} refused, {} decide the same", refused + equal.len(), equal.len());
    for what in &equal {
        println!("  the same: {what}");
    }
    assert!(refused >= 300);
}

/// What an honest text is followed by, and what is said of it.
#[test]
fn nothing_may_follow() {
    let ruleset = ruleset(6).new_tree(&mut TestRunner::deterministic()).expect("a ruleset").current();
    let (generation, installed, confirm) = (Generation(10), older(), Confirm::Within(60));
    let text = transaction(&ruleset, generation, &installed, confirm);
    let more = [
        ("add rule inet ringwall g6_in accept", "`g6_in` is changed"),
        ("insert rule inet ringwall g6_established accept", "`g6_established` is changed"),
        ("flush chain inet ringwall g6_in", "`g6_in` is changed"),
        ("add element inet ringwall g6_names4_example.org { 192.0.2.9 }", "`g6_names4_example.org` is changed"),
        ("add rule inet ringwall input accept", "rule `input` is"),
        ("insert rule inet ringwall g10_in accept", "in of `"),
        ("insert rule inet ringwall g10_fwd notrack", "`notrack`"),
        ("insert rule inet ringwall g10_out ct mark set 1", "a statement that is not proved"),
        ("add chain inet ringwall g10_early { type filter hook input priority -20; policy accept; }", "chain `g10_early` is"),
        ("add element inet ringwall probe_pass4 { 192.0.2.1 . 192.0.2.2 . tcp . 1 . 2 }", "element `probe_pass4` is none of ours"),
        ("add element inet ringwall_blocks protected4 { 192.0.2.1 }", "element `protected4` is"),
        ("delete element inet ringwall g10_armed { ipv4 }", "element `g10_armed` is"),
        ("add table ip nat", "table `ip nat` is none of ours"),
        ("delete chain inet ringwall g10_nothing", "g10_nothing"),
        ("flush ruleset", "is missing"),
    ];
    for (line, said) in more {
        let text = format!("{text}{line}\n");
        let loading = Loading { text: &text, generation, installed: &installed, confirm };
        let error = prove(&ruleset, &loading).expect_err(line).to_string();
        assert!(error.contains(said), "{line}: {error}");
    }
    // Its connections would be those of a generation that comes later, and judged anew.
    let text = text.replace("or 0x0b000000", "or 0x0c000000");
    let error = prove(&ruleset, &Loading { text: &text, generation, installed: &installed, confirm }).expect_err("a wrong mark");
    assert!(error.to_string().contains("a mark that is not the generation's"), "{error}");
}

/// Of two texts with the same chains one is compared: whatever is wrong with the other is noticed as if it stood alone.
#[test]
fn a_text_that_is_proved_vouches_for_no_other() {
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut proved) = (0, 0);
    for _ in 0..3 {
        let ruleset = ruleset(5).new_tree(&mut runner).expect("a ruleset").current();
        let (generation, installed) = (Generation(10), older());
        let text = transaction(&ruleset, generation, &installed, Confirm::Within(60));
        let trial = Loading { text: &text, generation, installed: &installed, confirm: Confirm::Within(60) };
        let nothing = Installed { fallen: installed.fallen.clone(), ..Installed::default() };
        let boot = transaction(&ruleset, generation, &nothing, Confirm::Never);
        fn of<'a>(text: &'a str, installed: &'a Installed) -> Loading<'a> {
            Loading { text, generation: Generation(10), installed, confirm: Confirm::Never }
        }
        prove_all(&ruleset, &[trial, of(&boot, &nothing)]).expect("both are ours");
        let all = mutants(&boot);
        let step = (all.len() / 30).max(1);
        for (what, mutant) in all.into_iter().step_by(step) {
            let (alone, beside) = (prove(&ruleset, &of(&mutant, &nothing)), prove_all(&ruleset, &[trial, of(&mutant, &nothing)]));
            assert_eq!(alone.is_ok(), beside.is_ok(), "{what}: {alone:?} {beside:?}");
            *(if alone.is_ok() { &mut proved } else { &mut refused }) += 1;
        }
        // Marks that are refused are others, and the chain that says so is the same.
        let fewer = Installed::default();
        assert!(prove_all(&ruleset, &[trial, of(&boot, &fewer)]).is_err());
    }
    println!("{refused} refused, {proved} do the same");
    assert!(refused > 60);
}

/// The only statement beside the verdict that decides anything: what becomes of the connection's later packets.
fn sets_a_mark(text: &str) -> bool {
    text.contains("mark set ")
}
