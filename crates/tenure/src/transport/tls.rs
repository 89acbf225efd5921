use std::{fmt, io, path::Path, sync::Arc};

use http::Uri;
use rustls_native_certs::load_native_certs;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::Io;
use crate::{
    config::Config,
    error::{Error, Result},
};

/// What both ends of the TLS connection call the protocol on it.
const HTTP2: &[u8] = b"h2";

/// How to trust a cluster, and to be trusted by it.
///
/// Without a CA of its own it trusts the system's.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts the roots of the system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts this CA, PEM encoded, in place of the system's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Trusts the CA in a PEM file, which is read now.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the file cannot be read.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        Ok(self.ca_pem(read("tls ca", path.as_ref())?))
    }

    /// Shows this certificate to servers that ask for one; both PEM encoded.
    pub fn identity_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Shows the certificate in two PEM files, which are read now.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a file cannot be read.
    pub fn identity_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self> {
        let certificate = read("tls certificate", certificate.as_ref())?;
        Ok(self.identity_pem(certificate, read("tls key", key.as_ref())?))
    }

    /// Expects this name in the servers' certificates, in place of each endpoint's host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    fn to_rustls(&self) -> Result<ClientConfig> {
        let bad = |field, error: &dyn fmt::Display| Error::invalid(field, error.to_string());
        let mut roots = RootCertStore::empty();
        match &self.ca {
            // It would trust nobody, and say nothing.
            Some(pem) if !has_certificate(pem) => {
                return Err(Error::invalid("tls ca", "there is no PEM certificate in it"));
            }
            Some(pem) => roots.add_parsable_certificates(certificates("tls ca", pem)?),
            None => roots.add_parsable_certificates(load_native_certs().certs),
        };
        if roots.is_empty() {
            return Err(Error::invalid("tls ca", "there is no certificate to trust"));
        }
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("tls", &error))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, _)) if !has_certificate(certificate) => {
                return Err(Error::invalid("tls certificate", "there is no PEM certificate in it"));
            }
            Some((certificate, key)) => {
                let chain = certificates("tls certificate", certificate)?;
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|error| bad("tls key", &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| bad("tls key", &error))?
            }
        };
        config.alpn_protocols.push(HTTP2.into());
        Ok(config)
    }
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    certificates.map_err(|error| Error::invalid(field, error.to_string()))
}

/// What makes a connection to one endpoint a trusted one.
pub(super) struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secure {
    /// `None` where the endpoint does not ask for it.
    pub(super) fn new(uri: &Uri, config: &Config) -> Result<Option<Self>> {
        let Some(tls) = config.tls.as_ref().filter(|_| uri.scheme_str() == Some("https")) else {
            return Ok(None);
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| Error::invalid("tls server name", error.to_string()))?;
        Ok(Some(Self { connector: Arc::new(tls.to_rustls()?).into(), name }))
    }

    pub(super) async fn connect(&self, io: impl Io) -> io::Result<Box<dyn Io>> {
        let stream = self.connector.connect(self.name.clone(), io).await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(io::Error::other("the server does not offer HTTP/2 over TLS"));
        }
        Ok(Box::new(stream))
    }
}

fn has_certificate(pem: &[u8]) -> bool {
    const HEAD: &[u8] = b"-----BEGIN CERTIFICATE-----";
    pem.windows(HEAD.len()).any(|part| part == HEAD)
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::invalid(field, format!("cannot read {}: {error}", path.display())))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("own_ca", &self.ca.is_some())
            .field("client_certificate", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
