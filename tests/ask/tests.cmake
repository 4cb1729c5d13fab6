unit_test(ask hops node)
unit_test(ask answer node)
target_sources(test_answer PRIVATE ${CMAKE_SOURCE_DIR}/tools/terminal.c)
unit_test(ask journal node)
