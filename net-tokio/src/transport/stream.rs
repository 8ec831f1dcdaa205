//! A connection, with or without TLS.

use crate::places::Place;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection after its handshake: a byte stream in both directions. Flush after writing: with TLS, written
/// bytes may be buffered.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    /// Its slot among client connections, freed when it ends.
    place: Option<Place>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { io: Io::Plain(stream), place: None }
    }

    pub(super) fn tls(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self { io: Io::Tls(Box::new(stream.into())), place: None }
    }

    /// Holds this slot for the life of the connection.
    pub(super) fn holding(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// A client's request is complete: until it is answered, the connection cannot be closed for another.
    pub(crate) fn begin(&self) {
        if let Some(place) = &self.place {
            // A connection that was closed for another ends at once, even with a request.
            let _ = place.begin(false);
        }
    }

    /// All requests of the client are answered.
    pub(crate) fn end(&self) {
        if let Some(place) = &self.place {
            place.end();
        }
    }

    /// Waits until another client needs the slot of this one.
    pub(crate) fn gives_way(&self) -> impl Future<Output = ()> + use<> {
        let given = self.place.as_ref().map(Place::gives_way);
        async move {
            match given {
                Some(given) => given.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns whether the other end may act as a member, by its certificate. Without TLS any peer may.
    pub(super) fn may_be_member(&self) -> bool {
        match &self.io {
            Io::Plain(_) => true,
            Io::Tls(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                certificates.and_then(|all| all.first()).is_some_and(crate::tls::is_member)
            }
        }
    }
}

/// Dispatches to the kind of the stream.
macro_rules! either {
    ($stream:expr, $io:ident => $call:expr) => {
        match &mut $stream.get_mut().io {
            Io::Plain(stream) => {
                let $io = Pin::new(stream);
                $call
            }
            Io::Tls(stream) => {
                let $io = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
