/*
 * The swap on a host, with power cut at every operation on flash: `swap_test [SEED]`. A cut tears what it meets: words of
 * a page being erased are as they were, blank, or between, of a word being programmed any bits may have become 0. Each is followed by another cut at a random
 * operation. Then power stays, and the bootloader has to get everything right.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flash.h"
#include "layout.h"
#include "swap.h"

#define NEVER 0xFFFFFFFFu

static uint8_t flash[FLASH_SIZE], programmed[FLASH_SIZE / 4], before[FLASH_SIZE], programmed_before[FLASH_SIZE / 4];
static uint32_t operations, cut_at;
static jmp_buf power;

static void fail(const char *what)
{
    fprintf(stderr, "%s (operation %u)\n", what, operations);
    exit(1);
}

static void expect(bool holds, const char *what)
{
    if (!holds)
        fail(what);
}

static uint32_t chance(void)
{
    return (uint32_t)random() << 16 ^ (uint32_t)random();
}

/* A word of a page whose erasing was cut short: as it was, blank, or something between. */
static uint32_t half_erased(uint32_t word)
{
    const uint32_t how = chance() % 4;
    return how < 2 ? word : how == 2 ? 0xFFFFFFFFu : word | chance();
}

/* ---- the flash driver ---- */

uint32_t flash_word(uint32_t address)
{
    uint32_t word;
    memcpy(&word, flash + address, 4);
    return word;
}

static void set_word(uint32_t address, uint32_t word)
{
    memcpy(flash + address, &word, 4);
}

void flash_erase(uint32_t page)
{
    const bool torn = operations++ == cut_at;
    expect(page % PAGE == 0 && page >= IMAGE && page < JOURNAL, "a page is erased that is none, or not the bootloader's");
    for (uint32_t at = page; at < page + PAGE; at += 4) {
        set_word(at, torn ? half_erased(flash_word(at)) : 0xFFFFFFFFu);
        programmed[at / 4] = 0;
    }
    if (torn)
        longjmp(power, 1);
}

void flash_program(uint32_t address, uint32_t word)
{
    const bool torn = operations++ == cut_at;
    if (!torn) /* of those that were cut short there may be one more for each cut */
        expect(++programmed[address / 4] <= 2, "a word is programmed for the third time");
    set_word(address, flash_word(address) & (torn ? word | chance() : word));
    if (torn)
        longjmp(power, 1);
}

void swap_going_on(void)
{
}

/* ---- what is tried ---- */

enum { OLD = 1, NEW = 2, TEARS = 30 /* a request has few operations, and each of them tears in many ways */ };
static const uint8_t SHA256[32] = {1, 2, 3};

static uint32_t content(uint32_t image, uint32_t at)
{
    return (image << 24 | at) * 2654435761u;
}

static bool holds(uint32_t address, uint32_t image, uint32_t pages)
{
    for (uint32_t at = 0; at < pages * PAGE; at += 4)
        if (flash_word(address + at) != content(image, at))
            return false;
    return true;
}

static void fresh(uint32_t pages)
{
    memset(flash, 0xFF, sizeof flash);
    memset(programmed, 0, sizeof programmed);
    for (uint32_t at = 0; at < pages * PAGE; at += 4) {
        set_word(IMAGE + at, content(OLD, at));
        set_word(SLOT + at, content(NEW, at));
    }
}

/* Runs it with a cut at an operation; returns whether it came to its end. */
static bool run(void (*what)(void), uint32_t cut)
{
    operations = 0;
    cut_at = cut;
    if (setjmp(power) != 0)
        return false;
    what();
    return true;
}

static uint32_t pages_wanted;

static void request(void)
{
    swap_request(pages_wanted, SHA256);
}

static void keep_state(void)
{
    memcpy(before, flash, sizeof flash);
    memcpy(programmed_before, programmed, sizeof programmed);
}

static void go_back_to_state(void)
{
    memcpy(flash, before, sizeof flash);
    memcpy(programmed, programmed_before, sizeof programmed);
}

