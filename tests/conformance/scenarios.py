"""Rows of 4.2 to 4.6 that tests elsewhere play, and the controls that show what their right ways are for."""
# ruff: noqa: E501 - a table is read line by line

from collections.abc import Iterable

from tests.conformance.table import CONTROLS, SCENARIOS, Control, Scenario

IN_PROCESS = "in one process"
MIXED = "two uvicorns and a Daphne"
FOUR = "three uvicorns and a Daphne, Valkey"
VALKEY = "in one process, Valkey"
EACH = "each server"


def scenario(
    name: str, rows: int | Iterable[int], given: str, required: str, played: str, file: str, *tests: str
) -> None:
    add(Scenario(id=name, rows=of(rows), given=given, required=required, played=played, tests=named(file, tests)))


def control(name: str, wrong: str, shown: str, file: str, *tests: str) -> None:
    add(Control(id=name, wrong=wrong, shown=shown, tests=named(file, tests)))


def of(rows: int | Iterable[int]) -> tuple[int, ...]:
    return (rows,) if isinstance(rows, int) else tuple(rows)


def named(file: str, tests: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::test_{test}" for test in tests)


def add(row: Scenario | Control) -> None:
    if row.id in SCENARIOS or row.id in CONTROLS:
        raise ValueError(f"two rows are called {row.id}")
    if isinstance(row, Scenario):
        SCENARIOS[row.id] = row
    else:
        CONTROLS[row.id] = row


# Tickets and refresh --------------------------------------------------------------------------------------------------

scenario(
    "ticket-race", 37, "1,000 tickets, four handshakes race for each", "exactly one of the four is let in, each time",
    IN_PROCESS, "auth/test_ticket_races", "of_a_thousand_tickets_that_many_race_for_each_is_accepted_once",
)  # fmt: skip
scenario(
    "ticket-race-store", 37, "the same with 200 tickets in Valkey", "exactly one, each time",
    VALKEY, "auth/test_ticket_races", "the_same_holds_where_a_store_that_processes_share_keeps_them",
)  # fmt: skip
scenario(
    "ticket-race-forced", 37, "every rival has read the row before the first deletes it", "exactly one, each time",
    IN_PROCESS, "auth/test_ticket_races", "whoever_has_read_the_row_has_not_won_yet",
)  # fmt: skip
scenario(
    "ticket-race-processes", 37, "four processes race for every ticket of a store", "each is redeemed exactly once",
    "four processes, Valkey", "stores/test_processes", "four_racing_processes_redeem_every_ticket_once",
)  # fmt: skip
scenario(
    "ticket-race-servers", 37, "four clients race for one ticket over two servers, 20 times, no Redis",
    "exactly one is let in, each time", "a uvicorn and a Daphne",
    "live/test_tickets", "of_clients_that_race_over_two_servers_one_gets_in",
)  # fmt: skip
scenario(
    "ticket-endpoint", 36, "a ticket from the endpoint, in the query and as a subprotocol",
    "opens one socket, and stands in no log", EACH,
    "live/test_tickets", "a_ticket_from_the_endpoint_opens_one_socket_and_stands_in_no_log",
)  # fmt: skip
scenario(
    "ticket-told-alike", 38, "a used, a made-up, an expired ticket, and one for another path",
    "one and the same answer; the audit row says which it was", IN_PROCESS,
    "test_ticket_handshakes", "a_used_a_forged_and_an_expired_ticket_are_told_the_same",
)  # fmt: skip
scenario(
    "ticket-burnt-by-address", 38, "a ticket for another address", "refused, and burnt", IN_PROCESS,
    "auth/test_tickets", "a_ticket_for_another_address_is_refused_and_burnt",
)  # fmt: skip
scenario(
    "ticket-blocked", 39, "the user is blocked between issue and use", "`blocked`, and the ticket is burnt",
    IN_PROCESS, "test_ticket_handshakes", "a_user_who_is_blocked_meanwhile_is_refused_and_the_ticket_burnt",
)  # fmt: skip
scenario(
    "ticket-token-revoked", 39, "the token that a ticket was issued for, or all tokens of its user, are revoked",
    "refused, and burnt", IN_PROCESS, "test_ticket_handshakes", "revoking_the_token_revokes_its_ticket",
)  # fmt: skip
scenario(
    "ticket-logged-out", 39, "the user logs out between issue and use", "refused, and burnt", IN_PROCESS,
    "auth/test_tickets", "logging_out_burns_the_ticket", "a_session_that_logged_out_and_lives_on_burns_the_ticket",
)  # fmt: skip
scenario(
    "ticket-store-away", 40, "the store that keeps tickets is away", "`unavailable`; the database is never asked instead",
    IN_PROCESS, "auth/test_tickets", "a_store_that_is_away_is_unavailable_and_never_asks_the_database",
)  # fmt: skip
scenario(
    "refresh-rate-first", 44, "refreshes over REFRESH\\_RATE", "refused before any cryptography", IN_PROCESS,
    "test_refresh", "the_rate_comes_before_any_cryptography",
)  # fmt: skip
scenario(
    "refresh-revoked", 42, "a token that is blacklisted, revoked, or from before all were revoked",
    "`invalid_credentials`; the old expiry stands", IN_PROCESS, "test_refresh",
    "a_blacklisted_token_is_refused", "a_revoked_token_is_refused", "a_token_from_before_all_were_revoked_is_refused",
)  # fmt: skip
scenario(
    "refresh-race", 42, "a token is revoked, or its user blocked, while it is being verified", "it does not count",
    IN_PROCESS, "test_refresh",
    "a_token_that_is_revoked_after_it_was_looked_up_does_not_count", "a_blocked_user_cannot_go_on",
)  # fmt: skip
scenario(
    "expiry-warned", 45, "a token ends, and so does its successor", "`token_expiring` before each end", IN_PROCESS,
    "test_refresh", "the_client_is_warned_before_each_end",
)  # fmt: skip
scenario(
    "expiry-late-message", 45, "a message arrives after the expiry, before the supervisor looks",
    "4419 `credentials_expired`, and it is not handled", IN_PROCESS, "test_supervisor",
    "after_expiry_no_message_is_handled", "after_expiry_no_message_waits_for_the_supervisor_to_look",
)  # fmt: skip

# Limits that processes share ------------------------------------------------------------------------------------------

scenario(
    "shared-connection-limit", 51, "32 handshakes at once over four processes, MAX\\_CONNECTIONS is 8",
    "exactly 8 accepted, 24 refused and counted", FOUR,
    "live/test_shared_store", "of_racing_handshakes_at_four_processes_exactly_the_limit_is_let_in",
)  # fmt: skip
scenario(
    "shared-budgets-exact", 51, "four processes race for slots and rates", "exactly what there is",
    "four processes, Valkey", "stores/test_processes", "four_racing_processes_get_exactly_what_there_is",
)  # fmt: skip
scenario(
    "slots-of-the-killed", 52, "SIGKILL of a process with slots", "refused until the lease ends, accepted then",
    "two uvicorns, Valkey", "live/test_shared_store", "the_slots_of_a_killed_process_are_free_after_the_lease",
)  # fmt: skip
scenario(
    "rows-of-the-killed", (52, 98), "SIGKILL of one of three processes with open sockets",
    "its live rows are gone within the lease; each of its sockets has one end in the trail", MIXED,
    "live/test_presence", "a_killed_process_is_gone_within_its_lease_and_each_socket_has_one_end",
)  # fmt: skip
scenario(
    "store-flushed", 53, "FLUSHALL while sockets are open", "slots are taken again at the next renewal; sockets stay",
    VALKEY, "test_shared_limits", "slots_are_taken_again_after_the_server_forgot_them",
)  # fmt: skip
scenario(
    "store-flushed-rates", 53, "FLUSHALL while rates are counted", "counting goes on", VALKEY,
    "stores/test_away", "after_flushall_counting_goes_on",
)  # fmt: skip
scenario(
    "shared-user-rate", 57, "messages of one user in two processes", "one budget", VALKEY, "test_shared_limits",
    "a_users_messages_count_over_processes", "a_handlers_own_rate_and_a_dear_message_count_over_processes",
)  # fmt: skip
scenario(
    "leases-exact", 57, "any schedule of processes that borrow from one budget",
    "together never more than burst + rate x time", "as a model",
    "stores/test_leases", "processes_together_never_admit_more_than_the_budget",
)  # fmt: skip
scenario(
    "million-keys-store", 58, "1,000,000 distinct keys against a store that is shared, and away",
    "this process keeps a bounded number", VALKEY,
    "stores/test_away", "a_million_keys_cost_this_process_a_constant",
)  # fmt: skip

# Decisions that reach every socket ------------------------------------------------------------------------------------

scenario(
    "change-reaches-all", (80, 81, 86),
    "a block, logout, deactivation, disconnect, revoked token, all tokens revoked: on each of three processes a socket"
    " that rests, one whose handler hangs, one that reads nothing; told over Valkey, and with nothing but the database",
    "every one is closed with its code within the poll interval; other users' sockets stay; it opens no more", MIXED,
    "live/test_changes", "a_change_ends_every_socket_it_concerns_in_every_process",
)  # fmt: skip
scenario(
    "severed-whatever-it-does", 80, "consumers that hang, flood, swallow their cancellation, or never finish connecting",
    "severed within a second, 4423 `blocked`", IN_PROCESS, "test_severing",
    "whatever_the_application_does_it_is_severed", "other_peoples_consumers_are_severed_too",
)  # fmt: skip
scenario(
    "severed-slow-reader", 80, "a peer that reads nothing, or late", "severed in time; who reads late learns why",
    IN_PROCESS, "test_severing", "a_peer_that_does_not_read_cannot_delay_it", "a_peer_that_reads_late_still_learns_why",
)  # fmt: skip
scenario(
    "nothing-after-the-decision", 80, "a message that waits, and a handler that sends, after the decision",
    "neither is handled nor delivered", IN_PROCESS, "test_severing",
    "a_message_that_waits_is_not_handled_after_the_decision", "what_a_severed_handler_sends_does_not_arrive",
)  # fmt: skip
scenario(
    "push-lost", 81, "the layer is flushed at that moment, its channel is full, or it is away",
    "found by polling; no socket ends for it", VALKEY, "test_push",
    "a_push_that_a_flushed_layer_lost_is_found_by_polling", "a_full_channel_is_found_by_polling",
    "with_the_layer_away_sockets_open_and_changes_are_found", "a_membership_that_was_lost_comes_back",
)  # fmt: skip
scenario(
    "written-by-sql", 82, "a block or revocation written by SQL: no signal, no new version",
    "found by the full reload, every 60 s", IN_PROCESS, "test_revocation", "what_sql_writes_is_found_by_the_full_reload",
)  # fmt: skip
scenario(
    "block-written-by-sql", 82, "blocks that SQL inserts, changes and deletes", "found by a full reload", IN_PROCESS,
    "test_blocklist", "a_full_refresh_finds_what_sql_did",
)  # fmt: skip
scenario(
    "change-races-handshakes", 83, "a block amid 1,000 handshakes of its user", "none escapes", IN_PROCESS,
    "test_change_races", "a_thousand_handshakes_race_a_block_and_none_escapes",
)  # fmt: skip
scenario(
    "change-races-forced", 83,
    "ten kinds of change, each committed between the judgement and the registration, applied already or not yet known",
    "kept out, or closed at the next look", IN_PROCESS, "test_change_races",
    "a_change_between_the_decision_and_the_registration_keeps_the_socket_out",
)  # fmt: skip
scenario(
    "change-committed-late", 83, "a row that is committed after one with a higher id", "found all the same", IN_PROCESS,
    "test_change_races", "a_row_that_is_committed_late_is_found_though_its_id_is_lower",
)  # fmt: skip
scenario(
    "block-nonsense", 85, "a network too wide, loopback, a trusted proxy, one's own account unconfirmed; two subjects or none",
    "an error in the form, and a ValueError from the function; nothing changes", IN_PROCESS, "admin/test_admin",
    "what_must_not_be_blocked_is_an_error_in_the_form", "nobody_blocks_their_own_account",
)  # fmt: skip
scenario(
    "block-arguments", 85, "the same as arguments; networks with host bits, as text or objects",
    "ValueError; the network's normal form", IN_PROCESS, "test_blocklist",
    "nonsense_is_a_value_error_and_changes_nothing", "a_trusted_proxy_is_never_blocked",
    "a_network_is_blocked_in_any_form",
)  # fmt: skip
scenario(
    "block-overlaps", 85, "blocks that overlap, end, or are lifted", "the longest counts; lifting one network leaves others",
    IN_PROCESS, "test_blocklist", "the_snapshot_agrees_with_looking_at_every_row", "blocks_that_ended_are_not_in_the_snapshot",
    "unblocking_a_network_lifts_exactly_that_one",
)  # fmt: skip
scenario(
    "ended-by-signal", 86, "logout, deactivation, another password, a deleted user, a group that is left",
    "closed at once; a plain logout leaves the other devices", IN_PROCESS, "test_receivers",
    "logging_out_ends_that_session_s_sockets_and_no_others",
    "a_change_that_ends_the_right_to_be_there_ends_the_sockets", "a_deleted_user_s_sockets_end",
    "a_group_that_is_left_closes_the_room_it_opened",
)  # fmt: skip
scenario(
    "ended-without-signal", 86, "the same made by SQL; a blacklisted token; a membership that is gone",
    "found by re-validation; the other devices stay", IN_PROCESS, "test_revalidation",
    "a_change_that_sends_no_signal_is_found", "a_token_on_the_blacklist_is_revoked",
    "a_membership_that_is_gone_ends_the_socket", "the_users_other_devices_stay",
)  # fmt: skip
scenario(
    "database-away", 88, "PostgreSQL stopped and started again within the grace, and for longer",
    "in time nobody loses a socket; beyond it new handshakes are refused, then open sockets close 4503", EACH,
    "live/test_database_away", "restarted_in_time_it_costs_nobody_a_socket_and_changes_are_found",
    "stopped_for_long_it_costs_handshakes_first_and_open_sockets_at_last",
)  # fmt: skip
scenario(
    "database-away-spread", 88, "the grace of many sockets is over", "they do not all close at once", IN_PROCESS,
    "test_rounds", "those_who_are_given_up_do_not_all_go_at_once",
)  # fmt: skip
scenario(
    "handshakes-cost-no-calls", 89, "a flood of handshakes of one address", "no flood of calls to the store", VALKEY,
    "test_shared_limits", "a_flood_of_handshakes_is_no_flood_of_calls",
)  # fmt: skip

# Backends, audit, shutdown --------------------------------------------------------------------------------------------

scenario(
    "store-killed", 90, "the store is killed, or paused, under 100 idle sockets, and comes back",
    "no socket drops; new handshakes within a second; recovered within 6 s; one row for each change", "uvicorn, Valkey",
    "live/test_shared_store", "a_hundred_idle_sockets_do_not_notice_that_the_store_went_and_came",
)  # fmt: skip
scenario(
    "store-troubled", (90, 91), "a store that is paused, killed, full (OOM), a read-only replica, or denies rights",
    "limits are counted in this process until it is back; tickets are unavailable; each change audited once", VALKEY,
    "stores/test_away", "limits_are_counted_here_until_the_server_is_back", "each_change_is_audited_once",
)  # fmt: skip
scenario(
    "store-silent", 91, "a store that accepts and does not answer, amid a storm of calls",
    "one deadline for all together, then none", VALKEY, "stores/test_away",
    "a_server_that_does_not_answer_costs_one_deadline_and_then_none",
    "a_storm_that_meets_a_silent_server_waits_one_deadline_together",
)  # fmt: skip
scenario(
    "store-spoilt", 91, "scripts that are forgotten (NOSCRIPT), keys of another type", "sent again; replaced", VALKEY,
    "stores/test_away", "forgotten_scripts_are_sent_again", "a_spoilt_key_is_replaced",
)  # fmt: skip
scenario(
    "audit-database-away", 93, "the database is away while events are recorded, for seconds and for days",
    "they wait in a bounded queue, with exact sums, and are stored once", IN_PROCESS,
    "audit/test_recorder", "while_the_database_is_away_events_wait_and_one_line_says_so",
    "half_of_a_batch_that_was_stored_is_not_stored_twice",
)  # fmt: skip
scenario(
    "audit-queue-bounded", 93, "the database is away for days", "the queue stays bounded and the sums exact", "as a model",
    "audit/test_volume", "with_the_database_away_for_days_the_queue_stays_bounded_and_the_sums_exact",
)  # fmt: skip
scenario(
    "database-paused", 93, "PostgreSQL is paused (SIGSTOP), or its tables are locked",
    "no open socket is stalled that does not need them", EACH, "live/test_database_away",
    "paused_it_stalls_no_open_socket_and_goes_on_where_it_was", "locked_tables_hold_up_only_who_needs_them",
)  # fmt: skip
scenario(
    "stopped-server", 97, "SIGTERM and SIGINT with a resting socket, handlers that hang and one that floods",
    "ended within 10 s; every socket has its end in the trail; 4505 on Daphne, 1012 on uvicorn", EACH,
    "test_lifespan", "no_end_of_a_socket_is_lost_when_a_server_is_stopped",
)  # fmt: skip
scenario(
    "stopped-server-rows", 97, "SIGTERM and SIGINT of one of three processes", "it leaves no live row and no lease", MIXED,
    "live/test_presence", "a_stopped_process_leaves_nothing_behind",
)  # fmt: skip
scenario(
    "spool-full", 93, "the disk of the spool is full, and there is room again",
    "said once; counted all the same; written when there is room; no socket affected", IN_PROCESS, "audit/test_spool",
    "a_full_disk_is_told_once_and_takes_nobody_down", "what_a_full_disk_did_not_take_is_written_when_there_is_room",
)  # fmt: skip
scenario(
    "audit-flood", 96, "floods of any shape, from few keys and from many", "at most 20 rows per key and 600 in all a minute; exact sums",
    "as a model", "audit/test_volume", "the_first_twenty_of_a_key_are_rows_of_their_own_and_the_rest_is_one",
    "a_minute_has_six_hundred_rows_and_one_per_kind_and_reason", "counts_are_exact_for_every_schedule",
)  # fmt: skip
scenario(
    "ended-under-load", (97, 98), "SIGTERM, SIGINT, and SIGKILL with a spool, while clients connect, talk, are refused and stay",
    "what clients saw is in the trail, once; each connection begins once and ends once; the chain verifies", EACH,
    "live/test_faults", "what_clients_saw_of_a_server_that_ends_is_in_the_trail_once",
)  # fmt: skip
scenario(
    "spool-adopted", 98, "a process is killed and leaves a spool; several others, or the next one that starts, find it",
    "each event is stored once; audit.recovered says how many", IN_PROCESS, "audit/test_spool",
    "a_killed_process_loses_nothing_and_another_stores_it_once", "several_who_look_at_once_store_each_event_once",
    "a_server_that_starts_takes_over_before_anybody_connects",
)  # fmt: skip
scenario(
    "trail-altered", 99, "rows are edited, deleted, moved, made up, sealed without the key, or cut off at the end, by SQL",
    "the first one that is wrong is named; a cut tail with a head that was kept elsewhere", IN_PROCESS,
    "attacks/test_trails_altered", "an_edited_column_is_found", "deleted_rows_are_found",
    "swapped_rows_are_found_and_where_they_belong", "an_inserted_row_is_found",
    "a_row_sealed_without_the_key_is_found_also_behind_a_head",
    "a_cut_tail_whose_head_was_put_back_is_found_only_with_a_head_that_was_kept",
)  # fmt: skip
scenario(
    "export-audited", 100, "the trail is exported, or cannot note that it is", "an event first, or no export", IN_PROCESS,
    "admin/test_trail_reach", "an_export_is_in_the_trail_before_its_first_row_is_sent", "what_cannot_be_noted_is_not_exported",
    "exporting_needs_its_permission_and_that_of_reading",
)  # fmt: skip
scenario(
    "audit-read-only", 100, "an administrator who adds, changes or deletes events; staff without permission",
    "403; nothing changes", IN_PROCESS, "admin/test_admin",
    "nobody_may_add_change_or_delete_an_event", "reading_the_trail_needs_its_permission",
    "past_rows_are_neither_edited_nor_deleted",
)  # fmt: skip

# The wrong ways -------------------------------------------------------------------------------------------------------

control(
    "check-then-register", "the decision first, the registration later",
    "a block, a logout, revoked tokens and a disconnect that land in between miss the socket",
    "test_change_races", "checking_first_and_registering_later_lets_it_escape",
)  # fmt: skip
control(
    "get-and-del", "GET, then DEL", "a ticket opens more than one socket",
    "stores/test_tickets", "the_race_would_be_won_twice_by_reading_first_and_deleting_later",
)  # fmt: skip
control(
    "select-and-delete", "SELECT, then DELETE without counting what it deleted", "every rival wins",
    "auth/test_ticket_races", "that_race_catches_a_redemption_that_does_not_count_what_it_deleted",
)  # fmt: skip
control(
    "zcard-and-zadd", "counting the slots, then adding one", "more are let in than the limit",
    "stores/test_slots", "the_race_would_be_lost_by_reading_first_and_adding_later",
)  # fmt: skip
control(
    "wait-for", "`wait_for` around the goodbye", "the test of `severed-deaf-send` fails: the connection never ends",
    "conformance/test_decision_controls", "waiting_with_wait_for_would_wait_for_a_send_that_heeds_no_cancellation",
)  # fmt: skip
control(
    "id-above-last", "reading only rows whose `id` is above the last", "the test of `change-committed-late` fails",
    "conformance/test_decision_controls", "reading_only_ids_above_the_last_would_miss_what_is_committed_late",
)  # fmt: skip
control(
    "without-read-ahead", "no reading while a handler runs", "Daphne keeps all that a client sends",
    "test_ahead", "without_reading_ahead_frames_wait_in_the_server",
)  # fmt: skip
control(
    "table-guards", "a guard of the handshake is left out, a setting switched off, or a part of the package says yes",
    "rows of the tables above fail", "conformance/test_controls",
    "a_case_fails_without_its_guard", "a_case_fails_when_its_guard_is_switched_off",
    "a_case_fails_when_a_part_of_the_package_says_yes", "a_case_fails_with_a_consumer_that_takes_everything",
)  # fmt: skip
control(
    "program-guards", "the same for rows that are programs", "they fail", "conformance/test_program_controls",
    "a_program_fails_when_its_guard_is_switched_off", "a_program_fails_when_a_part_of_the_package_says_yes",
)  # fmt: skip
