#ifndef LAB_H
#define LAB_H

#include <stdint.h>

void lab_wait_us(uint32_t us);

#endif
