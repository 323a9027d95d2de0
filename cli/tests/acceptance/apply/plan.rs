//! `ringwall plan` on a machine, and `ringwall apply` of what it showed.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, SOON, until};

fn texts(document: &Value, list: &str) -> Vec<String> {
    document["differences"][list].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

/// Where the plan of a rig is kept.
fn plan_path(rig: &Rig) -> String {
    rig.write("plan.json", "")
}

/// Makes a plan on `node`, and gives its path.
#[track_caller]
fn plan(rig: &Rig, text: &str) -> String {
    let policy = rig.write("new.yaml", text);
    let path = plan_path(rig);
    rig.ringwall("node", &["plan", &policy, "--out", &path]).done();
    path
}

fn apply(rig: &Rig, path: &str) -> Ran {
    rig.ringwall("node", &["apply", path, "--no-management", "--no-confirm", "--learn", "0"])
}

/// The file with something changed, and a digest that fits again.
fn forged(path: &str, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    change(&mut document);
    document.as_object_mut().unwrap().remove("digest");
    let digest: String = Sha256::digest(document.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    document["digest"] = format!("sha256:{digest}").into();
    std::fs::write(path, document.to_string()).unwrap();
}

#[test]
fn a_plan_changes_nothing_and_shows_what_would_be_cut() {
    let rig = small();
    rig.enforce(&["node"], &policy(&(open_to_users("web", 80) + &open_to_users("mail", 25))), &[]);
    let (mut web, mut mail) = (rig.session("user", "node", 80), rig.session("user", "node", 25));
    let before = rig.rules("node");
    let new = rig.write("new.yaml", &policy(&(open_to_users("web", 80) + &open_to_users("console", 81))));
    let document = rig.ringwall("node", &["plan", &new, "-o", "json"]).done().json();
    assert_eq!(document["before"], json!({ "kind": "generation", "name": "g1" }));
    assert_eq!(document["node"], "node");
    assert_eq!(texts(&document, "opened"), ["users -> node  81/tcp"]);
    assert_eq!(texts(&document, "closed"), ["users -> node  25/tcp (smtp)"]);
    let cuts = document["cuts"].as_array().unwrap();
    assert_eq!(cuts.len(), 1, "{cuts:?}");
    let port = mail.client.local_addr().unwrap().port();
    assert_eq!(cuts[0]["connection"], format!("tcp 198.51.100.20:{port} -> 192.0.2.10:25"));
    let shown = rig.ringwall("node", &["plan", &new]).done();
    assert!(shown.out.contains("live connections that it cuts\n  tcp 198.51.100.20:"), "{}", shown.out);
    assert_eq!(rig.rules("node"), before);
    web.lives();
    mail.lives();
    // Left to end by themselves, they are counted.
    let drained = rig.write("drained.yaml", &format!("on_tighten: drain\n{}", policy(&open_to_users("web", 80))));
    let shown = rig.ringwall("node", &["plan", &drained]).done();
    assert!(shown.out.contains("1 live connections that no rule allows are left to end by themselves"), "{}", shown.out);
    let same = rig.write("same.yaml", &policy(&(open_to_users("mail", 25) + "  # moved\n" + &open_to_users("web", 80))));
    let ran = rig.ringwall("node", &["plan", &same, "--exit-code"]).done();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "plan: no difference\n"));
}

#[test]
fn the_first_plan_says_that_there_is_nothing_to_fall_back_to() {
    let rig = small();
    let new = rig.write("new.yaml", &policy(&open_to_users("web", 80)));
    let ran = rig.ringwall("node", &["plan", &new]).done();
    assert!(ran.out.starts_with(&format!("nothing -> {new} on node\n\naccepted from then on, and nothing else\n  + users -> node  80/tcp (http)")), "{}", ran.out);
    assert!(ran.out.contains("there is nothing to fall back to"), "{}", ran.out);
    let path = plan(&rig, &policy(&open_to_users("web", 80)));
    apply(&rig, &path).done();
    rig.open(&["user -> node: tcp/80"]);
    // What it was made against is no more.
    apply(&rig, &path).failed(1, &["nothing was enforced when it was made, and g1 is enforced now"]);
}

#[test]
fn what_was_shown_is_what_is_loaded() {
    let (rig, other) = (small(), small());
    let old = policy(&open_to_users("old", 80));
    let new = policy(&(open_to_users("new", 81) + "  - deny: admins -> node\n    id: off\n"));
    for rig in [&rig, &other] {
        rig.enforce(&["node"], &old, &[]);
    }
    let path = plan(&rig, &new);
    // The file is not read again: what it says now is nobody's plan.
    rig.write("new.yaml", &policy(&open_to_users("never", 443)));
    let ran = apply(&rig, &path).done();
    assert!(ran.err.contains("applying the plan sha256:"), "{}", ran.err);
    other.enforce(&["node"], &new, &[]);
    assert_eq!(rig.rules("node"), other.rules("node"));
    rig.open(&["user -> node: tcp/81"]);
    rig.shut(&["user -> node: tcp/80 tcp/443", "admin -> node: tcp/81"]);
    // The record leads back to the policy's lines.
    let status = rig.status("node");
    let rule = status["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == "new").unwrap().clone();
    assert!(rule["place"].as_str().unwrap().ends_with("new.yaml:8"), "{rule}");
}

#[test]
fn a_plan_goes_on_trial_like_a_policy() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let path = plan(&rig, &policy(&open_to_users("new", 81)));
    rig.ringwall("node", &["apply", &path]).failed(1, &["no management path is known"]);
    rig.ringwall("node", &["apply", &path, "--management", "198.51.100.9"]).failed(1, &["would cut the management path"]);
    rig.ringwall("node", &["apply", &path, "--no-management", "--confirm", "1s"]).done();
    assert!(until(SOON, || rig.status("node")["trial"].is_null()));
    rig.open(&["user -> node: tcp/80"]);
    // A trial that fell leaves the base where it was.
    rig.ringwall("node", &["apply", &path, "--no-management"]).done();
    rig.open(&["user -> node: tcp/81"]);
    rig.ringwall("node", &["apply", &path, "--no-management"]).failed(1, &["g1 was enforced when it was made, and g3 is enforced now"]);
    rig.ringwall("node", &["confirm"]).done();
    rig.open(&["user -> node: tcp/81"]);
}

