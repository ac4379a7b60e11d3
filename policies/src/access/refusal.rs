//! Why a rule did not let a request in.

/// Why a rule did not let a request in. The sentence for people and the status are in [`crate::Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client is known and not in the network.
    OutsideNetwork,
    /// The client is not known, so that no network can be said to hold it.
    IdentityUnknown,
    /// The token field is absent or empty.
    TokenMissing,
    /// The token is none of the secrets.
    TokenWrong,
    /// The token field was sent more than once (D17).
    TokenDuplicated,
    /// The token was a secret once.
    TokenExpired,
    /// The token will be a secret.
    TokenNotYetValid,
    /// The client showed no certificate.
    CertificateMissing,
    /// The client's certificate is not one of those.
    CertificateWrong,
}

impl Refusal {
    /// What is reported when nothing else is known.
    pub(super) const LEAST_TELLING: Self = Self::TokenMissing;

    /// Of two refusals the one that says more about what the client did: a token that was presented says more than
    /// one that was not.
    pub(super) fn more_telling(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::TokenDuplicated => 8,
            Self::TokenWrong => 7,
            Self::TokenExpired => 6,
            Self::TokenNotYetValid => 5,
            Self::CertificateWrong => 4,
            Self::IdentityUnknown => 3,
            Self::OutsideNetwork => 2,
            Self::CertificateMissing => 1,
            Self::TokenMissing => 0,
        }
    }
}
