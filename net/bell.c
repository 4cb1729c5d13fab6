#include "net/bell.h"

#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct bell *b = poll->data;
    eventfd_t rings;
    (void)status, (void)events;
    (void)eventfd_read(b->fd, &rings);
    b->on_ring(b);
}

enum err bell_open(struct bell *b, uv_loop_t *loop, void (*on_ring)(struct bell *b))
{
    *b = (struct bell){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .on_ring = on_ring };
    if (b->fd < 0) return ERR_IO;
    if (uv_poll_init(loop, &b->poll, b->fd)) {
        (void)close(b->fd);
        return ERR_IO;
    }
    b->poll.data = b;
    if (!uv_poll_start(&b->poll, UV_READABLE, on_readable)) return ERR_OK;
    bell_close(b);
    return ERR_IO;
}

void bell_ring(struct bell *b)
{
    (void)eventfd_write(b->fd, 1); /* fails only when 2^64 rings wait, so the loop wakes anyway */
}

void bell_close(struct bell *b)
{
    uv_close((uv_handle_t *)&b->poll, NULL);
    (void)close(b->fd);
}
