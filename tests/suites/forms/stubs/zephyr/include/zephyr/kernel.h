#pragma once
#include <stdint.h>
#define CONFIG_BOARD "stub"
#define ARG_UNUSED(x) (void)(x)
typedef struct {
    int64_t ticks;
} k_timeout_t;
struct k_sem {
    unsigned int count, limit;
};
#define K_SEM_DEFINE(name, initial, most) struct k_sem name = {initial, most}
#define K_MSEC(ms) ((k_timeout_t){(int64_t)(ms)})
#define K_FOREVER ((k_timeout_t){-1})
int k_sem_take(struct k_sem *sem, k_timeout_t timeout);
void k_sem_give(struct k_sem *sem);
uint32_t k_uptime_get_32(void);
