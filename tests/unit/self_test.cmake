paceline_test(test_self_test stage)
target_compile_options(test_self_test PRIVATE -Wno-unused-parameter)
