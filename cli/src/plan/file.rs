//! A plan as a document, and as a file that `ringwall apply` takes.
//!
//! The file holds what was shown and all that it was made from. Its digest tells a slip of an editor;
//! who may write the file and run `ringwall apply` may apply anything, and needs no forged plan for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use ringwall_analysis::plan::{By, Floor, Flows, Other, Plan};
use ringwall_analysis::words::{End, texts};
use ringwall_node::apply::{Cut, History};
use ringwall_node::kernel::Netfilter;
use ringwall_packet::Family;
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values};
use ringwall_ruleset::nftables::{Generation, body};
use ringwall_ruleset::{Decider, Ruleset};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::base::{Base, Enforced, enforced};
use super::compare;
use crate::Failure;
use crate::apply::recorded;
use crate::policy::{Loaded, load, now};
use crate::terminal::Exit;

pub const SCHEMA: &str = "ringwall.plan/1";
/// More than any plan has: 110,000 rules in words, with all their addresses.
const MAX_BYTES: u64 = 1 << 30;

/// What a plan is applied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub node: String,
    /// Seconds since the epoch.
    pub made: u64,
    /// The policy's files: name and text.
    pub files: Vec<(String, String)>,
    /// Values bound to the policy's `$NAME`s.
    pub values: BTreeMap<String, String>,
    /// What the machine enforced.
    pub base: Enforced,
    /// The digest of the rules to be loaded, the number of their generation left out.
    pub ruleset: String,
}

/// A plan that was made before, as it was read.
pub struct Reviewed {
    document: Value,
    pub source: Source,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The same for all generations that are loaded from the same rules.
pub fn ruleset_digest(ruleset: &Ruleset) -> String {
    digest(body(ruleset, Generation(0)).as_bytes())
}

/// What differs, for programs: nothing is shortened.
pub fn differences(plan: &Plan, floor: &Floor) -> Value {
    let flows = |flows: &[Flows]| flows.iter().map(flows_json).collect::<Vec<_>>();
    json!({
        "opened": flows(&plan.opened),
        "closed": flows(&plan.closed),
        "altered": plan.altered.iter().map(|altered| json!({ "how": altered.how, "flows": flows(&altered.flows) })).collect::<Vec<_>>(),
        "others": plan.others.iter().map(other_json).collect::<Vec<_>>(),
        "elsewhere": plan.elsewhere,
        "floor": {
            "items": floor.items,
            "without": floor.without,
            "unmanaged": floor.unmanaged.iter().map(|(node, bridge)| json!({ "node": node, "bridge": bridge })).collect::<Vec<_>>(),
        },
    })
}

fn flows_json(flows: &Flows) -> Value {
    let by = |by: &By| match by {
        By::Management => json!({ "by": "management" }),
        By::Rule { id, place } => json!({ "by": "rule", "id": id, "place": place }),
        By::Default => json!({ "by": "default" }),
    };
    let end = |end: &End| json!({ "words": end.words, "except": end.except, "addresses": texts(&end.addresses) });
    json!({
        "text": flows.line.to_string(),
        "source": end(&flows.line.source),
        "destination": end(&flows.line.destination),
        "services": flows.line.services,
        "conditions": flows.line.conditions,
        "family": flows.line.family.map(|family| match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }),
        "before": flows.before.iter().map(by).collect::<Vec<_>>(),
        "after": flows.after.iter().map(by).collect::<Vec<_>>(),
    })
}

fn other_json(other: &Other) -> Value {
    json!({ "about": other.about.word(), "name": other.name, "before": other.before, "after": other.after, "text": other.to_string() })
}

pub fn cuts_json(cuts: &[Cut]) -> Value {
    let by = |decider: &Decider| match decider {
        Decider::Entry(id) => json!({ "by": "rule", "id": id }),
        Decider::Default => json!({ "by": "default" }),
    };
    cuts.iter().map(|cut| json!({ "connection": cut.flow.to_string(), "by": by(&cut.decider) })).collect()
}

/// Adds the digest, and writes the file. One that is there gives way.
pub fn write(path: &Path, mut document: Value) -> Result<String, Failure> {
    let seal = seal(&document);
    document["digest"] = seal.clone().into();
    let failed = |error| Failure::new(Exit::Failure, format!("can't write {}: {error}", path.display()));
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(format!("{document:#}\n").as_bytes()).map_err(failed)?;
    Ok(seal)
}

