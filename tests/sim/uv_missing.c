/* uv_missing.c - the rest of libuv, so that a node's files link: whoever calls one of these in a
 * simulated swarm is told which.  What an actor begins to need moves to uv_sim.c. */
#include <stdio.h>
#include <stdlib.h>

#define MISSING(name)                                               \
    void name(void) __attribute__((weak));                          \
    void name(void)                                                 \
    {                                                               \
        printf("%s is not simulated: tests/sim/uv_sim.c\n", #name); \
        abort();                                                    \
    }

/* clang-format off */
MISSING(uv_accept) MISSING(uv_cond_broadcast) MISSING(uv_cond_destroy) MISSING(uv_cond_init)
MISSING(uv_cond_signal) MISSING(uv_cond_timedwait) MISSING(uv_cond_wait)
MISSING(uv_err_name) MISSING(uv_free_interface_addresses) MISSING(uv_freeaddrinfo)
MISSING(uv_fs_close) MISSING(uv_fs_fdatasync) MISSING(uv_fs_fsync) MISSING(uv_fs_ftruncate)
MISSING(uv_fs_mkdir) MISSING(uv_fs_open) MISSING(uv_fs_read) MISSING(uv_fs_rename)
MISSING(uv_fs_req_cleanup) MISSING(uv_fs_scandir) MISSING(uv_fs_scandir_next) MISSING(uv_fs_stat)
MISSING(uv_fs_statfs) MISSING(uv_fs_unlink) MISSING(uv_fs_write) MISSING(uv_get_constrained_memory)
MISSING(uv_get_free_memory) MISSING(uv_getaddrinfo) MISSING(uv_if_indextoname)
MISSING(uv_interface_addresses) MISSING(uv_ip4_addr) MISSING(uv_ip4_name) MISSING(uv_ip6_addr)
MISSING(uv_ip6_name) MISSING(uv_listen) MISSING(uv_os_gethostname) MISSING(uv_pipe_init)
MISSING(uv_poll_init) MISSING(uv_poll_start) MISSING(uv_poll_stop) MISSING(uv_read_start)
MISSING(uv_read_stop) MISSING(uv_resident_set_memory) MISSING(uv_shutdown)
MISSING(uv_signal_init) MISSING(uv_signal_start) MISSING(uv_signal_stop)
MISSING(uv_stream_get_write_queue_size) MISSING(uv_strerror) MISSING(uv_tcp_bind)
MISSING(uv_tcp_connect) MISSING(uv_tcp_getsockname) MISSING(uv_tcp_init) MISSING(uv_tcp_keepalive)
MISSING(uv_tcp_nodelay) MISSING(uv_tcp_open) MISSING(uv_thread_create) MISSING(uv_thread_join)
MISSING(uv_timer_again) MISSING(uv_timer_get_due_in) MISSING(uv_try_write) MISSING(uv_tty_init)
MISSING(uv_udp_bind) MISSING(uv_udp_getsockname) MISSING(uv_udp_init) MISSING(uv_udp_init_ex)
MISSING(uv_udp_open) MISSING(uv_udp_recv_start) MISSING(uv_udp_recv_stop) MISSING(uv_udp_send)
MISSING(uv_udp_set_broadcast) MISSING(uv_udp_set_membership) MISSING(uv_udp_set_multicast_interface)
MISSING(uv_udp_set_multicast_loop) MISSING(uv_udp_set_multicast_ttl) MISSING(uv_udp_try_send)
MISSING(uv_write)
    /* clang-format on */
