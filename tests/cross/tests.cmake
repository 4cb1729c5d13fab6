# For a build for another CPU, its tests run by an emulator (cmake/aarch64.cmake).
unit_test(stage pool base Threads::Threads)
target_sources(test_pool PRIVATE ${CMAKE_SOURCE_DIR}/stage/pool.c)

if(CMAKE_SYSTEM_PROCESSOR STREQUAL aarch64 AND CMAKE_CROSSCOMPILING)
  # An instruction in an object whose table older CPUs choose would end a program there.
  add_test(NAME objects COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cross/check_objects.sh
    ${CMAKE_OBJDUMP} $<TARGET_OBJECTS:kernels> COMMAND_EXPAND_LISTS)

  # CPUs that qemu imitates, and the tables that each must be found to run.
  add_test(NAME tables_max COMMAND digest -t scalar neon neondot neoni8mm)
  add_test(NAME tables_dotprod COMMAND digest -t scalar neon neondot)
  set_tests_properties(tables_dotprod PROPERTIES ENVIRONMENT QEMU_CPU=neoverse-n1)
  add_test(NAME tables_first COMMAND digest -t scalar neon)
  add_test(NAME kernels_first COMMAND test_kernels)
  set_tests_properties(tables_first kernels_first PROPERTIES ENVIRONMENT QEMU_CPU=cortex-a72)
  execute_process(COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} -cpu help OUTPUT_VARIABLE cpus)
  if(NOT cpus MATCHES neoverse-n1) # qemu before 7.0
    set_tests_properties(tables_dotprod PROPERTIES DISABLED TRUE)
  endif()
endif()
