paceline_test(test_wheel base PkgConfig::ZLIB)
target_sources(test_wheel PRIVATE ${CMAKE_SOURCE_DIR}/cli/wheel.c)
