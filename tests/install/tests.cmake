# What an installation leaves, and whether it works from there.
add_test(NAME install
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/test_install.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# The compose file: understood, and run without an engine where namespaces can be made.
add_test(NAME compose
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/install/compose.py ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
set_tests_properties(compose PROPERTIES SKIP_RETURN_CODE 77)