/* A cut at each operation of a boot, and another one in the boot after it. Then `image` has to be in its place, and the other in the slot. */
static void boot_with_cuts(uint32_t image, uint32_t pages)
{
    uint32_t all;
    keep_state();
    expect(run(swap_at_boot, NEVER), "it ends");
    all = operations;
    for (uint32_t cut = 0; cut < all; cut++) {
        go_back_to_state();
        expect(!run(swap_at_boot, cut), "power was to be cut");
        run(swap_at_boot, chance() % (all + all / 8)); /* or is not */
        expect(run(swap_at_boot, NEVER), "it ends");
        expect(holds(IMAGE, image, pages) && holds(SLOT, OLD + NEW - image, pages), "an image is broken, or not in its place");
    }
    go_back_to_state();
    run(swap_at_boot, NEVER);
}

/* Power cut at each operation of a request: afterwards it is one, or nothing has changed. */
static void request_with_cuts(uint32_t pages)
{
    uint32_t all;
    keep_state();
    run(request, NEVER);
    all = operations;
    for (uint32_t cut = 0; cut < TEARS * all; cut++) {
        go_back_to_state();
        run(request, cut / TEARS);
        run(swap_at_boot, NEVER);
        expect(holds(IMAGE, swap_on_trial() ? NEW : OLD, pages), "half a request was obeyed");
        expect(run(request, NEVER), "a request after half of one");
        expect(run(swap_at_boot, NEVER) && swap_on_trial(), "a request after half of one");
    }
    go_back_to_state();
    run(request, NEVER);
}

static void play(uint32_t pages)
{
    pages_wanted = pages;
    fresh(pages);
    run(swap_at_boot, NEVER);
    expect(operations == 0 && !swap_on_trial() && swap_reverted() == NULL, "nothing happens before the first request");
    request_with_cuts(pages);
    boot_with_cuts(NEW, pages); /* the first start on trial */
    expect(swap_on_trial(), "it is on trial");
    run(swap_at_boot, NEVER);
    run(swap_at_boot, NEVER);
    expect(swap_on_trial() && holds(IMAGE, NEW, pages), "three starts");
    boot_with_cuts(OLD, pages); /* the fourth goes back */
    expect(!swap_on_trial() && swap_reverted() != NULL, "it says that it went back");
    run(swap_at_boot, NEVER);
    expect(operations == 0, "nothing happens after that");
    request_with_cuts(pages); /* over the record of a trial that failed */
    run(swap_at_boot, NEVER);
    swap_keep();
    run(swap_at_boot, NEVER);
    expect(operations == 0 && !swap_on_trial() && swap_reverted() == NULL && holds(IMAGE, NEW, pages), "what is kept stays");
}

/* The record of an image that was kept says what went where, too: half of it erased must not bring the old one back. */
static void play_request_over_kept(uint32_t pages)
{
    pages_wanted = pages;
    fresh(pages);
    run(request, NEVER);
    run(swap_at_boot, NEVER);
    swap_keep();
    for (uint32_t at = 0; at < pages * PAGE; at += 4) { /* what runs is the old image again, and another new one in the slot */
        set_word(IMAGE + at, content(OLD, at));
        set_word(SLOT + at, content(NEW, at));
    }
    request_with_cuts(pages);
}

static void play_give_up(uint32_t pages)
{
    pages_wanted = pages;
    fresh(pages);
    run(request, NEVER);
    run(swap_at_boot, NEVER);
    swap_give_up();
    run(swap_at_boot, NEVER);
    expect(holds(IMAGE, OLD, pages) && swap_reverted() != NULL, "an image that gives itself up goes back at once");
}

int main(int count, char **words)
{
    srandom(count > 1 ? (unsigned)atoi(words[1]) : 1u);
    play(1);
    play(2);
    play(5);
    play_request_over_kept(3);
    play_give_up(3);
    play_give_up(SLOT_PAGES);
    return 0;
}
