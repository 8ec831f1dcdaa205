//! The status page. It contains no data of the member: its script asks for the token, keeps it while the tab
//! is open, and fetches `/status.json` each second.

use super::reply::Failure;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PAGE: &str = include_str!("status.html");
const PLACE: &str = "{{nonce}}";

/// Returns the page. Its script and its style carry a nonce, drawn for each answer.
pub(super) async fn show() -> Response {
    let mut nonce = [0; 16];
    if let Err(error) = getrandom::fill(&mut nonce) {
        tracing::error!(%error, "no random nonce for the status page");
        let message = "the system gives no random numbers: try again";
        return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response();
    }
    let nonce = URL_SAFE_NO_PAD.encode(nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE.replace(PLACE, &nonce))).into_response()
}
