#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __cplusplus
extern "C" {
#endif
unsigned long millis(void);
uint32_t esp_random(void);
bool verifyRollbackLater(void);
#ifdef __cplusplus
}
class HardwareSerial
{
public:
    size_t setRxBufferSize(size_t size);
    void begin(unsigned long baud);
    size_t write(const uint8_t *buffer, size_t size);
    int available();
    int read();
    void flush();
};
extern HardwareSerial Serial1;
void setup();
void loop();
#endif
