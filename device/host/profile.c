#include "profile.h"

#include <stddef.h>
#include <string.h>

enum { LEAST_JOURNAL = 1024, MOST_SLOT = 1 << 30, PART_DIGITS = 20 };

/* 1 to `most` bytes, nothing a terminal would act on. */
bool text_is_valid(const char *text, unsigned most)
{
    size_t size = strlen(text);
    if (size < 1 || size > most)
        return false;
    for (; *text; text++)
        if ((uint8_t)*text < 0x20 || *text == 0x7F)
            return false;
    return true;
}

/* M.m.p: decimal, no leading zeros, each below 2^64. */
bool version_is_valid(const char *version)
{
    for (unsigned part = 0; part < 3; part++) {
        size_t digits = strspn(version, "0123456789");
        if (digits < 1 || digits > PART_DIGITS || (digits > 1 && *version == '0'))
            return false;
        if (digits == PART_DIGITS && strncmp(version, "18446744073709551615", digits) > 0)
            return false;
        version += digits;
        if (*version != (part < 2 ? '.' : '\0'))
            return false;
        version += part < 2;
    }
    return true;
}

static bool is_power_of_two(uint32_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

const char *identity_check(const identity_t *identity)
{
    if (!text_is_valid(identity->app_id, ID_MOST))
        return "app_id is not 1 to 64 printable bytes";
    if (identity->hardware_id[0] && !text_is_valid(identity->hardware_id, ID_MOST))
        return "hardware_id is not 1 to 64 printable bytes";
    if (identity->device_id[0] && !text_is_valid(identity->device_id, DEVICE_ID_MOST))
        return "device_id is not 1 to 32 printable bytes";
    if (identity->base_baud == 0)
        return "base_baud is 0";
    if (!is_power_of_two(identity->write_unit) || identity->write_unit > 32768)
        return "write_unit is no power of two up to 32768";
    if (!is_power_of_two(identity->erase_block) || identity->erase_block < identity->write_unit)
        return "erase_block is no power of two, or smaller than write_unit";
    if (identity->slot_size == 0 || identity->slot_size > MOST_SLOT || identity->slot_size % identity->erase_block)
        return "slot_size is not made of erase blocks, or above 1 GiB";
    return NULL;
}

uint32_t journal_area(const identity_t *identity)
{
    return (LEAST_JOURNAL + identity->erase_block - 1) / identity->erase_block * identity->erase_block;
}

uint32_t flash_size(const identity_t *identity)
{
    return 2 * journal_area(identity) + identity->slot_size;
}
