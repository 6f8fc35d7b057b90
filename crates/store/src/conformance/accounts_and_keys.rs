//! Accounts and keys.

use super::Scene;

pub async fn an_account_reads_back_as_it_was_created(scene: &mut Scene) {
    let account = scene.account().await;
    assert_eq!(scene.store.read_account(account.id).await.unwrap(), Some(account));
}
