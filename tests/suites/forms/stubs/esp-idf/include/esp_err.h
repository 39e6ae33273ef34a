#pragma once
typedef int esp_err_t;
#define ESP_OK 0
void stub_abort(void);
#define ESP_ERROR_CHECK(x) ((x) == ESP_OK ? (void)0 : stub_abort())
