//! The fake operator's shop: when somebody bought, it tells the gateway by a signed webhook, as the
//! Standard Webhooks specification has it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::UNIX_EPOCH,
};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    clock,
    gateway::{AdminReply, Gateway, GatewayError},
    sim::Sim,
};

/// One signed message, as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Hook {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// The body.
    pub body: String,
}

impl Hook {
    /// A new message that says what state a SIM is in.
    #[must_use]
    pub fn of(sim: &Sim, state: &str) -> Self {
        let body = serde_json::json!({
            "type": "sim.state",
            "data": { "sim": format!("iccid:{}", sim.iccid()), "state": state },
        });
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self::signed(&format!("msg_lab_{number}"), 0, &body.to_string())
    }

    /// A message of this id and body, signed so many seconds ago.
    ///
    /// # Panics
    /// When the clock stands before 1970.
    #[must_use]
    pub fn signed(id: &str, age_seconds: u64, body: &str) -> Self {
        let now = clock::wall().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs();
        let timestamp = now.saturating_sub(age_seconds).to_string();
        let signature = Self::signature(id, &timestamp, body);
        Self { id: id.to_owned(), timestamp, signature, body: body.to_owned() }
    }

    /// The signature of a message by the key that shop and gateway share.
    ///
    /// # Panics
    /// Never: the key is a constant.
    #[must_use]
    pub fn signature(id: &str, timestamp: &str, body: &str) -> String {
        let key = BASE64.decode(KEY.as_bytes()).expect("the key is base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key will do");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

impl Gateway {
    /// Sends a webhook to the gateway.
    ///
    /// # Errors
    /// When the gateway is down or does not answer. A refused message is an answer.
    pub fn send_hook(&self, hook: &Hook) -> Result<AdminReply, GatewayError> {
        let headers = [
            ("webhook-id", hook.id.clone()),
            ("webhook-timestamp", hook.timestamp.clone()),
            ("webhook-signature", hook.signature.clone()),
        ];
        self.admin_headers(&headers, http::Method::POST, "/v1/webhooks/sims", &hook.body)
    }
}

/// The file with the key.
pub(crate) const KEY_FILE: &str = "shop.key";
/// What shop and gateway share.
pub(crate) const KEY: &str = "bGFiIGtleSwgbm90IGEgcmVhbCBvbmUhISEhISEhISE=";
static NUMBERS: AtomicU32 = AtomicU32::new(1);
