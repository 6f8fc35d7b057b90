//! Accounts, their keys, and the pepper of key hashes.

use std::sync::Arc;

use domain::account::{Account, AccountChange, Username};
use domain::contract::Contract;
use domain::id::{AccountId, KeyId};
use domain::page::PageRequest;
use domain::testing::an_account;

use super::Scene;
use super::scene::at_once;
use crate::catalogue::AccountCreated;

pub async fn the_first_pepper_offered_is_the_pepper_for_good(scene: &mut Scene) {
    for candidate in [[1; 32], [2; 32]] {
        assert_eq!(scene.store.read_or_create_pepper(candidate).await.unwrap(), [1; 32]);
    }
}

pub async fn peppers_offered_at_once_are_answered_with_one_and_the_same(scene: &mut Scene) {
    let peppers = at_once((0..20).map(|number| {
        let store = Arc::clone(&scene.store);
        async move { store.read_or_create_pepper([number; 32]).await.unwrap() }
    }))
    .await;
    assert!(peppers.iter().all(|pepper| *pepper == peppers[0]), "{peppers:?}");
}

pub async fn an_account_reads_back_as_it_was_created(scene: &mut Scene) {
    for contract in Contract::ALL {
        let mut account = an_account(contract, scene.next_number());
        account.username = Username::parse(&format!("Jürgen % {}", contract.name())).unwrap();
        account.plan = Some("größter".to_owned());
        account.credits = Some(-3);
        account.api_access = false;
        let key = scene.new_key(Some(&account));
        let created = scene.store.create_account(account.clone(), key, scene.note()).await.unwrap();
        assert_eq!(created, AccountCreated::Created);
        assert_eq!(scene.store.read_account(account.id).await.unwrap(), Some(account));
    }
    let boring = scene.account().await;
    assert_eq!(scene.store.read_account(boring.id).await.unwrap(), Some(boring));
}

pub async fn an_account_is_created_with_its_first_key(scene: &mut Scene) {
    let account = scene.new_account();
    let key = scene.new_key(Some(&account));
    scene.store.create_account(account.clone(), key.clone(), scene.note()).await.unwrap();
    assert_eq!(scene.store.find_key(&key.public_part).await.unwrap(), Some(key.clone()));
    let page = scene.store.list_keys(Some(account.id), PageRequest::LARGEST).await.unwrap();
    assert_eq!(page.items, [key]);
}

pub async fn an_account_is_found_by_exactly_its_username(scene: &mut Scene) {
    let mut account = scene.new_account();
    account.username = Username::parse("John_Doe").unwrap();
    let key = scene.new_key(Some(&account));
    scene.store.create_account(account.clone(), key, scene.note()).await.unwrap();
    let find = async |name| scene.store.find_account(name).await.unwrap();
    assert_eq!(find("John_Doe").await, Some(account.id));
    for other in ["john_doe", "JohnxDoe", "John_Do", "John_Doe ", "%", ""] {
        assert_eq!(find(other).await, None, "{other:?}");
    }
}

pub async fn usernames_that_differ_in_case_are_two(scene: &mut Scene) {
    for username in ["johndoe", "Johndoe"] {
        let mut account = scene.new_account();
        account.username = Username::parse(username).unwrap();
        let key = scene.new_key(Some(&account));
        let created = scene.store.create_account(account, key, scene.note()).await.unwrap();
        assert_eq!(created, AccountCreated::Created);
    }
}

pub async fn a_username_taken_creates_neither_account_nor_key(scene: &mut Scene) {
    let first = scene.account().await;
    let second = Account { username: first.username.clone(), ..scene.new_account() };
    let key = scene.new_key(Some(&second));
    let created =
        scene.store.create_account(second.clone(), key.clone(), scene.note()).await.unwrap();
    assert_eq!(created, AccountCreated::UsernameTaken);
    assert_eq!(scene.store.read_account(second.id).await.unwrap(), None);
    assert_eq!(scene.store.find_key(&key.public_part).await.unwrap(), None);
    let found = scene.store.find_account(first.username.as_str()).await.unwrap();
    assert_eq!(found, Some(first.id));
}

pub async fn of_accounts_created_at_once_under_one_username_there_is_one(scene: &mut Scene) {
    let username = Username::parse("johndoe").unwrap();
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let account = Account { username: username.clone(), ..scene.new_account() };
        let key = scene.new_key(Some(&account));
        let (store, note) = (Arc::clone(&scene.store), scene.note());
        tasks.push(async move { store.create_account(account, key, note).await.unwrap() });
    }
    let answers = at_once(tasks).await;
    let created = answers.iter().filter(|answer| **answer == AccountCreated::Created);
    assert_eq!(created.count(), 1, "{answers:?}");
    let listed = scene.store.list_accounts(PageRequest::LARGEST).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}

pub async fn a_change_of_an_account_changes_what_it_names_and_answers_it(scene: &mut Scene) {
    let mut account = scene.account().await;
    let some = |plan: &str| Some(Some(plan.to_owned()));
    let changes = [
        AccountChange { plan: some("pro"), ..AccountChange::default() },
        AccountChange { credits: Some(Some(i64::MAX)), ..AccountChange::default() },
        AccountChange { api_access: Some(false), ..AccountChange::default() },
        AccountChange { plan: Some(None), ..AccountChange::default() },
        AccountChange { credits: Some(None), api_access: Some(true), plan: some("free") },
    ];
    for change in changes {
        change.clone().apply(&mut account);
        let changed = scene.store.change_account(account.id, change, scene.note()).await.unwrap();
        assert_eq!(changed.as_ref(), Some(&account));
        assert_eq!(scene.store.read_account(account.id).await.unwrap().as_ref(), Some(&account));
    }
}

