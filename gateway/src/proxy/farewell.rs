//! The last word to a subscriber that is refused, and a close that lets it arrive.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink},
    time::timeout,
};

/// Sends `octets` and closes. What the subscriber still sends is read for a moment: closing over
/// unread octets is a reset, and a reset overtakes the answer (RFC 9112 section 9.6).
pub(super) async fn farewell<S>(stream: &mut S, octets: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let spoken = async {
        stream.write_all(octets).await?;
        stream.shutdown().await?;
        copy(&mut stream.take(FAREWELL_OCTETS), &mut sink()).await
    };
    // A subscriber that is gone, or goes on for longer, has had its answer.
    let _ = timeout(FAREWELL_TIME, spoken).await;
}

/// For the answer to arrive before the close.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// Octets thrown away meanwhile.
const FAREWELL_OCTETS: u64 = 64 * 1024;
