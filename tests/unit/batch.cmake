paceline_test(test_batch proto)
