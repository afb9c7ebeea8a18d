//! What each host answers: the right body for the probe, a revocation list, an OCSP answer, a trust
//! list, small pages.

use http::{Method, StatusCode, request::Parts};
use hyper::body::Bytes;

/// One page.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
}

/// The page of a host for one request.
pub(super) fn page(host: &str, request: &Parts, body: &Bytes, crl: &[u8]) -> Page {
    let path = request.uri.path();
    match host {
        "www.msftconnecttest.com" if path == "/connecttest.txt" => {
            found("text/plain", Bytes::from_static(NCSI_BODY))
        }
        "cdp1.public-trust.com"
        | "vassg142.crl.omniroot.com"
        | "mscrl.microsoft.com"
        | "crl.microsoft.com"
        | "crl3.digicert.com" => found("application/pkix-crl", Bytes::copy_from_slice(crl)),
        "ocsp.omniroot.com" | "vassg142.ocsp.omniroot.com" | "ocsp.digicert.com" => {
            found("application/ocsp-response", Bytes::from_static(OCSP_UNAUTHORIZED))
        }
        "ctldl.windowsupdate.com" => {
            found("application/vnd.ms-cab-compressed", Bytes::from_static(TRUST_LIST))
        }
        "smdp.acme.example" if path == ES9_INITIATE => {
            if request.method != Method::POST {
                return Page {
                    status: StatusCode::METHOD_NOT_ALLOWED,
                    kind: "text/plain",
                    body: Bytes::new(),
                };
            }
            found("application/json", es9_initiate(body))
        }
        _ if path.starts_with(OCTETS) => {
            let length = path.get(OCTETS.len()..).and_then(|length| length.parse().ok());
            found("application/octet-stream", octets(length.unwrap_or_default()))
        }
        "portal.acme.example" => found("text/html; charset=utf-8", Bytes::from_static(PORTAL)),
        _ => found("text/plain", Bytes::from(format!("{host} speaking\n"))),
    }
}

/// What every host answers at `/octets/LENGTH`, at most 16 MiB: octets that show where one is
/// missing, or stands in another's place.
#[must_use]
pub fn octets(length: usize) -> Bytes {
    let numbers = (0..=u32::MAX).flat_map(|number| number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    numbers.take(length.min(16 << 20)).collect()
}

fn found(kind: &'static str, body: Bytes) -> Page {
    Page { status: StatusCode::OK, kind, body }
}

/// The answer of an SM-DP+ to `initiateAuthentication`, in the shape of GSMA SGP.22 §6.5.2.6: the
/// server address is echoed, the signed parts are not real.
fn es9_initiate(body: &Bytes) -> Bytes {
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let answer = serde_json::json!({
        "header": { "functionExecutionStatus": { "status": "Executed-Success" } },
        "transactionId": "0123456789ABCDEF",
        "serverSigned1": asked.get("euiccChallenge").cloned().unwrap_or_default(),
    });
    Bytes::from(answer.to_string())
}

/// Path of a page that every host is asked for and none ever answers.
pub(crate) const UNANSWERED: &str = "/unanswered";
/// Path of octets by the number.
const OCTETS: &str = "/octets/";
/// Path of the first call of an eSIM download.
pub(super) const ES9_INITIATE: &str = "/gsma/rsp2/es9plus/initiateAuthentication";
/// The exact body Windows compares.
const NCSI_BODY: &[u8] = b"Microsoft Connect Test";
/// `OCSPResponse { responseStatus unauthorized(6) }`, the answer of a responder that does not know
/// the certificate (RFC 6960 §2.3).
const OCSP_UNAUTHORIZED: &[u8] = &[0x30, 0x03, 0x0a, 0x01, 0x06];
/// A cabinet signature and a name: the gateway passes bytes, it does not open them.
const TRUST_LIST: &[u8] = b"MSCF\0\0\0\0authroot.stl of the lab";
const PORTAL: &[u8] = b"<!doctype html><title>Acme Mobile</title><h1>Choose a plan</h1>\n";
