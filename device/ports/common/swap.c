/*
 * Theory of operation.
 *
 * Everything is decided by one record in three pages, which only ever grows until the next request erases it. A word is blank, or it is
 * a mark: what it stands for has been done.
 *
 *     request         pages to swap, and their complement; anything else: there is nothing to do
 *     sha256          8 words, of the image on trial
 *     starts          3 marks: each start on trial takes one; none left: the image goes back
 *     keep            a mark: the image has been confirmed, nothing of this happens any more
 *     forth, back     marks, one for each step of a swap
 *
 * A swap of n pages takes 3 n steps: the running image moves up by one page, the last page first; then for each page the new one comes
 * down into its place, and the old one goes to the slot. Each step erases one page and fills it from another that the step leaves alone,
 * so it may be done twice; its mark follows. Power may fail anywhere: the step that has no mark is done again. No page is erased more
 * than twice in a swap, as a scratch page would be for each of them.
 *
 * A mark that power was cut in may read as blank today and as a mark tomorrow. So the last one that reads as a mark counts, whatever
 * is before it, and one that is not all zeros is programmed again before anything is built on it.
 *
 * Three starts, because a power cut during the trial is nobody's fault. An image that hangs or crashes uses them up (the watchdog, the
 * fault handler); the receiver gives one that hears nobody up at once.
 */
#include "swap.h"

#include <stddef.h>
#include <string.h>

#include "flash.h"
#include "layout.h"

enum { REQUEST = 0, SHA256 = 1, STARTS = 9, KEEP = 12, FORTH = 16, BACK = FORTH + 3 * SLOT_PAGES, STATE_PAGES = 3, MOST_STARTS = 3 };
#define BLANK 0xFFFFFFFFu

static uint32_t address_of(uint32_t word)
{
    return SWAP_STATE + 4 * word;
}

static void mark(uint32_t word)
{
    flash_program(address_of(word), 0);
}

static bool is_marked(uint32_t word)
{
    const uint32_t value = flash_word(address_of(word));
    if (value != 0 && value != BLANK) /* torn */
        mark(word);
    return value != BLANK;
}

/* Pages to swap, 0 where no image has been tried since the record was erased. */
static uint32_t requested(void)
{
    const uint32_t request = flash_word(address_of(REQUEST)), pages = request & 0xFFFFu;
    return (request >> 16 ^ pages) == 0xFFFFu && pages <= SLOT_PAGES ? pages : 0;
}

/* ---- the bootloader's half ---- */

static void copy_page(uint32_t to, uint32_t from)
{
    flash_erase(to);
    for (uint32_t at = 0; at < PAGE; at += 4)
        flash_program(to + at, flash_word(from + at));
}

static void swap(uint32_t marks, uint32_t pages)
{
    uint32_t done = 3 * pages;
    while (done > 0 && !is_marked(marks + done - 1))
        done--;
    for (; done < 3 * pages; done++) {
        const uint32_t step = done - pages, image = IMAGE + (step >> 1) * PAGE, slot = SLOT + (step >> 1) * PAGE;
        if (done < pages) /* `step` counts up to 0: from the last page to the first */
            copy_page(IMAGE - step * PAGE, IMAGE - step * PAGE - PAGE);
        else if ((step & 1) == 0)
            copy_page(image, slot);
        else
            copy_page(slot, image + PAGE);
        mark(marks + done);
        swap_going_on();
    }
}

void swap_at_boot(void)
{
    const uint32_t pages = requested();
    if (pages == 0 || is_marked(KEEP))
        return;
    swap(FORTH, pages);
    for (uint32_t start = STARTS; start < STARTS + MOST_STARTS; start++) {
        if (!is_marked(start)) {
            mark(start);
            return;
        }
    }
    swap(BACK, pages);
}

/* ---- the application's half ---- */

void swap_request(uint32_t pages, const uint8_t sha256[32])
{
    uint32_t word;
    if (requested() != 0)
        mark(REQUEST); /* first of all the old record is no longer one: half of it erased could mean anything */
    for (uint32_t page = 0; page < STATE_PAGES; page++)
        flash_erase(SWAP_STATE + page * PAGE);
    for (uint32_t i = 0; i < 8; i++) {
        memcpy(&word, sha256 + 4 * i, 4);
        flash_program(address_of(SHA256 + i), word);
    }
    flash_program(address_of(REQUEST), pages | ~pages << 16);
}

bool swap_on_trial(void)
{
    return requested() != 0 && !is_marked(KEEP) && !is_marked(BACK);
}

const uint8_t *swap_reverted(void)
{
    return requested() != 0 && !is_marked(KEEP) && is_marked(BACK) ? (const uint8_t *)(uintptr_t)address_of(SHA256) : NULL;
}

void swap_keep(void)
{
    mark(KEEP);
}

void swap_give_up(void)
{
    for (uint32_t start = STARTS; start < STARTS + MOST_STARTS; start++)
        if (!is_marked(start))
            mark(start);
}
