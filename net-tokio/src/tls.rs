//! Mutual TLS: who may talk to this cluster at all, and who of them is a member.
//!
//! One authority signs the certificates of one cluster, and nobody else's count. A *member's* certificate has the name [`MEMBER`] among its
//! subject alternative names; a client's has not, and so cannot speak as a member. Whoever dials demands a member at the other end, by that
//! name and not by the address, so that members can move. Only TLS 1.3 is spoken. `examples/certificates.rs` makes certificates to try this
//! with.

use crate::transport::Refusal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt, io};
use tokio_rustls::rustls::client::{Resumption, verify_server_name};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that makes a certificate a member's.
pub const MEMBER: &str = "member.kontiki";

/// What one end needs for mutual TLS: the authority that it trusts, and its own certificate and key. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) connector: TlsConnector,
}

impl Tls {
    /// Reads PEM files: the certificates of the authority, this end's certificate (with those between it and the authority, if any, after
    /// it), and its private key (PKCS #8, SEC 1 or PKCS #1). They are read once; a new certificate takes a new start.
    pub fn from_files(
        ca: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (ca, certificate, key) = (ca.as_ref(), certificate.as_ref(), key.as_ref());
        let (authorities, chain) = (certificates(ca)?, certificates(certificate)?);
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", error))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| TlsError::Authority { file: ca.to_owned(), error })?;
        }
        Self::new(Arc::new(roots), chain, private).map_err(|error| TlsError::Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            error,
        })
    }

    fn new(
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let other = |error: &dyn fmt::Display| rustls::Error::General(error.to_string());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.build().map_err(|error| other(&error))?)
            .with_single_cert(chain.clone(), key.clone_key())?;
        // Connections last: nothing is resumed, and so every certificate is looked at every time.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.resumption = Resumption::disabled();
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The name that whoever dials demands.
pub(crate) fn member() -> ServerName<'static> {
    ServerName::try_from(MEMBER).expect("it is a DNS name")
}

/// Whether this verified certificate is a member's.
pub(crate) fn is_member(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &member()).is_ok())
}

/// What is wrong between the two ends of a connection.
pub(crate) enum Trouble {
    /// The other end says that it does not like this one's certificate.
    Ours(Refusal),
    /// The other end's certificate is not good enough, or missing.
    Theirs(rustls::Error),
    /// The two do not understand one another.
    Other(rustls::Error),
}

/// Looks for it in an error of a connection: there is none where the connection merely ended.
pub(crate) fn trouble(error: &io::Error) -> Option<Trouble> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::AlertReceived(Alert::CertificateRequired) => Trouble::Ours(Refusal::NoCertificate),
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => Trouble::Ours(Refusal::BadCertificate),
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
            Trouble::Theirs(error.clone())
        }
        error => Trouble::Other(error.clone()),
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| unreadable(file, "certificate", error);
    let found = CertificateDer::pem_file_iter(file).map_err(failed)?.collect::<Result<Vec<_>, _>>();
    match found.map_err(failed)? {
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

/// Why certificates cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// The file cannot be read.
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file does not hold what it should, as PEM.
    Pem {
        /// Which file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// The certificate of the authority cannot be used as one.
    Authority {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The certificate and the key cannot be used, or not together.
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, error } => write!(f, "cannot read {}: {error}", file.display()),
            Self::Pem { file, what, error } => {
                write!(f, "{} holds no {what} as PEM: {error}", file.display())
            }
            Self::Authority { file, error } => {
                write!(f, "{} holds no certificate of an authority: {error}", file.display())
            }
            Self::Pair { certificate, key, error } => write!(
                f,
                "{} and {} are no certificate with its key: {error}",
                certificate.display(),
                key.display()
            ),
        }
    }
}

impl error::Error for TlsError {}
