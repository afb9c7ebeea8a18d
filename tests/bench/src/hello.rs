//! The few octets of TLS that a name-reading proxy looks at: a ClientHello that also tells the
//! bench's origin what to send, and the ServerHello that it answers with.
//!
//! Nothing is encrypted: what is measured is the proxy between the two.

/// What a client asks of the origin; it travels in the random of the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Octets behind the ServerHello.
    pub octets: u64,
    /// What the octets are made from; the same seed gives the same octets.
    pub seed: u64,
    /// Whether the origin keeps the connection open behind them.
    pub holds: bool,
}

/// A ClientHello for `name`, as long as a browser's without a post-quantum key.
///
/// # Panics
///
/// When the name is longer than a host name can be.
#[must_use]
pub fn client_hello(name: &str, order: Order) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).expect("a short name").to_be_bytes();
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, content: &[u8]| {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&length(content.len()));
        extensions.extend_from_slice(content);
    };
    let mut server_name = length(name.len() + 3).to_vec();
    server_name.push(0);
    server_name.extend_from_slice(&length(name.len()));
    server_name.extend_from_slice(name.as_bytes());
    extension(SERVER_NAME, &server_name);
    extension(SUPPORTED_VERSIONS, &[2, 3, 4]);
    extension(PADDING, &vec![0; HELLO_OCTETS.saturating_sub(name.len())]);

    let mut body = vec![3, 3];
    body.extend_from_slice(&order.octets.to_be_bytes());
    body.extend_from_slice(&order.seed.to_be_bytes());
    body.push(u8::from(order.holds));
    body.extend_from_slice(&[0x5a; 15]);
    body.extend_from_slice(&[32]);
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&length(extensions.len()));
    body.extend_from_slice(&extensions);
    record(CLIENT_HELLO, &body)
}

/// The order in a hello, once enough of it is there.
#[must_use]
pub fn read_order(hello: &[u8]) -> Option<Order> {
    let whole = usize::from(u16::from_be_bytes(*hello.get(3..5)?.first_chunk()?)) + 5;
    let random = hello.get(..whole)?.get(RANDOM_AT..)?;
    let number = |at: usize| Some(u64::from_be_bytes(*random.get(at..)?.first_chunk()?));
    Some(Order { octets: number(0)?, seed: number(8)?, holds: *random.get(16)? != 0 })
}

/// A ServerHello that settles the name for good.
#[must_use]
pub fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0xa5; 32]);
    body.extend_from_slice(&[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    record(SERVER_HELLO, &body)
}

/// Fills `block` with the octets that stand at `place` of a transfer made from `seed`.
pub fn fill(block: &mut [u8], seed: u64, place: u64) {
    for (at, word) in block.chunks_mut(8).enumerate() {
        let number = place / 8 + u64::try_from(at).unwrap_or_default();
        let octets = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        for (octet, value) in word.iter_mut().zip(octets) {
            *octet = value;
        }
    }
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).expect("one record");
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&[kind, 0]);
    record.extend_from_slice(&(length - 4).to_be_bytes());
    record.extend_from_slice(body);
    record
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
const PADDING: u16 = 21;
const SUPPORTED_VERSIONS: u16 = 43;
/// Record header, message header, version.
const RANDOM_AT: usize = 5 + 4 + 2;
/// Octets of padding and name together.
const HELLO_OCTETS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_read_from_the_whole_hello_only() {
        let order = Order { octets: 1 << 33, seed: 42, holds: true };
        let hello = client_hello("host-7.example", order);
        assert_eq!(read_order(&hello), Some(order));
        assert_eq!(read_order(&hello[..hello.len() - 1]), None);
        assert_eq!(read_order(&[]), None);
    }

    #[test]
    fn octets_do_not_depend_on_how_they_are_cut() {
        let mut whole = vec![0; 4096];
        fill(&mut whole, 9, 0);
        let mut part = vec![0; 1024];
        fill(&mut part, 9, 2048);
        assert_eq!(part, whole[2048..3072]);
    }
}
