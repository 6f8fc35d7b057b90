//! The account that gets operational events, and how far they were announced.

use std::sync::Arc;

use domain::account::Account;
use domain::page::PageRequest;

use super::Scene;
use super::scene::at_once;
use crate::catalogue::AccountCreated;

pub async fn the_account_for_operational_events_is_created_once_without_a_key(scene: &mut Scene) {
    assert_eq!(scene.store.find_operations_account().await.unwrap(), None);
    let ordinary = scene.account().await;
    let (first, second) = (scene.new_account(), scene.new_account());
    let created = scene.store.create_operations_account(first.clone(), scene.note()).await.unwrap();
    assert_eq!(created, AccountCreated::Created);
    let again = scene.store.create_operations_account(second.clone(), scene.note()).await.unwrap();
    assert_eq!(again, AccountCreated::UsernameTaken);
    for _ in 0..2 {
        assert_eq!(scene.store.find_operations_account().await.unwrap(), Some(first.id));
        assert_eq!(scene.store.read_account(first.id).await.unwrap().as_ref(), Some(&first));
        assert_eq!(scene.store.read_account(second.id).await.unwrap(), None);
        let keys = scene.store.list_keys(Some(first.id), PageRequest::LARGEST).await.unwrap();
        assert_eq!(keys.items, []);
        let accounts = scene.store.list_accounts(PageRequest::LARGEST).await.unwrap();
        assert_eq!(accounts.items, [first.clone(), ordinary.clone()], "it is an account");
        scene.crash().await;
    }
}

pub async fn the_account_for_operational_events_owns_endpoints_like_any_other(scene: &mut Scene) {
    let account = scene.new_account();
    scene.store.create_operations_account(account.clone(), scene.note()).await.unwrap();
    let endpoint = scene.endpoint(&account).await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    assert_eq!(scene.claim_only(&endpoint).await.delivery, delivery);
}

pub async fn no_account_for_operational_events_takes_the_name_of_another(scene: &mut Scene) {
    let taken = scene.account().await;
    let account = Account { username: taken.username.clone(), ..scene.new_account() };
    let created = scene.store.create_operations_account(account.clone(), scene.note()).await;
    assert_eq!(created.unwrap(), AccountCreated::UsernameTaken);
    assert_eq!(scene.store.find_operations_account().await.unwrap(), None);
    assert_eq!(scene.store.read_account(account.id).await.unwrap(), None);
}

pub async fn of_accounts_for_operational_events_created_at_once_there_is_one(scene: &mut Scene) {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (account, note) = (scene.new_account(), scene.note());
        let store = Arc::clone(&scene.store);
        tasks.push(async move {
            let created = store.create_operations_account(account.clone(), note).await.unwrap();
            (created == AccountCreated::Created).then_some(account.id)
        });
    }
    let created: Vec<_> = at_once(tasks).await.into_iter().flatten().collect();
    assert_eq!(created.len(), 1);
    assert_eq!(scene.store.find_operations_account().await.unwrap(), Some(created[0]));
    let accounts = scene.store.list_accounts(PageRequest::LARGEST).await.unwrap();
    assert_eq!(accounts.items.len(), 1);
}

pub async fn the_account_for_operational_events_may_be_deleted_and_made_anew(scene: &mut Scene) {
    let other = scene.account().await;
    for _ in 0..3 {
        let account = scene.new_account();
        let created = scene.store.create_operations_account(account.clone(), scene.note()).await;
        assert_eq!(created.unwrap(), AccountCreated::Created);
        assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
        assert_eq!(scene.store.find_operations_account().await.unwrap(), None);
        scene.clean_all().await;
        scene.crash().await;
        assert_eq!(scene.store.find_operations_account().await.unwrap(), None);
    }
    let account = scene.new_account();
    scene.store.create_operations_account(account.clone(), scene.note()).await.unwrap();
    assert!(scene.store.delete_account(other.id, scene.note()).await.unwrap());
    let found = scene.store.find_operations_account().await.unwrap();
    assert_eq!(found, Some(account.id), "deleting another account leaves it");
}

pub async fn what_was_announced_only_grows(scene: &mut Scene) {
    assert_eq!(scene.store.read_announced().await.unwrap(), 0);
    for (number, expected) in [(0, 0), (3, 3), (2, 3), (3, 3), (0, 3), (1 << 40, 1 << 40)] {
        scene.store.note_announced(number).await.unwrap();
        assert_eq!(scene.store.read_announced().await.unwrap(), expected);
        scene.crash().await;
        assert_eq!(scene.store.read_announced().await.unwrap(), expected);
    }
}
