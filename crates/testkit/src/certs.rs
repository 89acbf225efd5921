use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::{Error, Tls};

/// A certificate authority made for one test, with a server and a client certificate.
///
/// The server's certificate is for `localhost` and `127.0.0.1`. The files are in a new temporary
/// directory; dropping this removes them.
#[derive(Debug)]
pub struct TestCerts {
    ca: String,
    server: Pair,
    client: Pair,
    dir: TempDir,
}

#[derive(Debug)]
struct Pair {
    cert: String,
    key: String,
}

impl TestCerts {
    /// Makes the certificates; `client_name` is the client's common name, which etcd takes for a
    /// user name when users are on.
    ///
    /// # Errors
    ///
    /// When the files cannot be written, or the name cannot stand in a certificate.
    pub fn new(client_name: &str) -> Result<Self, Error> {
        let made = make(client_name);
        let (ca, server, client) =
            made.map_err(|error| Error::new(format!("cannot make certificates: {error}")))?;
        let dir = tempfile::Builder::new().prefix("tenure-certs-").tempdir();
        let dir = dir.map_err(Error::io("cannot make a directory for certificates"))?;
        let certs = Self { ca, server, client, dir };
        for (path, pem) in [
            (certs.ca_path(), &certs.ca),
            (certs.server_cert_path(), &certs.server.cert),
            (certs.server_key_path(), &certs.server.key),
            (certs.client_cert_path(), &certs.client.cert),
            (certs.client_key_path(), &certs.client.key),
        ] {
            fs::write(&path, pem).map_err(Error::io(format!("cannot write {}", path.display())))?;
        }
        Ok(certs)
    }

    /// What [`Builder::tls`](crate::Builder::tls) takes.
    pub fn tls(&self, client_cert_auth: bool) -> Tls {
        let (cert, key) = (self.server_cert_path(), self.server_key_path());
        Tls { ca: self.ca_path(), cert, key, client_cert_auth }
    }

    /// The directory of the files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The authority's certificate, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The server's certificate, PEM.
    pub fn server_cert(&self) -> &str {
        &self.server.cert
    }

    /// The server's key, PEM.
    pub fn server_key(&self) -> &str {
        &self.server.key
    }

    /// The client's certificate, PEM.
    pub fn client_cert(&self) -> &str {
        &self.client.cert
    }

    /// The client's key, PEM.
    pub fn client_key(&self) -> &str {
        &self.client.key
    }

    /// The file with [`ca`](Self::ca).
    pub fn ca_path(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// The file with [`server_cert`](Self::server_cert).
    pub fn server_cert_path(&self) -> PathBuf {
        self.dir().join("server.pem")
    }

    /// The file with [`server_key`](Self::server_key).
    pub fn server_key_path(&self) -> PathBuf {
        self.dir().join("server-key.pem")
    }

    /// The file with [`client_cert`](Self::client_cert).
    pub fn client_cert_path(&self) -> PathBuf {
        self.dir().join("client.pem")
    }

    /// The file with [`client_key`](Self::client_key).
    pub fn client_key_path(&self) -> PathBuf {
        self.dir().join("client-key.pem")
    }
}

fn make(client_name: &str) -> Result<(String, Pair, Pair), rcgen::Error> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (ca, issuer) = authority()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    // A client too: etcd's gateway and etcdctl dial the server with the server's own files.
    let server = signed(&issuer, names, "tenure test server", &[ServerAuth, ClientAuth])?;
    let client = signed(&issuer, Vec::new(), client_name, &[ClientAuth])?;
    Ok((ca.pem(), server, client))
}

fn authority() -> Result<(Certificate, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "tenure test authority");
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert, Issuer::new(params, key)))
}

fn signed(
    issuer: &Issuer<'static, KeyPair>,
    names: Vec<String>,
    common_name: &str,
    usages: &[ExtendedKeyUsagePurpose],
) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}
