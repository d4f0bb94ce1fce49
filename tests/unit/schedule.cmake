paceline_test(test_step_message proto)
paceline_test(test_kv_blocks schedule)
paceline_test(test_request schedule)
target_link_options(test_request PRIVATE -Wl,--wrap=malloc,--wrap=realloc)
paceline_test(test_pace schedule m)
paceline_test(test_choice_counts schedule)
paceline_test(test_wait_queue schedule)
paceline_test(test_scheduler schedule)
target_sources(test_scheduler PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/fake_stage.c
               ${CMAKE_SOURCE_DIR}/tests/support/scheduler_world.c)

paceline_test(test_losses schedule)
paceline_test(test_registry schedule)
paceline_test(test_coordinator schedule)
target_sources(test_coordinator PRIVATE ${CMAKE_SOURCE_DIR}/coordinator/coordinator.c
               ${CMAKE_SOURCE_DIR}/tests/support/fake_stage.c)
paceline_test(test_packs stage)
paceline_test(test_worker_runner stage schedule)
target_sources(test_worker_runner PRIVATE ${CMAKE_SOURCE_DIR}/worker/worker_runner.c
                                          ${CMAKE_SOURCE_DIR}/worker/worker_loader.c)
# In virtual time: the clock is the test's.
paceline_test(test_turns schedule)
target_sources(test_turns PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/fake_stage.c
               ${CMAKE_SOURCE_DIR}/tests/support/scheduler_world.c
               ${CMAKE_SOURCE_DIR}/tests/support/virtual_clock.c)
paceline_test(test_simulated_pipelines schedule m)
target_sources(test_simulated_pipelines PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/fake_stage.c
               ${CMAKE_SOURCE_DIR}/tests/support/simulator.c
               ${CMAKE_SOURCE_DIR}/tests/support/virtual_clock.c)
paceline_test(test_measure stage)
set_tests_properties(test_measure PROPERTIES RUN_SERIAL ON) # it compares speeds
paceline_test(test_duty stage)
if(SYSTEMD_FOUND)
    target_compile_definitions(test_duty PRIVATE HAVE_SYSTEMD)
endif()
paceline_test(test_reunion schedule)
paceline_test(test_suspects schedule)
target_sources(test_suspects PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/fake_stage.c
               ${CMAKE_SOURCE_DIR}/tests/support/scheduler_world.c)
