#pragma once
#include <stdbool.h>
#include <stdint.h>
#define MODE_TEMP_ROM 0x02
uint8_t rboot_get_current_rom(void);
bool rboot_set_current_rom(uint8_t rom);
bool rboot_set_temp_rom(uint8_t rom);
bool rboot_get_last_boot_rom(uint8_t *rom);
bool rboot_get_last_boot_mode(uint8_t *mode);
