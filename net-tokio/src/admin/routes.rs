//! The endpoints.

use super::body::{self, CommandBody, LogsQuery, MembersBody, TransferBody, Verb};
use super::reply::{Failure, done, json_of, unexpected};
use super::{AdminBackend, AdminOptions, health, page};
use crate::metrics::{self, MetricsSample};
use crate::places::Place;
use crate::protocol::{Answer, Ask, MemberStatus, Request, Response};
use crate::view::{self, StatusView};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{self, DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use kontiki_core::machine::Command;
use kontiki_core::membership::Change;
use kontiki_core::types::NodeId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// The state shared by all endpoints.
pub(super) struct Shared {
    node: Box<dyn AdminBackend>,
    options: AdminOptions,
}

impl Shared {
    pub(super) fn new(node: impl AdminBackend, options: AdminOptions) -> Self {
        Self { node: Box::new(node), options }
    }
}

type Member = State<Arc<Shared>>;
type Http = axum::response::Response;
type Answered = Result<Http, Failure>;

/// The endpoints, listed in the answer to an unknown path.
const ENDPOINTS: &[(&str, &str)] = &[
    ("GET /info", "the member, its group and its options"),
    ("GET /members", "the members of the group"),
    ("GET /logs?n=20 or ?from=1&to=20", "entries of the log"),
    ("GET /metrics", "for Prometheus"),
    ("GET /health/live", "503 if the member should be restarted"),
    ("GET /health/ready", "503 if the member should get no requests"),
    ("GET /status", "the status page"),
    ("GET /status.json", "the data of that page"),
    ("POST /commit", "apply a command"),
    ("POST /save", "take a snapshot"),
    ("POST /members", "add, remove, promote or demote a member, or cancel the pending change"),
    ("POST /transfer", "transfer leadership"),
];

/// The time limit for sampling the driver, for answers that are useful without the sample.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let health =
        Router::new().route("/health/live", get(live_health)).route("/health/ready", get(ready_health));
    let metrics = Router::new().route("/metrics", get(show_metrics));
    let guarded = Router::new()
        .route("/info", get(info))
        .route("/logs", get(logs))
        .route("/members", get(members).post(change_members))
        .route("/status.json", get(status))
        .route("/commit", post(commit))
        .route("/save", post(save))
        .route("/transfer", post(transfer));
    let guard = |router: Router<Arc<Shared>>, is_open: bool| match is_open {
        true => router,
        false => router.route_layer(middleware::from_fn_with_state(Arc::clone(&shared), check_token)),
    };
    Router::new()
        .merge(guard(health, shared.options.open_health))
        .merge(guard(metrics, shared.options.open_metrics))
        .merge(guard(guarded, false))
        // These two need no token: they contain nothing but their source. The page asks for the token before
        // it fetches data.
        .route("/status", get(page::show))
        .route("/", get(index))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(shared.options.max_body_bytes))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), finish))
        .with_state(shared)
}

/// Applies to every response: a time limit, a counter, and headers against caching and content sniffing.
async fn finish(
    State(shared): Member,
    Extension(place): Extension<Arc<Place>>,
    request: extract::Request,
    next: Next,
) -> Http {
    let is_health = request.uri().path().starts_with("/health/");
    let mut response = match place.begin(is_health) {
        true => answer_in_time(&shared, request, next).await,
        false => Failure::unavailable("too_many_requests", "too many requests are in progress: try again")
            .into_response(),
    };
    place.end();
    shared.node.metrics().served(response.status().as_u16());
    for (name, value) in COMMON_HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn answer_in_time(shared: &Shared, request: extract::Request, next: Next) -> Http {
    let changes = request.method() == axum::http::Method::POST;
    match time::timeout(shared.options.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) if changes => Failure::timeout(
            "no answer in time: the request may still take effect; check before you repeat it",
        )
        .into_response(),
        Err(_) => Failure::timeout("no answer in time: try again").into_response(),
    }
}

