unit_test(proto noise proto)
target_sources(test_noise PRIVATE proto/noise_vectors.c)
unit_test(proto beacon proto)
unit_test(proto identity proto PkgConfig::SODIUM)
unit_test(proto crypto_vectors proto PkgConfig::SODIUM)
unit_test(proto mp proto base ${MSGPACK_LIBRARY})
unit_test(proto codec proto base ${MSGPACK_LIBRARY} m)
unit_test(proto hearsay proto)
unit_test(proto neighbour proto base)
unit_test(proto pace proto)
unit_test(proto directory proto base ${MSGPACK_LIBRARY})
unit_test(proto fair proto)
unit_test(proto sharing proto m)
unit_test(proto gather proto base)
unit_test(proto plan proto base)
unit_test(proto hold proto base m)
unit_test(proto speeds proto base)
unit_test(proto chain proto base)
unit_test(proto conn proto)
unit_test(proto conn_hostile proto)
add_executable(conn_stdio proto/conn_stdio.c) # for tests/interop_noise.py, by hand
target_link_libraries(conn_stdio PRIVATE proto)

# docs/protocol.md is what protodoc prints today.
add_executable(protodoc ${CMAKE_SOURCE_DIR}/tools/protodoc.c)
target_link_libraries(protodoc PRIVATE proto base)
add_test(NAME protocol_doc
  COMMAND sh -c "$<TARGET_FILE:protodoc> docs/protocol-intro.md | diff -u docs/protocol.md -"
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
