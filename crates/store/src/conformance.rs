//! The conformance suite: every sentence of the port, as a case that a store passes or breaks.
//!
//! An adapter writes a [`Harness`] and one line, `store_conformance!(harness)`, and gets one test
//! per case, in a module per topic, and [`model`], which compares it with
//! [`crate::memory::MemoryStore`] over random sequences of calls. A case is a function over a
//! [`Scene`]; its name is the sentence it proves. After every case the store is [audited](audit):
//! the counts balance, the chain of the audit log holds, and no two readings contradict each other.
//!
//! Ids, instants and payloads in the cases are small and made up. A store must not read anything
//! into an id but its order.

#![expect(clippy::unwrap_used, reason = "these are tests: an error is a failure")]
#![expect(missing_docs, reason = "the name of a case is the sentence it proves")]

use async_trait::async_trait;

use crate::SharedStore;

pub mod accept;
pub mod accounts_and_keys;
pub mod audit;
pub mod audit_log;
pub mod audit_notes;
pub mod cancelling;
pub mod claims;
pub mod counts;
pub mod crash;
pub mod deletion;
pub mod endpoints;
pub mod erasing;
pub mod event_types;
pub mod following;
pub mod history;
pub mod idempotency;
pub mod lanes;
pub mod many_replays;
mod memory_harness;
pub mod model;
pub mod operations;
pub mod ordering;
pub mod paging;
pub mod records;
pub mod replay_records;
pub mod replays;
pub mod retention;
pub mod rotation;
pub mod scene;
pub mod scheduling;
pub mod sessions;
pub mod streaks;
pub mod suspects;

pub use memory_harness::InMemory;
pub use scene::Scene;

/// The place where one store lives, made anew for every case.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens the store, empty. Called once.
    async fn open(&self) -> SharedStore;

    /// The store as the next process finds it when the one that used `store` dies: without being
    /// closed, unless the case did that. All handles but this one are gone.
    async fn reopen(&self, store: SharedStore) -> SharedStore;
}

