//! Builders of legal, boring values for tests. When a test is about a field, it sets that field;
//! when it is about parsing, it does not use these.

use crate::account::{Account, Username};
use crate::contract::Contract;
use crate::endpoint::Endpoint;
use crate::id::{AccountId, EndpointId};
use crate::secret::SigningSecret;
use crate::target_url::TargetUrl;
use crate::time::Timestamp;

/// An instant long after any real one, so that a test that reads the wrong clock is seen.
pub const TEST_START: Timestamp = Timestamp::from_seconds(4_000_000_000);

/// An account with API access, no plan and no credit tracking.
pub fn an_account(contract: Contract, number: u64) -> Account {
    Account {
        id: AccountId::from_u128(u128::from(number) << 1),
        username: Username::parse(&format!("user{number}")).expect("is a username"),
        contract,
        plan: None,
        credits: None,
        api_access: true,
        created_at: TEST_START,
    }
}

/// An enabled endpoint of the account that wants everything.
pub fn an_endpoint(account: &Account, number: u64) -> Endpoint {
    let mut random = [0; 24];
    random[..8].copy_from_slice(&number.to_be_bytes());
    Endpoint::new(
        EndpointId::new(u128::from(number) << 1, account.contract),
        account,
        TargetUrl::from_stored(&format!("https://hooks.customer.com/{number}")).expect("is a URL"),
        SigningSecret::from_random(&random),
        TEST_START,
    )
}
