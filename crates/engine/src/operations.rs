//! The operations account: whoever runs the platform gets to know through it, as events like any
//! other, what happens to endpoints without anybody's doing.
//!
//! Promise: there is one at most, and it is an account like any other, with endpoints, keys and
//! deliveries of the `standard` contract. Neighbours: [`crate::notices`] publishes into it.

use domain::account::{Account, Username};
use domain::contract::Contract;
use domain::id::AccountId;
use store::catalogue::AccountCreated;

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::scope::Scope;

/// The username of the operations account.
pub const OPERATIONS_USERNAME: &str = "postrider.operations";

/// What came of asking for an operations account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationsAccount {
    /// It was made.
    Created(Account),
    /// It was there.
    Found(Account),
}

impl Engine {
    /// Makes the operations account, unless it is there. Operator only.
    ///
    /// Errors with [`ErrorCode::Conflict`] when another account has its username.
    pub async fn put_operations_account(
        &self,
        scope: Scope,
    ) -> Result<OperationsAccount, EngineError> {
        scope.operator_only("page")?;
        if let Some(found) = self.find_operations_account().await? {
            return Ok(OperationsAccount::Found(found));
        }
        let deed = self.deed(scope);
        let account = Account {
            id: AccountId::from_u128(self.dice().id(deed.at)),
            username: Username::parse(OPERATIONS_USERNAME).expect("it is a good username"),
            contract: Contract::Standard,
            plan: None,
            credits: None,
            api_access: true,
            created_at: deed.at,
        };
        let (id, note) = (account.id, deed.operations_account_created(&account));
        let created = self.store().create_operations_account(account, note).await?;
        let taken = || {
            let message = format!("the username `{OPERATIONS_USERNAME}` is taken");
            EngineError::new(ErrorCode::Conflict, message)
        };
        match (created, self.find_operations_account().await?) {
            (_, Some(account)) if account.id == id => Ok(OperationsAccount::Created(account)),
            // Another request was faster; it is there all the same.
            (_, Some(account)) => Ok(OperationsAccount::Found(account)),
            (AccountCreated::UsernameTaken, None) => Err(taken()),
            (AccountCreated::Created, None) => Err(EngineError::not_found("operations account")),
        }
    }

    /// The operations account. Operator only.
    pub async fn operations_account(&self, scope: Scope) -> Result<Account, EngineError> {
        scope.operator_only("page")?;
        let found = self.find_operations_account().await?;
        found.ok_or_else(|| EngineError::not_found("operations account"))
    }

    pub(crate) async fn find_operations_account(&self) -> Result<Option<Account>, EngineError> {
        let Some(id) = self.store().find_operations_account().await? else { return Ok(None) };
        let roster = self.registry().roster(id).await?;
        Ok(roster.map(|roster| roster.account.clone()))
    }
}
