#define _GNU_SOURCE 1
#include "flash.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char NAME[] = "flash.bin";
enum { BLANK = 0xFF };

static void make_blank(const store_t *store, uint32_t size)
{
    uint8_t *blank = malloc(size);
    if (blank == NULL)
        fail(EXIT_FAILED, "out of memory for %u bytes of flash", size);
    memset(blank, BLANK, size);
    store_write(store, NAME, blank, size);
    free(blank);
}

void flash_open(flash_t *f, const store_t *store, const identity_t *identity, uint64_t seed)
{
    struct stat about;
    int lock, fd;
    memset(f, 0, sizeof *f);
    f->size = flash_size(identity);
    f->erase_block = identity->erase_block;
    f->write_unit = identity->write_unit;
    f->chance.state = seed;
    if (!store_has(store, NAME))
        make_blank(store, f->size);
    lock = openat(store->fd, NAME, O_RDONLY | O_CLOEXEC); /* stays open, and with it the lock */
    /* Opened a second time: a lock on the mapped file outlives a killed process while `ps` reads its memory. */
    fd = openat(store->fd, NAME, O_RDWR | O_CLOEXEC);
    if (lock < 0 || fd < 0 || fstat(fd, &about) != 0)
        fail(EXIT_FAILED, "cannot open %s/%s: %s", store->path, NAME, strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) != 0)
        fail(EXIT_FAILED, "another process runs the device in %s", store->path);
    if (about.st_size != (off_t)f->size)
        fail(EXIT_FAILED, "%s/%s has %lld bytes, expected %u; remove the state directory for a new device", store->path, NAME,
             (long long)about.st_size, f->size);
    f->cells = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (f->cells == MAP_FAILED)
        fail(EXIT_FAILED, "cannot map %s/%s: %s", store->path, NAME, strerror(errno));
    close(fd);
}

static bool within(const flash_t *f, uint32_t address, uint32_t size)
{
    return address <= f->size && size <= f->size - address;
}

/* True when the power fails within this operation. */
static bool cut_is_now(flash_t *f)
{
    if (f->operations_left == 0 || --f->operations_left > 0)
        return false;
    f->off = true;
    return true;
}

bool flash_read(const flash_t *f, uint32_t address, uint8_t *to, uint32_t size)
{
    if (f->off || !within(f, address, size))
        return false;
    memcpy(to, f->cells + address, size);
    return true;
}

static bool refuse(const char *what, uint32_t address)
{
    log_line("the receiver's mistake: %s at 0x%x, which no flash can do", what, address);
    return false;
}

bool flash_write(flash_t *f, uint32_t address, const uint8_t *from, uint32_t size)
{
    if (f->off)
        return false;
    if (!within(f, address, size) || size != f->write_unit || address % size != 0)
        return refuse("a write that is no unit", address);
    for (uint32_t i = 0; i < size; i++)
        if (f->cells[address + i] != BLANK)
            return refuse("a write to what is not blank", address);
    if (cut_is_now(f)) { /* some of the bits that should have been cleared are */
        for (uint32_t i = 0; i < size; i++)
            f->cells[address + i] = (uint8_t)(from[i] | chance_next(&f->chance));
        return false;
    }
    memcpy(f->cells + address, from, size);
    return true;
}

bool flash_erase(flash_t *f, uint32_t address)
{
    uint32_t size = f->erase_block;
    if (f->off)
        return false;
    if (!within(f, address, size) || address % size != 0)
        return refuse("an erase that is no block", address);
    if (cut_is_now(f)) {
        memset(f->cells + address, BLANK, chance_next(&f->chance) % size);
        return false;
    }
    memset(f->cells + address, BLANK, size);
    return true;
}

bool flash_step(flash_t *f)
{
    return !f->off && !cut_is_now(f);
}
