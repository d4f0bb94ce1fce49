paceline_test(test_bench_load base PkgConfig::JANSSON m)
target_sources(test_bench_load PRIVATE
    ${CMAKE_SOURCE_DIR}/cli/bench_samples.c ${CMAKE_SOURCE_DIR}/cli/bench_workload.c)
