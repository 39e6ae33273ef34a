#define _GNU_SOURCE 1
#include "store.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail_with(const store_t *s, const char *name)
{
    fail(EXIT_FAILED, "cannot use the state directory %s: %s%s%s", s->path, name, *name ? ": " : "", strerror(errno));
}

/* mkdir -p */
static void make_directories(const store_t *s)
{
    char *path = strdup(s->path);
    if (path == NULL)
        fail_with(s, "");
    for (char *at = path + 1; *path && *at; at++)
        if (*at == '/') {
            *at = '\0';
            mkdir(path, 0777);
            *at = '/';
        }
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        fail_with(s, "");
    free(path);
}

void store_open(store_t *s, const char *path)
{
    s->path = path;
    make_directories(s);
    s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->fd < 0)
        fail_with(s, "");
}

uint8_t *store_read(const store_t *s, const char *name, size_t *size)
{
    struct stat about;
    uint8_t *content;
    int fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NULL;
    if (fd < 0 || fstat(fd, &about) != 0 || (content = malloc((size_t)about.st_size + 1)) == NULL)
        fail_with(s, name);
    for (*size = 0; *size < (size_t)about.st_size;) {
        ssize_t got = read(fd, content + *size, (size_t)about.st_size - *size);
        if (got < 0)
            fail_with(s, name);
        if (got == 0)
            break;
        *size += (size_t)got;
    }
    content[*size] = 0;
    close(fd);
    return content;
}

void store_write(const store_t *s, const char *name, const void *content, size_t size)
{
    const uint8_t *from = content;
    char fresh[64];
    int fd;
    snprintf(fresh, sizeof fresh, "%s.new", name);
    fd = openat(s->fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        fail_with(s, fresh);
    while (size > 0) {
        ssize_t done = write(fd, from, size);
        if (done < 0)
            fail_with(s, fresh);
        from += done;
        size -= (size_t)done;
    }
    close(fd);
    store_move(s, fresh, name);
}

void store_move(const store_t *s, const char *from, const char *to)
{
    if (renameat(s->fd, from, s->fd, to) != 0)
        fail_with(s, to);
}

void store_remove(const store_t *s, const char *name)
{
    if (unlinkat(s->fd, name, 0) != 0 && errno != ENOENT)
        fail_with(s, name);
}

bool store_has(const store_t *s, const char *name)
{
    return faccessat(s->fd, name, F_OK, 0) == 0;
}
