//! A certificate authority for one test: what a server over TLS shows, and by what it knows clients.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use crate::server::{CAMBRIC, User};

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Certificate {
    /// `-----BEGIN CERTIFICATE-----`.
    pub certificate: String,
    /// `-----BEGIN PRIVATE KEY-----`.
    pub key: String,
}

/// Who has which certificate. Nobody else's is signed by the authority.
#[derive(Default)]
pub(crate) struct Users(Mutex<Vec<(Vec<u8>, User)>>);

impl Users {
    fn add(&self, der: Vec<u8>, user: User) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((der, user));
    }

    /// Whose certificate this is, in DER.
    pub(crate) fn find(&self, der: &[u8]) -> Option<User> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().find(|(other, _)| other == der).map(|(_, user)| user.clone())
    }
}

/// An authority, a server's certificate, and as many clients' as are made.
pub struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: Certificate,
    client: Certificate,
    pub(crate) users: Arc<Users>,
}

impl Certificates {
    /// For a server at these addresses or names, and a client who is the user `cambric`.
    ///
    /// # Errors
    /// A name that cannot be in a certificate.
    pub fn make(names: &[&str]) -> anyhow::Result<Certificates> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (server, _) = sign(params, &authority)?;

        let users = Arc::<Users>::default();
        let client = make_client(&authority, &users, User::new(CAMBRIC))?;
        Ok(Certificates { authority, server, client, users })
    }

    /// The authority's certificate, as PEM.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// What the server shows.
    pub fn server(&self) -> &Certificate {
        &self.server
    }

    /// The client's who is the user `cambric`.
    pub fn client(&self) -> &Certificate {
        &self.client
    }

    /// One for another client.
    ///
    /// # Errors
    /// A name that cannot be in a certificate.
    pub fn client_for(&self, user: User) -> anyhow::Result<Certificate> {
        make_client(&self.authority, &self.users, user)
    }

    /// Clients may come without a certificate, and bring a token.
    pub(crate) fn server_config(&self) -> anyhow::Result<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let chain = vec![CertificateDer::from_pem_slice(self.server.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes())?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(config)
    }
}

/// A certificate as PEM, and its DER.
fn sign(
    params: CertificateParams,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> anyhow::Result<(Certificate, Vec<u8>)> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let der = certificate.der().to_vec();
    Ok((Certificate { certificate: certificate.pem(), key: key.serialize_pem() }, der))
}

fn make_client(
    authority: &CertifiedIssuer<'static, KeyPair>,
    users: &Users,
    user: User,
) -> anyhow::Result<Certificate> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, user.name.as_str());
    for group in &user.groups {
        params.distinguished_name.push(DnType::OrganizationName, group.as_str());
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (client, der) = sign(params, authority)?;
    users.add(der, user);
    Ok(client)
}
