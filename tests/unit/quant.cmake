paceline_test(test_quant kernels)
