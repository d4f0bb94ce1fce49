paceline_test(test_conf base)
