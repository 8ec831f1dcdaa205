//! Makes certificates to try TLS with: an authority, a member's and a client's. Not for production: the key
//! of the authority is stored beside them.
//!
//! ```text
//! cargo run -p kontiki-net-tokio --example certificates -- DIRECTORY
//! ```

use kontiki_net_tokio::tls::MEMBER;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa,
};
use rcgen::{KeyPair, KeyUsagePurpose};
use std::path::Path;
use std::{env, fs, io};

/// The authority of one cluster.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Returns a new authority.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate()?).map(Self)
    }

    /// Returns its own certificate as PEM: the trust anchor of members and clients.
    pub(crate) fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Returns a certificate and its key as PEM, of a member or a client. `change` may modify it before it is
    /// signed.
    pub(crate) fn sign(
        &self,
        name: &str,
        is_member: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<(String, String), Error> {
        let names = if is_member { vec![MEMBER.to_owned()] } else { vec![] };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A member dials and accepts.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if is_member {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        change(&mut params);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }
}

fn main() -> io::Result<()> {
    let directory =
        env::args_os().nth(1).ok_or_else(|| io::Error::other("name a directory to put them in"))?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let authority = Authority::new("Kontiki test authority").map_err(io::Error::other)?;
    fs::write(directory.join("ca.pem"), authority.certificate())?;
    for (name, is_member) in [("member", true), ("client", false)] {
        let (certificate, key) = authority.sign(name, is_member, |_| {}).map_err(io::Error::other)?;
        fs::write(directory.join(format!("{name}.pem")), certificate)?;
        fs::write(directory.join(format!("{name}.key")), key)?;
    }
    println!("ca.pem, member.pem, member.key, client.pem, client.key are in {}", directory.display());
    Ok(())
}
