#include "flash.h"

#include "nrf51.h"

static void nvmc_set(uint32_t config)
{
    while (NVMC_READY == 0)
        ;
    NVMC_CONFIG = config;
}

void flash_erase(uint32_t page)
{
    nvmc_set(NVMC_ERASE);
    NVMC_ERASEPAGE = page;
    nvmc_set(NVMC_READ);
}

void flash_program(uint32_t address, uint32_t word)
{
    nvmc_set(NVMC_WRITE);
    *(volatile uint32_t *)address = word;
    nvmc_set(NVMC_READ);
}

uint32_t flash_word(uint32_t address)
{
    return *(const volatile uint32_t *)address;
}
