//! Captured hellos, and a hello that can be bent at every joint.

/// File, octets, server name, whether it carries ECH. How each was made: `tests/data/hello`.
pub(super) const CAPTURED: [(&str, &[u8], &str, bool); 7] = [
    ("chromium.bin", include_bytes!("../../../../../tests/data/hello/chromium.bin"), MPS, true),
    (
        "curl-openssl.bin",
        include_bytes!("../../../../../tests/data/hello/curl-openssl.bin"),
        MPS,
        false,
    ),
    ("firefox.bin", include_bytes!("../../../../../tests/data/hello/firefox.bin"), MPS, true),
    ("gnutls.bin", include_bytes!("../../../../../tests/data/hello/gnutls.bin"), MPS, false),
    (
        "openssl-fragments.bin",
        include_bytes!("../../../../../tests/data/hello/openssl-fragments.bin"),
        MPS,
        false,
    ),
    (
        "openssl-tls12.bin",
        include_bytes!("../../../../../tests/data/hello/openssl-tls12.bin"),
        "login.live.com",
        false,
    ),
    ("rustls.bin", include_bytes!("../../../../../tests/data/hello/rustls.bin"), MPS, false),
];

const MPS: &str = "mps.datamart.windows.com";

pub(super) fn captured(file: &str) -> &'static [u8] {
    CAPTURED.iter().find(|captured| captured.0 == file).unwrap().1
}

/// The handshake octets of a stream of well-formed records.
pub(super) fn message(mut octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = octets {
        let (content, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(content);
        octets = behind;
    }
    message
}

/// Puts handshake octets into records of the given sizes, the last size as often as needed.
pub(super) fn records(mut message: &[u8], sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut sizes = sizes.into_iter();
    let mut size = 1;
    while !message.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (content, rest) = message.split_at(size.min(message.len()).min(16_384));
        octets.extend([22, 3, 1]);
        octets.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(content);
        message = rest;
    }
    octets
}

/// A hello whose parts can be replaced; lengths follow.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) version: [u8; 2],
    pub(super) session_id: Vec<u8>,
    pub(super) cipher_suites: Vec<u8>,
    pub(super) compression_methods: Vec<u8>,
    /// Without this, there is no extension block.
    pub(super) extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Default for Sample {
    fn default() -> Self {
        let groups = (10, vec![0, 2, 0, 29]);
        let signatures = (13, vec![0, 2, 4, 3]);
        Self {
            version: [3, 3],
            session_id: vec![7; 32],
            cipher_suites: vec![0xc0, 0x2b],
            compression_methods: vec![0],
            extensions: Some(vec![(0, server_name("a.example")), groups, signatures]),
        }
    }
}

impl Sample {
    /// Replaces the content of the server_name extension.
    pub(super) fn server_name(mut self, content: Vec<u8>) -> Self {
        self.extensions.as_mut().unwrap()[0].1 = content;
        self
    }

    pub(super) fn named(self, name: impl AsRef<[u8]>) -> Self {
        self.server_name(server_name(name))
    }

    pub(super) fn extension(mut self, kind: u16, content: Vec<u8>) -> Self {
        self.extensions.as_mut().unwrap().push((kind, content));
        self
    }

    pub(super) fn padding(self, length: usize) -> Self {
        self.extension(21, vec![0; length])
    }

    pub(super) fn message(&self) -> Vec<u8> {
        handshake(1, &self.body())
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = self.version.to_vec();
        body.extend([9; 32]);
        body.push(u8::try_from(self.session_id.len()).unwrap());
        body.extend(&self.session_id);
        body.extend(vector(&self.cipher_suites));
        body.push(u8::try_from(self.compression_methods.len()).unwrap());
        body.extend(&self.compression_methods);
        if let Some(extensions) = &self.extensions {
            let block = extensions
                .iter()
                .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &vector(content)].concat());
            body.extend(vector(&block.collect::<Vec<_>>()));
        }
        body
    }

    pub(super) fn record(&self) -> Vec<u8> {
        records(&self.message(), [16_384])
    }
}

pub(super) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// The content of a server_name extension with one host name.
pub(super) fn server_name(name: impl AsRef<[u8]>) -> Vec<u8> {
    vector(&entry(0, name.as_ref()))
}

pub(super) fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(name)].concat()
}

pub(super) fn vector(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], content].concat()
}
