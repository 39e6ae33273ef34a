#pragma once
#include <stdint.h>
#include "esp_err.h"
typedef struct {
    uint32_t offset, size;
} esp_partition_pos_t;
typedef struct {
    uint32_t start_addr, image_len;
    uint8_t image_digest[32];
} esp_image_metadata_t;
esp_err_t esp_image_get_metadata(const esp_partition_pos_t *part, esp_image_metadata_t *metadata);
