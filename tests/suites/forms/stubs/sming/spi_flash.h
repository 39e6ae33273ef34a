#pragma once
#include <stdint.h>
#define SPI_FLASH_SEC_SIZE 4096
typedef enum { SPI_FLASH_RESULT_OK, SPI_FLASH_RESULT_ERR, SPI_FLASH_RESULT_TIMEOUT } SpiFlashOpResult;
SpiFlashOpResult spi_flash_erase_sector(uint16_t sector);
SpiFlashOpResult spi_flash_write(uint32_t to, uint32_t *from, uint32_t size);
SpiFlashOpResult spi_flash_read(uint32_t from, uint32_t *to, uint32_t size);
