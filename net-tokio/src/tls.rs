//! Mutual TLS: which peers may connect to this cluster, and which of them are members.
//!
//! One authority signs the certificates of one cluster; certificates of other authorities are refused. A
//! *member's* certificate has the name [`MEMBER`] among its subject alternative names. A client's certificate
//! lacks it, so a client cannot connect as a member. A dialler requires a member's certificate at the other
//! end, by that name and not by the address, so that members can move. Only TLS 1.3 is accepted.
//! `examples/certificates.rs` makes certificates to try this with.

use crate::transport::HandshakeRefusal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::{fmt, io};
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that marks a member's certificate.
pub const MEMBER: &str = "member.kontiki";

/// The TLS material of one end: the trusted authority, and its own certificate and key. Cheap to clone; all
/// clones share the material, which [`reload`](Self::reload) replaces for all of them.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    current: RwLock<Current>,
    reloads: Mutex<Reloads>,
}

/// The material in use.
struct Current {
    pem: Pem,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
}

/// The files the material is read from.
#[derive(Clone)]
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// The content of the files: the authority's certificates, this end's certificate, and its key.
#[derive(PartialEq, Eq)]
struct Pem {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The results of all reloads of the files.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Reloads {
    /// The number of times new material was accepted.
    pub taken: u64,
    /// The number of times new material was refused and the old was kept.
    pub refused: u64,
    /// The reason the present files cannot be used; `None` if their content is in use.
    pub problem: Option<String>,
}

/// The role that a certificate must support.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A member, which dials members and accepts members and clients.
    Member,
    /// A client, which only dials members.
    Client,
}

impl Role {
    fn code(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Client => "client",
        }
    }
}

impl Tls {
    /// Reads PEM files: the certificates of the authority, this end's certificate (followed by intermediate
    /// certificates, if any), and its private key (PKCS #8, SEC 1 or PKCS #1). [`reload`](Self::reload) reads
    /// them again.
    ///
    /// # Errors
    ///
    /// Returns the file and what is wrong with it.
    pub fn from_files(
        ca: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (ca, certificate, key) = (ca.as_ref(), certificate.as_ref(), key.as_ref());
        let files = Files { ca: ca.to_owned(), certificate: certificate.to_owned(), key: key.to_owned() };
        let current = RwLock::new(files.parse(files.read()?)?);
        Ok(Self(Arc::new(Shared { files, current, reloads: Mutex::default() })))
    }

    /// Reads the files again, and returns whether their content has changed. New connections use the new
    /// material; existing connections continue. Material that is invalid, or unfit for `role`, changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the new material. The old material is kept.
    pub fn reload(&self, role: Role) -> Result<bool, TlsError> {
        let new = self.0.files.read().and_then(|pem| {
            if self.current().pem == pem {
                return Ok(None);
            }
            let new = self.0.files.parse(pem)?;
            self.0.files.check(&new, role)?;
            Ok(Some(new))
        });
        let mut reloads = self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        match new {
            Ok(new) => {
                reloads.problem = None;
                let is_other = new.is_some();
                if let Some(new) = new {
                    reloads.taken += 1;
                    *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                }
                Ok(is_other)
            }
            Err(error) => {
                let problem = Some(error.to_string());
                // The same files are checked repeatedly: each problem counts once.
                reloads.refused += u64::from(reloads.problem != problem);
                reloads.problem = problem;
                Err(error)
            }
        }
    }

    /// Returns the results of all reloads.
    pub fn reloads(&self) -> Reloads {
        self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that the certificate supports this role. An expired certificate is accepted: it can be replaced
    /// while the member runs.
    ///
    /// # Errors
    ///
    /// Returns what the certificate lacks.
    pub fn check(&self, role: Role) -> Result<(), TlsError> {
        match self.0.files.check(&self.current(), role) {
            Err(TlsError::Unfit { lacks: Lack::Time(error), .. }) => {
                tracing::warn!(certificate = %self.0.files.certificate.display(), %error, "the certificate is not valid now");
                Ok(())
            }
            result => result,
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current().acceptor.clone()
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        self.current().connector.clone()
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn read(&self) -> Result<Pem, TlsError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| TlsError::Read { file: file.to_owned(), error })
        };
        Ok(Pem { ca: read(&self.ca)?, certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    fn parse(&self, pem: Pem) -> Result<Current, TlsError> {
        let (authorities, chain) =
            (certificates(&self.ca, &pem.ca)?, certificates(&self.certificate, &pem.certificate)?);
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|error| unreadable(&self.key, "private key", error))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| TlsError::Authority { file: self.ca.clone(), error })?;
        }
        let roots = Arc::new(roots);
        let (acceptor, connector) = ends(&roots, &chain, key).map_err(|error| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            error,
        })?;
        Ok(Current { pem, acceptor, connector, roots, chain })
    }

    /// Checks what peers will check of this end's certificate.
    fn check(&self, current: &Current, role: Role) -> Result<(), TlsError> {
        let lacking = match role {
            Role::Member => lacks_for_answering(current).or_else(|| lacks_for_dialling(current)),
            Role::Client => lacks_for_dialling(current),
        };
        let file = || self.certificate.clone();
        lacking.map_or(Ok(()), |lacks| Err(TlsError::Unfit { certificate: file(), role, lacks }))
    }
}

