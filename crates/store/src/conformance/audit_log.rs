//! The audit log: entries that read back as they were written, all in one chain.

use std::sync::Arc;
use std::time::Duration;

use domain::account::AccountChange;
use domain::audit::{Actor, AuditAction, AuditEntry, AuditNote, CHAIN_START, first_break, link};
use domain::id::{AccountId, KeyId};
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use domain::page::PageRequest;

use super::Scene;
use super::audit::{all_entries, paged_entries};
use super::paging::pages_hold;
use super::rotation::rotate;
use super::scene::at_once;
use crate::audit::AuditFilter;
use crate::catalogue::EndpointCreated;

const SECOND: Duration = Duration::from_secs(1);

/// A note that no other note is equal to.
pub(super) fn a_note(
    scene: &mut Scene,
    action: AuditAction,
    account: impl Into<Option<AccountId>>,
) -> AuditNote {
    let number = scene.next_number();
    AuditNote {
        at: scene.now,
        actor: Actor::Key(KeyId::from_u128(number.into())),
        action,
        account: account.into(),
        subject: format!("subject {number}"),
        details: format!(r#"{{"number":{number}}}"#),
    }
}

/// What the log says, oldest first; fails if the chain is broken.
pub(super) async fn log(scene: &Scene) -> Vec<AuditNote> {
    let entries = all_entries(&*scene.store).await;
    assert_eq!(first_break(0, CHAIN_START, &entries), None, "{entries:?}");
    entries.into_iter().map(|entry| entry.note).collect()
}

/// How many entries there are.
pub(super) async fn length(scene: &Scene) -> usize {
    log(scene).await.len()
}

pub async fn an_entry_reads_back_as_its_note_was_written(scene: &mut Scene) {
    let key = Actor::Key(KeyId::from_u128(u128::MAX));
    let actors = [Actor::Operator, Actor::System, Actor::Stranger, key];
    let subjects = ["", "plain", "\" ' % \u{1F980} \n", " between blanks "];
    let details = ["{}", r#"{"b":1,"a":[null]}"#, "{ \"spaced\" :\t1.0 }", r#"{"a":"\u00e9é"}"#];
    let mut notes = Vec::new();
    for (number, action) in AuditAction::ALL.into_iter().enumerate() {
        let account = (number % 3 > 0).then(|| AccountId::from_u128(number as u128));
        scene.pass(Duration::from_millis(1));
        notes.push(AuditNote {
            actor: actors[number % actors.len()],
            subject: subjects[number % subjects.len()].to_owned(),
            details: details[number % details.len()].to_owned(),
            ..a_note(scene, action, account)
        });
    }
    scene.store.note(notes.clone()).await.unwrap();
    scene.store.note(Vec::new()).await.unwrap();
    assert_eq!(log(scene).await, notes);
    scene.crash().await;
    assert_eq!(log(scene).await, notes);
}

pub async fn the_first_entry_has_number_1_and_each_links_to_the_one_before(scene: &mut Scene) {
    assert_eq!(all_entries(&*scene.store).await, []);
    let mut previous = CHAIN_START;
    for number in 1..=5 {
        let note = a_note(scene, AuditAction::KeyRefused, None);
        scene.store.note(vec![note.clone()]).await.unwrap();
        let hash = link(&previous, number, &note);
        let entries = scene.store.read_audit(number - 1, 9).await.unwrap();
        assert_eq!(entries, [AuditEntry { number, note, hash }]);
        previous = hash;
    }
}

pub async fn of_50_writers_at_once_each_change_has_its_entry_and_no_number_is_missing(
    scene: &mut Scene,
) {
    let account = scene.account().await;
    let before = length(scene).await;
    let mut tasks = Vec::new();
    for writer in 0..50 {
        let (endpoint, key) = (scene.new_endpoint(&account), scene.new_key(Some(&account)));
        let notes = [0; 3].map(|_| a_note(scene, AuditAction::EndpointCreated, account.id));
        let store = Arc::clone(&scene.store);
        tasks.push(async move {
            let [first, second, third] = notes;
            let created = store.create_endpoint(endpoint, 10, first.clone()).await.unwrap();
            let mut noted = Vec::new();
            noted.extend((created == EndpointCreated::Created).then_some(first));
            if writer % 2 == 0 {
                assert!(store.create_key(key, second.clone()).await.unwrap());
            } else {
                store.note(vec![second.clone()]).await.unwrap();
            }
            noted.push(second);
            let change = AccountChange::default();
            store.change_account(account.id, change, third.clone()).await.unwrap();
            noted.push(third);
            noted
        });
    }
    let mut expected: Vec<_> = at_once(tasks).await.into_iter().flatten().collect();
    assert_eq!(expected.len(), 10 + 50 + 50);
    let mut noted = log(scene).await.split_off(before);
    let by_subject = |one: &AuditNote, other: &AuditNote| one.subject.cmp(&other.subject);
    expected.sort_by(by_subject);
    noted.sort_by(by_subject);
    assert_eq!(noted, expected);
}

pub async fn the_chain_goes_on_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..3 {
        let before = all_entries(&*scene.store).await;
        scene.crash().await;
        assert_eq!(all_entries(&*scene.store).await, before);
        rotate(scene, &endpoint, Duration::ZERO).await;
        let change = AccountChange::default();
        scene.store.change_account(account.id, change, scene.note()).await.unwrap();
        let after = all_entries(&*scene.store).await;
        assert_eq!(after[..before.len()], before);
        assert_eq!(first_break(0, CHAIN_START, &after), None);
        assert_eq!(after.len(), before.len() + 2);
    }
}

pub async fn deleting_an_account_leaves_its_entries(scene: &mut Scene) {
    let account = scene.new_account();
    let key = scene.new_key(Some(&account));
    let note = a_note(scene, AuditAction::AccountCreated, account.id);
    scene.store.create_account(account.clone(), key, note).await.unwrap();
    let endpoint = scene.endpoint(&account).await;
    scene.publish(&account, &[&endpoint]).await;
    let note = a_note(scene, AuditAction::AccountDeleted, account.id);
    let mut before = log(scene).await;
    before.push(note.clone());
    assert!(scene.store.delete_account(account.id, note).await.unwrap());
    scene.clean_all().await;
    scene.crash().await;
    assert_eq!(log(scene).await, before);
    let filter = AuditFilter { account: Some(account.id), ..AuditFilter::default() };
    assert_eq!(paged_entries(&*scene.store, &filter, 10).await.len(), 2);
}

pub async fn entries_are_filtered_by_account_action_and_instant(scene: &mut Scene) {
    let accounts = [None, Some(AccountId::from_u128(1)), Some(AccountId::from_u128(2))];
    let actions = [AuditAction::KeyRefused, AuditAction::SecretRevealed];
    let start = scene.now;
    for _ in 0..2 {
        for account in accounts {
            for action in actions {
                let note = a_note(scene, action, account);
                scene.store.note(vec![note]).await.unwrap();
            }
        }
        scene.pass(SECOND);
    }
    let all = all_entries(&*scene.store).await;
    let instants = [None, Some(start), Some(start.plus(SECOND)), Some(scene.now)];
    let mut passed = 0;
    for account in accounts {
        for action in [None, Some(actions[0]), Some(actions[1])] {
            for (since, until) in instants.iter().flat_map(|it| instants.map(|other| (*it, other)))
            {
                let filter = AuditFilter { account, action, since, until };
                let passes = |note: &AuditNote| {
                    (account.is_none() || note.account == account)
                        && action.is_none_or(|action| note.action == action)
                        && since.is_none_or(|since| since <= note.at)
                        && until.is_none_or(|until| note.at < until)
                };
                let newest_first = all.iter().rev().filter(|entry| passes(&entry.note));
                let expected: Vec<_> = newest_first.cloned().collect();
                let found = paged_entries(&*scene.store, &filter, 3).await;
                assert_eq!(found, expected, "{filter:?}");
                passed += expected.len();
            }
        }
    }
    assert!(passed > 0);
}

pub async fn pages_of_entries_neither_repeat_nor_skip_while_entries_arrive(scene: &mut Scene) {
    let read = async |scene: &Scene, page| {
        let page = scene.store.list_audit(AuditFilter::default(), page).await.unwrap();
        page.map(|entry| u128::from(entry.number))
    };
    let arrive = async |scene: &mut Scene| {
        let notes = [0; 2].map(|_| a_note(scene, AuditAction::KeyRefused, None));
        scene.store.note(notes.to_vec()).await.unwrap();
    };
    pages_hold(scene, read, arrive).await;
}

pub async fn a_page_of_entries_may_begin_below_any_number(scene: &mut Scene) {
    for _ in 0..3 {
        scene.store.note(vec![scene.note()]).await.unwrap();
    }
    for (before, expected) in [(0, vec![]), (1, vec![]), (2, vec![1]), (u128::MAX, vec![3, 2, 1])] {
        let page = PageRequest { before: Some(before), limit: 9 };
        let page = scene.store.list_audit(AuditFilter::default(), page).await.unwrap();
        assert_eq!(page.map(|entry| entry.number).items, expected);
    }
}

pub async fn the_chain_is_read_on_from_any_entry(scene: &mut Scene) {
    for _ in 0..5 {
        let note = a_note(scene, AuditAction::KeyRefused, None);
        scene.store.note(vec![note]).await.unwrap();
    }
    let all = all_entries(&*scene.store).await;
    for after in 0..=6 {
        for limit in 1..=6 {
            let entries = scene.store.read_audit(after as u64, limit).await.unwrap();
            let expected: Vec<_> = all.iter().skip(after).take(limit).cloned().collect();
            assert_eq!(entries, expected, "{limit} after {after}");
        }
    }
    assert_eq!(scene.store.read_audit(u64::MAX, 9).await.unwrap(), []);
}

pub async fn what_is_rare_in_a_long_log_is_found_page_by_page(scene: &mut Scene) {
    let account = AccountId::from_u128(7);
    let rare = a_note(scene, AuditAction::SecretRevealed, account);
    scene.store.note(vec![rare.clone()]).await.unwrap();
    let common = scene.note();
    for _ in 0..=PAGE_ROWS_SCANNED_MAX / 1_000 {
        scene.store.note(vec![common.clone(); 1_000]).await.unwrap();
    }
    let by_action = AuditFilter { action: Some(rare.action), ..AuditFilter::default() };
    let by_account = AuditFilter { account: Some(account), ..AuditFilter::default() };
    for filter in [by_action, by_account] {
        let found = paged_entries(&*scene.store, &filter, 10).await;
        assert_eq!(found.iter().map(|entry| &entry.note).collect::<Vec<_>>(), [&rare]);
    }
}
