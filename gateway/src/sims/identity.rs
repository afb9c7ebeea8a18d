//! What names a SIM: one identity, or all that are known of it.

use std::fmt;

use policy::{Iccid, Identity, Imsi, InvalidIdentity, Msisdn};

/// One identity of a SIM, with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SimId {
    /// What the vendor knows a SIM by.
    Iccid(Iccid),
    /// What the network knows a SIM by.
    Imsi(Imsi),
    /// What people know a SIM by.
    Msisdn(Msisdn),
}

/// Why a text names no SIM. The text is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSimId {
    /// No `iccid:`, `imsi:` or `msisdn:` in front.
    #[error("a SIM is named iccid:…, imsi:… or msisdn:…")]
    Kind,
    /// Not the digits of that kind.
    #[error(transparent)]
    Digits(#[from] InvalidIdentity),
}

/// All that is known to name one SIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identities {
    /// What the vendor knows it by; RADIUS does not carry it.
    pub(crate) iccid: Option<Iccid>,
    /// What the network knows it by.
    pub(crate) imsi: Option<Imsi>,
    /// Its number.
    pub(crate) msisdn: Option<Msisdn>,
}

impl SimId {
    /// Reads `iccid:8988…`, `imsi:…` or `msisdn:…`. Microsoft prints a blank after the colon once.
    ///
    /// # Errors
    ///
    /// The kind is missing, or the digits are not of it.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSimId> {
        let (kind, digits) = text.split_once(':').ok_or(InvalidSimId::Kind)?;
        let digits = digits.trim_start();
        match kind {
            "iccid" => Ok(Self::Iccid(Iccid::parse(digits)?)),
            "imsi" => Ok(Self::Imsi(Imsi::parse(digits)?)),
            "msisdn" => Ok(Self::Msisdn(Msisdn::parse(digits)?)),
            _ => Err(InvalidSimId::Kind),
        }
    }

    /// As [`Self::parse`] reads it: for the operator's own stores and systems, never for a log.
    pub(crate) fn whole(self) -> String {
        match self {
            Self::Iccid(iccid) => format!("iccid:{}", iccid.whole()),
            Self::Imsi(imsi) => format!("imsi:{}", imsi.whole()),
            Self::Msisdn(msisdn) => format!("msisdn:{}", msisdn.whole()),
        }
    }
}

impl fmt::Display for SimId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iccid(iccid) => iccid.fmt(formatter),
            Self::Imsi(imsi) => imsi.fmt(formatter),
            Self::Msisdn(msisdn) => msisdn.fmt(formatter),
        }
    }
}

impl From<SimId> for Identities {
    fn from(id: SimId) -> Self {
        match id {
            SimId::Iccid(iccid) => Self { iccid: Some(iccid), ..Self::default() },
            SimId::Imsi(imsi) => Self { imsi: Some(imsi), ..Self::default() },
            SimId::Msisdn(msisdn) => Self { msisdn: Some(msisdn), ..Self::default() },
        }
    }
}

impl Identities {
    /// The one that lasts longest: the network's, then the vendor's, then the number.
    pub(crate) fn primary(self) -> Option<SimId> {
        self.all().next()
    }

    /// Those that are known, the longest-lasting first.
    pub(crate) fn all(self) -> impl Iterator<Item = SimId> {
        let Self { iccid, imsi, msisdn } = self;
        [imsi.map(SimId::Imsi), iccid.map(SimId::Iccid), msisdn.map(SimId::Msisdn)]
            .into_iter()
            .flatten()
    }

    /// Whether nothing is known.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether both can be of one SIM: no kind is known differently.
    pub(crate) fn agrees(self, other: Self) -> bool {
        fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        same(self.iccid, other.iccid)
            && same(self.imsi, other.imsi)
            && same(self.msisdn, other.msisdn)
    }

    /// These, and of the other what is not known here.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            iccid: self.iccid.or(other.iccid),
            imsi: self.imsi.or(other.imsi),
            msisdn: self.msisdn.or(other.msisdn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_each_kind_and_prints_none_whole() {
        for (text, whole, shown) in [
            ("iccid:8988247000100003319F", "iccid:8988247000100003319", "ICCID(…3319)"),
            ("iccid: 8988247000100003319", "iccid:8988247000100003319", "ICCID(…3319)"),
            ("imsi:001010000000001", "imsi:001010000000001", "IMSI(…0001)"),
            ("msisdn:+4915112345678", "msisdn:4915112345678", "MSISDN(…5678)"),
        ] {
            let id = SimId::parse(text).unwrap();
            assert_eq!((id.whole().as_str(), id.to_string().as_str()), (whole, shown));
            assert_eq!(Identities::from(id).primary(), Some(id));
        }
        for text in ["", "8988247000100003319", "imei:490154203237518", "imsi:00101000000000x"] {
            let error = SimId::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn agrees_unless_one_kind_is_known_differently() {
        let imsi = |text| Identities::from(SimId::parse(text).unwrap());
        let one = imsi("imsi:001010000000001");
        assert!(one.agrees(imsi("msisdn:491511")) && one.agrees(one));
        assert!(!one.agrees(imsi("imsi:001010000000002")));
        assert_eq!(one.or(imsi("msisdn:491511")).all().count(), 2);
    }
}
