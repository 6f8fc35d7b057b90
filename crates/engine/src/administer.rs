//! Accounts, keys and endpoints: created, read, changed, deleted.
//!
//! Promise: one place checks scope, input, limits and the registration probe, whichever API asks;
//! a change holds from its answer on, because the registry forgets before the answer is given.

use std::time::Duration;

use domain::account::{Account, AccountChange, Username};
use domain::catalogue;
use domain::contract::Contract;
use domain::custom_headers::CustomHeaders;
use domain::endpoint::{
    DisabledReason, Endpoint, EndpointChange, EndpointStatus, MaxInFlight, RetrySchedule,
    Subscription,
};
use domain::event::{EntityId, EventType};
use domain::id::{AccountId, EndpointId, KeyId};
use domain::limits::{DESCRIPTION_BYTES_MAX, KEYS_PER_ACCOUNT_MAX, SUBSCRIPTION_TYPES_MAX};
use domain::page::{Page, PageRequest};
use domain::secret::SigningSecret;
use domain::target_url::TargetUrl;
use store::catalogue::{AccountCreated, DeletedHistory, EndpointCreated, KeyRecord};

use crate::Engine;
use crate::error::{EngineError, ErrorCode, Violation};
use crate::keys::{ACCOUNT_KEY_PREFIX, ApiKey};
use crate::scope::Scope;

/// How long a new `konpro_v1` endpoint has to answer the registration probe (KonPro v1, "Add
/// Webhook Endpoint": a 1-second timeout).
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Probes on their way at once: registering is rare, and we are nobody's port scanner.
pub(crate) const PROBES_MAX: usize = 32;

/// What a caller says of a new account.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its username.
    pub username: String,
    /// Its contract.
    pub contract: Contract,
    /// Its plan.
    pub plan: Option<String>,
    /// Its credits.
    pub credits: Option<i64>,
    /// Whether it may use its contract's API.
    pub api_access: bool,
}

/// What a caller says of a new endpoint, each field as sent.
#[derive(Clone, Debug, Default)]
pub struct NewEndpoint {
    /// Where deliveries go.
    pub url: String,
    /// Whether it begins disabled.
    pub is_disabled: bool,
    /// Which event types it wants.
    pub events: Events,
    /// The only entity it wants.
    pub entity_id: Option<String>,
    /// A note.
    pub description: Option<String>,
    /// Headers to add.
    pub headers: Vec<(String, String)>,
    /// Concurrency.
    pub max_in_flight: Option<u64>,
    /// Waits before each attempt, in seconds.
    pub retry_schedule: Option<Vec<u64>>,
}

/// What a caller says of the event types an endpoint wants.
#[derive(Clone, Debug, Default)]
pub enum Events {
    /// Every one.
    #[default]
    All,
    /// These; must not be empty.
    Listed(Vec<String>),
}

/// What a caller changes about an endpoint; `None` leaves a field as it is, `Some(None)` takes it
/// back to its default.
#[derive(Clone, Debug, Default)]
pub struct EndpointEdit {
    /// New URL.
    pub url: Option<String>,
    /// Whether it is disabled.
    pub is_disabled: Option<bool>,
    /// New event types.
    pub events: Option<Events>,
    /// New entity.
    pub entity_id: Option<Option<String>>,
    /// New note.
    pub description: Option<Option<String>>,
    /// New headers, replacing all.
    pub headers: Option<Vec<(String, String)>>,
    /// New concurrency.
    pub max_in_flight: Option<Option<u64>>,
    /// New waits, in seconds.
    pub retry_schedule: Option<Option<Vec<u64>>>,
}

impl Engine {
    /// Creates an account with its first key. Operator only.
    pub async fn create_account(
        &self,
        scope: Scope,
        new: NewAccount,
    ) -> Result<(Account, ApiKey), EngineError> {
        scope.operator_only("page")?;
        let username = Username::parse(&new.username)
            .map_err(|error| EngineError::invalid("username", error.to_string()))?;
        self.check_plan(new.plan.as_deref())?;
        let now = self.clock().now();
        let account = Account {
            id: AccountId::from_u128(self.dice().id(now)),
            username,
            contract: new.contract,
            plan: new.plan,
            credits: new.credits,
            api_access: new.api_access,
            created_at: now,
        };
        let (record, key) = self.make_key(ACCOUNT_KEY_PREFIX, Some(account.id));
        match self.store().create_account(account.clone(), record).await? {
            AccountCreated::Created => Ok((account, key)),
            AccountCreated::UsernameTaken => Err(EngineError::new(
                ErrorCode::Conflict,
                format!("the username `{}` is taken", account.username.as_str()),
            )),
        }
    }

    /// The account.
    pub async fn account(&self, scope: Scope, id: AccountId) -> Result<Account, EngineError> {
        scope.check(id, "account")?;
        let roster = self.registry().roster(id).await?;
        Ok(roster.ok_or_else(|| EngineError::not_found("account"))?.account.clone())
    }

