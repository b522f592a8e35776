//! Authorities and certificates, made for a test.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One of this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server named localhost.
    pub fn server(&self) -> Signed {
        self.sign(vec!["localhost".to_owned()], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    pub fn client(&self) -> Signed {
        self.sign(vec!["client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Signed {
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// A client that believes this authority.
    pub fn trusting(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem())).domain_name("localhost")
    }
}

impl Signed {
    /// As a client shows it.
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}

/// Files of a server's certificates.
pub struct Files(tempfile::TempDir);

impl Files {
    /// Files with a server's certificate.
    pub fn new(signed: &Signed) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(signed);
        files
    }

    /// Puts another certificate in their place.
    pub fn write(&self, signed: &Signed) {
        self.put("tls.key", &signed.key);
        self.put("tls.crt", &signed.certificate);
    }

    /// Puts another text in the place of a file, as a whole.
    pub fn put(&self, name: &str, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The flags of a server that uses them and looks at them every second.
    pub fn flags(&self) -> Vec<String> {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        let mut flags = ["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key"), "--reload-seconds", "1"]
            .map(str::to_owned)
            .to_vec();
        if self.path("ca.crt").exists() {
            flags.extend(["--tls-client-ca".to_owned(), path("ca.crt")]);
        }
        flags
    }
}
