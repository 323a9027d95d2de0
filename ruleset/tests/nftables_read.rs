//! Texts of ours and of others, read: what they do.

mod nftables_read_words;

use std::path::{Path, PathBuf};

use nftables_read_words::decisions;
use ringwall_diagnostic::Sources;
use ringwall_ruleset::nftables::read::{Sets, State, TableName, chain, filter, script};
use ringwall_ruleset::Verdict;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder").to_path_buf()
}

const OURS: TableName = TableName { family: "inet", name: "ringwall" };

#[test]
fn our_goldens_are_read_whole() {
    for node in ["edge", "web"] {
        let path = root().join(format!("compile/tests/golden/{node}.nft"));
        let text = std::fs::read_to_string(&path).expect("a golden text");
        let mut sources = Sources::new();
        let source = sources.add("golden.nft", text.clone());
        let (script, diagnostics) = script(&text, source);
        assert_eq!(diagnostics, []);
        let mut state = State::default();
        assert_eq!(state.apply(&script), []);
        let all = filter(&state, Sets::Free).expect("few rows");
        assert_eq!(all.unknown, [], "{node}");
        assert_eq!(all.chains.len(), 5);
        let root = chain(&state, OURS, "g1_in", Verdict::Drop, Sets::Free).expect("the chain").expect("few rows");
        assert_eq!(root.unknown, []);
        println!("{}", decisions(&root));
    }
}
