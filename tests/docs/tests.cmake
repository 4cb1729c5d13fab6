# The documentation: what it says against what there is, and its commands, run.
add_test(NAME docs_check
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/docs/check.py ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
add_test(NAME docs_commands
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/docs/run.py ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
set_tests_properties(docs_commands PROPERTIES SKIP_RETURN_CODE 77) # where namespaces are not allowed
add_test(NAME models_doc
  COMMAND sh -c "$<TARGET_FILE:modeldoc> <docs/models.md | diff -u docs/models.md -"
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
