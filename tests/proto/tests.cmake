unit_test(proto noise proto)
target_sources(test_noise PRIVATE proto/noise_vectors.c)
unit_test(proto identity proto PkgConfig::SODIUM)
unit_test(proto crypto_vectors proto PkgConfig::SODIUM)
