paceline_test(test_placement stage)
paceline_test(test_memory_limits stage)
