//! Endpoints: created, read, changed, given new secrets, deleted.

use std::time::Duration;

use domain::contract::Contract;
use domain::credentials::ClientIdentity;
use domain::endpoint::{Endpoint, EndpointChange, StillOverlapping};
use domain::id::{AccountId, EndpointId};
use domain::limits::{SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use domain::page::{Page, PageRequest};
use domain::secret::SigningSecret;
use domain::target_url::TargetUrl;
use store::catalogue::{DeletedHistory, EndpointCreated, SecretRotated};

use super::endpoint_fields::{
    EndpointEdit, NewEndpoint, Reading, asks_for_registered, read_fields,
};
use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::scope::Scope;

/// How long a new `konpro_v1` endpoint has to answer the registration probe (KonPro v1, "Add
/// Webhook Endpoint": a 1-second timeout).
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Probes on their way at once: registering is rare, and we are nobody's port scanner.
pub(crate) const PROBES_MAX: usize = 32;

impl Engine {
    /// Creates an endpoint of the account: checks every field, asks the target whether it is there
    /// if the contract says so, and counts it against the contract's limit.
    pub async fn create_endpoint(
        &self,
        scope: Scope,
        account: AccountId,
        new: NewEndpoint,
    ) -> Result<Endpoint, EngineError> {
        let owner = self.account(scope, account).await?;
        let contract = owner.contract;
        let fields = self.read_fields(contract, None, new.into()).await?;
        let url = fields.url.clone().expect("a new endpoint has a URL, or was refused");
        let identity = fields.client_identity.as_ref().and_then(Option::as_ref);
        self.probe(contract, &url, identity).await?;
        let deed = self.deed(scope);
        let mut endpoint = Endpoint::new(
            EndpointId::new(self.dice().id(deed.at), contract),
            &owner,
            url,
            SigningSecret::from_random(&self.dice().secret()),
            deed.at,
        );
        fields.apply(&mut endpoint, deed.at);
        let note = deed.endpoint_created(&endpoint);
        let created =
            self.store().create_endpoint(endpoint.clone(), contract.endpoints_max(), note).await;
        self.registry().forget(account);
        match created? {
            EndpointCreated::Created => {
                self.reveals().forget([account.as_u128(), endpoint.id.as_u128()]);
                Ok(endpoint)
            }
            EndpointCreated::LimitReached => Err(EngineError::new(
                ErrorCode::LimitReached,
                format!(
                    "the account already has {} endpoints, the most it may have; delete one first",
                    contract.endpoints_max()
                ),
            )),
            EndpointCreated::NoAccount => Err(EngineError::not_found("account")),
        }
    }

    /// The endpoint.
    pub async fn endpoint(&self, scope: Scope, id: EndpointId) -> Result<Endpoint, EngineError> {
        let endpoint = self
            .store()
            .find_endpoint(id)
            .await?
            .ok_or_else(|| EngineError::not_found("endpoint"))?;
        scope.check(endpoint.account, "endpoint")?;
        Ok(endpoint)
    }

    /// The endpoint, of which the caller is about to show the signing secret: that is noted first.
    pub async fn secret(&self, scope: Scope, id: EndpointId) -> Result<Endpoint, EngineError> {
        let endpoint = self.endpoint(scope, id).await?;
        self.note_reveal_of_endpoint(scope, endpoint.account, id).await?;
        Ok(endpoint)
    }

    /// Gives an endpoint a new signing secret; the present one signs beside it for `overlap`
    /// ([`SECRET_OVERLAP_DEFAULT`] if not given, at most [`SECRET_OVERLAP_MAX`]). An overlap of
    /// nothing voids every earlier secret at once.
    ///
    /// Errors with [`ErrorCode::Conflict`] while the secret before the present one still signs and
    /// the overlap is not nothing.
    pub async fn rotate_secret(
        &self,
        scope: Scope,
        id: EndpointId,
        overlap: Option<Duration>,
    ) -> Result<Endpoint, EngineError> {
        let account = self.endpoint(scope, id).await?.account;
        let overlap = overlap.unwrap_or(SECRET_OVERLAP_DEFAULT);
        if overlap > SECRET_OVERLAP_MAX {
            let reason = format!("must be at most {} (7 days)", SECRET_OVERLAP_MAX.as_secs());
            return Err(EngineError::invalid("overlap_seconds", reason));
        }
        let new = SigningSecret::from_random(&self.dice().secret());
        let note = self.deed(scope).secret_rotated(account, id, overlap);
        let rotated = self.store().rotate_secret(account, id, new, overlap, note).await;
        self.registry().forget(account);
        match rotated? {
            SecretRotated::Rotated(endpoint) => {
                self.reveals().forget([account.as_u128(), id.as_u128()]);
                Ok(*endpoint)
            }
            SecretRotated::StillOverlapping(StillOverlapping { signs_until }) => {
                let until = signs_until.to_rfc3339_millis();
                Err(EngineError::new(
                    ErrorCode::Conflict,
                    format!(
                        "the secret before the present one still signs, until {until}; rotate \
                         after that, or with an overlap of 0, which drops all earlier secrets at \
                         once"
                    ),
                ))
            }
            SecretRotated::NoEndpoint => Err(EngineError::not_found("endpoint")),
        }
    }

    /// Endpoints of the account, newest first.
    pub async fn list_endpoints(
        &self,
        scope: Scope,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, EngineError> {
        self.account(scope, account).await?;
        Ok(self.store().list_endpoints(account, page).await?)
    }

    /// Every endpoint of the account, oldest first. Bounded by the contract's limit.
    pub async fn all_endpoints(
        &self,
        scope: Scope,
        account: AccountId,
    ) -> Result<Vec<Endpoint>, EngineError> {
        scope.check(account, "account")?;
        let roster = self.registry().roster(account).await?;
        Ok(roster.ok_or_else(|| EngineError::not_found("account"))?.endpoints.clone())
    }

    /// Changes an endpoint; holds from the answer on. What changes nothing is answered and leaves
    /// no entry.
    pub async fn change_endpoint(
        &self,
        scope: Scope,
        id: EndpointId,
        edit: EndpointEdit,
    ) -> Result<Endpoint, EngineError> {
        let before = self.endpoint(scope, id).await?;
        let change = self.read_fields(before.contract, Some(&before), edit).await?;
        if let Some(url) = &change.url
            && *url != before.url
        {
            let present = before.client_identity.as_ref();
            let identity = change.client_identity.as_ref().map_or(present, Option::as_ref);
            self.probe(before.contract, url, identity).await?;
        }
        let mut after = before.clone();
        change.clone().apply(&mut after, before.updated_at);
        if after == before {
            return Ok(before);
        }
        let note = self.deed(scope).endpoint_changed(&before, change.clone());
        let changed = self.store().change_endpoint(before.account, id, None, change, note).await;
        self.registry().forget(before.account);
        let endpoint = changed?.ok_or_else(|| EngineError::not_found("endpoint"))?;
        self.health_changed(&before, &endpoint).await;
        self.lane_changed(&endpoint);
        Ok(endpoint)
    }

    /// Deletes an endpoint; it gets nothing any more once this answers.
    pub async fn delete_endpoint(&self, scope: Scope, id: EndpointId) -> Result<(), EngineError> {
        let endpoint = self.endpoint(scope, id).await?;
        let history = match endpoint.contract {
            Contract::KonproV1 => DeletedHistory::Remove,
            Contract::JoggV2 | Contract::Standard => DeletedHistory::Keep,
        };
        let note = self.deed(scope).endpoint_deleted(&endpoint);
        let deleted = self.store().delete_endpoint(endpoint.account, id, history, note).await;
        self.registry().forget(endpoint.account);
        self.health_gone(id);
        self.wake_cleaner();
        if deleted? { Ok(()) } else { Err(EngineError::not_found("endpoint")) }
    }

    async fn read_fields(
        &self,
        contract: Contract,
        before: Option<&Endpoint>,
        edit: EndpointEdit,
    ) -> Result<EndpointChange, EngineError> {
        let registered = if asks_for_registered(contract, edit.events.as_ref()) {
            Some(self.registry().event_types(contract).await?)
        } else {
            None
        };
        let reading = Reading {
            urls: &self.settings().urls,
            sender: &**self.sender(),
            contract,
            registered: registered.as_deref(),
            before,
        };
        read_fields(&reading, edit)
    }

    /// Asks a new `konpro_v1` target whether anybody is there. One text for every failure, told after
    /// one and the same time, so that registration tells nothing about what is behind an address.
    async fn probe(
        &self,
        contract: Contract,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
    ) -> Result<(), EngineError> {
        if contract != Contract::KonproV1 || !self.settings().probe_endpoints {
            return Ok(());
        }
        let Ok(probing) = self.probes().try_acquire() else {
            return Err(EngineError::unavailable(
                "too many endpoints are being registered just now",
            ));
        };
        let told_at = tokio::time::Instant::now() + PROBE_TIMEOUT;
        let outcome = self.sender().probe(url, identity, PROBE_TIMEOUT).await;
        drop(probing);
        if matches!(outcome.status(), Some(status) if status < 500) {
            return Ok(());
        }
        // Said at once, a refusal would differ from silence.
        tokio::time::sleep_until(told_at).await;
        Err(EngineError::invalid(
            "url",
            "did not answer an OPTIONS request within 1 second; it must be reachable over \
                 HTTPS and answer with a status below 500",
        ))
    }
}
