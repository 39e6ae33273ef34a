#pragma once
#include <zephyr/device.h>
struct flash_pages_info {
    off_t start_offset;
    size_t size;
    uint32_t index;
};
int flash_read(const struct device *dev, off_t offset, void *data, size_t len);
int flash_write(const struct device *dev, off_t offset, const void *data, size_t len);
int flash_erase(const struct device *dev, off_t offset, size_t size);
int flash_get_page_info_by_offs(const struct device *dev, off_t offset, struct flash_pages_info *info);
