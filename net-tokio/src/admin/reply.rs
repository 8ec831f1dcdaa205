//! A member's reply as an HTTP response.

use crate::protocol::{Answer, Refused, Response};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kontiki_core::machine;
use kontiki_core::types::{LogId, NodeId};
use serde_json::{Value, json};

/// An error in the form of every endpoint: `{"error":{"code","message"}}`.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: String,
    message: String,
    /// Whether the same request may succeed later.
    retry: bool,
    /// Further fields.
    more: Option<(&'static str, Value)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), retry: false, more: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub(super) fn with(self, name: &'static str, value: Value) -> Self {
        Self { more: Some((name, value)), ..self }
    }

    fn refused(refused: Refused) -> Self {
        let Refused { code, text, retry, leader } = refused;
        let status = match code.as_str() {
            "too_large" | "query_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "compacted" => StatusCode::GONE,
            // The group's state prevents it, and another member would refuse too.
            "change_in_flight" | "catching_up" | "snapshot_under_way" | "nothing_to_snapshot" => {
                StatusCode::CONFLICT
            }
            _ if retry => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        let leader = leader.map(|(id, address)| json!({ "id": id, "address": address }));
        Self { status, code, message: text, retry, more: leader.map(|leader| ("leader", leader)) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let mut error = json!({ "code": self.code, "message": self.message, "retry": self.retry });
        if let Some((name, value)) = self.more {
            error[name] = value;
        }
        let mut response = (self.status, json_of(&json!({ "error": error }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE && self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Returns a JSON body, with a newline at the end for terminals.
pub(super) fn json_of(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n"))
}

/// Returns the result of an action as a response body.
pub(super) fn done(response: Response) -> Result<Value, Failure> {
    let late = |code, message: &str| Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, code, message));
    let answer = match response {
        Response::Answer(answer) => answer,
        other => return Err(unexpected(&other)),
    };
    match answer {
        Answer::Applied { id, answer } => applied(id, answer),
        Answer::Unanswered(id) => Ok(json!({
            "index": id.index, "term": id.term, "answer_base64": null,
            "note": "committed and applied, but this member does not have its answer: query the state",
        })),
        Answer::Reconfigured(id) | Answer::Snapshot(id) => Ok(json!({ "index": id.index, "term": id.term })),
        Answer::Transferred => Ok(json!({ "transferred": true })),
        Answer::NotTransferred => {
            late("not_transferred", "no member took over in time, and this member still leads: try again")
        }
        Answer::NotCaughtUp(id) => late("not_caught_up", &not_caught_up(id)),
        Answer::Cancelled => Err(Failure::new(StatusCode::CONFLICT, "cancelled", CANCELLED)),
        Answer::Unknown => late("unknown", UNKNOWN),
        Answer::Refused(refused) => Err(Failure::refused(refused)),
        answer @ (Answer::Read { .. } | Answer::Entries(_)) => Err(unexpected(&answer.into())),
    }
}

const CANCELLED: &str = "the change was cancelled while it waited for new members, which stay learners: promote them when they have caught up, or remove them";
const UNKNOWN: &str =
    "leadership was lost meanwhile: the request may have taken effect or not; check before you repeat it";

/// Returns an error for a response that does not belong to the request.
pub(super) fn unexpected(response: &Response) -> Failure {
    match response {
        Response::Answer(Answer::Refused(refused)) => Failure::refused(refused.clone()),
        other => {
            tracing::error!(response = ?other, "a member's response does not fit the request");
            Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the member's reply does not fit the request: report it",
            )
        }
    }
}

fn applied(id: LogId, answer: machine::Answer) -> Result<Value, Failure> {
    let (index, term) = (id.index, id.term);
    match answer {
        machine::Answer::Applied(bytes) => {
            Ok(json!({ "index": index, "term": term, "answer_base64": BASE64.encode(&*bytes) }))
        }
        answer if answer.is_applied() => {
            Ok(json!({ "index": index, "term": term, "answer_base64": null, "note": answer.to_string() }))
        }
        answer => Err(Failure::new(StatusCode::CONFLICT, "not_applied", answer.to_string())),
    }
}

fn not_caught_up(id: NodeId) -> String {
    format!("member {id} did not catch up in time and stays a learner: remove it, or promote it later")
}
