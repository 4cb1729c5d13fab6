# Fixed work whose instructions scripts/count.sh counts.
add_executable(count_work count/work.c ${CMAKE_SOURCE_DIR}/tools/bench_product.c ${CMAKE_SOURCE_DIR}/tools/local.c)
target_link_libraries(count_work PRIVATE node)
