//! Connections of the admin port: how many, how long, and how they end.

use super::AdminOptions;
use crate::places::{Place, Places};
use axum::Extension;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    connections: usize,
    header: Duration,
    request: Duration,
}

impl Limits {
    pub(super) fn of(options: &AdminOptions) -> Self {
        Self {
            connections: options.max_connections,
            header: options.header_timeout,
            request: options.request_timeout,
        }
    }
}

/// The longest life of a connection: a client that does not read its answers cannot hold it longer.
const LIFE: Duration = Duration::from_secs(300);
/// How long requests in progress are waited for when the port is closed.
const PATIENCE: Duration = Duration::from_secs(5);
/// The delay before accepting again when the system has no more sockets or memory, or requests are in
/// progress on all slots.
const PAUSE: Duration = Duration::from_millis(100);
/// The number of health checks answered in addition to all other requests.
const PLACES_FOR_HEALTH: usize = 16;
/// The most memory for the head of a request.
const MAX_HEAD: usize = 32 << 10;

/// Accepts connections until it is stopped, and then waits until all of them have ended.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(limits.connections, PLACES_FOR_HEALTH);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = tokio::select! {
                    () = stopped(&mut stop) => break,
                    place = room(&places) => place,
                };
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(connection(stream, router, limits, Arc::new(place), stop));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::select! {
                    () = stopped(&mut stop) => break,
                    () = time::sleep(PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for a slot.
async fn room(places: &Arc<Places>) -> Place {
    loop {
        match places.enter().await {
            Some(place) => return place,
            None => time::sleep(PAUSE).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    place: Arc<Place>,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router.layer(Extension(Arc::clone(&place))));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let patience = tokio::select! {
        // A failed connection concerns its client only.
        _ = connection.as_mut() => return,
        () = place.gives_way() => return,
        () = stopped(&mut stop) => limits.request.min(PATIENCE),
        () = time::sleep(LIFE) => limits.request,
    };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection.as_mut() => {}
        () = place.gives_way() => {}
        () = time::sleep(patience) => {}
    }
}

/// Waits until the port is closed, or its [`Admin`](super::Admin) dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