/// The digest of a document without its own; keys are in order (serde_json's maps).
fn seal(document: &Value) -> String {
    let mut plain = document.clone();
    if let Some(map) = plain.as_object_mut() {
        map.remove("digest");
    }
    digest(plain.to_string().as_bytes())
}

impl Reviewed {
    /// `None` when the file is no plan: then it is a policy.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        if path.extension().is_none_or(|extension| extension != "json") || path.is_dir() {
            return Ok(None);
        }
        let unreadable = |error: std::io::Error| Failure::new(Exit::Environment, format!("can't read {}: {error}", path.display()));
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)).map_err(unreadable)?;
        let refuse = |why: String| {
            let mut failure = Failure::new(Exit::Failure, format!("{} is no plan that can be applied", path.display()));
            failure.causes.push(why);
            failure.help("nothing was changed; make it anew with `ringwall plan POLICY --out plan.json`")
        };
        let document: Value = serde_json::from_str(&text).map_err(|error| refuse(format!("it is not whole: {error}")))?;
        match document["schema"].as_str() {
            Some(SCHEMA) => {}
            Some(other) => return Err(refuse(format!("its schema is `{other}`, not `{SCHEMA}`"))),
            None => return Ok(None),
        }
        if document["digest"].as_str() != Some(&seal(&document)) {
            return Err(refuse("it was changed after it was made: its digest is that of another text".into()));
        }
        let source = &document["apply"];
        if source.is_null() {
            return Err(refuse("it was made against files, not against what a machine enforces".into()));
        }
        let source = Source::deserialize(source).map_err(|error| refuse(format!("its part `apply` can't be read: {error}")))?;
        Ok(Some(Self { document, source }))
    }

    pub fn digest(&self) -> &str {
        self.document["digest"].as_str().unwrap_or_default()
    }

    /// The policy as it was when the plan was made.
    pub fn loaded(&self) -> Loaded {
        let files = self.source.files.iter().map(|(name, text)| Input { name: name.clone(), text: text.clone() }).collect();
        let mut values = Values::default();
        for (name, text) in &self.source.values {
            values.bind(name, text, "the plan");
        }
        load(files, &values, self.source.made)
    }

    /// Refuses unless what would be loaded, and what is there now, is what the plan was made of.
    pub fn check(&self, policy: &Policy, ruleset: &Ruleset, netfilter: &mut Netfilter, history: &History) -> Result<(), Failure> {
        let refuse = |why: String| {
            let mut failure = Failure::new(Exit::Failure, "this plan does not hold any more");
            failure.causes.push(why);
            failure.help("nothing was changed; make it anew with `ringwall plan POLICY --out plan.json`")
        };
        let (is, found) = enforced(netfilter, history)?;
        let was = &self.source.base;
        let name = |generation: &Option<String>| generation.clone().unwrap_or_else(|| "nothing".into());
        if is.generation != was.generation {
            return Err(refuse(format!("{} was enforced when it was made, and {} is enforced now", name(&was.generation), name(&is.generation))));
        }
        if is.record != was.record {
            return Err(refuse(format!("{} of this machine is another than that of the plan: it was made on another machine, or before this one was set up anew", name(&is.generation))));
        }
        if is.drift != was.drift {
            return Err(refuse(format!("somebody has changed the rules of {} since", name(&is.generation))));
        }
        let (made, now) = (self.source.made, now());
        let is_between = |expires: u64| (made.min(now) < expires) && expires <= made.max(now);
        if let Some(rule) = policy.rules.iter().find(|rule| rule.expires.is_some_and(is_between)) {
            return Err(refuse(format!("rule {} ({}) has expired since", rule.id, rule.origin.place)));
        }
        if ruleset_digest(ruleset) != self.source.ruleset {
            return Err(refuse("this version of ringwall makes other rules of the same policy".into()));
        }
        let base = Base {
            kind: "",
            name: String::new(),
            policy: found.as_ref().map(|(_, record)| recorded(record)).transpose()?,
            node: found.map(|(_, record)| record.node),
            enforced: None,
        };
        let (plan, floor) = compare(&base, policy, Some(&self.source.node), made)?;
        if differences(&plan, &floor) != self.document["differences"] {
            return Err(refuse("it shows other flows than its policy opens and closes".into()));
        }
        Ok(())
    }
}