pub async fn what_is_not_there_is_answered_as_absent(scene: &mut Scene) {
    let store = &scene.store;
    let (account, key) = (AccountId::from_u128(7), KeyId::from_u128(7));
    assert_eq!(store.read_account(account).await.unwrap(), None);
    assert_eq!(store.find_account("nobody").await.unwrap(), None);
    let change = AccountChange::default();
    assert_eq!(store.change_account(account, change, scene.note()).await.unwrap(), None);
    assert_eq!(store.read_roster(account).await.unwrap(), None);
    assert_eq!(store.find_key("nothing").await.unwrap(), None);
    assert_eq!(store.delete_key(None, key, scene.note()).await.unwrap(), None);
    assert!(!store.delete_account(account, scene.note()).await.unwrap());
    let keys = store.list_keys(Some(account), PageRequest::LARGEST).await.unwrap();
    assert_eq!((keys.items, keys.next_before), (Vec::new(), None));
}

pub async fn a_key_reads_back_by_exactly_its_public_part(scene: &mut Scene) {
    let account = scene.account().await;
    let of_account = scene.new_key(Some(&account));
    let of_operator = scene.new_key(None);
    for key in [of_account, of_operator] {
        assert!(scene.store.create_key(key.clone(), scene.note()).await.unwrap());
        let upper = key.public_part.to_uppercase();
        assert_eq!(scene.store.find_key(&upper).await.unwrap(), None);
        assert_eq!(scene.store.find_key(&key.public_part.clone()).await.unwrap(), Some(key));
    }
}

pub async fn a_key_of_an_absent_account_is_not_stored(scene: &mut Scene) {
    let nobody = scene.new_account();
    let key = scene.new_key(Some(&nobody));
    assert!(!scene.store.create_key(key.clone(), scene.note()).await.unwrap());
    assert_eq!(scene.store.find_key(&key.public_part).await.unwrap(), None);
}

pub async fn keys_are_listed_for_their_owner_alone(scene: &mut Scene) {
    let (first, second) = (scene.account().await, scene.account().await);
    let operator_key = scene.new_key(None);
    let more = scene.new_key(Some(&first));
    for key in [&operator_key, &more] {
        assert!(scene.store.create_key(key.clone(), scene.note()).await.unwrap());
    }
    let list = async |account| {
        let page = scene.store.list_keys(account, PageRequest::LARGEST).await.unwrap();
        assert!(page.items.iter().all(|key| key.account == account), "{page:?}");
        page.items
    };
    assert_eq!(list(None).await, [operator_key]);
    let of_first = list(Some(first.id)).await;
    assert_eq!((of_first.len(), &of_first[0]), (2, &more), "newest first");
    assert_eq!(list(Some(second.id)).await.len(), 1);
}

pub async fn a_deleted_key_opens_nothing_any_more(scene: &mut Scene) {
    let account = scene.account().await;
    for owner in [Some(&account), None] {
        let key = scene.new_key(owner);
        scene.store.create_key(key.clone(), scene.note()).await.unwrap();
        let deleted = scene.store.delete_key(key.account, key.id, scene.note()).await.unwrap();
        assert_eq!(deleted, Some(key.public_part.clone()));
        assert_eq!(scene.store.find_key(&key.public_part).await.unwrap(), None);
        let page = scene.store.list_keys(key.account, PageRequest::LARGEST).await.unwrap();
        assert!(!page.items.contains(&key));
        let again = scene.store.delete_key(key.account, key.id, scene.note()).await.unwrap();
        assert_eq!(again, None);
    }
}

pub async fn a_key_is_deleted_for_its_owner_alone(scene: &mut Scene) {
    let (owner, other) = (scene.account().await, scene.account().await);
    let key = scene.new_key(Some(&owner));
    let operator_key = scene.new_key(None);
    for key in [&key, &operator_key] {
        scene.store.create_key(key.clone(), scene.note()).await.unwrap();
    }
    for (account, key) in
        [(Some(other.id), key.id), (None, key.id), (Some(owner.id), operator_key.id)]
    {
        assert_eq!(scene.store.delete_key(account, key, scene.note()).await.unwrap(), None);
    }
    for key in [key, operator_key] {
        assert_eq!(scene.store.find_key(&key.public_part.clone()).await.unwrap(), Some(key));
    }
}

pub async fn uses_of_keys_are_noted_and_unknown_keys_passed_over(scene: &mut Scene) {
    let account = scene.account().await;
    let mut used = scene.new_key(Some(&account));
    let unused = scene.new_key(None);
    for key in [&used, &unused] {
        scene.store.create_key(key.clone(), scene.note()).await.unwrap();
    }
    let unknown = KeyId::from_u128(999);
    let uses = vec![(unknown, scene.now), (used.id, scene.now)];
    scene.store.note_key_uses(uses).await.unwrap();
    used.last_used_at = Some(scene.now);
    for key in [used, unused] {
        assert_eq!(scene.store.find_key(&key.public_part.clone()).await.unwrap(), Some(key));
    }
    scene.store.note_key_uses(Vec::new()).await.unwrap();
}
