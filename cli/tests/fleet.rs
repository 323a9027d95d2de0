//! The verbs of a fleet as an operator runs them: the program itself, against a real controller's API on loopback.

use std::future::IntoFuture as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::access::{Access, Scope};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Enrol, Observed, Write};
use ringwall_controller::event::NewEvent;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::http::{State, router};
use ringwall_controller::id::{AccessId, Digest, Epoch, FleetId};
use ringwall_controller::identity::{Authority, Invitation, Secret};
use ringwall_controller::server;
use ringwall_controller::store::{Keep, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use ringwall_controller::token::Claim;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

struct Controller {
    folder: PathBuf,
    /// Of plain HTTP.
    address: SocketAddr,
    tls: SocketAddr,
    store: Arc<Sqlite>,
    runtime: Runtime,
}

impl Drop for Controller {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).expect("the folder goes");
    }
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    fn good(self, what: &str) -> String {
        assert_eq!(self.code, Some(0), "{what}: {}{}", self.out, self.err);
        self.out
    }

    fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "`{part}` in: {}", self.err);
        }
    }
}

impl Controller {
    fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let (addresses, store) = runtime.block_on(async {
            let store = Arc::new(Sqlite::open(&folder.join("store"), Keep::default()).await.expect("a store"));
            let authority = Arc::new(Authority::new(FleetId::new(random()), now()).expect("a CA"));
            let fleet = Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() };
            let mut parts = vec![Change::Found(fleet)];
            for (name, scopes) in [("key", vec![Scope::Read, Scope::Write, Scope::Admin]), ("reader", vec![Scope::Read])] {
                let secret = Secret::new(random());
                let (digest, scopes) = (Digest(secret.digest()), scopes.into_iter().collect());
                let expires = now().after(Duration::from_secs(3600));
                let (id, name_of) = (AccessId::new(random()), name.to_owned());
                parts.push(Change::CreateAccess(Access { id, name: name_of, secret: digest, scopes, created: now(), expires, last_used: None, revoked: None }));
                private(&folder.join(name), &secret.to_access());
            }
            let change = |change| Write::Change(Audited { who: Actor::Local("test".to_owned()), at: now(), change });
            store.write(parts.into_iter().map(change).collect()).await.expect("a fleet");
            let control = server::drive(store.clone(), now, Vec::new()).await.expect("a core");
            let controllers = vec!["ringwall.example.net:7443".to_owned()];
            let own = authority.own(&"controller".parse().expect("a name"), &["127.0.0.1".to_owned()], now(), random()).expect("a certificate");
            let acceptor = server::api_acceptor(&authority, &own).expect("TLS");
            let ca = pem::encode(&pem::Pem::new("CERTIFICATE", authority.certificate()));
            std::fs::write(folder.join("ca.pem"), ca).expect("a file");
            let state = State { store: store.clone(), authority, controllers, control, clock: now, random: fill };
            let (listener, tls_listener) = (port().await, port().await);
            let (address, tls) = (listener.local_addr().expect("an address"), tls_listener.local_addr().expect("an address"));
            let router = router(state);
            tokio::spawn(axum::serve(listener, router.clone()).into_future());
            tokio::spawn(server::serve_api(tls_listener, router, move || acceptor.clone()));
            ([address, tls], store)
        });
        Self { folder, address: addresses[0], tls: addresses[1], store, runtime }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        command.args(arguments).env("RINGWALL_CONTROLLER", self.url()).env("RINGWALL_KEY_FILE", self.folder.join("key"));
        // A proxy must not be asked; nobody listens there.
        command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9").env_remove("RINGWALL_POLICY");
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("ringwall starts").into()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let out = self.run(&[arguments, &["-o", "json"]].concat()).good(&arguments.join(" "));
        serde_json::from_str(&out).expect("JSON")
    }

    /// As the agent does with the word.
    fn enrol(&self, node: &str, word: &str, address: &str) {
        let invitation: Invitation = word.trim().parse().expect("a word");
        let (secret, key) = (Digest(invitation.secret.digest()), Digest(random()));
        let claim = Claim { node: node.parse().expect("a name"), addresses: [address.parse().expect("an address")].into(), clock: None };
        let agent = Enrol::agent_of(&secret, &key);
        let enrol = Enrol { secret, claim, agent, key, certificate_expires: now().after(Duration::from_secs(86_400)) };
        let part = Write::Change(Audited { who: Actor::Enrolling, at: now(), change: Change::Enrol(enrol) });
        self.runtime.block_on(self.store.write(vec![part])).expect("an enrolment");
    }

    fn happen(&self, kind: &str) {
        let event = NewEvent { kind: kind.to_owned(), node: None, body: json!({ "text": "\u{1b}[2J\u{9b}31m" }) };
        let part = Write::Observed { at: now(), what: Observed::Event(event) };
        self.runtime.block_on(self.store.write(vec![part])).expect("an event");
    }
}

async fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.expect("a file"), format!("{text}\n").as_bytes()).expect("written");
}

const POLICY: &str = "management: { from: admins, services: [ssh] }\ngroups:\n  admins: { addresses: [192.0.2.200] }\nrules: []\n";

#[test]
fn a_fleet_is_made_by_the_program_alone() {
    let fleet = Controller::start("story");
    let policy = fleet.folder.join("policy.yaml");
    std::fs::write(&policy, POLICY).expect("a file");
    let policy = policy.to_str().expect("UTF-8");

    let create = ["token", "create", "--labels", "role=primary,env=prod", "--site", "hel", "--uses", "2", "--for", "15m", "--prefix", "192.0.2.0/24", "--needs-approval"];
    let word = fleet.run(&create).good("create");
    assert!(word.starts_with("rwt1_") && word.lines().count() == 1, "the word alone on stdout: {word}");
    for (node, address) in [("vault-1", "192.0.2.11"), ("vault-2", "192.0.2.12")] {
        fleet.enrol(node, &word, address);
    }
    let table = fleet.run(&["nodes"]).good("nodes");
    assert!(table.contains("vault-1") && table.contains("pending") && table.contains("env=prod role=primary"), "{table}");
    for node in ["vault-1", "vault-2"] {
        let run = fleet.run(&["node", "approve", node]);
        assert!(run.err.contains(&format!("{node} is in")), "{}", run.err);
    }
    fleet.run(&["node", "place", "vault-2", "--site", "sto", "--labels", "role=member"]).good("place");
    let nodes = fleet.json(&["nodes"]);
    assert_eq!(nodes["schema"], "ringwall.nodes/1");
    let second = &nodes["nodes"][1];
    assert_eq!((&second["place"]["site"], &second["place"]["labels"]), (&json!("sto"), &json!({ "role": "member" })));
    assert_eq!(second["addresses"], json!(["192.0.2.12"]), "what was not named stays");
    fleet.run(&["node", "hosts", "vault-1", "--services", "https,tcp/8443", "--from", "users"]).good("hosts");
    assert_eq!(fleet.run(&["node", "hosts", "vault-1"]).good("hosts"), "vault-1 hosts https,tcp/8443 for users\n");
    fleet.run(&["node", "hosts", "vault-1", "--services", "https"]).failed(2, &["--from"]);
    fleet.run(&["node", "hosts", "vault-1", "--services", "https", "--from", "users -> any"]).failed(1, &["is no name of a group"]);
    fleet.run(&["node", "hosts", "vault-1", "--none"]).good("none");
    assert_eq!(fleet.run(&["node", "hosts", "vault-1"]).good("hosts"), "vault-1 hosts nothing\n");
    fleet.run(&["node", "hosts", "vault-1", "--none"]).failed(1, &["hosts"]);
    let csv = fleet.run(&["nodes", "--site", "sto", "-o", "csv"]).good("csv");
    assert!(csv.starts_with("node,site,state,") && csv.lines().count() == 2, "{csv}");
    assert_eq!(fleet.run(&["nodes", "--late", "-o", "ndjson"]).good("late").lines().count(), 2, "both are away");
    // The same verb of a file asks no controller.
    let of_file = Command::new(env!("CARGO_BIN_EXE_ringwall")).args(["nodes", policy, "-o", "json"]).output().expect("ringwall starts");
    assert!(Run::from(of_file).good("of a file").contains("\"nodes\": []"));

    let run = fleet.run(&["revision", "commit", policy, "--message", "first"]);
    assert!(run.err.contains("would change 2 nodes: vault-1 vault-2"), "{}", run.err);
    assert_eq!(run.good("commit"), "1\n");
    let list = fleet.run(&["revision", "list"]).good("list");
    assert!(list.contains("first") && list.contains("cli"), "{list}");
    assert!(fleet.run(&["revision", "show", "1"]).good("show").ends_with(POLICY));
    let to = fleet.folder.join("back");
    fleet.run(&["revision", "show", "1", "--to", to.to_str().expect("UTF-8")]).good("show");
    assert_eq!(std::fs::read_to_string(to.join("policy.yaml")).expect("a file"), POLICY);

    let rollout = fleet.json(&["rollout", "start", "1", "--canary", "vault-2", "--waves", "50"]);
    assert_eq!((&rollout["schema"], &rollout["waves"][0]["nodes"]), (&json!("ringwall.rollout/1"), &json!(["vault-2"])));
    fleet.run(&["rollout", "start", "1"]).failed(1, &["not over", "ringwall rollout status"]);
    fleet.run(&["rollout", "pause", "--reason", "lunch"]).good("pause");
    let run = fleet.run(&["rollout", "status", "--wait"]);
    assert!(run.code == Some(1) && run.out.contains("paused") && run.out.contains("lunch"), "{}{}", run.out, run.err);
    fleet.run(&["rollout", "pause"]).failed(1, &["is paused already"]);
    fleet.run(&["rollout", "resume"]).good("resume");

    // Nobody is there to probe: all is unknown, and said why.
    let run = fleet.run(&["verify", "-o", "json"]);
    assert_eq!(run.code, Some(4), "{}{}", run.out, run.err);
    let verified: Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!(verified["schema"], "ringwall.verify/1");
    let flows = verified["flows"].as_array().expect("flows");
    let reason = |flow: &Value| flow["reason"].as_str().expect("a reason").to_owned();
    assert!(!flows.is_empty() && flows.iter().all(|flow| flow["conclusion"] == "unknown" && reason(flow).ends_with("is not connected")), "{verified:#}");
    fleet.run(&["verify", "--known", "--run", "ssh {node}"]).failed(2, &["run by its agents"]);

    let tokens = fleet.json(&["token", "list"]);
    let id = tokens["tokens"][0]["id"].as_str().expect("an id").to_owned();
    fleet.run(&["token", "revoke", &id]).good("revoke");
    assert!(fleet.run(&["token", "list"]).good("list").contains("revoked"));
    fleet.run(&["node", "revoke", "vault-2", "--reason", "sold"]).good("revoke");
    fleet.run(&["node", "approve", "vault-2"]).failed(1, &["there is no node `vault-2`", "ringwall nodes"]);
    let audit = fleet.run(&["audit", "--after", "0", "--limit", "1000"]).good("audit");
    assert!(audit.contains("create_token") && audit.contains("a node that enrols") && audit.contains("standing"), "{audit}");
    assert!(!audit.contains(word.trim()) && !fleet.run(&["token", "list", "-o", "json"]).out.contains(word.trim()), "a word is shown once");
}

