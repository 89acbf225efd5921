use std::{fmt, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::error::{Error, Result};

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

    pub(crate) fn to_tonic(&self) -> Result<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            // tonic would trust nobody, and say nothing.
            Some(pem) if !has_certificate(pem) => {
                return Err(Error::invalid("tls ca", "there is no PEM certificate in it"));
            }
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            if !has_certificate(certificate) {
                return Err(Error::invalid("tls certificate", "there is no PEM certificate in it"));
            }
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
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
