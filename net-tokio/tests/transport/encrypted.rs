//! TLS: valid, and invalid in every way.

use crate::certificates::Authority;
use crate::world::{LONG, Node, get_through, id, options, pair, until};
use kontiki_net_tokio::tls::{Lack, Role, Tls, TlsError};
use kontiki_net_tokio::transport::{ClientHello, DialError, HandshakeRefusal, Lane, TransportOptions, dial};
use rcgen::CertificateParams;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// An authority, and the files of its certificates.
struct Ca {
    authority: Authority,
    directory: TempDir,
}

impl Ca {
    fn new() -> Self {
        let (authority, directory) = (Authority::new("test").unwrap(), tempfile::tempdir().unwrap());
        fs::write(directory.path().join("ca.pem"), authority.certificate()).unwrap();
        Self { authority, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, name: &str, is_member: bool, change: impl FnOnce(&mut CertificateParams)) -> [PathBuf; 2] {
        let (certificate, key) = self.authority.sign(name, is_member, change).unwrap();
        let paths = [format!("{name}.pem"), format!("{name}.key")].map(|name| self.path(&name));
        fs::write(&paths[0], certificate).unwrap();
        fs::write(&paths[1], key).unwrap();
        paths
    }

    fn tls(&self, name: &str, is_member: bool) -> Tls {
        let [certificate, key] = self.sign(name, is_member, |_| {});
        Tls::from_files(self.path("ca.pem"), certificate, key).unwrap()
    }

    fn expired(&self) -> Tls {
        let [certificate, key] = self.sign("expired", true, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        Tls::from_files(self.path("ca.pem"), certificate, key).unwrap()
    }
}

fn with(tls: Tls) -> TransportOptions {
    // With TLS this is safe: any peer may connect.
    TransportOptions { tls: Some(tls), ..options() }
}

async fn dialled(to: &Node, tls: Option<&Tls>) -> DialError {
    match dial(&to.address().to_string(), tls, ClientHello::default(), LONG).await {
        Ok((mut stream, _)) => {
            panic!("it was welcome: {:?}", stream.read_u8().await)
        }
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_clients_of_one_authority_talk() {
    let ca = Ca::new();
    let [one, two] = pair(with(ca.tls("member", true))).await;
    let large = vec![7; 1 << 20];
    for (from, to) in [(&one, &two), (&two, &one)] {
        get_through(from, to, Lane::Log, b"small").await;
        get_through(from, to, Lane::Bulk, &large).await;
    }
    let client = ca.tls("client", false);
    let address = one.address().to_string();
    let (mut stream, hello) = dial(&address, Some(&client), ClientHello::default(), LONG).await.unwrap();
    assert_eq!(hello.id, id(1));
    until("it is handed over", || one.notes.clients.lock().unwrap().len() == 1).await;
    let mut served = one.notes.clients.lock().unwrap().remove(0);
    served.write_all(b"hello").await.unwrap();
    served.flush().await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(word, *b"hello");
    assert!(one.transport.counters().refused.is_empty() && two.transport.counters().refused.is_empty());

    // With certificates, other machines may connect.
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let open =
        Node::try_start(3, TransportOptions { listen: everywhere, ..with(ca.tls("third", true)) }).await;
    assert!(open.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_material_is_for_new_connections_and_what_cannot_be_used_changes_nothing() {
    let ca = Ca::new();
    let tls = ca.tls("member", true);
    let [one, two] = pair(with(tls.clone())).await;
    get_through(&one, &two, Lane::Log, b"before").await;
    let inbound = || two.transport.counters().peers[&id(1)].inbound;
    let connections = inbound();
    let (old_client, address) = (ca.tls("client", false), two.address().to_string());
    assert!(!tls.reload(Role::Member).unwrap(), "nothing has changed");

    // Another authority signs everything from now on.
    let new = Authority::new("new").unwrap();
    let (certificate, key) = new.sign("member", true, |_| {}).unwrap();
    fs::write(ca.path("member.key"), &key).unwrap();
    for _ in 0..2 {
        assert!(matches!(tls.reload(Role::Member), Err(TlsError::Pair { .. })), "half of it is there");
    }
    assert_eq!((tls.reloads().taken, tls.reloads().refused), (0, 1));
    assert!(
        dial(&address, Some(&old_client), ClientHello::default(), LONG).await.is_ok(),
        "the old is in use"
    );
    fs::write(ca.path("member.pem"), &certificate).unwrap();
    let error = tls.reload(Role::Member).unwrap_err();
    assert!(matches!(error, TlsError::Unfit { lacks: Lack::Signature, .. }), "{error}");
    fs::write(ca.path("ca.pem"), new.certificate()).unwrap();
    assert!(tls.reload(Role::Member).unwrap());
    assert_eq!((tls.reloads().taken, tls.reloads().refused, tls.reloads().problem), (1, 2, None));

    // Existing connections continue, and new ones need the new authority.
    get_through(&one, &two, Lane::Log, b"after").await;
    assert_eq!(inbound(), connections);
    let error = dialled(&two, Some(&old_client)).await;
    assert!(matches!(error, DialError::Certificate(_)), "{error:?}");
    let (certificate, key) = new.sign("client", false, |_| {}).unwrap();
    fs::write(ca.path("client.pem"), certificate).unwrap();
    fs::write(ca.path("client.key"), key).unwrap();
    assert!(old_client.reload(Role::Client).unwrap());
    assert!(dial(&address, Some(&old_client), ClientHello::default(), LONG).await.is_ok());
}

#[test]
fn a_certificate_that_is_not_a_members_says_what_it_lacks() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let ca = Ca::new();
    let lacks = |name: &str, is_member: bool, change: fn(&mut CertificateParams)| {
        let [certificate, key] = ca.sign(name, is_member, change);
        let tls = Tls::from_files(ca.path("ca.pem"), certificate, key).unwrap();
        match tls.check(Role::Member) {
            Err(error @ TlsError::Unfit { .. }) => {
                let text = error.to_string();
                assert!(text.contains(&format!("{name}.pem is not a member's certificate: it")), "{text}");
                let TlsError::Unfit { lacks, .. } = error else { unreachable!() };
                Some(lacks)
            }
            other => {
                other.unwrap();
                None
            }
        }
    };
    assert_eq!(lacks("member", true, |_| {}), None);
    assert_eq!(lacks("any-use", true, |params| params.extended_key_usages.clear()), None);
    assert_eq!(lacks("client", false, |_| {}), Some(Lack::Name));
    assert_eq!(
        lacks("only-client", true, |params| params.extended_key_usages = vec![ClientAuth]),
        Some(Lack::ServerUse)
    );
    assert_eq!(
        lacks("only-server", true, |params| params.extended_key_usages = vec![ServerAuth]),
        Some(Lack::ClientUse)
    );
    assert!(ca.expired().check(Role::Member).is_ok(), "it can be replaced while the member runs");
    assert!(ca.tls("client", false).check(Role::Client).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_a_valid_certificate_is_refused_and_others_are_undisturbed() {
    let (ca, other) = (Ca::new(), Ca::new());
    let [one, two] = pair(with(ca.tls("member", true))).await;

    // Another authority's, in both directions: the dialler is the first to notice.
    let error = dialled(&two, Some(&other.tls("member", true))).await;
    assert!(matches!(error, DialError::Certificate(_)), "{error:?}");
    until("a wrong authority", || two.refused(HandshakeRefusal::BadCertificate) == 1).await;
    // One that trusts this cluster's authority, but is not signed by it.
    let [certificate, key] = other.sign("foreign", true, |_| {});
    let foreign = Tls::from_files(ca.path("ca.pem"), certificate, key).unwrap();
    let error = dialled(&two, Some(&foreign)).await;
    assert!(matches!(error, DialError::Refused(HandshakeRefusal::BadCertificate)), "{error:?}");
    // An expired one.
    let error = dialled(&two, Some(&ca.expired())).await;
    assert!(matches!(error, DialError::Refused(HandshakeRefusal::BadCertificate)), "{error:?}");
    until("a foreign and an expired one", || two.refused(HandshakeRefusal::BadCertificate) == 3).await;

    // None.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.path("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(two.address()).await.unwrap();
    let name = ServerName::try_from("member.kontiki").unwrap();
    let mut bare = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    assert!(bare.read_u8().await.is_err());
    until("none", || two.refused(HandshakeRefusal::NoCertificate) == 1).await;

    // In clear.
    let error = dialled(&two, None).await;
    assert!(matches!(error, DialError::NotKontiki | DialError::Closed(_)), "{error:?}");
    until("in clear", || two.refused(HandshakeRefusal::Tls) == 1).await;

    get_through(&one, &two, Lane::Log, b"still here").await;
    assert_eq!((one.broken(), two.broken()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_certificate_makes_no_member() {
    let ca = Ca::new();
    let [one, two] = pair(with(ca.tls("member", true))).await;
    // As a dialler: every member refuses it.
    let posing = Node::start(3, with(ca.tls("client", false))).await;
    posing.connect(&two);
    until("it is refused", || two.refused(HandshakeRefusal::NotAMember) > 0).await;
    assert!(!two.notes.heard.lock().unwrap().iter().any(|hello| hello.id == id(3)));
    // As an acceptor: every dialler refuses it.
    one.connect(&posing);
    until("it is not believed", || one.transport.counters().peers[&id(3)].failed_dials > 2).await;
    assert!(posing.notes.heard.lock().unwrap().is_empty());
    // An expired certificate is no better.
    let old = Node::start(4, with(ca.expired())).await;
    let error = dialled(&old, Some(&ca.tls("client", false))).await;
    assert!(matches!(error, DialError::Certificate(_)), "{error:?}");
    get_through(&one, &two, Lane::Log, b"still here").await;
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let (ca, other) = (Ca::new(), Ca::new());
    let [certificate, key] = ca.sign("member", true, |_| {});
    let [_, foreign] = other.sign("member", true, |_| {});
    let ca_file = ca.path("ca.pem");
    let missing = ca.path("missing.pem");
    let wrong = Tls::from_files(&missing, &certificate, &key).unwrap_err();
    assert!(matches!(&wrong, TlsError::Read { file, .. } if *file == missing), "{wrong}");
    let wrong = Tls::from_files(&ca_file, &key, &key).unwrap_err();
    assert!(matches!(&wrong, TlsError::Pem { file, .. } if *file == key), "{wrong}");
    let wrong = Tls::from_files(&ca_file, &certificate, &certificate).unwrap_err();
    assert!(matches!(&wrong, TlsError::Pem { file, .. } if *file == certificate), "{wrong}");
    let wrong = Tls::from_files(&ca_file, &certificate, &foreign).unwrap_err();
    assert!(matches!(&wrong, TlsError::Pair { .. }), "{wrong}");
    assert!(wrong.to_string().contains("member.key"), "{wrong}");
}