#[test]
fn events_are_followed() {
    let fleet = Controller::start("events");
    fleet.happen("first");
    let mut child = fleet.command(&["events", "--follow", "-o", "ndjson"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ringwall starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!(next()["kind"], "first", "what was comes first");
    for kind in ["second", "third"] {
        fleet.happen(kind);
        assert_eq!(next()["kind"], kind);
    }
    child.kill().expect("it lives");
    child.wait().expect("it ended");
    let table = fleet.run(&["events"]).good("events");
    assert!(table.lines().count() == 4 && !table.contains('\u{1b}') && !table.contains('\u{9b}'), "no escape of a node's: {table:?}");
    assert_eq!(fleet.json(&["events", "--limit", "2"])["events"][0]["kind"], "second");
}

#[test]
fn over_tls_only_the_fleets_ca_is_believed() {
    let fleet = Controller::start("tls");
    let ca = fleet.folder.join("ca.pem");
    let run = |url: &str, ca: &Path| Run::from(fleet.command(&["nodes", "--controller", url]).env("RINGWALL_CA_FILE", ca).output().expect("ringwall starts"));
    run(&format!("https://{}", fleet.tls), &ca).good("over TLS");
    run(&format!("https://{}/", fleet.tls), &ca).good("over TLS");
    // Another CA, and another name than the certificate's.
    let other = Authority::new(FleetId::new(random()), now()).expect("a CA");
    let other_ca = fleet.folder.join("other-ca.pem");
    std::fs::write(&other_ca, pem::encode(&pem::Pem::new("CERTIFICATE", other.certificate()))).expect("a file");
    run(&format!("https://{}", fleet.tls), &other_ca).failed(3, &["can't be reached", "--ca-file"]);
    run(&format!("https://127.0.0.2:{}", fleet.tls.port()), &ca).failed(3, &["can't be reached"]);
    run(&format!("https://{}", fleet.address), &ca).failed(3, &["can't be reached"]);
    // Without a file, the CAs that this machine knows; ours is none of them.
    let mut command = fleet.command(&["nodes", "--controller", &format!("https://{}", fleet.tls)]);
    let run = Run::from(command.env_remove("RINGWALL_CA_FILE").output().expect("ringwall starts"));
    assert!(run.code == Some(3) && run.err.contains("--ca-file"), "{}", run.err);
}

#[test]
fn keys_are_made_and_taken_away() {
    let fleet = Controller::start("keys");
    let word = fleet.run(&["key", "create", "grafana", "--scopes", "read", "--for", "90d"]).good("create");
    assert!(word.starts_with("rwa1_") && word.lines().count() == 1, "{word}");
    let file = fleet.folder.join("grafana");
    private(&file, word.trim());
    let with = |arguments: &[&str]| Run::from(fleet.command(arguments).env("RINGWALL_KEY_FILE", &file).output().expect("ringwall starts"));
    with(&["audit"]).good("read");
    with(&["key", "create", "x", "--scopes", "read"]).failed(3, &["`admin`"]);
    let keys = fleet.json(&["key", "list"]);
    let id = keys["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "grafana").expect("the key")["id"].clone();
    fleet.run(&["key", "revoke", id.as_str().expect("an id")]).good("revoke");
    with(&["audit"]).failed(3, &["not accepted"]);
    let list = fleet.run(&["key", "list"]).good("list");
    assert!(list.contains("grafana") && list.contains("revoked") && !list.contains("rwa1_"), "{list}");
}

#[test]
fn what_fails_says_what_to_do() {
    let fleet = Controller::start("errors");
    let ringwall = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        for variable in ["RINGWALL_CONTROLLER", "RINGWALL_KEY_FILE", "RINGWALL_CA_FILE", "RINGWALL_POLICY"] {
            command.env_remove(variable);
        }
        Run::from(command.args(arguments).output().expect("ringwall starts"))
    };
    let key = fleet.folder.join("key").to_str().expect("UTF-8").to_owned();
    let (url, reader) = (fleet.url(), fleet.folder.join("reader").to_str().expect("UTF-8").to_owned());
    ringwall(&["audit"]).failed(2, &["which controller?", "RINGWALL_CONTROLLER"]);
    ringwall(&["nodes"]).failed(2, &["POLICY", "--controller"]);
    ringwall(&["audit", "--controller", &url]).failed(2, &["no key", "--key-file"]);
    ringwall(&["audit", "--controller", "http://192.0.2.1:7444", "--key-file", &key]).failed(2, &["in the open", "https://"]);
    ringwall(&["audit", "--controller", "http://localhost.example.net", "--key-file", &key]).failed(2, &["in the open"]);
    for wrong in ["ftp://x", "x", "https://", "https://u@x", "https://x/path", "https://x?y"] {
        ringwall(&["audit", "--controller", wrong, "--key-file", &key]).failed(2, &["is not a controller's address"]);
    }
    ringwall(&["audit", "--controller", "http://127.0.0.1:9", "--key-file", &key]).failed(3, &["can't be reached", "RINGWALL_CONTROLLER"]);
    // TLS to what speaks none.
    let https = url.replace("http:", "https:");
    ringwall(&["audit", "--controller", &https, "--key-file", &key, "--ca-file", &key]).failed(3, &["holds no certificate"]);
    ringwall(&["audit", "--controller", &url, "--key-file", "/nowhere"]).failed(3, &["can't read the key's file"]);
    let (other, wrong) = (fleet.folder.join("other"), fleet.folder.join("wrong"));
    private(&other, &Secret::new([7; 32]).to_access());
    private(&wrong, "rwt1_abc");
    let (other, wrong) = (other.to_str().expect("UTF-8"), wrong.to_str().expect("UTF-8"));
    ringwall(&["audit", "--controller", &url, "--key-file", wrong]).failed(2, &["holds no key", "rwa1_"]);
    ringwall(&["audit", "--controller", &url, "--key-file", other]).failed(3, &["not accepted", "admin"]);
    ringwall(&["token", "create", "--controller", &url, "--key-file", &reader]).failed(3, &["scope", "`admin`"]);
    fleet.run(&["token", "create", "--for", "1 day"]).failed(2, &["not a duration"]);
    fleet.run(&["token", "create", "--prefix", "192.0.2.1/24"]).failed(1, &["host bits", "192.0.2.0/24"]);
    fleet.run(&["node", "approve", "../audit"]).failed(2, &["is not a node's name"]);
    fleet.run(&["rollout", "status"]).failed(1, &["no rollout yet", "ringwall rollout start"]);
    fleet.run(&["verify", "--known"]).failed(3, &["no path is declared", "ringwall rollout start"]);
    let policy = fleet.folder.join("policy.yaml");
    std::fs::write(&policy, "rules:\n  - allow: nobody -> nowhere\n").expect("a file");
    let commit = fleet.run(&["revision", "commit", policy.to_str().expect("UTF-8")]);
    assert_eq!(commit.out, "1\n");
    commit.failed(4, &["policy.yaml:2", "ringwall revision commit"]);
    // Others can read the key.
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("its mode");
    let run = fleet.run(&["audit"]);
    assert!(run.code == Some(0) && run.err.contains("chmod 600") && !run.err.contains("rwa1_"), "{}", run.err);
}
