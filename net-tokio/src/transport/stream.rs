//! A connection, with TLS or without.

use crate::places::Place;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection after its handshake: bytes both ways. Flush what must go out now: with TLS, what was written
/// may wait otherwise.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    /// Its place among those of clients, given back when it ends.
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

    /// Keeps this place taken for as long as the connection is there.
    pub(super) fn holding(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// A request of the client is complete: until it is answered, the connection gives way to no other.
    pub(crate) fn begin(&self) {
        if let Some(place) = &self.place {
            // One that has given way ends at once, whatever it has asked.
            let _ = place.begin(false);
        }
    }

    /// All requests of the client are answered.
    pub(crate) fn end(&self) {
        if let Some(place) = &self.place {
            place.end();
        }
    }

    /// Until another client needs the place of this one.
    pub(crate) fn gives_way(&self) -> impl Future<Output = ()> + use<> {
        let given = self.place.as_ref().map(Place::gives_way);
        async move {
            match given {
                Some(given) => given.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the other end may speak as a member, as far as its certificate says. Without TLS there is
    /// none, and nobody is asked.
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

/// Does the same to whichever kind it is.
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
