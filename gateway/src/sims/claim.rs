//! Who owns an address: a pure function of what every session has said about it.
//!
//! Accounting comes late, twice and out of order. So nothing here depends on the order of arrival:
//! a claim only grows (first and last times), merging one twice changes nothing, and the owner is
//! worked out from the set of claims. Where the set does not say who, nobody owns the address.

use std::num::NonZeroU32;

/// Whole seconds since 1970, as RADIUS counts them (RFC 2869 section 5.3); 0 stands for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seconds(pub(crate) u32);

/// One session of one NAS. Packed, so that a claim has eleven words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(Rust, packed(4))]
pub(crate) struct Session {
    /// The NAS, by its place among the names.
    pub(crate) nas: u16,
    /// Digest of Acct-Session-Id: only equality is ever asked.
    pub(crate) id: u64,
}

/// Where a SIM stands in the registry, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SimIndex(pub(crate) NonZeroU32);

/// What one session has said about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) session: Session,
    /// Whose session it is; absent when only a Stop was heard, or the record named no SIM.
    pub(crate) sim: Option<SimIndex>,
    /// The access point name, by its place among the names.
    pub(crate) apn: Option<u16>,
    /// The earliest time the session had the address.
    pub(crate) first: Seconds,
    /// The latest Start.
    pub(crate) started: Seconds,
    /// The latest time the session had the address.
    pub(crate) asserted: Seconds,
    /// The latest Stop.
    pub(crate) stopped: Seconds,
    /// When the last word came in, by our own clock: lifetimes and memory run from here.
    pub(crate) seen: Seconds,
    /// Seconds without a word until the claim lapses; 0: it never does.
    pub(crate) lifetime: u32,
}

/// The claims on one address; nearly always one, which needs no room of its own.
#[derive(Clone, Debug)]
pub(crate) enum Claims {
    /// At most one.
    Few(Option<Claim>),
    /// Two or more, up to [`CLAIMS_MAX`].
    Many(Vec<Claim>),
}

/// What the claims add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner<'c> {
    /// No session has the address.
    Nobody,
    /// Two SIMs claim it within the same second: neither gets it until one says more.
    Contested,
    /// This session's SIM has it.
    Held(&'c Claim),
}

/// What is needed beside the claims to tell which still stand.
pub(crate) trait Standing {
    /// The latest Accounting-On or -Off of the NAS at this place among the names.
    fn reset(&self, nas: u16) -> Seconds;
}

impl Claim {
    /// A claim of which nothing was heard yet.
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            sim: None,
            apn: None,
            first: Seconds(0),
            started: Seconds(0),
            asserted: Seconds(0),
            stopped: Seconds(0),
            seen: Seconds(0),
            lifetime: 0,
        }
    }

    /// Whether the session still has the address, by its own words alone.
    ///
    /// A Stop is final until a later Start: an Interim that was overtaken revives nothing. A NAS
    /// that restarts has lost what it said before; what it says in the same second came after,
    /// because a restart takes longer than that.
    fn stands(&self, standing: &impl Standing, now: Seconds) -> bool {
        let stopped = self.stopped != Seconds(0) && self.started <= self.stopped;
        let lost = self.asserted < standing.reset(self.session.nas);
        self.asserted != Seconds(0) && !stopped && !lost && !self.is_lapsed(now)
    }

    fn is_lapsed(&self, now: Seconds) -> bool {
        self.lifetime != 0 && now.0 >= self.seen.0.saturating_add(self.lifetime)
    }

    /// Grows to hold what another copy of the claim knows.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.asserted <= other.asserted {
            self.sim = other.sim.or(self.sim);
            self.apn = other.apn.or(self.apn);
            self.lifetime = other.lifetime;
        }
        self.first = match (self.first, other.first) {
            (Seconds(0), only) | (only, Seconds(0)) => only,
            (one, other) => one.min(other),
        };
        self.started = self.started.max(other.started);
        self.asserted = self.asserted.max(other.asserted);
        self.stopped = self.stopped.max(other.stopped);
        self.seen = self.seen.max(other.seen);
    }

    /// When the session got the address.
    pub(super) fn begin(&self) -> Seconds {
        self.first.max(self.started)
    }

    /// Whether both are of one SIM. Sessions that name none are strangers to all others.
    fn shares_sim(&self, other: &Self) -> bool {
        self.session == other.session || (self.sim.is_some() && self.sim == other.sim)
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self::Few(None)
    }
}

