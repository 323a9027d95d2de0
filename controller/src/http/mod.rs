//! The public API, under `/api/v1`: what the CLI and the page are made of.
//!
//! In: HTTP requests, each with a key. Out: rows as JSON, changes carried out, events as they happen, metrics; every
//! error as a problem (RFC 9457). Never: a change without a key's id in the audit log, a secret but at its making, a
//! reason to who has no key, a body or a page without a bound.
//!
//! [`router`] is the whole of it, for whoever serves it: it opens no socket.

mod access;
mod agents;
mod audit;
mod events;
mod fleet;
mod key;
mod metrics;
mod nodes;
mod part;
mod paths;
mod refused;
mod revisions;
mod rollouts;
mod settings;
mod tokens;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, extract};
use ringwall_api::{BODY_MAX, Code, Problem, REVISION_MAX};
use tokio::sync::Semaphore;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Access;
use crate::audit::{Actor, Audited};
use crate::change::{Change, Write, Written};
use crate::id::AccessId;
use crate::identity::Authority;
use crate::server::Control;
use crate::store::{Sqlite, Store as _};
use crate::time::Time;

use self::metrics::Requests;
use self::refused::Refused;

/// What the API is about.
#[derive(Clone)]
pub struct State {
    pub store: Arc<Sqlite>,
    pub authority: Arc<Authority>,
    /// Where agents reach a controller, as `host:port`: what a token's word says.
    pub controllers: Vec<String>,
    pub control: Control<Sqlite>,
    pub clock: fn() -> Time,
    /// Fills from the system's source.
    pub random: fn(&mut [u8]),
}

/// For a request, from its first byte to its answer's.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Requests at a time; who comes then is asked to come again.
const REQUESTS_MAX: usize = 256;
/// Streams of events at a time.
const STREAMS_MAX: usize = 64;

/// The same with what only the API itself keeps.
#[derive(Clone)]
struct Inner {
    state: State,
    requests: Arc<Requests>,
    places: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// When a key of the store was used last, where that is newer than what the store says.
    used: Arc<Mutex<BTreeMap<AccessId, Time>>>,
    /// The API's description, as it is sent.
    description: Arc<str>,
}

type Api = extract::State<Inner>;

/// The API, to be served over TLS, or over plain TCP on loopback alone.
pub fn router(state: State) -> Router {
    let (routes, document) = routes_with_description().split_for_parts();
    let inner = Inner {
        state,
        requests: Arc::default(),
        places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        used: Arc::default(),
        description: described(document).to_pretty_json().unwrap_or_default().into(),
    };
    let routes = routes.fallback(nothing_there).method_not_allowed_fallback(not_that_way);
    routes.layer(middleware::from_fn_with_state(inner.clone(), bounded)).with_state(inner)
}

/// The API's description (OpenAPI 3.1).
pub fn description() -> OpenApi {
    described(routes_with_description().split_for_parts().1)
}

/// The only place where routes are made: with each comes its description.
fn routes_with_description() -> OpenApiRouter<Inner> {
    let large = OpenApiRouter::new().routes(routes!(revisions::list, revisions::commit)).layer(DefaultBodyLimit::max(REVISION_MAX));
    OpenApiRouter::new()
        .routes(routes!(fleet::fleet))
        .routes(routes!(fleet::openapi))
        .routes(routes!(fleet::healthz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::one))
        .routes(routes!(tokens::revoke))
        .routes(routes!(agents::list))
        .routes(routes!(agents::one))
        .routes(routes!(agents::approve))
        .routes(routes!(agents::revoke))
        .routes(routes!(agents::place))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::one))
        .routes(routes!(settings::list))
        .routes(routes!(settings::of_node))
        .routes(routes!(settings::set, settings::unset))
        .routes(routes!(revisions::one))
        .routes(routes!(revisions::content))
        .routes(routes!(revisions::outdated))
        .routes(routes!(rollouts::list, rollouts::start))
        .routes(routes!(rollouts::one))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::roll_back))
        .routes(routes!(paths::list))
        .routes(routes!(paths::look))
        .routes(routes!(events::events))
        .routes(routes!(audit::audit))
        .routes(routes!(access::list, access::create))
        .routes(routes!(access::revoke))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .merge(large)
}

const ABOUT: &str = "What a fleet's controller can be asked and told. Fields are only ever added to answers; \
a request with a field that is not known is refused. Times are RFC 3339 in UTC, durations as `15m`, addresses as RFC 5952 writes them.";

fn described(mut document: OpenApi) -> OpenApi {
    document.info.title = "Ringwall".to_owned();
    document.info.description = Some(ABOUT.to_owned());
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.contact = None;
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("rwa1_…").description(Some("A key to the API; an operation names the scope that it needs.")).build();
    components.security_schemes.insert("key".to_owned(), SecurityScheme::Http(scheme).into());
    components.schemas.extend(schema_of_problem());
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let problem = ResponseBuilder::new().description("Why it was not done").content(Problem::CONTENT_TYPE, problem).build();
    for (path, item) in &mut document.paths.paths {
        let words: Vec<&str> = path.split('/').filter(|word| !matches!(*word, "" | "api" | "v1")).map(|word| word.trim_matches(['{', '}'])).collect();
        for (method, operation) in [("get", &mut item.get), ("put", &mut item.put), ("post", &mut item.post), ("delete", &mut item.delete)] {
            let Some(operation) = operation else { continue };
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
            // Its name in a generated client.
            operation.operation_id = Some(format!("{method}_{}", words.join("_").replace(['-', '.'], "_")));
            operation.tags = words.first().map(|first| vec![(*first).to_owned()]);
        }
    }
    document
}

fn schema_of_problem() -> Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)> {
    use utoipa::{PartialSchema as _, ToSchema as _};
    let mut schemas = vec![("Problem".to_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    schemas
}

/// No request lasts for ever, nor are there ever more than some at a time; each is counted.
async fn bounded(extract::State(inner): Api, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let began = Instant::now();
    let answer = match inner.places.clone().try_acquire_owned() {
        Ok(_place) => match tokio::time::timeout(TIME_MAX, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Refused::new(Code::TimedOut, "it took too long; look whether it was done").into_response(),
        },
        Err(_) => Refused::new(Code::Busy, "too many ask at once: come again in a moment").into_response(),
    };
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    inner.requests.count(route, &method, answer.status(), began.elapsed());
    answer
}

async fn nothing_there() -> Refused {
    Refused::new(Code::Missing, "there is nothing at this address; /api/v1/openapi.json says what there is")
}

async fn not_that_way() -> Refused {
    Refused::new(Code::Method, "this address takes no such method; /api/v1/openapi.json says which it takes")
}

impl Inner {
    fn now(&self) -> Time {
        (self.state.clock)()
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.state.random)(&mut bytes);
        bytes
    }

    /// A change that somebody with this key answers for.
    async fn change(&self, key: &Access, change: Change) -> Result<Written, Refused> {
        let part = Write::Change(Audited { who: Actor::Access(key.id), at: self.now(), change });
        let written = self.state.store.write(vec![part]).await?;
        Ok(written.into_iter().next().unwrap_or(Written::Nothing))
    }
}

/// Carried out to its end, even when who asked goes away or it takes too long: what follows a change belongs to it.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Result<T, Refused> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Refused::internal(&error)))
}
