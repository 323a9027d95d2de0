//! `ringwall-controller`: the fleet's one place to ask and to decide.
//!
//! In: flags, RINGWALL_* variables, the state folder. Out: a server for agents and one for operators, until it is told
//! to end. Never: a secret on the command line or in the log, beside the first key, which is printed once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use clap::{Parser, Subcommand};
use ringwall_controller::access::{Access, Scope};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write};
use ringwall_controller::fleet::Fleet;
use ringwall_controller::http;
use ringwall_controller::id::{AccessId, Digest, Epoch, FleetId, NodeName};
use ringwall_controller::identity::{self, Authority, Secret};
use ringwall_controller::repository::{self, Repository};
use ringwall_controller::server::{self, Agents};
use ringwall_controller::store::{self, Keep, Read as _, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use tokio::net::TcpListener;

#[derive(Debug, Parser)]
#[command(name = "ringwall-controller", version, about = "Manages a fleet: nodes connect to it, and it carries the policy to them", after_help = EXAMPLES)]
struct Arguments {
    /// What is kept: the store, and the CA's key.
    #[arg(long, value_name = "DIR", env = "RINGWALL_STATE_DIR", default_value = "/var/lib/ringwall-controller", global = true)]
    folder: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Where agents connect to, over TLS.
    #[arg(long, value_name = "ADDRESS:PORT", env = "RINGWALL_LISTEN", default_value = "[::]:7443")]
    listen: SocketAddr,
    /// DNS names or addresses under which agents reach it; they stand in its certificate and in tokens.
    #[arg(long = "host", value_name = "HOST", env = "RINGWALL_HOSTS", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Where operators reach the API, over TLS.
    #[arg(long, value_name = "ADDRESS:PORT", env = "RINGWALL_API_LISTEN", default_value = "[::]:7444")]
    api_listen: SocketAddr,
    /// A git repository on this machine whose commits become revisions; it is looked at every 5 seconds.
    #[arg(long, value_name = "DIR", env = "RINGWALL_POLICY_REPOSITORY")]
    policy_repository: Option<PathBuf>,
    /// The branch that counts.
    #[arg(long, value_name = "BRANCH", env = "RINGWALL_POLICY_BRANCH", default_value = "main", requires = "policy_repository")]
    policy_branch: String,
    /// The folder in the repository that has the policy's *.yaml files.
    #[arg(long, value_name = "PATH", env = "RINGWALL_POLICY_FOLDER", default_value = "", requires = "policy_repository")]
    policy_folder: String,
    /// A YAML file in the repository with what the policy's $VALUEs are bound to.
    #[arg(long, value_name = "PATH", env = "RINGWALL_POLICY_VALUES", requires = "policy_repository")]
    policy_values: Option<String>,
    /// Begin a rollout of each such revision.
    #[arg(long, env = "RINGWALL_POLICY_ROLL_OUT", requires = "policy_repository")]
    policy_roll_out: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies the store to a file, whole and of one moment. The CA's key is not in it.
    Backup { file: PathBuf },
    /// Puts a copy in the place of the store. The controller must not run.
    Restore { file: PathBuf },
}

const EXAMPLES: &str = "\
Examples:
  ringwall-controller --host fw.example.net        run, for agents that reach it by this name
  ringwall-controller --host fw.example.net --policy-repository /srv/policy.git --policy-folder policy
                                                   and commits of its branch main become revisions
  ringwall-controller backup /backup/ringwall.db   copy the store
  ringwall-controller restore /backup/ringwall.db  put a copy in its place; agents accept it by its epoch

What stands in the folder: store.db, and ca.pem with the CA's key. Keep a copy of ca.pem apart: without it each
node must enrol anew.";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(is_terminal).with_max_level(tracing::Level::INFO).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(start(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

/// 3: the environment is not as it must be.
fn failed(error: &(dyn std::error::Error + Send + Sync)) -> ExitCode {
    let mut text = format!("ringwall-controller: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    eprintln!("{text}");
    ExitCode::from(3)
}

async fn start(arguments: Arguments) -> Result<()> {
    let path = arguments.folder.join("store.db");
    match arguments.command {
        Some(Command::Backup { file }) => Ok(store::backup(&path, &file).await?),
        Some(Command::Restore { file }) => {
            let fleet = store::restore(&file, &path, Actor::Local(account()), now()).await?;
            println!("restored; the epoch is {} now: agents take what it says for newer than what they have", fleet.epoch.0);
            Ok(())
        }
        None => run(&arguments.folder, &path, arguments.run).await,
    }
}

async fn run(folder: &Path, path: &Path, run: Run) -> Result<()> {
    private(folder)?;
    let store = Arc::new(Sqlite::open(path, Keep::default()).await?);
    let authority = Arc::new(authority(folder, &store).await?);
    let hosts = if run.hosts.is_empty() { vec![nix::unistd::gethostname()?.to_string_lossy().into_owned()] } else { run.hosts };
    let name: NodeName = "controller".parse()?;
    let own = {
        let (authority, hosts) = (authority.clone(), hosts.clone());
        move || -> Result<_> {
            let own = authority.own(&name, &hosts, now(), random())?;
            let acceptors = (server::acceptor(&authority, &own)?, server::api_acceptor(&authority, &own)?);
            Ok((own, acceptors))
        }
    };
    let (certificate, acceptors) = own()?;
    let acceptor = Arc::new(RwLock::new(acceptors));
    let (listener, api_listener) = (listen(run.listen).await?, listen(run.api_listen).await?);
    let (port, api_port) = (listener.local_addr()?.port(), api_listener.local_addr()?.port());
    let controllers: Vec<String> = hosts.iter().map(|host| at_port(host, port)).collect();
    let control = server::drive(store.clone(), now, reached(&controllers).await).await?;
    let certificate_file = folder.join("ca-certificate.pem");
    std::fs::write(&certificate_file, pem::encode(&pem::Pem::new("CERTIFICATE", authority.certificate())))?;
    println!("fleet {}, CA SHA-256 {}", authority.fleet(), authority.fingerprint());
    println!("agents reach it at {}", controllers.join(", "));
    println!("operators reach it at {}", hosts.iter().map(|host| format!("https://{}", at_port(host, api_port))).collect::<Vec<_>>().join(", "));
    println!("  --ca-file {}", certificate_file.display());
    if let Some(key) = first_key(folder, &store).await? {
        println!("  --key-file {}   (the first key; it may do everything, for 30 days)", key.display());
    }
    if let Some(path) = run.policy_repository {
        let repository = Repository { path, branch: run.policy_branch, folder: run.policy_folder, values: run.policy_values };
        tokio::spawn(repository::watch(repository, store.clone(), control.clone(), now, run.policy_roll_out, repository::EVERY));
    }
    let agents = Agents::new(store.clone(), authority.clone(), control.clone(), now, fill);
    let router = http::router(http::State { store: store.clone(), authority: authority.clone(), controllers, control, clock: now, random: fill });
    let renewing = {
        let (acceptor, mut certificate) = (acceptor.clone(), certificate);
        async move {
            loop {
                tokio::time::sleep(Duration::from_secs(60)).await;
                if !certificate.is_due(now()) {
                    continue;
                }
                match own() {
                    Ok((next, made)) => {
                        certificate = next;
                        *acceptor.write().unwrap_or_else(std::sync::PoisonError::into_inner) = made;
                    }
                    Err(error) => tracing::error!(%error, "the controller's certificate was not renewed"),
                }
            }
        }
    };
    let of_agents = {
        let acceptor = acceptor.clone();
        move || acceptor.read().unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    };
    let of_api = move || acceptor.read().unwrap_or_else(std::sync::PoisonError::into_inner).1.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        error = server::serve(listener, agents, of_agents) => Err(format!("no more connections can be taken: {error}").into()),
        error = server::serve_api(api_listener, router, of_api) => Err(format!("no more connections can be taken: {error}").into()),
        () = renewing => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// The CA that is there, or, at the first start, a new one and its fleet.
async fn authority(folder: &Path, store: &Sqlite) -> Result<Authority> {
    let fleet = store.read().await?.fleet().await?;
    let authority = identity::open(folder, fleet.as_ref(), FleetId::new(random()), now())?;
    if fleet.is_none() {
        let fleet = Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() };
        let who = Actor::Local(account());
        store.write(vec![Write::Change(Audited { who, at: now(), change: Change::Found(fleet) })]).await?;
    }
    Ok(authority)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    Ok(TcpListener::bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))?)
}

