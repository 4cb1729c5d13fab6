# What an installation leaves, and whether it works from there.
add_test(NAME install
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/test_install.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