/// One `#[tokio::test]` per case of the suite, in modules by topic, against the store of the
/// harness that the expression makes; it is evaluated once per case. The crate that uses it needs
/// `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! store_conformance {
    ($harness:expr) => {
        $crate::store_conformance! { @topics $harness;
            accounts_and_keys {
                the_first_pepper_offered_is_the_pepper_for_good
                peppers_offered_at_once_are_answered_with_one_and_the_same
                an_account_reads_back_as_it_was_created
                an_account_is_created_with_its_first_key
                an_account_is_found_by_exactly_its_username
                usernames_that_differ_in_case_are_two
                a_username_taken_creates_neither_account_nor_key
                of_accounts_created_at_once_under_one_username_there_is_one
                a_change_of_an_account_changes_what_it_names_and_answers_it
                what_is_not_there_is_answered_as_absent
                a_key_reads_back_by_exactly_its_public_part
                a_key_of_an_absent_account_is_not_stored
                keys_are_listed_for_their_owner_alone
                a_deleted_key_opens_nothing_any_more
                a_key_is_deleted_for_its_owner_alone
                uses_of_keys_are_noted_and_unknown_keys_passed_over
            }
            operations {
                the_account_for_operational_events_is_created_once_without_a_key
                the_account_for_operational_events_owns_endpoints_like_any_other
                no_account_for_operational_events_takes_the_name_of_another
                of_accounts_for_operational_events_created_at_once_there_is_one
                the_account_for_operational_events_may_be_deleted_and_made_anew
                what_was_announced_only_grows
            }
            endpoints {
                an_endpoint_reads_back_as_it_was_created
                a_change_of_an_endpoint_changes_what_it_names_and_answers_it
                every_setting_of_an_endpoint_is_there_after_a_crash
                an_endpoint_is_changed_for_its_account_alone
                a_change_that_expects_an_earlier_roster_changes_nothing
                a_hundred_endpoints_created_at_once_with_room_for_20_leave_20
                disabled_endpoints_count_towards_the_limit
                the_limit_counts_each_account_by_itself
                a_deleted_endpoint_makes_room_for_another
                an_endpoint_of_an_absent_account_is_not_stored
                endpoints_are_listed_for_their_account_alone
                a_roster_has_every_endpoint_of_its_account_oldest_first
                a_roster_has_the_account_as_it_is_now
                the_version_of_a_roster_grows_with_every_change
                the_version_of_a_roster_stays_while_nothing_changes
            }
            rotation {
                both_secrets_are_kept_until_the_instant_asked_for
                a_second_rotation_inside_the_overlap_is_refused_and_changes_nothing
                a_rotation_after_the_overlap_forgets_the_secret_before_the_last
                a_rotation_without_overlap_drops_every_secret_before_it_at_once
                a_secret_is_rotated_for_its_account_alone
                a_change_of_an_endpoint_leaves_its_secrets_alone
                both_secrets_and_their_instant_are_there_after_a_crash
                an_event_matched_before_a_rotation_is_not_stored
                of_rotations_at_once_with_an_overlap_one_happens
            }
            event_types {
                event_types_read_back_as_registered_in_the_order_of_their_names
                an_event_type_is_in_the_catalogue_of_its_contract_alone
                an_event_type_registered_again_is_changed_and_as_old_as_before
                an_event_type_is_taken_out_once
                no_more_event_types_are_registered_than_there_may_be
            }
            streaks {
                streaks_read_back_as_they_were_written_last
                streaks_are_answered_in_order_of_endpoints_after_the_one_named
                endpoints_that_are_gone_have_no_streak
            }
            accept {
                an_event_and_its_deliveries_read_back_as_they_were_accepted
                body_and_data_come_back_byte_for_byte
                the_largest_event_comes_back_byte_for_byte
                an_event_that_nobody_wants_is_kept
                events_of_one_call_are_answered_in_order_and_each_by_itself
                no_events_are_answered_with_no_answers
                an_event_matched_before_the_roster_changed_is_not_stored
                an_event_of_an_absent_account_is_not_stored
                a_delivery_born_leased_is_its_sessions_alone
                deliveries_of_one_event_are_born_leased_each_by_itself
                a_delivery_born_leased_to_a_lost_session_is_claimable
                the_largest_batch_is_accepted_in_one_call
                events_accepted_at_once_are_all_there
                an_endpoint_deleted_while_events_arrive_is_owed_nothing
                events_of_different_accounts_are_accepted_in_one_call
                a_delivery_is_not_due_before_its_event_was_accepted
            }
            scheduling {
                what_a_publisher_says_of_an_event_reads_back
                deliveries_of_a_scheduled_event_are_due_when_it_says
                an_event_scheduled_for_the_past_is_due_when_it_was_accepted
                a_scheduled_delivery_is_owed_since_it_was_to_be_delivered
                a_claim_tells_the_publishers_trace_and_whether_it_is_a_replay
            }
            idempotency {
                a_repeated_request_gets_the_first_answer_and_stores_nothing
                a_key_used_for_another_request_is_refused_and_stores_nothing
                a_key_counts_for_its_account_alone
                keys_are_told_apart_byte_by_byte
                events_without_a_key_are_all_new
                of_equal_requests_at_once_one_is_new
                equal_requests_in_one_call_are_accepted_once
                a_key_is_remembered_for_its_time_and_no_longer
                a_key_past_its_time_may_be_used_for_another_request
                a_key_used_anew_after_its_time_is_remembered_anew
                repeating_does_not_prolong_the_time_of_a_key
                cleaning_forgets_no_key_before_its_time
                a_repetition_is_recognised_although_the_roster_changed
                an_event_that_is_not_accepted_leaves_its_key_free
                the_first_answer_stands_although_its_deliveries_are_removed
            }
            claims {
                a_claim_brings_all_that_an_attempt_needs
                a_claim_tells_how_many_attempts_there_were
                two_sessions_never_hold_one_lease
                what_is_leased_is_not_claimed_again_by_its_own_session
                what_is_due_is_claimed_earliest_first
                of_deliveries_due_at_once_the_oldest_is_claimed_first
                no_more_is_claimed_than_there_is_room_for
                a_delivery_can_be_claimed_from_the_instant_it_is_due
                what_is_not_due_does_not_hide_what_is
                what_was_left_for_want_of_room_is_next_due
                each_claim_of_a_delivery_has_a_higher_fence
                lanes_are_answered_in_order_and_each_with_its_own
                no_lanes_are_answered_with_no_claims
                deliveries_of_one_event_share_its_payload
                a_lost_session_is_leased_nothing
                what_has_ended_is_never_claimed
                deliveries_of_a_disabled_endpoint_can_be_claimed_by_who_asks
            }
            lanes {
                each_endpoint_with_claimable_deliveries_waits_once
                an_empty_store_has_no_waiting_lanes
                a_lane_is_due_when_its_earliest_delivery_is
                what_is_leased_or_ended_does_not_wait
                deliveries_of_disabled_endpoints_wait_in_their_lanes
                lanes_are_answered_in_order_of_ids_after_the_one_named
                lanes_after_one_that_waits_no_more_are_not_missed
            }
            ordering {
                the_first_of_a_line_is_claimable_and_the_others_wait_for_it
                a_line_moves_in_the_order_of_acceptance_whatever_the_ids
                the_next_in_line_is_due_when_an_attempt_ends_the_one_before_it
                the_next_in_line_is_due_however_the_one_before_it_ends
                a_retry_keeps_the_line_waiting
                a_lease_lost_or_given_back_keeps_the_line_waiting
                keys_and_endpoints_have_lines_of_their_own
                what_has_no_key_waits_for_nothing
                a_replay_waits_for_nobody_and_nobody_for_it
                who_is_cancelled_while_waiting_holds_nobody_up
                a_line_that_came_to_its_end_begins_anew
                a_scheduled_delivery_keeps_its_place_in_line
                deleting_an_endpoint_ends_its_lines
                deleting_an_account_ends_its_lines_alone
                what_waits_is_listed_and_counted_as_pending
                lines_stand_after_a_crash_as_they_did
                of_events_accepted_into_a_line_at_once_one_is_claimable
            }
            cancelling {
                cancelling_an_event_cancels_what_is_pending_of_it_leased_or_not
                cancelling_a_delivery_leaves_the_others_of_its_event_alone
                a_scheduled_event_is_cancelled_before_it_is_due
                there_is_nothing_to_cancel_of_what_has_ended
                what_is_cancelled_is_the_accounts_own
                what_was_cancelled_can_be_replayed
                of_cancelling_and_recording_at_once_one_happens
                what_was_cancelled_is_so_after_a_crash
            }
            erasing {
                nothing_is_left_of_what_an_erased_event_said
                that_an_erased_event_was_and_what_became_of_it_stays
                what_is_pending_of_an_erased_event_is_cancelled_leased_or_not
                an_event_is_erased_once
                an_event_is_erased_for_its_account_alone
                erasing_an_event_leaves_its_neighbours_alone
                an_erased_event_cannot_be_replayed
                an_event_whose_payload_was_kept_long_enough_can_still_be_erased
            }
            records {
                a_success_ends_the_delivery_as_delivered
                a_retry_is_due_when_the_transition_says
                an_exhausted_delivery_says_why
                an_attempt_reads_back_as_it_was_recorded
                as_many_attempts_as_a_schedule_may_have_are_listed_first_one_first
                attempts_of_one_delivery_are_not_those_of_another
                a_lost_lease_cannot_record_an_attempt
                a_lease_records_once
                an_older_lease_of_the_same_session_is_lost
                a_lease_holds_for_its_session_fence_and_delivery_alone
                a_claimable_delivery_takes_no_record
                of_records_under_one_lease_at_once_one_applies
                records_of_one_call_are_answered_in_order_and_each_by_itself
                a_lease_given_back_leaves_the_delivery_due_as_it_was
                leases_given_back_are_answered_in_order_and_each_by_itself
            }
            suspects {
                a_claim_that_ends_with_its_session_is_lost
                a_claim_that_ends_with_its_process_is_lost
                a_delivery_born_leased_is_lost_with_its_session
                a_lease_given_back_unused_is_no_lost_claim
                a_lease_given_back_unanswered_is_a_lost_claim_due_as_it_was
                a_lost_lease_given_back_unanswered_counts_nothing
                a_recorded_attempt_starts_the_count_of_lost_claims_anew
                a_bystander_of_crashes_is_never_counted_beyond_its_trial
                a_claim_lost_on_trial_is_counted_however_it_is_lost
                a_trial_ends_with_its_lease
                a_lost_lease_begins_no_trial
                what_was_not_claimed_is_not_lost
                a_delivery_set_aside_is_exhausted_without_an_attempt
                a_delivery_set_aside_after_attempts_keeps_them
                a_lost_lease_sets_nothing_aside
                deliveries_are_set_aside_in_order_and_each_by_itself
                a_deleted_endpoint_has_nothing_to_try_or_set_aside
                a_replay_of_a_delivery_set_aside_has_lost_no_claim
            }
            sessions {
                no_two_sessions_have_one_id
                what_a_released_session_held_is_claimable_due_as_it_was
                a_session_lives_until_its_instant_is_past
                an_extended_session_keeps_what_it_holds
                a_session_that_ran_out_lives_on_unless_it_was_released
                a_released_session_is_lost_for_good
                a_session_released_while_it_held_nothing_is_lost_too
                releasing_one_session_leaves_the_others_alone
                what_was_recorded_or_given_back_is_not_released
            }
            replays {
                a_replay_is_a_new_delivery_of_the_same_event
                a_replay_born_leased_brings_all_that_an_attempt_needs
                a_replay_that_is_not_born_leased_answers_a_lease_of_nobody
                a_replay_born_leased_to_a_lost_session_is_claimable
                a_replay_asks_for_neither_subscription_nor_an_enabled_endpoint
                an_event_may_be_replayed_again_and_again
                an_event_whose_endpoint_was_deleted_may_be_replayed_to_another
                what_cannot_be_replayed_is_said_and_nothing_is_made
            }
            many_replays {
                a_replay_delivers_the_events_of_its_fate_and_no_others
                deliveries_of_a_replay_are_due_at_once_with_the_ids_given
                a_replay_takes_the_oldest_events_first_and_no_more_than_it_has_ids
                a_replay_looks_at_no_more_events_at_once_than_it_may
                a_replay_selects_by_when_events_were_accepted
                a_replay_finds_what_was_accepted_while_the_clock_was_set_back
                a_replay_delivers_events_of_its_account_alone
                events_without_a_payload_are_passed_over
                of_steps_at_once_no_event_is_delivered_twice_or_passed_over
                a_replay_goes_on_after_a_crash_where_it_was
            }
            replay_records {
                a_replay_reads_back_as_it_was_begun
                a_replay_is_begun_for_an_endpoint_of_its_account
                one_replay_runs_at_an_endpoint_at_a_time
                of_replays_begun_at_once_one_runs
                a_cancelled_replay_makes_nothing_more_and_what_it_made_stays
                a_replay_that_has_ended_stays_as_it_ended
                a_replay_to_a_deleted_endpoint_is_cancelled_by_its_next_step
                replays_of_a_deleted_account_are_out_of_sight
                replays_are_listed_by_account_and_endpoint_newest_first
                pages_of_replays_neither_repeat_nor_skip_while_replays_arrive
                running_replays_are_answered_oldest_first_after_the_one_named
            }
            deletion {
                deleting_an_endpoint_cancels_what_is_pending_leased_or_not
                an_attempt_at_a_cancelled_delivery_cannot_be_recorded
                history_kept_is_there_to_be_read
                history_removed_is_gone_with_its_attempts
                what_is_removed_stays_counted_as_it_ended
                a_deleted_endpoint_is_nowhere_any_more
                an_endpoint_is_deleted_for_its_account_alone
                deleting_an_endpoint_leaves_its_neighbours_alone
                a_deleted_endpoint_with_a_long_history_is_final_before_it_is_cleaned
                cleaning_an_empty_store_finds_nothing_to_do
                cleaning_takes_small_steps_until_all_is_done
                a_deleted_account_is_out_of_sight_with_all_it_owned
                a_deleted_account_is_owed_nothing
                the_username_of_a_deleted_account_is_free_again
                nothing_can_be_made_for_a_deleted_account
                deleting_an_account_leaves_its_neighbours_alone
            }
            retention {
                the_payload_of_what_everybody_got_goes_first_and_the_record_stays
                the_payload_of_what_somebody_did_not_get_is_kept_as_long_as_the_record
                the_payload_goes_where_nobody_wants_it_or_any_more
                a_payload_that_a_replay_still_needs_is_kept
                the_payload_of_what_an_endpoint_missed_is_kept_until_it_is_made_up_for
                everything_of_an_event_goes_when_its_record_was_kept_long_enough
                what_is_still_pending_then_is_cancelled_leased_or_not
                what_waited_behind_an_expired_delivery_is_due
                what_was_scheduled_is_kept_from_when_it_was_to_be_delivered
                what_was_accepted_while_the_clock_was_ahead_keeps_nothing_else
                replays_of_many_events_go_as_long_after_they_ended
                retention_takes_small_steps_until_all_is_done
                a_key_answers_as_before_although_its_event_was_kept_long_enough
                what_is_removed_of_one_endpoint_does_not_keep_the_rest
            }
            history {
                what_was_never_there_is_absent
                events_are_filtered_by_account_and_type
                events_are_filtered_by_when_they_were_accepted
                undelivered_events_have_a_delivery_in_another_state
                deliveries_are_filtered_by_whose_and_what_they_are
                deliveries_are_filtered_by_state
                deliveries_are_filtered_by_when_they_were_created
                a_page_of_large_events_is_cut_short_and_the_next_goes_on
                what_is_rare_in_a_long_history_is_found_page_by_page
            }
            following {
                events_are_followed_from_the_oldest_to_the_newest
                events_are_followed_between_two_ids
                who_follows_on_sees_what_came_since
                what_some_endpoint_did_not_get_is_followed_as_undelivered
                what_an_endpoint_missed_is_followed_as_undelivered_until_it_is_replayed
                a_step_over_large_events_is_cut_short_and_the_next_goes_on
                what_is_rare_among_many_events_is_followed_step_by_step
                an_event_without_a_payload_is_followed_as_such
            }
            paging {
                pages_of_accounts_neither_repeat_nor_skip_while_rows_arrive
                pages_of_keys_neither_repeat_nor_skip_while_rows_arrive
                pages_of_endpoints_neither_repeat_nor_skip_while_rows_arrive
                pages_of_events_neither_repeat_nor_skip_while_rows_arrive
                pages_of_deliveries_neither_repeat_nor_skip_while_rows_arrive
                ids_of_any_bits_are_kept_and_sort_as_numbers
            }
            counts {
                an_empty_store_counts_nothing
                each_change_of_a_delivery_moves_one_count_to_another
                the_counts_are_the_same_after_a_crash
                a_store_that_is_well_says_so
            }
            audit_log {
                an_entry_reads_back_as_its_note_was_written
                the_first_entry_has_number_1_and_each_links_to_the_one_before
                of_50_writers_at_once_each_change_has_its_entry_and_no_number_is_missing
                the_chain_goes_on_after_a_crash
                deleting_an_account_leaves_its_entries
                entries_are_filtered_by_account_action_and_instant
                pages_of_entries_neither_repeat_nor_skip_while_entries_arrive
                a_page_of_entries_may_begin_below_any_number
                the_chain_is_read_on_from_any_entry
                what_is_rare_in_a_long_log_is_found_page_by_page
            }
            audit_notes {
                each_change_leaves_one_entry_with_its_note
                an_account_or_key_that_is_not_changed_leaves_no_entry
                an_endpoint_that_is_not_changed_leaves_no_entry
                a_replay_that_is_not_made_leaves_no_entry
                what_is_not_cancelled_or_erased_leaves_no_entry
                a_replay_of_many_that_does_not_begin_or_go_on_leaves_no_entry
                a_replay_that_ends_is_noted_in_the_step_that_ends_it
                a_catalogue_or_an_account_that_is_not_changed_leaves_no_entry
                deliveries_go_their_way_without_entries
            }
            crash {
                accounts_keys_and_endpoints_are_there_after_a_crash
                events_deliveries_and_attempts_are_there_after_a_crash
                every_event_acknowledged_while_many_arrive_is_there_after_a_crash
                what_was_leased_is_claimable_after_a_crash_due_as_it_was
                a_session_of_an_earlier_process_is_lost
                idempotency_keys_are_remembered_after_a_crash
                the_version_of_a_roster_grows_on_after_a_crash
                deletions_hold_after_a_crash_and_are_cleaned_then
                a_closed_store_takes_no_writes
                what_was_acknowledged_before_or_while_closing_is_there
            }
        }
    };
    (@topics $harness:expr; $($topic:ident { $($case:ident)* })*) => {
        $(mod $topic {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut scene = $crate::conformance::Scene::open($harness).await;
                    $crate::conformance::$topic::$case(&mut scene).await;
                    scene.close().await;
                }
            )*
        })*

        mod model {
            use super::*;

            #[test]
            fn any_sequence_of_calls_is_answered_as_the_memory_store_answers_it() {
                $crate::conformance::model::agrees_with_memory(|| $harness);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_case_is_in_the_suite() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance");
        let suite = include_str!("conformance.rs");
        let mut missing = Vec::new();
        for file in fs::read_dir(source).unwrap() {
            let path = file.unwrap().path();
            let Ok(topic) = fs::read_to_string(&path) else { continue };
            for declared in topic.split("\npub async fn ").skip(1) {
                let (name, rest) = declared.split_once('(').unwrap();
                let is_case = rest.trim_start().starts_with("scene: &mut Scene");
                if is_case && !suite.lines().any(|line| line.trim() == name) {
                    missing.push(name.to_owned());
                }
            }
        }
        assert_eq!(missing, [] as [String; 0]);
    }
}
