paceline_test(test_placement stage)
