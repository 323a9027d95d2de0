//! A controller's API, over HTTPS.
//!
//! In: an address, a file with the key, requests. Out: answers, or what to do about it. Never: the key over a
//! connection that others can read, to another host than was named, or in a message.

use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringwall_api::{Code, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Request, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Timeout};

use crate::Failure;
use crate::terminal::{Exit, Terminal};

/// Which controller, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// The controller: https://HOST[:PORT], or http://127.0.0.1:PORT on its own machine.
    #[arg(long, value_name = "URL", env = "RINGWALL_CONTROLLER")]
    pub controller: Option<String>,
    /// A file with the key to its API.
    #[arg(long, value_name = "FILE", env = "RINGWALL_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// The certificate of the controller's CA (PEM), where it is not one that this machine knows.
    #[arg(long, value_name = "FILE", env = "RINGWALL_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// For a whole answer; the controller itself gives up after 60 s.
const TIME_MAX: Duration = Duration::from_secs(75);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A stream of events says something at least each 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Bytes of an answer: a revision's content, with room for its escapes.
const ANSWER_MAX: u64 = 64 << 20;
/// Where systems keep the CAs that they know.
const BUNDLES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

pub struct Client {
    agent: Agent,
    base: String,
    authorization: String,
}

impl ServerArgs {
    pub fn client(&self, terminal: &Terminal) -> Result<Client, Failure> {
        let usage = |message: &str, help: &str| Failure::new(Exit::Usage, message).help(help);
        let Some(controller) = &self.controller else {
            return Err(usage("which controller?", "name it by --controller https://HOST:PORT or RINGWALL_CONTROLLER"));
        };
        let no_controller = || {
            usage(&format!("`{controller}` is not a controller's address"), "https://HOST[:PORT]; on the controller's own machine http://127.0.0.1:PORT")
        };
        let uri: Uri = controller.parse().map_err(|_| no_controller())?;
        let (scheme, host) = (uri.scheme_str().ok_or_else(no_controller)?, uri.host().ok_or_else(no_controller)?);
        let authority = uri.authority().ok_or_else(no_controller)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(no_controller());
        }
        let is_secure = match scheme {
            "https" => true,
            "http" => {
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                if !address.is_ok_and(|address| address.is_loopback()) {
                    return Err(usage("the key would cross the network in the open", "use https://; http:// is for 127.0.0.1 and [::1] alone"));
                }
                false
            }
            _ => return Err(no_controller()),
        };
        let Some(key_file) = &self.key_file else {
            return Err(usage("no key to the controller's API", "put it in a file (mode 600), and name the file by --key-file or RINGWALL_KEY_FILE"));
        };
        let authorization = format!("Bearer {}", key(key_file, terminal)?);
        // A proxy or a redirection would get the key, too.
        let mut config = Agent::config_builder().proxy(None).max_redirects(0).http_status_as_error(false).timeout_connect(Some(CONNECT_MAX));
        config = config.user_agent(concat!("ringwall/", env!("CARGO_PKG_VERSION")));
        if is_secure {
            let roots = roots(self.ca_file.as_deref())?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            config = config.tls_config(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build());
        }
        Ok(Client { agent: config.build().into(), base: format!("{scheme}://{authority}"), authorization })
    }
}

fn key(path: &Path, terminal: &Terminal) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Environment, format!("can't read the key's file {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        terminal.warn(&format!("others can read {} (mode {mode:o}): `chmod 600` it", path.display()));
    }
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(failed)?;
    let word = text.trim();
    if !word.starts_with("rwa1_") || word.contains(char::is_whitespace) {
        let failure = Failure::new(Exit::Usage, format!("{} holds no key to the API", path.display()));
        return Err(failure.help("a key begins with `rwa1_`; a token for nodes (`rwt1_`) is another thing"));
    }
    Ok(word.to_owned())
}

fn roots(ca_file: Option<&Path>) -> Result<RootCerts, Failure> {
    let paths: Vec<PathBuf> = ca_file.map_or_else(|| BUNDLES.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
    let help = "name the file of the controller's CA by --ca-file or RINGWALL_CA_FILE";
    for path in paths {
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(_) if ca_file.is_none() => continue,
            Err(error) => return Err(Failure::new(Exit::Environment, format!("can't read {}: {error}", path.display()))),
        };
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(Failure::new(Exit::Environment, format!("{} holds no certificate in PEM", path.display())).help(help));
        }
        return Ok(certificates.into());
    }
    Err(Failure::new(Exit::Environment, "this machine knows no CA").help(help))
}

