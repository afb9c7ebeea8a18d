//! Whether an asker is who its address says.

use std::sync::PoisonError;

use super::{Asker, Moment, Responder};
use crate::{cookies::CookieSecrets, metrics::Transport, wire::Query};

impl Responder {
    /// Knows server cookies by `secrets`, and makes them.
    pub(crate) fn share_cookies(&self, secrets: CookieSecrets) {
        *self.cookies.write().unwrap_or_else(PoisonError::into_inner) = Some(secrets);
    }

    /// Whether the asker took part in a handshake, or has a cookie that we sent to its address. Its
    /// answer gets a new one; an asker that proves nothing gets an answer in few words.
    pub(super) fn prove(&self, query: &mut Query, asker: Asker, moment: &Moment) -> bool {
        let mut is_proven = asker.transport != Transport::Udp;
        if let Some(cookie) = query.cookie()
            && let Some(secrets) = &*self.cookies.read().unwrap_or_else(PoisonError::into_inner)
        {
            // Modulo 2^32, as a cookie counts (RFC 9018 section 4.3).
            let seconds = moment.now.as_second().to_be_bytes();
            let now = seconds.last_chunk().map_or(0, |low| u32::from_be_bytes(*low));
            let address = asker.from.ip();
            is_proven |= secrets.know(cookie, address, now);
            query.give_cookie(secrets.make(cookie.client, address, now));
        }
        if !is_proven {
            query.be_brief();
        }
        is_proven
    }
}
