# A bad network in user space, for tests here and of swarms.
add_executable(swarm-proxy proxy.c)
target_link_libraries(swarm-proxy PRIVATE PkgConfig::UV)

unit_test(node actor node)
unit_test(node runtime_dir node)
unit_test(node pool base Threads::Threads)
target_sources(test_pool PRIVATE ${CMAKE_SOURCE_DIR}/node/pool.c)
unit_test(node net node)
target_compile_definitions(test_net PRIVATE PROXY="$<TARGET_FILE:swarm-proxy>")
add_dependencies(test_net swarm-proxy)
unit_test(node peers node)
unit_test(node compute node m)
target_sources(test_compute PRIVATE model/toy.c)
