# The HTTP side of the coordinator over a fake of the rest. fake_clock.c and fake_coordinator.c
# stand in for base/clock.c and coordinator.c: they are linked first, so the archive's are left out.
file(GLOB api_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/coordinator/api*.c
     ${CMAKE_SOURCE_DIR}/coordinator/http*.c ${CMAKE_SOURCE_DIR}/coordinator/json*.c)
list(APPEND api_sources ${CMAKE_SOURCE_DIR}/coordinator/access.c
     ${CMAKE_SOURCE_DIR}/coordinator/reply.c ${CMAKE_SOURCE_DIR}/coordinator/tool_calls.c
     ${CMAKE_SOURCE_DIR}/coordinator/tool_schema.c
     ${CMAKE_SOURCE_DIR}/coordinator/choice_counts.c ${CMAKE_SOURCE_DIR}/coordinator/request.c
     ${CMAKE_SOURCE_DIR}/coordinator/timeline.c)
foreach(name metrics histogram metrics_text process_usage answer_counts call_log trace_context
        token_log)
    list(APPEND api_sources ${CMAKE_SOURCE_DIR}/coordinator/${name}.c)
endforeach()
foreach(name fake_clock fake_coordinator http_fixture http_events json_memory)
    list(APPEND api_sources ${CMAKE_SOURCE_DIR}/tests/support/${name}.c)
endforeach()
add_library(api_test_support OBJECT ${api_sources})
target_compile_definitions(api_test_support PRIVATE TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
target_link_libraries(api_test_support PUBLIC text grammar journal plan static_files model base
                      PkgConfig::MICROHTTPD PkgConfig::JANSSON PkgConfig::CRYPTO PkgConfig::CMOCKA)

foreach(name api_anthropic api_embeddings api_errors api_generation api_static api_tools api_endpoints
             http_limits http_origin http_server)
    paceline_test(test_${name} api_test_support)
endforeach()
paceline_test(test_api_sampling api_test_support proto)
paceline_test(test_access base)
target_sources(test_access PRIVATE ${CMAKE_SOURCE_DIR}/coordinator/access.c)
paceline_test(test_json_text base PkgConfig::JANSSON)
target_sources(test_json_text PRIVATE ${CMAKE_SOURCE_DIR}/coordinator/json_text.c)
paceline_test(test_reply grammar base PkgConfig::JANSSON)
foreach(name reply tool_calls tool_schema json_member json_text)
    target_sources(test_reply PRIVATE ${CMAKE_SOURCE_DIR}/coordinator/${name}.c)
endforeach()
target_sources(test_reply PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/json_lines.c)
