//! Hellos, honest and not, and the answers of servers (RFC 8446 section 4.1).

/// A TLS 1.3 ClientHello to be.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// A hello that names nobody.
    pub(crate) fn nameless() -> Self {
        let share = [&X25519[..], &long(&[9; 32])].concat();
        Self {
            extensions: vec![
                (SUPPORTED_GROUPS, long(&X25519)),
                // ecdsa_secp256r1_sha256, ed25519, rsa_pss_rsae_sha256
                (SIGNATURE_ALGORITHMS, long(&[4, 3, 8, 7, 8, 4])),
                (SUPPORTED_VERSIONS, vec![2, 3, 4]),
                (KEY_SHARE, long(&share)),
            ],
        }
    }

    /// A hello for one host.
    pub(crate) fn to(name: impl AsRef<[u8]>) -> Self {
        Self::nameless().and(SERVER_NAME, server_names(&[name.as_ref()]))
    }

    /// The same with one more extension in front.
    pub(crate) fn and(mut self, kind: u16, content: Vec<u8>) -> Self {
        self.extensions.insert(0, (kind, content));
        self
    }

    /// The same with so many octets of padding behind all else.
    pub(crate) fn padded(mut self, octets: usize) -> Self {
        self.extensions.push((PADDING, vec![0; octets]));
        self
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        for (kind, content) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(long(content));
        }
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.push(32);
        body.extend([0xa5; 32]);
        body.extend(long(&[0x13, 1, 0x13, 2, 0x13, 3]));
        body.extend([1, 0]);
        body.extend(long(&extensions));
        handshake(CLIENT_HELLO, &body)
    }

    /// The message in one record.
    pub(crate) fn octets(&self) -> Vec<u8> {
        record(&self.message())
    }
}

/// The content of a `server_name` extension.
pub(crate) fn server_names(names: &[&[u8]]) -> Vec<u8> {
    long(&names.iter().flat_map(|name| [&[0][..], &long(name)].concat()).collect::<Vec<u8>>())
}

/// A message over records of so many octets.
pub(crate) fn fragments(message: &[u8], octets: usize) -> Vec<u8> {
    message.chunks(octets).flat_map(record).collect()
}

/// A hello for `real` in two records. A reader that takes the header of the second for content is
/// five octets behind from there on, and comes upon an extension that names `shown`.
pub(crate) fn two_faced(real: &str, shown: &str) -> Vec<u8> {
    let named = [&SERVER_NAME.to_be_bytes()[..], &long(&server_names(&[real.as_bytes()]))].concat();
    let decoy =
        [&SERVER_NAME.to_be_bytes()[..], &long(&server_names(&[shown.as_bytes()]))].concat();
    // What such a reader takes for an extension header: it skips the real name and the header of
    // the padding that holds the decoy.
    let skip = u16::try_from(1 + named.len() + 4).unwrap_or_default().to_be_bytes();
    let lure = [&[0; 8][..], &GREASE.to_be_bytes(), &skip, &[0]].concat();
    let hello = Hello::nameless()
        .and(PADDING, [decoy, vec![0; 8]].concat())
        .and(SERVER_NAME, server_names(&[real.as_bytes()]))
        .and(GREASE, lure);
    let message = hello.message();
    // Up to the third octet of the lure: message header, version, random, session, suites,
    // compression, the length of all extensions, the header of the first.
    let (first, second) =
        message.split_at_checked(4 + 2 + 32 + 33 + 8 + 2 + 2 + 4 + 2).unwrap_or_default();
    [record(first), record(second)].concat()
}

/// A ServerHello that asks for another hello (RFC 8446 section 4.1.4).
pub(crate) fn hello_retry_request() -> Vec<u8> {
    // SHA-256 of "HelloRetryRequest".
    const RANDOM: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8,
        0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8,
        0x33, 0x9c,
    ];
    let mut body = vec![3, 3];
    body.extend(RANDOM);
    body.push(32);
    body.extend([0xa5; 32]);
    body.extend([0x13, 1, 0]);
    // supported_versions, and a key share for secp256r1.
    body.extend(long(&[0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 0x17]));
    record(&handshake(SERVER_HELLO, &body))
}

/// One handshake record.
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &long(message)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &long(body)].concat()
}

/// Behind its length in two octets.
fn long(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a hello is no longer than a record can be");
    [&length.to_be_bytes()[..], content].concat()
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// The extension that names the host (RFC 6066 section 3).
pub(crate) const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const PADDING: u16 = 21;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const GREASE: u16 = 0x4a4a;
const X25519: [u8; 2] = [0, 0x1d];
