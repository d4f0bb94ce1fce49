# What a text may be, and which tokens can go on with it.
add_library(grammar_test_support STATIC ${CMAKE_SOURCE_DIR}/tests/support/grammar_fixture.c)
target_link_libraries(grammar_test_support PUBLIC grammar PkgConfig::CMOCKA)

paceline_test(test_grammar grammar_test_support)
paceline_test(test_schema grammar_test_support)
paceline_test(test_masks grammar_test_support text_test_support)
