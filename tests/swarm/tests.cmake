# Swarms of real processes; each script gets the programs' folder and the project's.
add_executable(probe swarm/probe.c)
target_link_libraries(probe PRIVATE node)
add_executable(typist swarm/typist.c)
target_link_libraries(typist PRIVATE util)
add_executable(web store/web.c)
add_executable(liar swarm/liar.c)
target_link_libraries(liar PRIVATE node)
add_executable(pour swarm/pour.c)
target_link_libraries(pour PRIVATE node)
add_executable(crowd swarm/crowd.c)
target_link_libraries(crowd PRIVATE node)
add_executable(survive swarm/survive.c)
target_link_libraries(survive PRIVATE node)
foreach(name splits parts share share_auto ask users gateway gateway_deaths beside chat status hold trouble healing resume drain neighbour find fetch line plan what_if store bench bench_swarm bench_convert race memory)
  add_test(NAME swarm_${name}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_${name}.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
endforeach()
set_tests_properties(swarm_find swarm_line swarm_memory PROPERTIES SKIP_RETURN_CODE 77) # where namespaces are not allowed
set_tests_properties(swarm_bench_swarm swarm_plan swarm_line PROPERTIES RUN_SERIAL TRUE) # they look at times

# What is told to who watches a swarm.
add_test(NAME swarm_metrics
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_metrics.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# The web page: as it is served; and its scripts, where there is a Node.js to run them.
add_test(NAME swarm_page
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_page.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
add_test(NAME web_scripts COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/web/test_scripts.sh)
set_tests_properties(web_scripts PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME swarm_trace
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_trace.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# Beginnings of conversations that are known.
add_test(NAME swarm_prefix
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_prefix.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

add_test(NAME swarm_draft
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_draft.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# Many who ask.
add_test(NAME swarm_bench_users
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_bench_users.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# Swarms under bad conditions.
add_executable(flood swarm/flood.c)
add_test(NAME swarm_lines
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_lines.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
set_tests_properties(swarm_lines PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME swarm_flood
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_flood.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
add_test(NAME swarm_chaos
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_chaos.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
set(soak_s 120)
if(SANITIZE)
  set(soak_s 30)
endif()
add_test(NAME swarm_soak
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_soak.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR} ${soak_s})

# A checkpoint's whole way against the reference's logits.
add_executable(compare_logits swarm/compare_logits.c)
target_link_libraries(compare_logits PRIVATE store m)
add_executable(divergence swarm/divergence.c ${CMAKE_SOURCE_DIR}/tools/eval_model.c ${CMAKE_SOURCE_DIR}/tools/local.c)
target_link_libraries(divergence PRIVATE node m)
add_executable(predict_logits swarm/predict_logits.c ${CMAKE_SOURCE_DIR}/tools/local.c)
target_link_libraries(predict_logits PRIVATE node m)
add_test(NAME reference_logits
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_reference.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})

# Command lines and what a terminal shows.
unit_test(swarm args tool)
unit_test(swarm settings tool)

# docs/config.md and the example file are what the table of settings prints today.
add_test(NAME config_doc
  COMMAND sh -c "$<TARGET_FILE:configdoc> docs/config-intro.md | diff -u docs/config.md - && $<TARGET_FILE:configdoc> --example | diff -u docs/node.conf.example -"
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME swarm_config
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/swarm/test_config.sh ${CMAKE_BINARY_DIR}/bin ${CMAKE_SOURCE_DIR})
unit_test(swarm status_view tool node)
target_sources(test_status_view PRIVATE ${CMAKE_SOURCE_DIR}/tools/status_view.c
  ${CMAKE_SOURCE_DIR}/tools/terminal.c ${CMAKE_SOURCE_DIR}/tools/progress.c)