    /// Accounts the caller may see, newest first.
    pub async fn list_accounts(
        &self,
        scope: Scope,
        page: PageRequest,
    ) -> Result<Page<Account>, EngineError> {
        match scope {
            Scope::Operator => Ok(self.store().list_accounts(page).await?),
            Scope::Account(own) => {
                let is_after = page.before.is_none_or(|before| own.as_u128() < before);
                let items =
                    if is_after { vec![self.account(scope, own).await?] } else { Vec::new() };
                Ok(Page { items, next_before: None })
            }
        }
    }

    /// Changes plan, credits or API access. Operator only.
    pub async fn change_account(
        &self,
        scope: Scope,
        id: AccountId,
        change: AccountChange,
    ) -> Result<Account, EngineError> {
        scope.operator_only("account")?;
        self.check_plan(change.plan.as_ref().and_then(Option::as_deref))?;
        let changed = self.store().change_account(id, change).await;
        self.registry().forget(id);
        changed?.ok_or_else(|| EngineError::not_found("account"))
    }

    /// Deletes an account with all it owns. Operator only.
    pub async fn delete_account(&self, scope: Scope, id: AccountId) -> Result<(), EngineError> {
        scope.operator_only("account")?;
        let account = self.account(scope, id).await?;
        let deleted = self.store().delete_account(id).await;
        self.registry().forget_account(id, account.username.as_str());
        self.wake_cleaner();
        if deleted? { Ok(()) } else { Err(EngineError::not_found("account")) }
    }

    /// Issues a key for the account.
    pub async fn issue_key(
        &self,
        scope: Scope,
        account: AccountId,
    ) -> Result<(KeyRecord, ApiKey), EngineError> {
        scope.check(account, "account")?;
        let page = PageRequest { before: None, limit: KEYS_PER_ACCOUNT_MAX };
        if self.store().list_keys(Some(account), page).await?.items.len() >= KEYS_PER_ACCOUNT_MAX {
            return Err(EngineError::new(
                ErrorCode::LimitReached,
                format!(
                    "the account has {KEYS_PER_ACCOUNT_MAX} keys, the most it may have; revoke one"
                ),
            ));
        }
        let (record, key) = self.make_key(ACCOUNT_KEY_PREFIX, Some(account));
        if self.store().create_key(record.clone()).await? {
            Ok((record, key))
        } else {
            Err(EngineError::not_found("account"))
        }
    }

