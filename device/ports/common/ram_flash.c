/* RAM that behaves as flash: erasing sets bits, programming clears them. */
#include "flash.h"

#include <string.h>

#include "layout.h"

void flash_erase(uint32_t page)
{
    memset((void *)page, 0xFF, PAGE);
}

void flash_program(uint32_t address, uint32_t word)
{
    *(volatile uint32_t *)address &= word;
}

uint32_t flash_word(uint32_t address)
{
    return *(const volatile uint32_t *)address;
}
