"""Which test notices that a guarantee is gone, by the names of mutant.h."""

from __future__ import annotations

TENSOR = "test_threads.py::test_tensor_goes_to_another_thread_and_a_native_array_does_not"

KILLED_BY = {
    "push": "test_arguments.py::test_push_across_devices",
    "push_wait": "test_arguments.py::test_push_across_devices",
    "ready_record": TENSOR,
    "ready_wait": TENSOR,
    "edge": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "edge_wait": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "park": "test_counts.py::test_park_is_one_record_and_no_wait",
    "park_query": "test_arguments.py::test_release_waits_for_more_streams_than_any_fixed_number",
    "check_push": "test_capture.py::test_consumer_captures_and_the_work_is_outside",
    "check_record": "test_capture.py::test_legacy_push_that_would_break_a_third_streams_capture",
    "check_wait": "test_capture.py::test_two_captures_are_not_merged",
    "check_release": "test_capture.py::test_release_is_held_until_a_capture_of_its_streams_ends",
    "capture_mode": "test_capture.py::test_view_of_older_memory_collected_while_an_unrelated_"
    "capture_runs",
    "context_enter": "test_arguments.py::test_legacy_streams_of_two_devices_are_two_streams",
    "context_restore": "test_counts.py::test_current_context_is_what_it_was",
    "quarantine": "test_failures.py::test_event_of_a_failed_push_is_put_aside",
    "foreign_thread": "test_threads.py::test_per_thread_consumer_is_released_in_another_thread",
    "notify_wait": "test_completion.py::test_one_ready_is_awaited_by_many_tasks",
    "notify_watch": "test_completion.py::test_death_is_noticed_where_the_driver_calls_nobody_back",
    "copy_wait": "test_completion.py::test_host_copies_trees",
    "per_thread_same": "test_threads.py::test_per_thread_streams_of_two_threads_are_two_streams",
    "tensor_event": TENSOR,
    "export_wait": TENSOR,
    "add_consumer": "test_counts.py::test_park_is_one_record_and_no_wait",
    "interface_wait": "test_interface.py::test_interface_names_a_stream_of_ours_that_waits",
    "lease_thread": "test_threads.py::test_per_thread_streams_of_two_threads_are_both_waited_for",
    "lease_release": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "in_flight": "test_completion.py::test_cancelled_await_frees_nothing_early",
}
