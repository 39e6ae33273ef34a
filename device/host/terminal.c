#define _GNU_SOURCE 1
#include "terminal.h"

#include "log.h"

#include <asm/termbits.h> /* termios2, which tells any speed; does not go together with <termios.h> */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Eight bits, nothing interpreted, any speed. */
static void make_raw(int fd, uint32_t baud)
{
    struct termios2 t;
    if (ioctl(fd, TCGETS2, &t) != 0)
        fail(EXIT_FAILED, "cannot read the pty's settings: %s", strerror(errno));
    t.c_iflag = 0;
    t.c_oflag = 0;
    t.c_lflag = 0;
    t.c_cflag = BOTHER | (BOTHER << IBSHIFT) | CS8 | CREAD | CLOCAL;
    t.c_ispeed = t.c_ospeed = baud;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    if (ioctl(fd, TCSETS2, &t) != 0)
        fail(EXIT_FAILED, "cannot make the pty raw: %s", strerror(errno));
}

static void make_pty(terminal_t *t, uint32_t baud)
{
    t->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (t->master < 0 || grantpt(t->master) != 0 || unlockpt(t->master) != 0 || ptsname_r(t->master, t->name, sizeof t->name) != 0)
        fail(EXIT_FAILED, "cannot make a pty: %s", strerror(errno));
    t->slave = open(t->name, O_RDWR | O_NOCTTY | O_CLOEXEC); /* kept: else reading fails while no gateway has it open */
    if (t->slave < 0)
        fail(EXIT_FAILED, "cannot open %s: %s", t->name, strerror(errno));
    make_raw(t->slave, baud);
}

static void make_link(terminal_t *t, const char *path)
{
    char fresh[PATH_MAX];
    struct stat there;
    const char *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash + 1 - path);
    if (lstat(path, &there) == 0 && !S_ISLNK(there.st_mode))
        fail(EXIT_FAILED, "%s exists and is no symbolic link; choose another --port", path);
    if ((size_t)snprintf(fresh, sizeof fresh, "%.*s.%s.%ld", folder, path, path + folder, (long)getpid()) >= sizeof fresh)
        fail(EXIT_FAILED, "the path of --port is too long: %s", path);
    unlink(fresh);
    if (symlink(t->name, fresh) != 0 || rename(fresh, path) != 0) {
        int why = errno;
        unlink(fresh);
        fail(EXIT_FAILED, "cannot make the link %s: %s", path, strerror(why));
    }
    strcpy(t->link, path); /* fits, for `fresh` is longer */
}

void terminal_open(terminal_t *t, const char *path, uint32_t baud)
{
    make_pty(t, baud);
    make_link(t, path);
}

void terminal_close(terminal_t *t)
{
    char target[sizeof t->name];
    ssize_t size = readlink(t->link, target, sizeof target);
    if (size > 0 && (size_t)size == strlen(t->name) && memcmp(target, t->name, (size_t)size) == 0)
        unlink(t->link);
    close(t->master);
    close(t->slave);
}

size_t terminal_read(const terminal_t *t, uint8_t *to, size_t size)
{
    ssize_t got = read(t->master, to, size);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        fail(EXIT_FAILED, "cannot read from the pty: %s", strerror(errno));
    return got > 0 ? (size_t)got : 0;
}

void terminal_write(const terminal_t *t, const uint8_t *data, size_t size)
{
    if (write(t->master, data, size) < 0 && errno != EAGAIN && errno != EINTR)
        fail(EXIT_FAILED, "cannot write to the pty: %s", strerror(errno));
}

uint32_t terminal_baud(const terminal_t *t)
{
    struct termios2 settings;
    if (ioctl(t->slave, TCGETS2, &settings) != 0)
        fail(EXIT_FAILED, "cannot read the pty's settings: %s", strerror(errno));
    return settings.c_ospeed;
}

bool terminal_free_after_crash(const terminal_t *t)
{
    int exclusive = 0;
    if (ioctl(t->slave, TIOCGEXCL, &exclusive) != 0 || !exclusive || flock(t->slave, LOCK_EX | LOCK_NB) != 0)
        return false;
    ioctl(t->slave, TIOCNXCL);
    flock(t->slave, LOCK_UN);
    return true;
}