const COMMON_HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Requires the token. No body is read before.
async fn check_token(State(shared): Member, request: extract::Request, next: Next) -> Http {
    let why = match bearer(request.headers()) {
        Some(token) if shared.options.token.is(token) => return next.run(request).await,
        Some(_) => "the token is wrong",
        None => "send the token in the header `Authorization: Bearer ...`",
    };
    shared.node.metrics().refused("unauthorized");
    tracing::debug!(
        code = "unauthorized",
        path = request.uri().path(),
        "refused a request without a valid token"
    );
    let failure = Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", why);
    ([(header::WWW_AUTHENTICATE, "Bearer realm=\"kontiki\"")], failure).into_response()
}

/// Returns the request's token, if it has exactly one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).into_iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

fn endpoints() -> Value {
    let list = |(endpoint, what): &(&str, &str)| json!({ "endpoint": endpoint, "what": what });
    ENDPOINTS.iter().map(list).collect()
}

async fn index() -> Http {
    json_of(&json!({ "kontiki": env!("CARGO_PKG_VERSION"), "endpoints": endpoints() })).into_response()
}

async fn unknown_path() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path").with("endpoints", endpoints())
}

async fn wrong_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "method not allowed: requests with side effects are POST, all others GET",
    )
}

async fn live_health(State(shared): Member) -> Answered {
    let well = health::live(&shared.node.status());
    well.map_err(|why| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_alive", why))?;
    Ok(json_of(&json!({ "live": true })).into_response())
}

async fn ready_health(State(shared): Member) -> Answered {
    let status = shared.node.status();
    let well = health::ready(&status, shared.options.ready_lag);
    well.map_err(|why| Failure::unavailable("not_ready", why))?;
    Ok(match health::warning(&status) {
        None => json_of(&json!({ "ready": true })),
        Some(warning) => json_of(&json!({ "ready": true, "warning": warning })),
    }
    .into_response())
}

async fn show_metrics(State(shared): Member) -> Http {
    let node = &shared.node;
    let (members, sample) = tokio::join!(soon(member_list(&shared)), soon(node.sample()));
    let members = members.and_then(Result::ok).unwrap_or_default();
    let page = node.metrics().render(&node.status(), &members, sample.as_ref());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}

/// Samples the member within a short time limit; without a sample, a page shows the rest.
async fn soon<T>(answering: impl Future<Output = T>) -> Option<T> {
    time::timeout(SAMPLE_TIMEOUT, answering).await.ok()
}

async fn member_list(shared: &Shared) -> Result<Vec<MemberStatus>, Failure> {
    match shared.node.ask(Request::Members).await {
        Response::Members(members) => Ok(members),
        other => Err(unexpected(&other)),
    }
}

/// Returns all that is known of the member. Fields that need the driver are left out if it does not answer.
async fn info(State(shared): Member) -> Http {
    let node = &shared.node;
    let (members, sample) = tokio::join!(soon(member_list(&shared)), soon(node.sample()));
    let mut info = json!(StatusView::from(&node.status()));
    info["version"] = env!("CARGO_PKG_VERSION").into();
    info["members"] = json!(members.and_then(Result::ok).map(|members| view::members(&members)));
    info["counters"] = sample.map_or(Value::Null, |MetricsSample { counters, .. }| json!(counters));
    info["options"] = node.options();
    json_of(&info).into_response()
}

/// Returns the data of the status page.
async fn status(State(shared): Member) -> Http {
    let members = soon(member_list(&shared)).await.and_then(Result::ok);
    let mut status = json!(StatusView::from(&shared.node.status()));
    status["now_ms"] = metrics::unix_millis().into();
    status["members"] = json!(members.map(|members| view::members(&members)));
    status["events"] = json!(shared.node.metrics().events());
    json_of(&status).into_response()
}

async fn members(State(shared): Member) -> Answered {
    let members = view::members(&member_list(&shared).await?);
    Ok(json_of(&json!({ "members": members })).into_response())
}

async fn logs(State(shared): Member, query: Result<Query<LogsQuery>, QueryRejection>) -> Answered {
    let range = body::range(query).map_err(Failure::bad_request)?;
    match shared.node.ask(Request::logs(range)).await {
        Response::Answer(Answer::Entries(entries)) => Ok(json_of(&body::entries(&entries)).into_response()),
        other => Err(unexpected(&other)),
    }
}

async fn commit(State(shared): Member, headers: HeaderMap, bytes: Result<Bytes, BytesRejection>) -> Answered {
    let bytes = whole(bytes)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let command = match kind.split(';').next().unwrap_or_default().trim() {
        "application/octet-stream" => bytes.to_vec(),
        "application/json" => parse::<CommandBody>(&bytes)?.bytes().map_err(Failure::bad_request)?,
        _ => return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", MEDIA)),
    };
    if command.is_empty() {
        return Err(Failure::bad_request("the body contains no command"));
    }
    run(&shared, Ask::Command(Command::Plain(&command).encode())).await
}

const MEDIA: &str = "send the command's bytes as `Content-Type: application/octet-stream`, or {\"command_base64\":\"...\"} as `application/json`";

async fn save(State(shared): Member) -> Answered {
    run(&shared, Ask::Snapshot).await
}

async fn transfer(State(shared): Member, bytes: Result<Bytes, BytesRejection>) -> Answered {
    let bytes = whole(bytes)?;
    let wanted = if bytes.is_empty() { TransferBody::default() } else { parse(&bytes)? };
    run(&shared, Ask::Transfer { to: wanted.to }).await
}

async fn change_members(State(shared): Member, bytes: Result<Bytes, BytesRejection>) -> Answered {
    let mut wanted: MembersBody = parse(&whole(bytes)?)?;
    let (change, addresses) = match wanted.verb().map_err(Failure::bad_request)? {
        Verb::Cancel => return cancel_change(&shared).await,
        Verb::Change(change) => (change, Vec::new()),
        Verb::Add(newcomer) => {
            let change = newcomer_change(&shared, &newcomer).await?;
            (change, vec![(newcomer.id, newcomer.address)])
        }
    };
    let MembersBody { expected, force, .. } = wanted;
    let ask = Ask::Reconfigure { expected, changes: vec![change], force };
    run(&shared, Request::Ask { ask, addresses }).await
}

/// Here the cancellation is a success; the caller of the cancelled change gets it as an error.
async fn cancel_change(shared: &Shared) -> Answered {
    match shared.node.ask(Ask::CancelChange.into()).await {
        Response::Answer(Answer::Cancelled) => Ok(json_of(&json!({ "cancelled": true })).into_response()),
        other => Ok(json_of(&done(other)?).into_response()),
    }
}

/// The new member itself reports its incarnation, unless the request does.
async fn newcomer_change(shared: &Shared, newcomer: &body::Newcomer) -> Result<Change, Failure> {
    if newcomer.address.is_empty() {
        return Err(Failure::bad_request("the new member's address is missing: set `address` to host:port"));
    }
    if let Some(incarnation) = newcomer.incarnation {
        return Ok(newcomer.change(incarnation));
    }
    let found = shared.node.find(&newcomer.address).await;
    let who = found.map_err(|why| Failure::unavailable("unreachable", why))?;
    if who.member.id != newcomer.id {
        return Err(wrong_member(&newcomer.address, who.member.id));
    }
    Ok(newcomer.change(who.member.incarnation))
}

fn wrong_member(address: &str, id: NodeId) -> Failure {
    let message = format!("the address {address} belongs to member {id}: use that id, or another address");
    Failure::new(StatusCode::CONFLICT, "wrong_member", message)
}

async fn run(shared: &Shared, request: impl Into<Request>) -> Answered {
    Ok(json_of(&done(shared.node.ask(request.into()).await)?).into_response())
}

fn whole(bytes: Result<Bytes, BytesRejection>) -> Result<Bytes, Failure> {
    bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
        }
        _ => Failure::bad_request("the body is incomplete"),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::bad_request(format!("the body: {error}")))
}
