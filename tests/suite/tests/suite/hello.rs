//! Hellos no real client sends: a TLS 1.3 ClientHello with the names a story wants (RFC 8446
//! section 4.1.2).

/// A hello to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hello {
    names: Vec<Vec<u8>>,
    key_share: bool,
}

impl Hello {
    /// A hello that names nobody.
    pub(crate) fn nameless() -> Self {
        Self { names: Vec::new(), key_share: true }
    }

    /// A hello for one host.
    pub(crate) fn to(name: &str) -> Self {
        Self::nameless().and(name)
    }

    /// The same with one more `server_name` extension.
    pub(crate) fn and(mut self, name: &str) -> Self {
        self.names.push(name.as_bytes().to_vec());
        self
    }

    /// The same without a key share: the server has to ask for a second hello.
    pub(crate) fn without_share(self) -> Self {
        Self { key_share: false, ..self }
    }

    /// The octets, in one record.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.extend(short(&[0xa5; 32]));
        body.extend(long(&[0x13, 0x01, 0x13, 0x02, 0x13, 0x03]));
        body.extend([1, 0]);
        body.extend(long(&self.extensions()));
        let mut message = vec![1, 0];
        message.extend(long(&body));
        let mut record = vec![22, 3, 1];
        record.extend(long(&message));
        record
    }

    fn extensions(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for name in &self.names {
            let entry = [&[0][..], &long(name)].concat();
            all.extend(extension(0, &long(&entry)));
        }
        all.extend(extension(SUPPORTED_GROUPS, &long(&X25519)));
        // ecdsa_secp256r1_sha256, ed25519, rsa_pss_rsae_sha256
        all.extend(extension(13, &long(&[4, 3, 8, 7, 8, 4])));
        all.extend(extension(SUPPORTED_VERSIONS, &short(&[3, 4])));
        let share =
            if self.key_share { [&X25519[..], &long(&[9; 32])].concat() } else { Vec::new() };
        all.extend(extension(KEY_SHARE, &long(&share)));
        all
    }
}

/// The number of the alert that is all of `answer`; `None` if it is anything else.
pub(crate) fn alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [21, 3, _, 0, 2, 2, number] => Some(*number),
        _ => None,
    }
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

/// Behind its length in one octet.
fn short(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()][..], content].concat()
}

/// Behind its length in two octets.
fn long(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

const SUPPORTED_GROUPS: u16 = 10;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const X25519: [u8; 2] = [0, 0x1d];
