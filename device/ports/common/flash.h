/* What swap.c wants of a flash that reads 0xFF where it is erased: the port has it. */
#ifndef FLASH_H
#define FLASH_H

#include <stdint.h>

void flash_erase(uint32_t page);
void flash_program(uint32_t address, uint32_t word); /* a word at most twice between two erases */
uint32_t flash_word(uint32_t address);

#endif
