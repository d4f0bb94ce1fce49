paceline_test(test_weight_file model PkgConfig::JANSSON)
paceline_test(test_model_config model PkgConfig::JANSSON)
paceline_test(test_manifest model)