/// The addresses that nodes must be able to reach, of the names that they are given.
async fn reached(controllers: &[String]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for controller in controllers {
        match tokio::net::lookup_host(controller).await {
            Ok(found) => all.extend(found),
            Err(error) => tracing::warn!(%controller, %error, "nodes would not find it: it has no address"),
        }
    }
    all
}

/// At the first start, a key to the API, in a file of the owner's alone.
async fn first_key(folder: &Path, store: &Sqlite) -> Result<Option<PathBuf>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if !store.read().await?.accesses().await?.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(random());
    let path = folder.join("first-key");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", secret.to_access())?;
    file.sync_all()?;
    let access = Access {
        id: AccessId::new(random()),
        name: "first".into(),
        secret: Digest(secret.digest()),
        scopes: [Scope::Read, Scope::Write, Scope::Admin].into(),
        created: now(),
        expires: now().after(Duration::from_secs(30 * 86_400)),
        last_used: None,
        revoked: None,
    };
    let who = Actor::Local(account());
    store.write(vec![Write::Change(Audited { who, at: now(), change: Change::CreateAccess(access) })]).await?;
    Ok(Some(path))
}

/// Whoever runs it, by name or number.
fn account() -> String {
    let id = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(id).ok().flatten();
    user.map_or_else(|| id.to_string(), |user| user.name)
}

/// The folder, its owner's alone.
fn private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn at_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
