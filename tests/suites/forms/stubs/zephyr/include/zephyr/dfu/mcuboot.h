#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#define BOOT_UPGRADE_TEST 0
bool boot_is_img_confirmed(void);
int boot_write_img_confirmed(void);
int boot_request_upgrade(int permanent);
ssize_t boot_get_area_trailer_status_offset(uint8_t area_id);
size_t boot_get_image_start_offset(uint8_t area_id);
