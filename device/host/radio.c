#define _GNU_SOURCE 1
#include "radio.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void radio_open(radio_t *r, const char *path)
{
    struct sockaddr_un address;
    struct stat there;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path)
        fail(EXIT_FAILED, "the path of --port is too long for a socket, at most %zu bytes: %s", sizeof address.sun_path - 1, path);
    strcpy(address.sun_path, path);
    if (lstat(path, &there) == 0) {
        if (!S_ISSOCK(there.st_mode))
            fail(EXIT_FAILED, "%s exists and is no socket; choose another --port", path);
        unlink(path); /* of a process that was killed */
    }
    r->peer = -1;
    r->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->listener < 0 || bind(r->listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(r->listener, 1) != 0)
        fail(EXIT_FAILED, "cannot listen at %s: %s", path, strerror(errno));
    strcpy(r->path, path); /* fits, for it fitted into an address */
}

void radio_close(radio_t *r)
{
    radio_hang_up(r);
    close(r->listener);
    unlink(r->path);
}

bool radio_accept(radio_t *r)
{
    if (r->peer < 0)
        r->peer = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    else
        return false;
    if (r->peer >= 0)
        log_line("a gateway connects");
    return r->peer >= 0;
}

void radio_hang_up(radio_t *r)
{
    if (r->peer < 0)
        return;
    close(r->peer);
    r->peer = -1;
    log_line("the connection ends");
}

size_t radio_read(radio_t *r, uint8_t *to, size_t most)
{
    ssize_t got;
    if (r->peer < 0)
        return 0;
    got = recv(r->peer, to, most, MSG_TRUNC);
    if (got > 0 && (size_t)got > most) {
        log_line("drops a packet of %zd bytes: %zu fit", got, most);
        return 0;
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        radio_hang_up(r);
    return got > 0 ? (size_t)got : 0;
}

void radio_write(radio_t *r, const uint8_t *data, size_t size)
{
    if (r->peer >= 0 && send(r->peer, data, size, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EINTR)
        radio_hang_up(r);
}
