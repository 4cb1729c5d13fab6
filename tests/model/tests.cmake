unit_test(model forward model Threads::Threads)
target_sources(test_forward PRIVATE model/toy.c ${CMAKE_SOURCE_DIR}/node/pool.c)
