paceline_test(test_data_link proto)
target_compile_options(test_data_link PRIVATE -Wno-unused-parameter)
