# A bad network in user space, for tests here and of swarms.
add_executable(swarm-proxy proxy.c)
target_link_libraries(swarm-proxy PRIVATE PkgConfig::UV)

unit_test(net actor node)
unit_test(net net node)
target_compile_definitions(test_net PRIVATE PROXY="$<TARGET_FILE:swarm-proxy>")
add_dependencies(test_net swarm-proxy)
unit_test(net counters node)
