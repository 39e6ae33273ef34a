#pragma once
#include <stdint.h>
#include <string.h>
#include "esp_attr.h"

unsigned long millis();

class SimpleTimer
{
public:
    template <uint32_t milliseconds> SimpleTimer &initializeMs(void (*callback)())
    {
        set(milliseconds, callback);
        return *this;
    }
    void start(bool repeating = true);

private:
    void set(uint32_t milliseconds, void (*callback)());
};

extern "C" {
void system_restart();
unsigned long os_random();
}
