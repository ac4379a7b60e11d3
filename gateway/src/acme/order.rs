//! One order (RFC 8555 §7.4): names → challenges → our key → a certificate that was looked at before anybody trusts in it.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::challenges::{Challenges, Given};
use super::failure::Failure;
use super::issued::Issued;
use crate::plan::Challenge;
use crate::state::unix_time;

/// How the authority is asked what it has decided: after a quarter of a second, then less and less often, for three minutes.
const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(180));

/// What is ordered, and how.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The names.
    pub(super) domains: &'a [Box<str>],
    /// The kinds of challenges that may be used, the one to use first in front.
    pub(super) kinds: Vec<Challenge>,
    /// The certificate that the new one takes the place of (RFC 9773 §5).
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
}

/// Places an order and sees it through. Returns chain and key in PEM, and what they are.
///
/// # Errors
/// There is no certificate.
pub(super) async fn place(
    account: &Account,
    wanted: Wanted<'_>,
    challenges: &Arc<Challenges>,
) -> Result<(String, Issued), Failure> {
    let identifiers: Vec<_> = wanted.domains.iter().map(|domain| Identifier::Dns(domain.to_string())).collect();
    let mut new = NewOrder::new(&identifiers);
    if let Some(replaces) = wanted.replaces {
        new = new.replaces(replaces);
    }
    let mut order = account.new_order(&new).await.map_err(|error| Failure::of(&error))?;
    let answers = answer(&mut order, &wanted.kinds, challenges).await?;
    match order.poll_ready(&POLLS).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(what_failed(&mut order, &answers, None).await),
        Err(error) => {
            let failure = Failure::of(&error);
            return Err(what_failed(&mut order, &answers, Some(failure)).await);
        }
    }
    drop(answers);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| here(&error))?;
    let names: Vec<_> = wanted.domains.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(|error| here(&error))?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| here(&error))?;
    order.finalize_csr(request.der()).await.map_err(|error| Failure::of(&error))?;
    let chain = order.poll_certificate(&POLLS).await.map_err(|error| Failure::of(&error))?;

    let text = format!("{}\n{}", chain.trim_end(), key.serialize_pem());
    let issued =
        Issued::read(text.as_bytes()).and_then(|issued| issued.suits(wanted.domains, unix_time()).map(|()| issued));
    let odd = |error| {
        Failure::here(format!("the authority has issued something that is of no use: {error}"), "it is tried again")
    };
    issued.map(|issued| (text, issued)).map_err(odd)
}

/// What was answered for one name.
struct Answered {
    domain: String,
    kind: Challenge,
    _given: Given,
}

/// Answers a challenge for each name that the authority does not take for ours already.
async fn answer(
    order: &mut Order,
    kinds: &[Challenge],
    challenges: &Arc<Challenges>,
) -> Result<Vec<Answered>, Failure> {
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| Failure::of(&error))?;
        let domain = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                let what = format!("the authority has given up on {domain} ({status:?})");
                return Err(Failure::here(what, "it is tried again with a new order"));
            }
        }
        let offered: Vec<_> = authorization.challenges.iter().map(|challenge| challenge.r#type.clone()).collect();
        let Some(&kind) = kinds.iter().find(|&&kind| offered.contains(&name(kind))) else {
            let what = format!("the authority offers none of the configured `challenges` for {domain}");
            return Err(Failure::here(what, "add another kind, or remove `challenges`"));
        };
        let Some(mut challenge) = authorization.challenge(name(kind)) else { continue };
        let authorisation = challenge.key_authorization();
        let given = match kind {
            Challenge::Http01 => challenges.give_text(&challenge.token, authorisation.as_str()),
            Challenge::TlsAlpn01 => challenges
                .give_certificate(&domain, authorisation.digest().as_ref())
                .map_err(|error| Failure::here(error, "it is tried again"))?,
        };
        challenge.set_ready().await.map_err(|error| Failure::of(&error))?;
        answers.push(Answered { domain, kind, _given: given });
    }
    Ok(answers)
}

/// Why an order did not become ready: the first name whose challenge failed, else what the order itself says.
async fn what_failed(order: &mut Order, answers: &[Answered], order_says: Option<Failure>) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let domain = authorization.identifier().to_string();
        let Some(answered) = answers.iter().find(|answered| answered.domain == domain) else { continue };
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Failure::invalid(problem, &domain, answered.kind);
        }
    }
    order_says.unwrap_or_else(|| Failure::here("the authority calls the order invalid", "it is tried again"))
}

fn name(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

fn here(error: &rcgen::Error) -> Failure {
    Failure::here(error.to_string(), "it is tried again")
}