    /// Keys of the account, newest first.
    pub async fn list_keys(
        &self,
        scope: Scope,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, EngineError> {
        self.account(scope, account).await?;
        Ok(self.store().list_keys(Some(account), page).await?)
    }

    /// Revokes a key of the account at once.
    pub async fn revoke_key(
        &self,
        scope: Scope,
        account: AccountId,
        key: KeyId,
    ) -> Result<(), EngineError> {
        scope.check(account, "key")?;
        let public_part = self
            .store()
            .delete_key(Some(account), key)
            .await?
            .ok_or_else(|| EngineError::not_found("key"))?;
        self.registry().forget_key(&public_part);
        Ok(())
    }

    /// Creates an endpoint of the account: checks every field, asks the target whether it is there
    /// if the contract says so, and counts it against the contract's limit.
    pub async fn create_endpoint(
        &self,
        scope: Scope,
        account: AccountId,
        new: NewEndpoint,
    ) -> Result<Endpoint, EngineError> {
        let contract = self.account(scope, account).await?.contract;
        let fields = self.read_fields(
            contract,
            EndpointEdit {
                url: Some(new.url),
                is_disabled: Some(new.is_disabled),
                events: Some(new.events),
                entity_id: Some(new.entity_id),
                description: Some(new.description),
                headers: Some(new.headers),
                max_in_flight: Some(new.max_in_flight),
                retry_schedule: Some(new.retry_schedule),
            },
        )?;
        let url = fields.url.clone().expect("a new endpoint has a URL, or was refused");
        self.probe(contract, &url).await?;
        let now = self.clock().now();
        let mut endpoint = Endpoint {
            id: EndpointId::new(self.dice().id(now), contract),
            account,
            contract,
            url,
            secret: SigningSecret::from_random(&self.dice().secret()),
            status: EndpointStatus::Enabled,
            subscription: Subscription::All,
            entity_id: None,
            description: None,
            headers: CustomHeaders::default(),
            max_in_flight: None,
            retry_schedule: None,
            created_at: now,
            updated_at: now,
        };
        fields.apply(&mut endpoint, now);
        let created =
            self.store().create_endpoint(endpoint.clone(), contract.endpoints_max()).await;
        self.registry().forget(account);
        match created? {
            EndpointCreated::Created => Ok(endpoint),
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

    /// Changes an endpoint; holds from the answer on.
    pub async fn change_endpoint(
        &self,
        scope: Scope,
        id: EndpointId,
        edit: EndpointEdit,
    ) -> Result<Endpoint, EngineError> {
        let before = self.endpoint(scope, id).await?;
        let change = self.read_fields(before.contract, edit)?;
        if let Some(url) = &change.url
            && *url != before.url
        {
            self.probe(before.contract, url).await?;
        }
        let now = self.clock().now();
        let changed = self.store().change_endpoint(before.account, id, change, now).await;
        self.registry().forget(before.account);
        let endpoint = changed?.ok_or_else(|| EngineError::not_found("endpoint"))?;
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
        let now = self.clock().now();
        let deleted = self.store().delete_endpoint(endpoint.account, id, history, now).await;
        self.registry().forget(endpoint.account);
        self.wake_cleaner();
        if deleted? { Ok(()) } else { Err(EngineError::not_found("endpoint")) }
    }

    fn check_plan(&self, plan: Option<&str>) -> Result<(), EngineError> {
        let plans = &self.settings().plans;
        match plan {
            Some(plan) if !plans.contains_key(plan) => {
                let known = plans.keys().cloned().collect::<Vec<_>>().join("`, `");
                Err(EngineError::invalid("plan", format!("must be one of `{known}`, or null")))
            }
            _ => Ok(()),
        }
    }

    /// Reads every field and names every wrong one.
    fn read_fields(
        &self,
        contract: Contract,
        edit: EndpointEdit,
    ) -> Result<EndpointChange, EngineError> {
        let mut wrong = Vec::new();
        let change = EndpointChange {
            url: edit
                .url
                .and_then(|url| check(&mut wrong, "url", self.settings().urls.parse(&url))),
            status: edit.is_disabled.map(|is_disabled| {
                if is_disabled {
                    EndpointStatus::Disabled(DisabledReason::Requested)
                } else {
                    EndpointStatus::Enabled
                }
            }),
            subscription: edit
                .events
                .and_then(|events| check(&mut wrong, "events", read_events(contract, events))),
            entity_id: edit.entity_id.and_then(|id| {
                let id = id.as_deref().map(EntityId::parse).transpose();
                check(&mut wrong, "entity_id", id)
            }),
            description: edit
                .description
                .and_then(|text| check(&mut wrong, "description", read_description(text))),
            headers: edit
                .headers
                .and_then(|headers| check(&mut wrong, "headers", CustomHeaders::new(headers))),
            max_in_flight: edit.max_in_flight.and_then(|number| {
                check(&mut wrong, "max_in_flight", number.map(MaxInFlight::new).transpose())
            }),
            retry_schedule: edit.retry_schedule.and_then(|waits| {
                let schedule = waits.map(|waits| {
                    RetrySchedule::new(waits.into_iter().map(Duration::from_secs).collect())
                });
                check(&mut wrong, "retry_schedule", schedule.transpose())
            }),
        };
        if wrong.is_empty() { Ok(change) } else { Err(EngineError::all_invalid(wrong)) }
    }

    /// Asks a new `konpro_v1` target whether anybody is there. One text for every failure, so that
    /// registration tells nothing about what is behind an address.
    async fn probe(&self, contract: Contract, url: &TargetUrl) -> Result<(), EngineError> {
        if contract != Contract::KonproV1 || !self.settings().probe_endpoints {
            return Ok(());
        }
        let Ok(_probing) = self.probes().try_acquire() else {
            return Err(EngineError::unavailable(
                "too many endpoints are being registered just now",
            ));
        };
        match self.sender().probe(url, PROBE_TIMEOUT).await.status() {
            Some(status) if status < 500 => Ok(()),
            _ => Err(EngineError::invalid(
                "url",
                "did not answer an OPTIONS request within 1 second; it must be reachable over \
                 HTTPS and answer with a status below 500",
            )),
        }
    }
}

fn check<T, E: std::fmt::Display>(
    wrong: &mut Vec<Violation>,
    field: &str,
    read: Result<T, E>,
) -> Option<T> {
    read.map_err(|error| {
        wrong.push(Violation { field: field.to_owned(), reason: error.to_string() });
    })
    .ok()
}

fn read_description(text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => {
            Err(format!("must have at most {DESCRIPTION_BYTES_MAX} bytes"))
        }
        text => Ok(text),
    }
}

/// `jogg_v2` names must be in the catalogue; elsewhere any well-formed name is accepted, because
/// the KonPro v1 documents' own samples subscribe to names outside their catalogue.
fn read_events(contract: Contract, events: Events) -> Result<Subscription, String> {
    let names = match events {
        Events::All => return Ok(Subscription::All),
        Events::Listed(names) => names,
    };
    if names.is_empty() {
        return Err("must name at least one event type".to_owned());
    }
    if names.len() > SUBSCRIPTION_TYPES_MAX {
        return Err(format!("must name at most {SUBSCRIPTION_TYPES_MAX} event types"));
    }
    let mut types = Vec::with_capacity(names.len());
    for name in names {
        if contract == Contract::JoggV2 && catalogue::find(contract, &name).is_none() {
            let nearest = catalogue::nearest(contract, &name).join("`, `");
            return Err(format!(
                "contains the unknown event `{}`; did you mean `{nearest}`?",
                shorten(&name)
            ));
        }
        let event_type = EventType::parse(&name)
            .map_err(|error| format!("contains `{}`: {error}", shorten(&name)))?;
        types.push(event_type);
    }
    Ok(Subscription::listed(types))
}

/// A caller's text, cut so that it fits an error message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN_MAX: usize = 100;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}
