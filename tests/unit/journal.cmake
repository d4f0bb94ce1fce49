paceline_test(test_journal journal)
paceline_test(test_token_log base)
target_sources(test_token_log PRIVATE ${CMAKE_SOURCE_DIR}/coordinator/token_log.c)