fn lacks_for_answering(current: &Current) -> Option<Lack> {
    let (end, between) = current.chain.split_first()?;
    if !is_member(end) {
        return Some(Lack::Name);
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(current.roots.clone(), provider()).build();
    let verified = verifier.map_err(|error| rustls::Error::General(error.to_string())).and_then(|verifier| {
        verifier.verify_server_cert(end, between, &member(), &[], UnixTime::now()).map(drop)
    });
    verified.err().map(|error| Lack::of(error, Lack::ServerUse))
}

fn lacks_for_dialling(current: &Current) -> Option<Lack> {
    let (end, between) = current.chain.split_first()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(current.roots.clone(), provider()).build();
    let verified = verifier
        .map_err(|error| rustls::Error::General(error.to_string()))
        .and_then(|verifier| verifier.verify_client_cert(end, between, UnixTime::now()).map(drop));
    verified.err().map(|error| Lack::of(error, Lack::ClientUse))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The acceptor and the connector built from this material.
fn ends(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<(TlsAcceptor, TlsConnector), rustls::Error> {
    let other = |error: &dyn fmt::Display| rustls::Error::General(error.to_string());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.build().map_err(|error| other(&error))?)
        .with_single_cert(chain.to_vec(), key.clone_key())?;
    // Connections are long-lived: sessions are not resumed, so every certificate is verified.
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.to_vec(), key)?;
    client.resumption = Resumption::disabled();
    Ok((Arc::new(server).into(), Arc::new(client).into()))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The server name that a dialler requires.
pub(crate) fn member() -> ServerName<'static> {
    ServerName::try_from(MEMBER).expect("it is a DNS name")
}

/// Returns whether this verified certificate is a member's.
pub(crate) fn is_member(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &member()).is_ok())
}

/// A TLS failure between the two ends of a connection.
pub(crate) enum Trouble {
    /// The other end rejects this end's certificate.
    Ours(HandshakeRefusal),
    /// The other end's certificate is invalid or missing.
    Theirs(rustls::Error),
    /// The two ends have no TLS version or parameters in common.
    Other(rustls::Error),
}

/// Finds the TLS failure in a connection's error; `None` if the connection merely ended.
pub(crate) fn trouble(error: &io::Error) -> Option<Trouble> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            Trouble::Ours(HandshakeRefusal::NoCertificate)
        }
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => Trouble::Ours(HandshakeRefusal::BadCertificate),
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
            Trouble::Theirs(error.clone())
        }
        error => Trouble::Other(error.clone()),
    })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unreadable(file, "certificate", error);
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(failed)? {
        found if found.is_empty() => Err(failed(pem::Error::NoItemsFound)),
        found => Ok(found),
    }
}

fn unreadable(file: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let file = file.to_owned();
    match error {
        pem::Error::Io(error) => TlsError::Read { file, error },
        error => TlsError::Pem { file, what, error },
    }
}

/// The reason certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The file lacks the expected PEM content.
    #[error("{file} holds no {what} as PEM: {error}")]
    Pem {
        /// The file.
        file: PathBuf,
        /// The expected content.
        what: &'static str,
        /// The parser's error.
        #[source]
        error: pem::Error,
    },
    /// The authority's certificate is invalid.
    #[error("{file} holds no certificate of an authority: {error}")]
    Authority {
        /// The file.
        file: PathBuf,
        /// The error.
        #[source]
        error: rustls::Error,
    },
    /// The certificate and the key are invalid, or do not match.
    #[error("{certificate} and {key} are not a certificate and its key: {error}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The error.
        #[source]
        error: rustls::Error,
    },
    /// The certificate does not support its role.
    #[error("{certificate} is not a {}'s certificate: {lacks}", .role.code())]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The role.
        role: Role,
        /// What it lacks.
        lacks: Lack,
    },
}

/// A requirement that a certificate does not meet.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// The name [`MEMBER`] among its subject alternative names: it is a client's certificate.
    #[error("it lacks the DNS name {MEMBER} among its subject alternative names")]
    Name,
    /// The extended key usage for accepting connections.
    #[error("its extended key usage lacks server authentication (serverAuth)")]
    ServerUse,
    /// The extended key usage for making connections.
    #[error("its extended key usage lacks client authentication (clientAuth)")]
    ClientUse,
    /// The authority's signature.
    #[error("it is not signed by the authority that this end trusts")]
    Signature,
    /// Its period of validity includes the present.
    #[error(transparent)]
    Time(rustls::Error),
    /// Another requirement.
    #[error(transparent)]
    Other(rustls::Error),
}

impl Lack {
    /// Classifies a verification error; `usage` is the purpose that was verified.
    fn of(error: rustls::Error, usage: Self) -> Self {
        use rustls::CertificateError as Bad;
        let rustls::Error::InvalidCertificate(bad) = &error else {
            return Self::Other(error);
        };
        match bad {
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::Name,
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => usage,
            Bad::UnknownIssuer | Bad::BadSignature => Self::Signature,
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                Self::Time(error)
            }
            _ => Self::Other(error),
        }
    }
}
