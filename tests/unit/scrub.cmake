paceline_test(test_scrub stage)
target_compile_options(test_scrub PRIVATE -Wno-unused-parameter)