impl Claims {
    /// Makes a claim of `session` if there is none; returns the one that made room for it.
    ///
    /// Beyond [`CLAIMS_MAX`] it is the one asserted longest ago: it takes nothing from others.
    pub(crate) fn admit(&mut self, session: Session) -> Option<Claim> {
        if self.get(session).is_some() {
            return None;
        }
        let full = self.all().len() >= CLAIMS_MAX;
        let oldest = self.all().iter().enumerate().min_by_key(|(_, claim)| claim.asserted);
        let oldest = oldest.map(|(at, _)| at).filter(|_| full);
        let evicted = oldest.and_then(|at| self.take(at));
        self.put(Claim::new(session));
        evicted
    }

    /// The claim of `session`, to be changed.
    pub(crate) fn get_mut(&mut self, session: Session) -> Option<&mut Claim> {
        self.all_mut().iter_mut().find(|claim| claim.session == session)
    }

    /// The claim of `session`.
    pub(crate) fn get(&self, session: Session) -> Option<&Claim> {
        self.all().iter().find(|claim| claim.session == session)
    }

    /// Every claim.
    pub(crate) fn all(&self) -> &[Claim] {
        match self {
            Self::Few(claim) => claim.as_slice(),
            Self::Many(claims) => claims,
        }
    }

    /// Every claim, to be changed.
    pub(crate) fn all_mut(&mut self) -> &mut [Claim] {
        match self {
            Self::Few(claim) => claim.as_mut_slice(),
            Self::Many(claims) => claims,
        }
    }

    fn put(&mut self, claim: Claim) {
        match self {
            Self::Few(None) => *self = Self::Few(Some(claim)),
            Self::Few(Some(only)) => *self = Self::Many(vec![*only, claim]),
            Self::Many(claims) => claims.push(claim),
        }
    }

    fn take(&mut self, at: usize) -> Option<Claim> {
        match self {
            Self::Few(claim) => claim.take(),
            Self::Many(claims) => {
                let taken = (at < claims.len()).then(|| claims.swap_remove(at));
                if let [only] = claims.as_slice() {
                    *self = Self::Few(Some(*only));
                }
                taken
            }
        }
    }

    /// Whose the address is at `now`.
    pub(crate) fn owner(&self, standing: &impl Standing, now: Seconds) -> Owner<'_> {
        let mut best: Option<&Claim> = None;
        let mut tied = false;
        for claim in self.all().iter().filter(|claim| self.is_candidate(claim, standing, now)) {
            match best {
                Some(known) if known.asserted > claim.asserted => {}
                Some(known) if known.asserted == claim.asserted => {
                    tied |= !known.shares_sim(claim);
                    if (claim.started, claim.session.id) > (known.started, known.session.id) {
                        best = Some(claim);
                    }
                }
                Some(_) | None => (best, tied) = (Some(claim), false),
            }
        }
        match best {
            None => Owner::Nobody,
            Some(_) if tied => Owner::Contested,
            Some(claim) => Owner::Held(claim),
        }
    }

    /// Forgets one claim that can no longer matter, and returns it.
    ///
    /// What stands no longer is remembered for [`REMEMBERED`], because late packets may still come
    /// and an ended claim still keeps what it had superseded from coming back. So the oldest go
    /// first, and none goes before one that is older.
    pub(crate) fn forget(&mut self, standing: &impl Standing, now: Seconds) -> Option<Claim> {
        let fading = self.all().iter().enumerate();
        let fading = fading.filter(|(_, claim)| !self.is_candidate(claim, standing, now));
        let (at, claim) = fading.min_by_key(|(_, claim)| claim.asserted)?;
        let over = now.0 >= claim.seen.0.saturating_add(REMEMBERED);
        if over { self.take(at) } else { None }
    }

    /// Whether the claim stands and nobody else got the address after its last word.
    fn is_candidate(&self, claim: &Claim, standing: &impl Standing, now: Seconds) -> bool {
        claim.stands(standing, now)
            && !self
                .all()
                .iter()
                .any(|other| !other.shares_sim(claim) && other.begin() > claim.asserted)
    }
}

/// Sessions remembered for one address.
pub(crate) const CLAIMS_MAX: usize = 8;
/// Seconds that an ended claim is remembered: well beyond every retransmission (RFC 5080 section
/// 2.2.1 gives up after 30 s).
pub(crate) const REMEMBERED: u32 = 120;

#[cfg(test)]
mod tests;