#[test]
fn a_plan_is_refused_when_its_base_has_moved() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let path = plan(&rig, &policy(&open_to_users("new", 81)));
    rig.enforce(&["node"], &policy(&open_to_users("other", 82)), &[]);
    let before = rig.rules("node");
    apply(&rig, &path).failed(1, &["this plan does not hold any more", "g1 was enforced when it was made, and g2 is enforced now", "nothing was changed"]);
    assert_eq!(rig.rules("node"), before);
    // Going back makes a new generation, which is another base.
    rig.ringwall("node", &["rollback"]).done();
    rig.ringwall("node", &["confirm"]).done();
    apply(&rig, &path).failed(1, &["g1 was enforced when it was made, and g3 is enforced now"]);
    // So is one that somebody changed by hand.
    let path = plan(&rig, &policy(&open_to_users("new", 81)));
    rig.nft("node", "add rule inet ringwall g3_in accept\n");
    apply(&rig, &path).failed(1, &["somebody has changed the rules of g3 since"]);
    let shown = rig.ringwall("node", &["plan", &rig.write("again.yaml", &policy(&open_to_users("new", 81)))]).done();
    assert!(shown.out.contains("the rules of g3 were changed by somebody"), "{}", shown.out);
    let path = plan(&rig, &policy(&open_to_users("new", 81)));
    apply(&rig, &path).done();
    rig.open(&["user -> node: tcp/81"]);
}

#[test]
fn a_plan_that_was_changed_is_refused() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let before = rig.rules("node");
    let make = || plan(&rig, &policy(&open_to_users("new", 81)));
    let path = make();
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [("tcp/81", "tcp/82"), ("\"made\"", "\"Made\""), ("g1", "g0"), ("users -> node", "admins -> node")] {
        assert!(text.contains(from), "{from}: {text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        apply(&rig, &path).failed(1, &["it was changed after it was made"]);
    }
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    apply(&rig, &path).failed(1, &["it is not whole"]);
    // With a digest that fits: what is shown and what is loaded are made anew, and compared.
    forged(&make(), |document| document["apply"]["files"][0][1] = policy(&open_to_users("new", 82)).into());
    apply(&rig, &path).failed(1, &["makes other rules of the same policy"]);
    forged(&make(), |document| document["differences"]["opened"] = json!([]));
    apply(&rig, &path).failed(1, &["it shows other flows than its policy opens and closes"]);
    forged(&make(), |document| document["apply"]["base"]["record"] = "sha256:0".into());
    apply(&rig, &path).failed(1, &["g1 of this machine is another than that of the plan"]);
    forged(&make(), |document| document["apply"]["files"] = json!([["a.yaml", "rules: ["]]));
    apply(&rig, &path).failed(1, &["can't read the plan's policy"]);
    forged(&make(), |document| drop(document["apply"].as_object_mut().unwrap().remove("node")));
    apply(&rig, &path).failed(1, &["its part `apply` can't be read", "node"]);
    forged(&make(), |_| ());
    for more in [["--node", "node"], ["--set", "X=192.0.2.1"], ["--values", "values.yaml"]] {
        rig.ringwall("node", &[&["apply", path.as_str(), "--no-management"], &more[..]].concat()).failed(2, &["leave out --node, --set and --values"]);
    }
    assert_eq!(rig.rules("node"), before);
    apply(&rig, &path).done();
}

#[test]
fn a_plan_of_another_machine_is_refused() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let path = plan(&rig, &policy(&open_to_users("new", 81)));
    let apply = |host: &str, more: &[&str]| rig.ringwall(host, &[&["apply", path.as_str(), "--no-confirm", "--learn", "0"], more].concat());
    apply("admin", &[]).failed(1, &["this machine has none of the addresses of `node`"]);
    apply("admin", &["--no-management"]).failed(1, &["g1 was enforced when it was made, and nothing is enforced now"]);
    // One that is set up in the same way has the same number, and is another all the same.
    let as_admin = policy(&open_to_users("old", 80)).replace("192.0.2.10, \"2001:db8:1::10\"", "198.51.100.9");
    let twin = rig.write("twin.yaml", &as_admin);
    rig.ringwall("admin", &["apply", &twin, "--no-management", "--no-confirm", "--learn", "0"]).done();
    apply("admin", &["--no-management"]).failed(1, &["g1 of this machine is another than that of the plan"]);
    // A machine that no policy knows can still compare files.
    rig.ringwall("user", &["plan", &twin]).failed(1, &["no node of the policy has an address of this machine", "--against"]);
}

#[test]
fn a_rule_that_expires_makes_a_plan_stale() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let expires = "  - allow: users -> node\n    services: [tcp/81]\n    id: for-now\n    expires: 2099-12-31\n";
    let path = plan(&rig, &policy(expires));
    // As if it had been made when the day was still to come, and applied after it.
    forged(&path, |document| document["apply"]["made"] = 4_200_000_000_u64.into());
    apply(&rig, &path).failed(1, &["rule for-now (", "has expired since"]);
}
