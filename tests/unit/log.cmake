paceline_test(test_log base PkgConfig::JANSSON)
