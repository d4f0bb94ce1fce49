# What the tests of text to ids and back have in common. The published vocabularies are stored
# compressed; reading them runs `xz`.
add_library(text_test_support STATIC ${CMAKE_SOURCE_DIR}/tests/support/json_lines.c
            ${CMAKE_SOURCE_DIR}/tests/support/tokenizer_json.c)
target_link_libraries(text_test_support PUBLIC text PkgConfig::JANSSON PkgConfig::CMOCKA)

paceline_test(test_tokenizer text_test_support)
paceline_test(test_detokenizer text_test_support)
paceline_test(test_stop_strings text_test_support)
paceline_test(test_tokenizer_file text_test_support model)
