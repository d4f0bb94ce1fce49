paceline_test(test_links schedule m)
paceline_test(test_timeline schedule)
paceline_test(test_trace_file base PkgConfig::JANSSON)
target_sources(test_trace_file PRIVATE ${CMAKE_SOURCE_DIR}/cli/trace_file.c)
