# A swarm in one process, over a virtual clock and a network of chance (docs/simulator.md).  The
# actors are the product's; libuv, sockets, compute and the model are those of this folder, and
# libuv is not even linked.
add_library(sim_world OBJECT sim/scenario.c sim/liar.c sim/asker.c sim/node_sim.c sim/hold_sim.c sim/net_sim.c sim/line_sim.c sim/dial_sim.c
  sim/uv_sim.c sim/uv_missing.c sim/compute_sim.c sim/draft_sim.c sim/model_sim.c sim/disk_sim.c sim/sign_sim.c sim/world.c)
target_include_directories(sim_world PRIVATE
  $<TARGET_PROPERTY:PkgConfig::UV,INTERFACE_INCLUDE_DIRECTORIES>
  $<TARGET_PROPERTY:PkgConfig::SODIUM,INTERFACE_INCLUDE_DIRECTORIES>)

# sim_program(NAME SOURCES...): what SOURCES define stands in for the same of the product.
function(sim_program name)
  add_executable(${name} ${ARGN} $<TARGET_OBJECTS:sim_world>)
  target_include_directories(${name} PRIVATE
    $<TARGET_PROPERTY:PkgConfig::UV,INTERFACE_INCLUDE_DIRECTORIES>)
  target_link_libraries(${name} PRIVATE $<TARGET_FILE:node> store model proto arch base)
  target_link_options(${name} PRIVATE -Wl,--wrap=time,--wrap=clock_gettime
    -Wl,--wrap=identity_sign,--wrap=identity_verify
    -Wl,--wrap=open,--wrap=openat,--wrap=read,--wrap=write,--wrap=close,--wrap=lseek,--wrap=fstat
    -Wl,--wrap=fsync,--wrap=fdatasync,--wrap=ftruncate,--wrap=unlinkat,--wrap=mkdir
    -Wl,--wrap=opendir,--wrap=readdir,--wrap=dirfd,--wrap=closedir)
  add_dependencies(${name} node)
endfunction()

sim_program(sim sim/sim.c)
sim_program(sim_day sim/day.c)
set(SIM_SEEDS 2000)
if(SANITIZE)
  set(SIM_SEEDS 300) # which are as slow as 2,000
endif()
foreach(shard 1 2)
  add_test(NAME sim_${shard} COMMAND sim --seeds ${shard}-${SIM_SEEDS} --step 2)
endforeach()
add_test(NAME sim_replays COMMAND sim --replays 5)
add_test(NAME sim_day COMMAND sim_day 20 1.3) # that it runs; the day itself: scripts/test.sh --sim-day
if(SANITIZE)
  return() # the mistakes of mutants are not the sanitizers'
endif()

# Does it find anything?  Each mutant is a file of the product with one mistake, made by sed, and
# has to fail within SEEDS seeds.
set(SEEDS 400)
function(sim_mutant name file mistake)
  set(made ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}.c)
  add_custom_command(OUTPUT ${made} DEPENDS ${CMAKE_SOURCE_DIR}/${file} VERBATIM
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/mutants
    COMMAND sed ${mistake} ${CMAKE_SOURCE_DIR}/${file} > ${made})
  sim_program(sim_mutant_${name} sim/sim.c ${made})
  target_compile_options(sim_mutant_${name} PRIVATE -Wno-error)
  add_test(NAME sim_mutant_${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/test_mutant.sh
    $<TARGET_FILE:sim_mutant_${name}> ${SEEDS} ${CMAKE_SOURCE_DIR}/${file} ${made})
endfunction()
sim_mutant(any_sender stage/stage.c "s/if (!node_id_equal(&m->from, &x->prev)) {/if (false) {/")
sim_mutant(any_closer stage/stage.c
  "s/if (x && node_id_equal(&m->from, &x->coordinator)) stage_end/if (x) stage_end/")
sim_mutant(orphans stage/stage.c
  "s/if (node_id_equal(&x->coordinator, id))/if (node_id_equal(\\&x->coordinator, id) \\&\\& x->n_jobs > 9)/")
sim_mutant(no_close ask/pipeline_open.c "s/if (p->state != OPENING && p->state != OPEN) return/return/")
sim_mutant(swallowed ask/pipeline.c "s/if (p->step.d->step % STEPS_RING..want > 0) {/if (false) {/")
sim_mutant(not_again ask/coordinator.c "s/r->n_sent = known_rows/r->n_sent += 0 * known_rows/")
sim_mutant(said_twice ask/asker.c "s/r->n_heard = n_heard/r->n_heard = 0 * n_heard/")
sim_mutant(drafts_stay stage/stage_open.c "s/x->sent.n < x->firm ? x->sent.n : x->firm/x->sent.n/")
sim_mutant(forged proto/directory.c "s/if (!identity_verify(.*$/if (false)/")
sim_mutant(wrong_blocks stage/prefix.c
  "s/uint32_t pos = (j->first + i) . PREFIX_BLOCK/uint32_t pos = (j->first + (j->is_load ? i : 0)) * PREFIX_BLOCK/")
