paceline_test(test_trust proto)
paceline_test(test_content_server proto)
paceline_test(test_door proto)
target_sources(test_door PRIVATE ${CMAKE_SOURCE_DIR}/worker/worker_door.c
               ${CMAKE_SOURCE_DIR}/worker/worker_finder.c)