impl Client {
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, None::<&()>)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask("POST", path, Some(body))
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask("PUT", path, Some(body))
    }

    /// What has no answer but that it is done.
    pub fn command(&self, path: &str, body: Option<&impl Serialize>) -> Result<(), Failure> {
        self.send("POST", path, body).map(drop)
    }

    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send("DELETE", path, None::<&()>).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&impl Serialize>) -> Result<T, Failure> {
        let text = self.send(method, path, body)?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Environment, format!("the controller's answer to {method} {path} is not understood: {error}"))
                .help("is it a newer controller, or no controller? `ringwall --version` says what this is")
        })
    }

    fn send(&self, method: &str, path: &str, body: Option<&impl Serialize>) -> Result<String, Failure> {
        let request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.base)).header("authorization", &self.authorization);
        let bad = |error: ureq::http::Error| Failure::of(Exit::Usage, &error);
        let answer = match body {
            Some(body) => {
                let text = serde_json::to_string(body).map_err(|error| Failure::of(Exit::Failure, &error))?;
                let request = request.header("content-type", "application/json").body(text).map_err(bad)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(Some(TIME_MAX)).build())
            }
            None => {
                let request = request.body(()).map_err(bad)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(Some(TIME_MAX)).build())
            }
        };
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() { Ok(text) } else { Err(self.refused(answer.status().as_u16(), &text)) }
    }

    /// The stream of events after this number.
    pub fn stream(&self, after: u64) -> Result<Response<Body>, Failure> {
        let request = Request::builder().uri(format!("{}/api/v1/events", self.base)).header("authorization", &self.authorization);
        let request = request.header("accept", "text/event-stream").header("last-event-id", after.to_string()).body(());
        let request = request.map_err(|error| Failure::of(Exit::Usage, &error))?;
        let request = self.agent.configure_request(request).timeout_recv_response(Some(TIME_MAX)).timeout_per_read(Some(SILENCE_MAX)).build();
        let mut answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().unwrap_or_default();
        Err(self.refused(answer.status().as_u16(), &text))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        match error {
            ureq::Error::Timeout(Timeout::Global | Timeout::RecvResponse | Timeout::RecvBody) => {
                Failure::new(Exit::Environment, format!("{base} did not answer in time")).help("whether it was done, `ringwall audit` says")
            }
            ureq::Error::BodyExceedsLimit(_) => Failure::new(Exit::Environment, format!("the answer of {base} is too large to be one of a controller")),
            error => {
                let failure = Failure::new(Exit::Environment, format!("{base} can't be reached: {error}"));
                let is_tls = error.to_string().contains("certificate") || matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_));
                failure.help(if is_tls {
                    "its certificate is of the fleet's own CA, most likely: name that CA's file by --ca-file or RINGWALL_CA_FILE"
                } else {
                    "does ringwall-controller run there, and is it its HTTP address? --controller or RINGWALL_CONTROLLER names it"
                })
            }
        }
    }

    fn refused(&self, status: u16, text: &str) -> Failure {
        let Ok(problem) = serde_json::from_str::<Problem>(text) else {
            return Failure::new(Exit::Environment, format!("{} answers with status {status}, and not as a controller does", self.base));
        };
        let exit = match problem.code {
            Code::NoKey | Code::NoScope | Code::Busy | Code::Store | Code::TimedOut | Code::Internal => Exit::Environment,
            _ => Exit::Failure,
        };
        let detail = problem.detail.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect::<String>();
        let failure = Failure::new(exit, detail);
        match problem.code {
            Code::NoKey => failure.help("is the key of this fleet, and neither expired nor revoked? whoever has the scope `admin` makes another"),
            Code::NoScope => failure.help("each scope is asked for by itself: `read` to see, `write` for the policy, `admin` for nodes and keys"),
            Code::Exposes => failure.help("where that is meant, `ringwall rollout start --accept-exposure`; `ringwall exposure` and `ringwall plan` say by which rules"),
            Code::RolloutActive => failure.help("`ringwall rollout status` shows it; `ringwall rollout rollback` ends it"),
            Code::Policy => failure.help("nothing was changed; mend what you asked for, or the policy (`ringwall revision commit`)"),
            Code::Busy => failure.help("ask again in a moment"),
            _ => failure,
        }
    }
}
